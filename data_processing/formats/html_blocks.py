"""The text of a block of a page, and which blocks are the page's text, judged by where they stand and how much of it is
links. Knows no tags."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from data_processing.formats.text_blocks import Kind, TextBlock

MIN_MAIN_SHARE = 0.25
MIN_MAIN_CHARACTERS = 500
"""What calls itself the main text is believed when it holds this share of the text or this much; otherwise a page whose
`main` waits for a script would have no text. Arbitrary."""

MAX_REGIONS_DEPTH = 50
"""Elements that may be left out, within one another, that are told apart. Arbitrary; pages have five."""

_LINK_SHARE = 0.8
_LINKS_IN_A_ROW = 3
"""Navigation without a name: this many blocks in a row, or links in one block, and this share of their characters in
links. Arbitrary, looked at on pages of the nineties."""

BREAK = "\0"
"""Stands for <br> in the text of a block; the parser never gives this character."""

# White space that browsers collapse; the no-break space is not among it and indents code on old pages.
_SPACES = re.compile(r"[ \t\n\r\f]+")


@dataclass(slots=True)
class Region:
    """An element that may be left out: within which other one, up to which share, and how much text it has."""

    parent: "Region | None"
    max_share: float
    num_characters: int = 0
    depth: int = 0

    @classmethod
    def within(cls, parent: "Region | None", max_share: float) -> "Region | None":
        """A region in another one; just that one below `MAX_REGIONS_DEPTH`, as every block asks all around it."""
        depth = 0 if parent is None else parent.depth + 1
        return parent if depth > MAX_REGIONS_DEPTH else cls(parent, max_share, depth=depth)


@dataclass(slots=True)
class HtmlBlock(TextBlock):
    """A block, and what decides whether it is taken.

    Attributes:
        region: The innermost element around it that may be left out.
        place: 2 in the main part of the page, 1 in an article, 0 elsewhere.
        is_link: Whether it is little but links.
        num_links: How many links begin in it.
    """

    region: Region | None = None
    place: int = 0
    is_link: bool = False
    num_links: int = 0


def main_blocks(blocks: Sequence[HtmlBlock]) -> list[HtmlBlock]:
    """The blocks of the main text: without what surrounds it, and of the rest what the page calls its main part.

    Where it names none, runs of links are left out as well.
    """
    total = _num_characters(blocks)
    kept = [block for block in blocks if not _is_left_out(block.region, total)]
    for place in (2, 1):
        chosen = [block for block in kept if block.place >= place]
        size = _num_characters(chosen)
        if size and size >= min(MIN_MAIN_SHARE * _num_characters(kept), MIN_MAIN_CHARACTERS):
            return chosen
    return _without_link_lists(kept)


def is_little_but_links(text: str, link_characters: int) -> bool:
    """Whether a block is, of whose text so many characters, white space aside, stand in links."""
    return link_characters > 0 and link_characters >= _LINK_SHARE * num_visible(text)


def num_visible(text: str) -> int:
    """Characters of `text` that are no white space."""
    return sum(map(len, text.split()))


def _num_characters(blocks: Sequence[HtmlBlock]) -> int:
    return sum(len(block.text) for block in blocks)


def _is_left_out(region: Region | None, total: int) -> bool:
    while region is not None:
        if region.num_characters <= region.max_share * total:
            return True
        region = region.parent
    return False


def _without_link_lists(blocks: Sequence[HtmlBlock]) -> list[HtmlBlock]:
    """The blocks but runs of links, and but headings that are left with nothing below them."""
    kept: list[HtmlBlock] = []
    below_is_gone = False  # whether the last block kept is a heading, and what stood below it was left out
    for is_link, run in groupby(blocks, key=lambda block: block.is_link):
        members = list(run)
        if is_link and sum(max(block.num_links, 1) for block in members) >= _LINKS_IN_A_ROW:
            below_is_gone = bool(kept) and kept[-1].kind is Kind.HEADING
            continue
        if below_is_gone and members[0].kind is Kind.HEADING:
            kept.pop()
        below_is_gone = False
        kept += members
    return kept[:-1] if below_is_gone else kept


def collapsed(text: str) -> str:
    """Text on one line."""
    return " ".join(text.split())


def laid_out(text: str) -> str:
    """Text of a block with its white space collapsed and its breaks as line ends; two breaks are a blank line."""
    text = _SPACES.sub(" ", text).strip(" ")
    if BREAK in text:
        text = "\n".join([line.strip(" ").replace("\xa0", " ").rstrip() for line in text.split(BREAK)])
        return re.sub("\n{3,}", "\n\n", text).strip("\n")
    return text.replace("\xa0", " ").rstrip()


def trimmed_lines(text: str) -> str:
    """Preformatted text without blank lines at its ends."""
    text = text.replace("\r\n", "\n").rstrip()
    return re.sub(r"\A(?:[ \t]*\n)+", "", text).replace("\xa0", " ")
