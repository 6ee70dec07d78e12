"""Puts together the text of an office document while its XML is read. Knows no vocabulary."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from data_processing.formats.text_blocks import Kind, TextBlock, item_mark, joined, row_text

MAX_DOCUMENT_BYTES = 256 << 20
"""A longer main part, unpacked, is `too_large`; arbitrary: a thousand pages are about ten megabytes."""

MAX_ROW_CHARACTERS = 2000
"""Cells of a longer row are set one below the other: the table lays out a page. As for HTML."""


@dataclass(frozen=True, slots=True)
class OfficeDocument:
    """What a document says, and `title` and `author` where it names them."""

    text: str
    metadata: dict[str, Any]


@dataclass(slots=True)
class _Paragraph:
    pieces: list[str] = field(default_factory=list)
    kind: Kind = Kind.PARAGRAPH
    mark: str = ""
    begins_list: bool = False


class OfficeText:
    """The text of a document, built in its order.

    - A paragraph may begin within another, as those of text boxes do; the inner one then stands first.
    - Cells of a row are divided by ` | `, unless one of them holds several paragraphs.
    - Notes are numbered as they come, `[1]`, and set behind everything else.
    """

    def __init__(self) -> None:
        # Paragraphs go to the innermost of these: the document, a cell, a note.
        self._containers: list[list[TextBlock]] = [[]]
        self._rows: list[list[list[TextBlock]]] = []
        self._tables_begun = 0
        self._paragraphs: list[_Paragraph] = []
        self._last_list: Hashable = None
        self._notes: list[str] = []

    def start_paragraph(self) -> None:
        """A paragraph begins."""
        self._paragraphs.append(_Paragraph())

    def make_heading(self) -> None:
        """The open paragraph is a heading."""
        if self._paragraphs:
            self._paragraphs[-1].kind = Kind.HEADING

    def make_item(self, list_id: Hashable, *, depth: int, number: int | None) -> None:
        """The open paragraph is an item of a list, at a depth from 0; `number` is None for a bullet."""
        if self._paragraphs:
            paragraph = self._paragraphs[-1]
            paragraph.kind = Kind.ITEM
            paragraph.mark = item_mark(depth, number)
            paragraph.begins_list = list_id != self._last_list
            self._last_list = list_id

    def add(self, text: str) -> None:
        """Text of the open paragraph; outside of paragraphs there is only layout."""
        if self._paragraphs:
            self._paragraphs[-1].pieces.append(text)

    def end_paragraph(self) -> None:
        """The open paragraph ends."""
        paragraph = self._paragraphs.pop()
        text = "".join(paragraph.pieces).replace("\xa0", " ").strip()
        if text:
            if paragraph.kind is not Kind.ITEM:
                self._last_list = None
            block = TextBlock(paragraph.mark + text, paragraph.kind, paragraph.begins_list)
            self._containers[-1].append(block)

    def start_table(self) -> None:
        """A table begins."""
        self._tables_begun += 1

    def start_row(self) -> None:
        """A row of a table begins."""
        self._rows.append([])

    def start_cell(self) -> None:
        """A cell of the open row begins."""
        self._containers.append([])

    def end_cell(self) -> None:
        """The open cell ends."""
        blocks = self._containers.pop()
        if self._rows:
            self._rows[-1].append(blocks)
        else:  # a cell without a row
            self._containers[-1] += blocks

    def end_row(self) -> None:
        """The open row ends."""
        cells = self._rows.pop()
        blocks = [block for cell in cells for block in cell]
        lays_out = any(len(cell) > 1 for cell in cells) or any("\n" in block.text for block in blocks)
        if len(cells) < 2 or lays_out or sum(len(block.text) for block in blocks) > MAX_ROW_CHARACTERS:
            self._containers[-1] += blocks
        elif blocks:
            text = row_text(cell[0].text if cell else "" for cell in cells)
            begins_table, self._tables_begun = self._tables_begun > 0, 0
            self._containers[-1].append(TextBlock(text, Kind.ROW, begins_table))

    def add_note(self, text: str) -> None:
        """A note belongs to this place of the open paragraph."""
        if text:
            self._notes.append(text)
            self.add(f"[{len(self._notes)}]")

    def start_note(self) -> None:
        """A note that is written where it belongs begins."""
        self._containers.append([])

    def end_note(self) -> None:
        """The open note ends."""
        self.add_note(" ".join(block.text for block in self._containers.pop()))

    def text(self) -> str:
        """All of it."""
        notes = [
            TextBlock(f"[{number}] {note}", Kind.ITEM, number == 1)
            for number, note in enumerate(self._notes, 1)
        ]
        return joined([*self._containers[0], *notes])
