"""The text of a PDF's pages, by pypdf, as running text. Knows no quality."""

import logging
import re
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from data_processing.formats.not_readable import NotReadableError
from data_processing.formats.office_text import OfficeDocument

if TYPE_CHECKING:
    from pypdf import PdfReader

MIN_PAGES_FOR_RUNNING = 3
"""On so many pages a line must stand at the edge to be taken for a header or footer. Arbitrary."""

MAX_RUNNING_CHARACTERS = 200
"""No header is longer. Arbitrary."""

EDGE_LINES = 2
"""Lines at the upper and lower edge of a page among which headers and footers are looked for."""

_NUMBER = re.compile(r"\d{1,4}(?!\d)")
_ROMAN = re.compile(r"[ivxlc]{1,8}", re.IGNORECASE)
# Words are bounded: a line of a million letters would take quadratic time.
_DIVIDED_WORD = re.compile(r"([^\W\d_]{0,40}[a-zß-öø-ÿ])-\n([a-zß-öø-ÿ][^\W\d_]{0,40})")
_HYPHENATED_WORD = re.compile(r"[^\W\d_]{1,41}-[^\W\d_]{1,41}")
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_ENDS_SENTENCE = re.compile(r"""[.!?:;…]["'”’»)\]]*$""")


def pdf_text(file: BinaryIO) -> OfficeDocument:
    """The pages' text without running headers, footers and page numbers; words divided at line ends are joined.

    A page that cannot be read is left out and counted in `metadata["pages_left_out"]`.

    Raises:
        NotReadableError: it is damaged, protected, or holds no text; or pypdf is not installed.
    """
    try:
        import pypdf
    except ImportError:
        detail = "pypdf is not installed: pip install -e '.[documents]'"
        raise NotReadableError("needs_extra", detail) from None
    damaged = (pypdf.errors.PyPdfError, *_RAISED_ON_DAMAGE)
    with _quiet():
        try:
            reader = pypdf.PdfReader(file)
            _unlock(reader)
            num_pages = len(reader.pages)
            metadata = _metadata(reader)
        except pypdf.errors.DependencyError as error:
            raise NotReadableError("encrypted", f"protected in a way that needs more: {error}") from None
        except NotReadableError:
            raise
        except damaged as error:
            raise NotReadableError("malformed_pdf", _told(error)) from None
        pages: list[list[str]] = []
        last_error = ""
        num_left_out = 0
        for number in range(num_pages):
            try:
                text = reader.pages[number].extract_text()
            except damaged as error:
                num_left_out += 1
                last_error = f"page {number + 1}: {_told(error)}"
                continue
            pages.append([line.rstrip() for line in text.translate(_LIGATURES).split("\n") if line.strip()])
    if num_left_out and num_left_out == num_pages:
        raise NotReadableError("malformed_pdf", f"no page can be read; {last_error}")
    text = running_text(pages)
    if not text:
        detail = (
            f"{num_pages} pages without a layer of text, scanned perhaps: run text recognition on it first"
        )
        raise NotReadableError("no_text", detail)
    if num_left_out:
        metadata["pages_left_out"] = num_left_out
    return OfficeDocument(text, metadata)


# What pypdf lets out on damaged files besides its own errors, where it trusts types and lengths. The first four came of
# 8,000 files with changed and cut bytes (pypdf 7.1; not implemented and nested too deeply are RuntimeErrors), the
# others are what the calls in it raise on nonsense.
_RAISED_ON_DAMAGE = (
    AssertionError,
    AttributeError,
    RuntimeError,
    TypeError,
    ArithmeticError,
    LookupError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
)


@contextmanager
def _quiet() -> Iterator[None]:
    """pypdf says in the log and in warnings what it mends, for every object; the account says it for the file."""
    log = logging.getLogger("pypdf")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _unlock(reader: "PdfReader") -> None:
    """Open a file that is protected by an empty password, as those are that may be read but not printed."""
    if reader.is_encrypted and not reader.decrypt(""):
        raise NotReadableError("encrypted", "protected by a password")


def _metadata(reader: "PdfReader") -> dict[str, Any]:
    about = reader.metadata
    if about is None:
        return {}
    found = {"title": about.title, "author": about.author}
    one_line = {key: " ".join(value.split()) for key, value in found.items() if isinstance(value, str)}
    return {key: value for key, value in one_line.items() if value}


def _told(error: BaseException) -> str:
    return f"{error}"[:200] or type(error).__name__


def running_text(pages: Sequence[Sequence[str]]) -> str:
    """Pages, given as their lines that are not blank, as one text.

    A page is joined to the next by a line end if it ends within a sentence, else by a blank line.
    """
    pieces: list[str] = []
    for lines in _without_running_lines(pages):
        if not lines:
            continue
        if pieces:
            pieces.append("\n\n" if _ENDS_SENTENCE.search(pieces[-1][-10:]) else "\n")
        pieces.append("\n".join(lines))
    return _with_whole_words("".join(pieces))


def _without_running_lines(pages: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    """The pages without lines at their edges that recur: the same on several pages, or counting with the pages."""
    signs = Counter(sign for number, lines in enumerate(pages) for sign in _signs_of_page(number, lines))

    def recurs(number: int, line: str) -> bool:
        return any(
            signs[sign]
            >= (MIN_PAGES_FOR_RUNNING if sign.ahead is None else min(MIN_PAGES_FOR_RUNNING, len(pages)))
            for sign in _signs(number, line)
        )

    for number, lines in enumerate(pages):
        start, end = 0, len(lines)
        while len(pages) > 1 and start < min(EDGE_LINES, end) and recurs(number, lines[start]):
            start += 1
        while len(pages) > 1 and end > max(start, len(lines) - EDGE_LINES) and recurs(number, lines[end - 1]):
            end -= 1
        yield lines[start:end]


class _Sign(NamedTuple):
    """By what a line may be recognised on other pages.

    Attributes:
        text: Its text; where `ahead` is given, without numbers.
        ahead: By how much a number in it is ahead of the page's, which stays the same while both count on.
    """

    text: str
    ahead: int | None


def _signs_of_page(number: int, lines: Sequence[str]) -> set[_Sign]:
    edges = [*lines[:EDGE_LINES], *lines[EDGE_LINES:][-EDGE_LINES:]]
    return {sign for line in edges for sign in _signs(number, line)}


def _signs(number: int, line: str) -> Iterator[_Sign]:
    text = line.strip().lower()
    if len(text) > MAX_RUNNING_CHARACTERS:
        return
    without = _NUMBER.sub("#", text)
    for match in _NUMBER.finditer(text):
        yield _Sign(without, int(match[0]) - number)
    # Signs alone, such as a closing brace, end many a page of code.
    if sum(map(str.isalpha, text)) >= 4:
        yield _Sign(text, None)
    elif _ROMAN.fullmatch(text):
        yield _Sign("a roman number", None)


def _with_whole_words(text: str) -> str:
    """`text` with words joined that were divided at a line end.

    A word that stands with its hyphen elsewhere, within a line, keeps it: `well-` and `known` are not `wellknown`.
    """
    hyphenated = {match[0].lower() for match in _HYPHENATED_WORD.finditer(text)}

    def whole(match: re.Match[str]) -> str:
        before, after = match[1], match[2]
        return f"{before}-{after}" if f"{before}-{after}".lower() in hyphenated else before + after

    return _DIVIDED_WORD.sub(whole, text)
