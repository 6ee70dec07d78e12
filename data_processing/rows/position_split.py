"""Splits for a handful of long texts, such as one book: each is cut at line ends. Does not know what the text is."""

import math
from collections.abc import Iterator, Mapping

MIN_HELD_OUT_CHARACTERS = 1000
"""A shorter piece says too little about a model to be worth cutting a text for. Arbitrary."""

MAX_FEW = 50
"""From this number of texts on, whole texts are held out, however small the share. Arbitrary."""


def num_few(shares: Mapping[str, float]) -> int:
    """Fewer texts than this cannot be divided by `shares` as wholes: a split would get less than one."""
    return min(MAX_FEW, math.ceil(1 / min(share for share in shares.values() if share > 0)))


def is_worth_cutting(text: str, shares: Mapping[str, float]) -> bool:
    """Whether each held-out piece would be long enough."""
    wanted = [share for share in shares.values() if share > 0]
    return len(wanted) > 1 and min(wanted) * len(text) >= MIN_HELD_OUT_CHARACTERS


def pieces_of(text: str, shares: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """(split, piece) of one text, in the order of `shares`; the pieces put together are the text.

    A cut is moved on to the next line end, or stays where it falls in a text of one line.
    """
    start, reached = 0, 0.0
    wanted = [(split, share) for split, share in shares.items() if share > 0]
    for split, share in wanted:
        reached += share
        end = len(text) if (split, share) == wanted[-1] else _line_end(text, round(reached * len(text)))
        yield split, text[start:end]
        start = end


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    # A line that goes on for long, or to the end, would swallow the next piece.
    return end + 1 if 0 <= end < position + MIN_HELD_OUT_CHARACTERS // 2 else position
