"""Curves in a terminal, in braille characters: each holds 2 x 4 dots. Knows numbers and colours, no metric."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from training.run_log import Curve

MARKS = "abcdefghijklmnopqrstuvwxyz"
"""Names of overlaid curves, also where there is no colour; written at a curve's end."""

COLOURS = (36, 33, 35, 32, 34, 31)
"""Of the curves in order, as numbers of ANSI escape sequences: cyan, yellow, magenta, green, blue, red."""

LABEL_WIDTH = 9
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character by row and column of its dots (Unicode block U+2800)."""


class Cell(NamedTuple):
    """One character: the dots of the curve that drew there last, or the mark of its end."""

    dots: int
    curve: int
    is_end: bool = False


def chart(
    title: str,
    curves: Sequence[Curve],
    *,
    width: int,
    height: int,
    colour: bool = False,
    span: tuple[int, int] | None = None,
) -> list[str]:
    """Curves over one pair of axes, as lines of at most `width` characters; the title alone where all are empty.

    Args:
        width: Characters, labels included; at least 24.
        height: Lines of the drawing itself, title and steps come on top.
        colour: Whether escape sequences may be used.
        span: First and last step of the axis; None = those of the curves.
    """
    points = [point for curve in curves for point in curve]
    if not points:
        return [title[:width]]
    columns = max(4, width - LABEL_WIDTH - 1)
    steps, values = [step for step, _ in points], [value for _, value in points]
    first, last = span or (min(steps), max(steps))
    low, high = _range(values)

    def dot(step: float, value: float) -> tuple[int, int]:
        x = (step - first) / max(last - first, 1) * (2 * columns - 1)
        y = (high - value) / (high - low) * (4 * height - 1)
        return round(x), round(y)

    cells: dict[tuple[int, int], Cell] = {}
    for number, curve in enumerate(curves):
        _draw(cells, number, [dot(*point) for point in curve], mark_end=len(curves) > 1)
    labels = {0: _label(high), height - 1: _label(low)}
    if max(values) == min(values):  # the ends of the axis were never seen
        labels = {dot(first, values[0])[1] // 4: _label(values[0])}
    lines = [title[:width]]
    for row in range(height):
        label = labels.get(row, "")
        drawn = "".join(_shown(cells.get((row, column)), colour) for column in range(columns))
        lines.append(f"{label:>{LABEL_WIDTH}}┤{drawn}".rstrip())
    left, right = f"{first:,}", f"{last:,}"
    room = columns - len(right)
    steps_line = (left if len(left) < room else "").ljust(max(0, room)) + right
    return [*lines, " " * (LABEL_WIDTH + 1) + steps_line[:columns]]


def side_by_side(blocks: Sequence[Sequence[str]], *, width: int) -> list[str]:
    """Blocks of plain lines next to each other, each `width` characters wide."""
    height = max(map(len, blocks), default=0)
    rows = []
    for number in range(height):
        pieces = [block[number] if number < len(block) else "" for block in blocks]
        rows.append("  ".join(piece + " " * (width - _seen_length(piece)) for piece in pieces).rstrip())
    return rows


def coloured(text: str, curve: int, colour: bool) -> str:
    """`text` in the colour of a curve."""
    return f"\033[{COLOURS[curve % len(COLOURS)]}m{text}\033[0m" if colour else text


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high > low:
        return low, high
    margin = abs(low) * 0.1 or 1.0
    return low - margin, high + margin


def _draw(
    cells: dict[tuple[int, int], Cell], number: int, dots: Sequence[tuple[int, int]], *, mark_end: bool
) -> None:
    for (x0, y0), (x1, y1) in zip(dots, dots[1:] or dots, strict=False):
        count = max(abs(x1 - x0), abs(y1 - y0), 1)
        for part in range(count + 1):
            x, y = round(x0 + (x1 - x0) * part / count), round(y0 + (y1 - y0) * part / count)
            place = (y // 4, x // 2)
            there = cells.get(place)
            before = there.dots if there is not None and there.curve == number else 0
            cells[place] = Cell(before | DOTS[y % 4][x % 2], number)
    if mark_end and dots:
        x, y = dots[-1]
        cells[(y // 4, x // 2)] = Cell(0, number, is_end=True)


def _shown(cell: Cell | None, colour: bool) -> str:
    if cell is None:
        return " "
    character = MARKS[cell.curve % len(MARKS)] if cell.is_end else chr(0x2800 + cell.dots)
    return coloured(character, cell.curve, colour)


def _seen_length(text: str) -> int:
    """Characters that take a place in the terminal: all but escape sequences."""
    return sum(
        len(piece.partition("m")[2]) if number else len(piece)
        for number, piece in enumerate(text.split("\033"))
    )


def _label(value: float) -> str:
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    return f"{value:.1e}" if size < -3 or size > 6 else f"{value:.{max(0, 3 - max(size, 0))}f}"
