"""The text of an OpenDocument text (ODF 1.3, OASIS). Knows no file.

Read from the XML itself: odfpy, the library for this format, was last released in 2020, gives only single elements, and
holds the document as a tree of Python objects.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from data_processing.formats.not_readable import NotReadableError
from data_processing.formats.office_text import MAX_DOCUMENT_BYTES, OfficeDocument, OfficeText
from data_processing.formats.xml_members import elements_if_there, parse_member, title_and_author
from data_processing.formats.zipped_document import ZippedDocument

_OASIS = "{urn:oasis:names:tc:opendocument:xmlns:"
_TEXT = f"{_OASIS}text:1.0}}"
_TABLE = f"{_OASIS}table:1.0}}"
_OFFICE = f"{_OASIS}office:1.0}}"
_STYLE = f"{_OASIS}style:1.0}}"
_SVG = f"{_OASIS}svg-compatible:1.0}}"
_MANIFEST = f"{_OASIS}manifest:1.0}}"

# What was deleted while changes were tracked, comments, tables of contents and indices, descriptions of pictures, the
# mark of a note (notes are numbered anew), readings of East Asian signs.
_SKIPPED = frozenset(
    [_TEXT + name for name in ("tracked-changes", "table-of-content", "alphabetical-index", "user-index")]
    + [_TEXT + name for name in ("illustration-index", "table-index", "object-index", "note-citation")]
    + [f"{_TEXT}ruby-text", f"{_OFFICE}annotation", f"{_OFFICE}forms", f"{_OFFICE}scripts"]
    + [_SVG + name for name in ("title", "desc")]
)
_PARAGRAPHS = (f"{_TEXT}p", f"{_TEXT}h")
_CELLS = (f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell")
_SPACES = re.compile(r"[ \t\r\n]+")
MAX_SPACES = 1000
"""Spaces in a row that are believed; a document can ask for any number of them."""


def odt_text(archive: ZippedDocument) -> OfficeDocument:
    """The document: paragraphs, headings, lists, tables as rows, text boxes, and notes behind.

    Raises:
        NotReadableError: it is damaged or protected, or no OpenDocument text.
    """
    _refuse_protected(archive)
    size = archive.unpacked_bytes("content.xml")
    if size > MAX_DOCUMENT_BYTES:
        detail = f"{size} bytes unpacked, at most {MAX_DOCUMENT_BYTES} are read"
        raise NotReadableError("too_large", detail)
    list_styles = _ListStyles()
    for element in elements_if_there(archive, "styles.xml"):
        list_styles.read(element.name, element.attributes)
    body = _Body(list_styles)
    parse_member(archive, "content.xml", start=body.start, end=body.end, data=body.data)
    return OfficeDocument(body.text.text(), title_and_author(elements_if_there(archive, "meta.xml")))


def _refuse_protected(archive: ZippedDocument) -> None:
    for element in elements_if_there(archive, "META-INF/manifest.xml"):
        if element.name == f"{_MANIFEST}encryption-data":
            raise NotReadableError("encrypted", "protected by a password")


class _ListStyles:
    """Which levels of which lists have numbers; the others have bullets."""

    def __init__(self) -> None:
        self._numbered: set[tuple[str, int]] = set()
        self._style = ""

    def read(self, name: str, attributes: Mapping[str, str]) -> None:
        """Take in an element, if it is about that."""
        if name == f"{_TEXT}list-style":
            self._style = attributes.get(f"{_STYLE}name", "")
        elif name == f"{_TEXT}list-level-style-number":
            self._numbered.add((self._style, _number(attributes.get(f"{_TEXT}level", ""), 1)))

    def is_numbered(self, style: str, level: int) -> bool:
        """Whether a level, from 1, of a list with this style has numbers."""
        return (style, level) in self._numbered


@dataclass(slots=True)
class _List:
    """A list that is being read: its style, which one it is among all, items so far."""

    style: str
    serial: int
    num_items: int = 0
    item_begins: bool = False


class _Body:
    """The content of the document."""

    def __init__(self, list_styles: _ListStyles) -> None:
        self.text = OfficeText()
        self._list_styles = list_styles
        self._lists: list[_List] = []
        self._serial = 0
        self._last_counts: dict[tuple[str, int], int] = {}  # (style, depth) -> items of the last such list
        self._num_skipped = 0  # depth within an element that is skipped

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        if self._num_skipped or name in _SKIPPED:
            self._num_skipped += 1
        elif name.startswith(_TEXT):
            self._start_text(name.removeprefix(_TEXT), attributes)
        elif name == f"{_TABLE}table":
            self.text.start_table()
        elif name == f"{_TABLE}table-row":
            self.text.start_row()
        elif name in _CELLS:
            self.text.start_cell()

    def end(self, name: str) -> None:
        """An element ends."""
        if self._num_skipped:
            self._num_skipped -= 1
        elif name in _PARAGRAPHS:
            self.text.end_paragraph()
        elif name == f"{_TEXT}list":
            ended = self._lists.pop()
            self._last_counts[ended.style, len(self._lists)] = ended.num_items
        elif name == f"{_TEXT}note-body":
            self.text.end_note()
        elif name == f"{_TABLE}table-row":
            self.text.end_row()
        elif name in _CELLS:
            self.text.end_cell()

    def data(self, text: str) -> None:
        """Text between tags."""
        if not self._num_skipped:
            self.text.add(_SPACES.sub(" ", text))

    def _start_text(self, local: str, attributes: Mapping[str, str]) -> None:
        match local:
            case "p" | "h":
                self.text.start_paragraph()
                if local == "h":
                    self.text.make_heading()
                elif self._lists and self._lists[-1].item_begins:
                    self._make_item(self._lists[-1])
            case "s":
                self.text.add(" " * min(_number(attributes.get(f"{_TEXT}c", ""), 1), MAX_SPACES))
            case "tab":
                self.text.add("\t")
            case "line-break":
                self.text.add("\n")
            case "list":
                self._start_list(attributes)
            case "list-item":
                if self._lists:
                    self._lists[-1].num_items += 1
                    self._lists[-1].item_begins = True
            case "note-body":
                self.text.start_note()
            case _:
                self._list_styles.read(_TEXT + local, attributes)

    def _start_list(self, attributes: Mapping[str, str]) -> None:
        around = self._lists[-1] if self._lists else None
        style = attributes.get(f"{_TEXT}style-name", around.style if around else "")
        goes_on = (
            f"{_TEXT}continue-list" in attributes or attributes.get(f"{_TEXT}continue-numbering") == "true"
        )
        if around is None and not goes_on:
            self._serial += 1
        before = self._last_counts.get((style, len(self._lists)), 0) if goes_on else 0
        self._lists.append(_List(style, self._serial, before))

    def _make_item(self, found: _List) -> None:
        """The open paragraph is the first of an item."""
        found.item_begins = False
        depth = len(self._lists) - 1
        numbered = self._list_styles.is_numbered(found.style, depth + 1)
        self.text.make_item(found.serial, depth=depth, number=found.num_items if numbered else None)


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else otherwise
