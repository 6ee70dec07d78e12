"""The main text of an HTML page, read as a stream. Knows neither files nor encodings.

The page is never held as a tree: its elements become blocks of text (a paragraph, an item of a list, a row of a table,
preformatted text), and which blocks are the page's text is decided when all are there. So depth costs nothing, and a
page of any size can be taken in parts.

Why not a library for the main text: resiliparse 2.0 loses lists, figures and some wrappers of articles, and takes
quadratic time where elements are nested (0.4 s for 5,000 of them, over a minute for 100,000) or wrongly nested (14 s
for 190 kB); trafilatura 2.3 loses the white space of code. On 400 pages of Rust's documentation, MB/cpu-s: resiliparse
21.6, this 18.8, trafilatura 1.6.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from data_processing.formats.html_blocks import (
    BREAK,
    HtmlBlock,
    Region,
    collapsed,
    is_little_but_links,
    laid_out,
    main_blocks,
    num_visible,
    trimmed_lines,
)
from data_processing.formats.html_regions import PARTS_BY_NAME, Part, part_of
from data_processing.formats.text_blocks import Kind, item_mark, joined, row_text

MAX_DEPTH = 10_000
"""Elements within elements that are followed. People's pages reach some hundreds, pages full of unclosed tags some
thousands; an end tag without a beginning costs the parser time in proportion to the depth."""

MAX_ROW_CHARACTERS = 2000
"""Cells of a longer row are set one below the other: the table lays out a page. Arbitrary."""

MAX_TITLE_PIECES = 100
"""Pieces of text, divided by entities, that a title may have. Arbitrary."""

_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_BLOCK_NAMES = (
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure "
    "footer form frameset header hgroup hr html legend li main menu nav ol p pre section summary table tbody td tfoot "
    "th thead tr ul xmp listing plaintext search"
)
_BLOCKS = _HEADINGS | frozenset(_BLOCK_NAMES.split())
_LISTS = frozenset(("ul", "ol", "dir", "menu"))
_PREFORMATTED = frozenset(("pre", "xmp", "listing", "plaintext"))
_ANCHORS = frozenset("#¶§🔗⚓")  # the whole text of a heading's link to itself
_FORMULA_IMAGE = re.compile(r"(?:^|[\s_-])(?:math|tex|latex)(?:$|[\s_-])", re.IGNORECASE)


class HtmlTooDeepError(ValueError):
    """A page nests its elements more than `MAX_DEPTH` deep."""


@dataclass(frozen=True, slots=True)
class HtmlPage:
    """What `html_page` makes of a page: its main text, empty when there is none, and its title."""

    text: str
    title: str


def html_page(html: str, *, main_only: bool = True) -> HtmlPage:
    """The text and title of a whole page; see `HtmlReader`.

    Raises:
        HtmlTooDeepError: elements are nested more than `MAX_DEPTH` deep.
    """
    reader = HtmlReader(main_only=main_only)
    for start in range(0, len(html), _FEED_CHARACTERS):
        reader.feed(html[start : start + _FEED_CHARACTERS])
    reader.close()
    return HtmlPage(reader.take(), reader.title)


_FEED_CHARACTERS = 1 << 16
"""Characters given to the parser at once: between two calls a time limit can take effect. Arbitrary."""


class HtmlReader:
    """Takes a page piece by piece and gives its text.

    - Blocks are divided by blank lines, items of a list and rows of a table by line ends; items begin with `- ` or
      their number, cells are divided by ` | `.
    - Preformatted text keeps its white space.
    - Left out: what is hidden, navigation, headers and footers of the page, side bars, banners, comments of readers,
      and runs of links (`html_regions`). If the page names a main part, that alone is taken.
    - Formulas are given as TeX where the page has it.

    Args:
        main_only: False keeps everything that is seen, for pages that are all text, such as the chapters of a book.
    """

    def __init__(self, *, main_only: bool = True) -> None:
        from lxml.etree import HTMLParser

        self._target = _Target(main_only=main_only)
        self._parser = HTMLParser(target=self._target, huge_tree=True)
        self._has_begun = False

    @property
    def title(self) -> str:
        """The page's title, as far as it was fed; empty when it has none."""
        return collapsed("".join(self._target.title))

    def feed(self, html: str) -> None:
        """Read on.

        Raises:
            HtmlTooDeepError: elements are nested more than `MAX_DEPTH` deep.
        """
        if html:
            self._parser.feed(html)
            self._has_begun = True

    def close(self) -> None:
        """Read what the parser still holds back."""
        if self._has_begun:  # of nothing at all it would complain
            self._parser.close()

    def take(self) -> str:
        """The main text of what was fed since the last call."""
        return self._target.take()


