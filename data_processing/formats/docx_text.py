"""The text of a Word document (Office Open XML, ECMA-376 part 1). Knows no file.

Read from the XML itself: python-docx 1.2, the library for this format, leaves out of a paragraph's text what was
inserted while changes were tracked, content controls, text boxes and notes, and holds the document as a tree.
"""

import posixpath
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from data_processing.formats.not_readable import NotReadableError
from data_processing.formats.office_text import MAX_DOCUMENT_BYTES, OfficeDocument, OfficeText
from data_processing.formats.xml_members import (
    XmlElement,
    elements_if_there,
    elements_of,
    parse_member,
    title_and_author,
)
from data_processing.formats.zipped_document import ZippedDocument

_WORD = (
    "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}",
    "{http://purl.oclc.org/ooxml/wordprocessingml/main}",
)
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
# What was deleted or moved away, former settings, tab stops, what a content control asks for.
_SKIPPED = frozenset(("del", "moveFrom", "pPrChange", "rPrChange", "tabs", "sdtPr", "sectPr"))
_MAX_STYLES = 50  # a style is based on another one; nobody's chain is as long


def docx_text(archive: ZippedDocument) -> OfficeDocument:
    """The document: paragraphs, headings, lists, tables as rows, text boxes, and foot- and endnotes behind.

    Headers and footers of pages, comments, and what was deleted while changes were tracked are left out.

    Raises:
        NotReadableError: it is damaged or protected, or no Word document.
    """
    document = _main_part(archive)
    if archive.unpacked_bytes(document) > MAX_DOCUMENT_BYTES:
        detail = f"{archive.unpacked_bytes(document)} bytes unpacked, at most {MAX_DOCUMENT_BYTES} are read"
        raise NotReadableError("too_large", detail)
    folder = posixpath.dirname(document)

    def part(name: str) -> list[XmlElement]:
        return elements_if_there(archive, posixpath.join(folder, name))

    notes = {
        "footnoteReference": _note_texts(part("footnotes.xml"), "footnote"),
        "endnoteReference": _note_texts(part("endnotes.xml"), "endnote"),
    }
    body = _Body(_Styles(part("styles.xml")), _Numbering(part("numbering.xml")), notes)
    parse_member(archive, document, start=body.start, end=body.end, data=body.data)
    return OfficeDocument(body.text.text(), title_and_author(elements_if_there(archive, "docProps/core.xml")))


def _main_part(archive: ZippedDocument) -> str:
    for element in elements_of(archive, "_rels/.rels"):
        if element.attributes.get("Type", "").endswith("/officeDocument"):
            return posixpath.normpath(element.attributes.get("Target", "").lstrip("/"))
    raise NotReadableError("malformed_document", "names no main part; is it a Word document?")


def _word(name: str) -> str:
    """The name of an element of the vocabulary of Word, empty for others."""
    return name.rpartition("}")[2] if name.startswith(_WORD) else ""


def _value(attributes: Mapping[str, str], key: str = "val") -> str:
    return next((attributes[uri + key] for uri in _WORD if uri + key in attributes), "")


def _level(text: str) -> int:
    """A level of a list or heading, 0 to 8; 9 for anything else."""
    return int(text) if text in tuple("012345678") else 9


@dataclass(slots=True)
class _Style:
    """What a style says of a paragraph; None and empty = what the style says that it is based on."""

    based_on: str = ""
    is_heading: bool = False
    list_id: str = ""
    level: str = ""


class _Styles:
    """The styles of paragraphs by their ids."""

    def __init__(self, elements: list[XmlElement]) -> None:
        self._styles: dict[str, _Style] = {}
        style = _Style()
        for element in elements:
            match _word(element.name):
                case "style":
                    style = self._styles[_value(element.attributes, "styleId")] = _Style()
                case "name":
                    style.is_heading |= _value(element.attributes).lower().startswith(("heading", "title"))
                case "outlineLvl":
                    style.is_heading |= _level(_value(element.attributes)) < 9
                case "basedOn":
                    style.based_on = _value(element.attributes)
                case "numId":
                    style.list_id = _value(element.attributes)
                case "ilvl":
                    style.level = _value(element.attributes)

    def of(self, style_id: str) -> _Style:
        """What a style says, together with those that it is based on."""
        found = _Style()
        for _ in range(_MAX_STYLES):
            style = self._styles.get(style_id)
            if style is None:
                break
            found.is_heading |= style.is_heading
            found.list_id = found.list_id or style.list_id
            found.level = found.level or style.level
            style_id = style.based_on
        return found


