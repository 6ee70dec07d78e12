"""XML in documents that are zip archives inside. Knows no vocabulary but the names of title and author."""

from collections.abc import Mapping
from typing import NamedTuple

from data_processing.formats.not_readable import NotReadableError
from data_processing.formats.safe_xml import Data, End, Start, XmlError, XmlStream
from data_processing.formats.zipped_document import ZippedDocument

MAX_LISTED_BYTES = 16 << 20
"""A member whose elements are listed may have this size unpacked; arbitrary: style sheets have some hundred kB."""

_DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"


class XmlElement(NamedTuple):
    """An element: its name as `{namespace}name`, its attributes, the text between its start and the next tag."""

    name: str
    attributes: Mapping[str, str]
    text: str

    @property
    def local(self) -> str:
        """The name without its namespace."""
        return self.name.rpartition("}")[2]


def parse_member(archive: ZippedDocument, name: str, *, start: Start, end: End, data: Data) -> None:
    """Read a member and call functions, as `XmlStream` does.

    Raises:
        NotReadableError: it is missing, damaged or beyond the limits.
    """
    stream = XmlStream(start=start, end=end, data=data, namespaces=True)
    try:
        for piece in archive.stream(name):
            stream.feed(piece)
        stream.close()
    except XmlError as error:
        raise NotReadableError(error.reason, f"{name!r}: {error}") from None


def elements_of(archive: ZippedDocument, name: str) -> list[XmlElement]:
    """All elements of a small member, in order.

    Raises:
        NotReadableError: it is missing, damaged or too large.
    """
    size = archive.unpacked_bytes(name)
    if size > MAX_LISTED_BYTES:
        raise NotReadableError(
            "too_large", f"{name!r} has {size} bytes, at most {MAX_LISTED_BYTES} are read of it"
        )
    found: list[tuple[str, Mapping[str, str], list[str]]] = []
    after_end = False

    def start(element: str, attributes: Mapping[str, str]) -> None:
        nonlocal after_end
        after_end = False
        found.append((element, attributes, []))

    def end(_: str) -> None:
        nonlocal after_end
        after_end = True

    def data(text: str) -> None:
        if found and not after_end:
            found[-1][2].append(text)

    parse_member(archive, name, start=start, end=end, data=data)
    return [XmlElement(element, attributes, "".join(texts)) for element, attributes, texts in found]


def elements_if_there(archive: ZippedDocument, name: str) -> list[XmlElement]:
    """As `elements_of`; none when the member is missing.

    Raises:
        NotReadableError: it is damaged or too large.
    """
    return elements_of(archive, name) if name in archive else []


def title_and_author(elements: list[XmlElement]) -> dict[str, str]:
    """`title` and `author` as the Dublin Core elements among `elements` name them; several authors with `; `."""
    titles = [element.text for element in elements if element.name == f"{_DUBLIN_CORE}title"]
    authors = [element.text for element in elements if element.name == f"{_DUBLIN_CORE}creator"]
    found = {
        "title": _one_line("".join(titles[:1])),
        "author": "; ".join(filter(None, map(_one_line, authors))),
    }
    return {key: value for key, value in found.items() if value}


def _one_line(text: str) -> str:
    return " ".join(text.split())
