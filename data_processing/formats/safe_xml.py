"""XML read as a stream, without anything that it asks for: no outside entity, no entity that unfolds without end.

Knows no vocabulary.
"""

import re
from collections.abc import Callable, Mapping
from html.entities import html5
from xml.parsers import expat

MAX_ENTITY_CHARACTERS = 1 << 16
"""Longest text that one entity may stand for, the entities within it unfolded. Arbitrary: people's are a few words."""

MAX_GROWTH = 10
ALLOWED_GROWTH_CHARACTERS = 1 << 20
"""Text may be this many times as long as what was read and this much longer; without entities it cannot be longer at
all. Arbitrary."""

_REFERENCE = re.compile("&([^;#&]+);")
_PREDEFINED = {"lt": 1, "gt": 1, "amp": 1, "apos": 1, "quot": 1}


class XmlError(ValueError):
    """XML that is not read on; `reason` is `malformed_xml` or `entity_bomb`, the message says where and why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


Start = Callable[[str, Mapping[str, str]], None]
"""An element begins: its name, as written, or as `{namespace}name` where namespaces are asked for; its attributes."""
End = Callable[[str], None]
"""An element ends; called once for every start."""
Data = Callable[[str], None]
"""Text, in as many pieces as it comes. Comments and processing instructions are none."""


class XmlStream:
    """Reads XML piece by piece and calls functions, in document order.

    Pieces of text are taken as they are, whatever encoding the XML declares; of pieces of bytes, the parser knows
    UTF-8, UTF-16, Latin-1 and ASCII.

    Args:
        namespaces: Whether names are given as `{namespace}name`.
    """

    def __init__(self, *, start: Start, end: End, data: Data, namespaces: bool = False) -> None:
        # `}` divides namespace and name, so that `{` in front makes the usual notation.
        self._parser = expat.ParserCreate(namespace_separator="}" if namespaces else None)
        self._parser.buffer_text = True
        self._parser.StartElementHandler = _with_braces(start) if namespaces else start
        self._parser.EndElementHandler = _with_braces(end) if namespaces else end
        self._parser.CharacterDataHandler = self._give
        self._parser.EntityDeclHandler = self._declare_entity
        self._parser.SkippedEntityHandler = self._skipped_entity
        self._data = data
        self._entity_sizes = dict(_PREDEFINED)
        self._num_read = self._num_given = 0

    def feed(self, piece: str | bytes) -> None:
        """Read on.

        Raises:
            XmlError: it is not well-formed, or its entities stand for too much.
        """
        self._num_read += len(piece)
        self._parse(piece, last=False)

    def close(self) -> None:
        """Say that this was all.

        Raises:
            XmlError: something is missing.
        """
        self._parse(b"", last=True)

    def _parse(self, piece: str | bytes, *, last: bool) -> None:
        try:
            self._parser.Parse(piece, last)
        except expat.ExpatError as error:
            # Newer parsers have this limit themselves, and no name for it in Python.
            bomb = "amplification" in str(error)
            raise XmlError("entity_bomb" if bomb else "malformed_xml", str(error)) from None
        except XmlError:  # out of a handler
            raise
        except ValueError as error:  # bytes in a declared encoding of several bytes a character
            raise XmlError("malformed_xml", str(error)) from None

    def _give(self, text: str) -> None:
        self._num_given += len(text)
        if self._num_given > MAX_GROWTH * self._num_read + ALLOWED_GROWTH_CHARACTERS:
            raise XmlError(
                "entity_bomb", f"{self._num_read} characters of XML unfold to more than {self._num_given}"
            )
        self._data(text)

    def _declare_entity(self, name: str, is_parameter: int, value: str | None, *_: object) -> None:
        if value is None:  # an outside one, which is not fetched
            return
        size = len(value)
        for reference in _REFERENCE.findall(value):
            if reference not in self._entity_sizes:
                raise XmlError("entity_bomb", f"entity {name!r} is made of {reference!r}, which comes later")
            size += self._entity_sizes[reference]
        if size > MAX_ENTITY_CHARACTERS:
            detail = f"entity {name!r} stands for {size} characters, more than {MAX_ENTITY_CHARACTERS}"
            raise XmlError("entity_bomb", detail)
        # The first declaration counts, says the standard.
        self._entity_sizes.setdefault(name, size)

    def _skipped_entity(self, name: str, is_parameter: int) -> None:
        """An entity that stands in a DTD elsewhere: most likely one of HTML's."""
        if not is_parameter:
            self._data(html5.get(f"{name};", ""))


def _with_braces(call: Callable[..., None]) -> Callable[..., None]:
    """`call` with the first argument in the usual notation, attributes' names too."""

    def called(name: str, *rest: Mapping[str, str]) -> None:
        attributes = [{_braced(key): value for key, value in names.items()} for names in rest]
        call(_braced(name), *attributes)

    return called


def _braced(name: str) -> str:
    return "{" + name if "}" in name else name
