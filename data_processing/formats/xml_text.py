"""The text of an XML document of any vocabulary, in order. Knows neither files nor encodings.

XML does not say which elements are lines and which are words of a line. Here an element begins a line unless text
stands before it in the same element, or it bears a name that means part of a line in the common vocabularies (HTML,
DocBook, TEI, JATS).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_INLINE_NAMES = (
    "a abbr acronym b bold big br cite code em emph emphasis ext-link filename foreign func function gi hi i italic "
    "kbd link literal monospace name phrase q quote ref rs s samp sc small span strike strong sub sup subscript "
    "superscript term tt u ulink underline var xref"
)
_INLINE = frozenset(_INLINE_NAMES.split())
_BLOCK_NAMES = (
    "abstract article author blockquote body book cell chapter dd div dl dt entry figure h1 h2 h3 h4 h5 h6 head item "
    "l lg li line list listitem member note ol p para paragraph pre record row screen sec sect1 sect2 sect3 sect4 "
    "section simpara table td text th title tr ul verse"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_PREFORMATTED = frozenset(("pre", "programlisting", "screen", "literallayout", "preformat", "eg", "poem"))


@dataclass(slots=True)
class _Open:
    """An element that is being read: whether it is part of a line, keeps its white space, has text of its own."""

    is_inline: bool
    is_block: bool
    is_preformatted: bool
    has_text: bool = False


class XmlText:
    """Collects the text while the document is read; its methods are the functions that `safe_xml.XmlStream` calls.

    White space within a line is collapsed, but not in elements that say `xml:space="preserve"` or are called as
    preformatted ones are. Attributes are not text.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []
        self._open: list[_Open] = [_Open(is_inline=False, is_block=True, is_preformatted=False)]
        # An unknown element has ended: if text follows, it was a part of that line, else a line of its own.
        self._line_may_end = False

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        name = name.rpartition(":")[2].lower()
        around = self._open[-1]
        is_block = name in _BLOCKS or name in _PREFORMATTED
        preserves = attributes.get("xml:space") == "preserve"
        is_inline = not is_block and (around.has_text or (name in _INLINE and not preserves))
        preformatted = around.is_preformatted or preserves or name in _PREFORMATTED
        if not is_inline or self._line_may_end:
            self._end_line()
        self._open.append(_Open(is_inline, is_block, preformatted))

    def end(self, name: str) -> None:
        """The innermost open element ends."""
        ended = self._open[-1]
        if ended.is_block or (ended.is_preformatted and not ended.is_inline):
            self._end_line()
        elif not ended.is_inline:
            self._line_may_end = True
        self._open.pop()

    def data(self, text: str) -> None:
        """Text, in as many pieces as it comes."""
        if not text.isspace():
            self._open[-1].has_text = True
            self._line_may_end = False
        self._line.append(text)

    def take(self) -> str:
        """The text of what was read since the last call."""
        self._end_line()
        lines, self._lines = self._lines, []
        return "\n".join(lines)

    def _end_line(self) -> None:
        self._line_may_end = False
        text = "".join(self._line)
        self._line.clear()
        if self._open[-1].is_preformatted:
            text = re.sub(r"\A(?:[ \t]*\n)+", "", text.rstrip())
        else:
            text = " ".join(text.split())
        if text:
            self._lines.append(text)