class _Numbering:
    """Which lists are numbered, level by level; the others have bullets."""

    def __init__(self, elements: list[XmlElement]) -> None:
        self._formats: dict[tuple[str, str], str] = {}  # (abstract list, level) -> format
        self._abstract_of: dict[str, str] = {}
        abstract = level = list_id = ""
        for element in elements:
            match _word(element.name):
                case "abstractNum":
                    abstract = _value(element.attributes, "abstractNumId")
                case "lvl":
                    level = _value(element.attributes, "ilvl")
                case "numFmt":
                    self._formats.setdefault((abstract, level), _value(element.attributes))
                case "num":
                    list_id = _value(element.attributes, "numId")
                case "abstractNumId":
                    self._abstract_of[list_id] = _value(element.attributes)

    def is_numbered(self, list_id: str, level: int) -> bool:
        abstract = self._abstract_of.get(list_id, "")
        return self._formats.get((abstract, str(level)), "bullet") not in ("bullet", "none")


@dataclass(slots=True)
class _Properties:
    """What a paragraph says of itself."""

    style: str = ""
    is_heading: bool = False
    list_id: str = ""
    level: str = ""


class _Body:
    """The main part of the document."""

    def __init__(
        self, styles: _Styles, numbering: _Numbering, notes: Mapping[str, Mapping[str, str]]
    ) -> None:
        self.text = OfficeText()
        self._styles = styles
        self._numbering = numbering
        self._notes = notes
        self._counts: dict[str, Counter[int]] = {}  # list -> level -> items so far
        self._properties: _Properties | None = None
        self._in_text = False
        self._num_skipped = 0  # depth within an element that is skipped

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        local = _word(name)
        if self._num_skipped or local in _SKIPPED or name == _FALLBACK:
            self._num_skipped += 1
        elif self._properties is not None:
            self._read_property(local, attributes, self._properties)
        else:
            self._start(local, attributes)

    def end(self, name: str) -> None:
        if self._num_skipped:
            self._num_skipped -= 1
            return
        match _word(name):
            case "t":
                self._in_text = False
            case "pPr":
                self._apply(self._properties or _Properties())
                self._properties = None
            case "p":
                self.text.end_paragraph()
            case "tc":
                self.text.end_cell()
            case "tr":
                self.text.end_row()

    def data(self, text: str) -> None:
        if self._in_text and not self._num_skipped:
            self.text.add(text)

    def _start(self, local: str, attributes: Mapping[str, str]) -> None:
        match local:
            case "t":
                self._in_text = True
            case "p":
                self.text.start_paragraph()
            case "pPr":
                self._properties = _Properties()
            case "tab":
                self.text.add("\t")
            case "br" | "cr":
                self.text.add("\n")
            case "noBreakHyphen":
                self.text.add("-")
            case "tbl":
                self.text.start_table()
            case "tr":
                self.text.start_row()
            case "tc":
                self.text.start_cell()
            case "footnoteReference" | "endnoteReference":
                self.text.add_note(self._notes[local].get(_value(attributes, "id"), ""))

    @staticmethod
    def _read_property(local: str, attributes: Mapping[str, str], properties: _Properties) -> None:
        match local:
            case "pStyle":
                properties.style = _value(attributes)
            case "outlineLvl":
                properties.is_heading = _level(_value(attributes)) < 9
            case "numId":
                properties.list_id = _value(attributes)
            case "ilvl":
                properties.level = _value(attributes)

    def _apply(self, properties: _Properties) -> None:
        style = self._styles.of(properties.style)
        list_id = properties.list_id or style.list_id
        if properties.is_heading or style.is_heading:
            self.text.make_heading()
        elif list_id not in ("", "0"):  # 0 takes a paragraph out of its style's list
            level = _level(properties.level or style.level or "0")
            counts = self._counts.setdefault(list_id, Counter())
            counts[level] += 1
            for deeper in range(level + 1, 10):
                counts.pop(deeper, None)
            number = counts[level] if self._numbering.is_numbered(list_id, level) else None
            self.text.make_item(list_id, depth=level, number=number)


def _note_texts(elements: list[XmlElement], note: str) -> dict[str, str]:
    """The texts of the elements called `note`, by their ids."""
    pieces: dict[str, list[str]] = {}
    current: list[str] = []
    for element in elements:
        match _word(element.name):
            case found if found == note:
                current = pieces.setdefault(_value(element.attributes, "id"), [])
            case "t":
                current.append(element.text)
            case "p" | "tab" | "br":  # words that stand apart stay apart
                current.append(" ")
    return {id_: " ".join("".join(texts).split()) for id_, texts in pieces.items()}