@dataclass(slots=True)
class _Row:
    """A row of a table that is being read: at which block it and each of its cells begins."""

    start: int
    cells: list[int] = field(default_factory=list)


class _Target:
    """What the parser calls. It calls `end` for every `start`, in order, whatever the page forgot."""

    def __init__(self, *, main_only: bool) -> None:
        self.title: list[str] = []
        self._main_only = main_only
        self._blocks: list[HtmlBlock] = []
        # Of each open element, what `_region` and `_place` were before it, if it changed them.
        self._open: list[tuple[Region | None, int] | None] = []
        self._region: Region | None = None
        self._place = 0
        self._unseen_since: int | None = None  # depth of the outermost element that is not seen
        self._in_title = self._in_link = self._preformatted = 0
        self._pieces: list[str] = []
        self._link_characters = self._num_links = 0
        self._lists: list[int | None] = []  # next number of an ordered list, None for bullets
        self._prefix = ""
        self._kind = Kind.PARAGRAPH
        self._begins_list = False
        self._rows: list[_Row] = []
        self._formula_start: int | None = None

    # Called by the parser

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        self._open.append(None)
        if len(self._open) > MAX_DEPTH:
            raise HtmlTooDeepError(f"elements nested more than {MAX_DEPTH} deep")
        if self._unseen_since is not None:
            return
        part = part_of(tag, attributes) if attributes or tag in PARTS_BY_NAME else None
        if part is not None and part.unseen and not _is_formula(tag, attributes):
            self._unseen_since = len(self._open)
            return
        is_block = tag in _BLOCKS
        if is_block:
            self._divide()
        if part is not None:
            self._enter(part)
        if is_block:
            self._start_block(tag, attributes)
        else:
            self._start_inline(tag, attributes)

    def end(self, tag: str) -> None:
        """The innermost open element ends."""
        before = self._open.pop()
        if self._unseen_since is not None:
            if len(self._open) < self._unseen_since:
                self._unseen_since = None
            return
        if tag in _BLOCKS:
            self._divide()
            self._leave_block(tag)
        elif tag == "a":
            self._in_link -= 1
        elif tag == "title":
            self._in_title -= 1
        elif tag in _FORMULA_ENDS:
            self._end_formula(tag)
        if before is not None:
            self._region, self._place = before

    def data(self, text: str) -> None:
        """Text between tags."""
        if self._unseen_since is not None:
            return
        if self._in_title:
            if len(self.title) < MAX_TITLE_PIECES:  # a title without an end takes the whole page
                self.title.append(text)
            return
        if self._in_link and text in _ANCHORS:
            return
        self._pieces.append(text)
        if self._in_link:
            self._link_characters += num_visible(text)

    def close(self) -> None:
        """The page ends."""
        self._end_block()

    def take(self) -> str:
        """The main text of the blocks so far, which are forgotten."""
        self._rows.clear()
        blocks, self._blocks = self._blocks, []
        chosen = main_blocks(blocks) if self._main_only else blocks
        region = self._region
        while region is not None:  # it goes on in the next part, and is judged there by what it holds there
            region.num_characters = 0
            region = region.parent
        return joined(chosen)

    # Elements

    def _enter(self, part: Part) -> None:
        self._open[-1] = (self._region, self._place)
        if part.max_share is not None:
            self._region = Region.within(self._region, part.max_share)
        self._place = max(self._place, part.place)

    def _start_block(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag in _PREFORMATTED:
            self._end_block()
            self._preformatted += 1
        elif tag == "table":
            self._begins_list = not self._rows
        elif tag in _LISTS:
            self._begins_list = not self._lists
            self._lists.append(_first_number(attributes) if tag == "ol" else None)
        elif tag == "li":
            self._start_item()
        elif tag in _HEADINGS:
            self._kind = Kind.HEADING
        elif tag == "dt":
            self._kind = Kind.TERM
        elif tag == "dd":
            self._kind = Kind.DEFINITION
        elif tag == "tr":
            self._rows.append(_Row(len(self._blocks)))
        elif tag in ("td", "th") and self._rows:
            self._rows[-1].cells.append(len(self._blocks))

    def _leave_block(self, tag: str) -> None:
        if tag in _PREFORMATTED:
            self._end_block()
            self._preformatted -= 1
        elif tag in _LISTS:
            self._lists.pop()
        elif tag == "li":
            self._prefix = ""
            self._kind = Kind.PARAGRAPH
        elif tag in _HEADINGS or tag in ("dt", "dd"):
            self._kind = Kind.PARAGRAPH
        elif tag == "tr" and self._rows:
            self._end_row(self._rows.pop())

    def _start_inline(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "br":
            self._pieces.append("\n" if self._preformatted else BREAK)
        elif tag == "a":
            self._in_link += 1
            self._num_links += 1
        elif tag == "title":
            self._in_title += 1
        elif tag == "img":
            if "alt" in attributes and _FORMULA_IMAGE.search(attributes.get("class", "")):
                self._pieces.append(f"${attributes['alt']}$")
        elif tag == "math":
            self._start_formula(attributes)
        elif tag == "annotation":
            self._start_annotation(attributes)
        elif tag == "script":
            self._pieces.append("$")

    def _start_item(self) -> None:
        number = self._lists[-1] if self._lists else None
        self._prefix = item_mark(max(len(self._lists) - 1, 0), number)
        if number is not None:
            self._lists[-1] = number + 1
        self._kind = Kind.ITEM

    # Formulas

    def _start_formula(self, attributes: Mapping[str, str]) -> None:
        if "alttext" in attributes:
            self._pieces.append(f"${attributes['alttext']}$")
            self._unseen_since = len(self._open)
        else:
            self._formula_start = len(self._pieces)

    def _start_annotation(self, attributes: Mapping[str, str]) -> None:
        """TeX, which replaces the formula in front of it; any other notation is left out."""
        if self._formula_start is not None and "tex" in attributes.get("encoding", "").lower():
            del self._pieces[self._formula_start :]
            self._pieces.append("$")
        else:
            self._unseen_since = len(self._open)

    def _end_formula(self, tag: str) -> None:
        if tag != "math":
            self._pieces.append("$")
        else:
            self._formula_start = None

    # Blocks

    def _divide(self) -> None:
        """A block begins or ends; within preformatted text it is a line of it."""
        if not self._pieces:
            return
        if not self._preformatted:
            self._end_block()
        elif not self._pieces[-1].endswith("\n"):
            self._pieces.append("\n")

    def _end_block(self) -> None:
        """Make a block of the text since the last one."""
        text = "".join(self._pieces)
        self._pieces.clear()
        self._formula_start = None
        link_characters, self._link_characters = self._link_characters, 0
        num_links, self._num_links = self._num_links, int(self._in_link > 0)
        if self._preformatted:
            text, kind = trimmed_lines(text), Kind.PREFORMATTED
        else:
            text, kind = laid_out(text), self._kind
        if not text:
            return
        is_link = is_little_but_links(text, link_characters)
        if self._prefix and kind is Kind.ITEM:
            text, self._prefix = self._prefix + text, ""
        self._kind = Kind.PARAGRAPH
        region = self._region
        while region is not None:
            region.num_characters += len(text)
            region = region.parent
        begins_list, self._begins_list = self._begins_list, False
        self._blocks.append(HtmlBlock(text, kind, begins_list, self._region, self._place, is_link, num_links))

    def _end_row(self, row: _Row) -> None:
        """Set the cells of a row side by side, if each is a short piece of text."""
        ends = [*row.cells[1:], len(self._blocks)]
        cells = [self._blocks[start:end] for start, end in zip(row.cells, ends, strict=True)]
        blocks = [block for cell in cells for block in cell]
        if len(cells) < 2 or not blocks or row.cells[0] != row.start:
            return
        if any(len(cell) > 1 for cell in cells) or any(
            block.kind is Kind.PREFORMATTED or "\n" in block.text for block in blocks
        ):
            return
        if sum(len(block.text) for block in blocks) > MAX_ROW_CHARACTERS:
            return
        text = row_text(cell[0].text if cell else "" for cell in cells)
        self._blocks[row.start :] = [
            HtmlBlock(
                text,
                Kind.ROW,
                blocks[0].begins_list,
                blocks[0].region,
                blocks[0].place,
                all(block.is_link for block in blocks),
                sum(block.num_links for block in blocks),
            )
        ]


_FORMULA_ENDS = frozenset(("math", "annotation", "script"))


def _is_formula(tag: str, attributes: Mapping[str, str]) -> bool:
    """Whether a script holds TeX."""
    return tag == "script" and attributes.get("type", "").startswith("math/tex")


def _first_number(attributes: Mapping[str, str]) -> int:
    start = attributes.get("start", "")
    return int(start) if start.isascii() and start.isdigit() and len(start) < 10 else 1
