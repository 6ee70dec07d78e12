"""Blocks of text that a laid-out document is made of, and how they are set one below the other. Knows no format."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto


class Kind(Enum):
    """What a block is in its document."""

    PARAGRAPH = auto()
    HEADING = auto()
    ITEM = auto()
    ROW = auto()
    TERM = auto()
    DEFINITION = auto()
    PREFORMATTED = auto()


@dataclass(slots=True)
class TextBlock:
    """Some lines of a document that belong together.

    Attributes:
        begins_list: Whether it is the first item of a list, or row of a table, that stands in no other.
    """

    text: str
    kind: Kind = Kind.PARAGRAPH
    begins_list: bool = False


_ONE_LINE_END = {
    (Kind.ITEM, Kind.ITEM),
    (Kind.ROW, Kind.ROW),
    (Kind.TERM, Kind.TERM),
    (Kind.TERM, Kind.DEFINITION),
}


def joined(blocks: Iterable[TextBlock]) -> str:
    """The text of a document: blank lines between blocks, line ends between items of a list and rows of a table."""
    pieces: list[str] = []
    before: TextBlock | None = None
    for block in blocks:
        if before is not None:
            close = (before.kind, block.kind) in _ONE_LINE_END and not block.begins_list
            pieces.append("\n" if close else "\n\n")
        pieces.append(block.text)
        before = block
    return "".join(pieces)


def row_text(cells: Iterable[str]) -> str:
    """The cells of a table's row on one line."""
    return " | ".join(cells).strip()


def item_mark(depth: int, number: int | None) -> str:
    """What stands before an item of a list: a hyphen or its number, indented by two spaces a level from 0."""
    # Lists nested deeper than anybody reads would take quadratic space.
    indentation = "  " * min(depth, 20)
    return f"{indentation}- " if number is None else f"{indentation}{number}. "
