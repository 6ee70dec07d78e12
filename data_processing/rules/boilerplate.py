"""Text around texts that says nothing about them: library wrappers, and what recurs across documents.

Which lines and paragraphs recur is found elsewhere, by the hashes that are made here. Knows one document at a time.
"""

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import repeat
from typing import Final

import numpy as np
import numpy.typing as npt
import xxhash

from data_processing.rules.leading_comments import Comment, comment_text, is_directive, leading_comments

Hashes = npt.NDArray[np.uint64]

LINE_SEED: Final = 0x6C696E65
PARAGRAPH_SEED: Final = 0x70617261
"""Seeds of XXH3 ("line" and "para" in ASCII), so that a line is never taken for a paragraph."""

RUN_BYTES: Final = 100
RUN_FULL_LINES: Final = 3
RUN_LINES: Final = 5
"""Neighbouring lines that recur are boilerplate from this much on: bytes of UTF-8, full lines, or lines of any kind,
each different line counted once. Arbitrary but for this: three stock lines of dialogue in a row ("Yes." "No." "Why?")
do stand in many novels."""

PASSAGE_BYTES: Final = 75
"""A line of `RUN_BYTES` recurs by itself, a shorter one together with those behind it: three lines in all where these
have this many bytes, else five. So a block of two shorter lines is found at the end of a document only. With two lines
of this size, 20 % of a recipe book made of 200 stock phrases, as unevenly frequent as words, were taken for
boilerplate; with three, half of that."""

FULL_LINE_BYTES: Final = 12
"""A full line has at least two words and this many bytes."""

TEXT_BYTES: Final = 200
"""The least that is taken for the text inside boilerplate, in bytes of UTF-8: some 35 English words."""

HEAD_CHARACTERS: Final = 40_000
TAIL_CHARACTERS: Final = 60_000
"""Where the two ends of a wrapper are looked for. In thirteen books of 1993 to 2018 they take up to 12,600 and 19,300
characters."""

_LETTER: Final = re.compile(rb"[A-Za-z\x80-\xff]")
_LETTER_OR_DIGIT: Final = re.compile(rb"[0-9A-Za-z\x80-\xff]")
_FENCES: Final = (b"```", b"~~~")
_PARAGRAPH_BREAK: Final = re.compile(r"\n(?:[^\S\n]*\n)+")

_START_OF_TEXT: Final = re.compile(
    # The title in the marker may go on for three lines more.
    r"^[ \t*]*START OF (?:THE|THIS) PROJECT GUTENBERG E-?(?:BOOK|TEXT)"
    r"(?:[^*\n]*(?:\n[^*\n]+){0,3}\*{3}[^\n]*|[^\n]*)$|"
    r"^[ \t*]*END ?\*? ?THE SMALL PRINT![^\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_END_OF_TEXT: Final = re.compile(
    r"^(?P<stars>[ \t]*\*{3})?[ \t*]*END OF (?:THE |THIS )?PROJECT GUTENBERG(?:['’]S)?\b",
    re.IGNORECASE | re.MULTILINE,
)
_HEADER_FIELD: Final = re.compile(
    r"E(?:Book|text) is for the use of anyone|\[E(?:Book|text) *#|^(?:Title|Release Date|Character set encoding):|"
    r"SMALL PRINT!",
    re.IGNORECASE | re.MULTILINE,
)
_LICENCE: Final = re.compile(
    r"END OF TH(?:E|IS) PROJECT GUTENBERG|Updated editions will|This file should be named|SMALL PRINT!|"
    r"FULL PROJECT GUTENBERG(?:-tm|™)? LICENSE",
    re.IGNORECASE,
)
_CREDIT: Final = re.compile(
    r"(?:(?:This )?E-?(?:book|text) (?:was )?)?(?:Produced|Prepared|Transcribed|Scanned|Digitized|Proofread) "
    r"(?:by|from)\b|The Internet Wiretap .{0,40}Edition of\b",
    re.IGNORECASE,
)


def strip_wrapper(text: str) -> tuple[str, str | None]:
    """(the text inside, "project_gutenberg"), or (`text`, None) when it is not wrapped.

    Removes Project Gutenberg's header, the small print of 1993 to 2003, credits in front of the title page, the end
    line and the licence. A text that speaks of Project Gutenberg, or quotes a line of the wrapper, is not wrapped: the
    header begins with the name and has its fields, and behind the end come the licence or nothing.
    """
    if "utenberg" not in text and "UTENBERG" not in text:
        return text, None
    ends = list(_END_OF_TEXT.finditer(text, max(0, len(text) - TAIL_CHARACTERS)))
    # A short text's own small print at the end must not count as that of the header.
    begin = _begin_inside(text[: min(HEAD_CHARACTERS, ends[0].start() if ends else len(text))])
    end = next((match.start() for match in ends if _ends_text(text, match, headed=begin is not None)), None)
    if begin is None and end is None:
        return text, None
    inside = text[begin:end].rstrip()
    if begin is not None:
        inside = _without_credits(inside)
    return (inside, "project_gutenberg") if inside else (text, None)


def line_hashes(text: str, *, code: bool) -> Hashes:
    """The hashes of those lines of a document that could be boilerplate, uint64, sorted, each once.

    Prose: all lines with something on them, without the white space around them. Code: the lines of the comments in
    front of it, without their marks, because code itself may repeat itself as it likes. Each line is hashed together
    with the lines behind it (`PASSAGE_BYTES`), because boilerplate recurs in its order, whereas stock phrases ("Exit.",
    "Mix well.") recur beside others each time. Takes time linear in the text.
    """
    rows = _encoded(text).split(b"\n")
    lines = map(bytes.strip, rows)
    if code:
        commented = (row for comment in leading_comments(rows) for row in rows[comment.begin : comment.end])
        lines = map(comment_text, commented)
    hashes = _hashes(_passages([*filter(None, lines)]))
    hashes.sort()
    # np.unique takes twice as long for a text of 6 kB.
    first = np.ones(len(hashes), dtype=bool)
    np.not_equal(hashes[1:], hashes[:-1], out=first[1:])
    return hashes[first]


def remove_lines(text: str, lines: Set[int], *, code: bool) -> str:
    """`text` without boilerplate: runs of the lines that recur, which `lines` says by the hashes of `line_hashes`.

    A line recurs when it is part of a passage that does (`PASSAGE_BYTES`). A single one is often a heading, so what is
    removed is a *run*: recurring lines with nothing but blank or ruled lines ("-----") between them, of `RUN_BYTES`,
    `RUN_FULL_LINES` or `RUN_LINES`. Lines of numbers alone and what stands between code fences are not boilerplate. Of
    code only whole lines of the comments in front of it are removed; a block comment keeps the lines that open and
    close it unless all of it goes; lines that speak to programs (encodings, build constraints) stay.

    Versions of one document recur in each other line by line and must not be emptied: they are a matter of near
    duplicates. What tells them from short texts in one long licence is where the rest stands: a text is in one piece,
    while versions differ here and there. So lines of prose are removed only when what remains is half of the document,
    or when one stretch without a removed line has `TEXT_BYTES` and is half of what remains. A version whose one
    difference is a long passage is therefore taken for a text in a frame; a single document does not show which it is.
    Code must have something besides the comments in front of it.

    Whole lines go, so words are not joined; where blank lines stood in or around a run of prose, one stays. Lines that
    become neighbours by it are not looked at again. Takes time linear in the text.
    """
    if not lines:
        return text
    rows = _encoded(text).split(b"\n")
    rest = _rest_of_code(rows, lines) if code else _rest_of_prose(rows, lines)
    return text if len(rest) == len(rows) else b"\n".join(rest).decode("utf-8", "surrogatepass")


def paragraph_hashes(text: str, *, min_characters: int) -> Hashes:
    """The hashes of the paragraphs of prose, uint64, in order of first appearance, each once.

    A paragraph is what stands between blank lines, with every run of white space folded to one space; those of fewer
    than `min_characters` are passed over.
    """
    hashes = (_paragraph_hash(paragraph, min_characters) for paragraph in _PARAGRAPH_BREAK.split(text))
    return np.array(list(dict.fromkeys(value for value in hashes if value is not None)), dtype=np.uint64)


def remove_paragraphs(text: str, hashes: Set[int], *, min_characters: int) -> str:
    """`text` without the paragraphs of prose whose hashes are in `hashes`; it may be empty.

    A paragraph goes with the blank lines behind it, so what remains stays apart.
    """
    if not hashes:
        return text
    paragraphs = _PARAGRAPH_BREAK.split(text)
    stays = [_paragraph_hash(paragraph, min_characters) not in hashes for paragraph in paragraphs]
    if all(stays):
        return text
    breaks = [*_PARAGRAPH_BREAK.findall(text), ""]
    kept = [part for part in zip(paragraphs, breaks, stays, strict=True) if part[2]]
    return "".join(
        paragraph + (following if number < len(kept) else "")
        for number, (paragraph, following, _) in enumerate(kept, start=1)
    )


def _begin_inside(head: str) -> int | None:
    """Where the text begins behind the header that `head` begins with; None when it has none."""
    markers = list(_START_OF_TEXT.finditer(head))
    if not markers:
        return None
    marker = markers[-1]  # some headers have two
    before = head[: marker.start()]
    first_lines = [line for line in before.split("\n", 40)[:40] if line.strip()][:5]
    named = any("project gutenberg" in line.lower() for line in first_lines)
    if before.strip() and not (named and _HEADER_FIELD.search(before)):
        return None
    return marker.end()


def _ends_text(text: str, marker: re.Match[str], *, headed: bool) -> bool:
    """Whether nothing of the text comes behind `marker`. Without stars, in a text without header, it may be prose."""
    paragraph_end = _PARAGRAPH_BREAK.search(text, marker.end())
    behind = text[paragraph_end.end() :] if paragraph_end else ""
    if _LICENCE.search(behind):
        return True
    return not behind.strip() and (headed or marker["stars"] is not None)


def _without_credits(text: str) -> str:
    """`text` without blank lines and paragraphs that name who made the file in front of it."""
    begin = 0
    for paragraph_end in _PARAGRAPH_BREAK.finditer(text):
        paragraph = text[begin : paragraph_end.start()].strip()
        if paragraph and not _CREDIT.match(paragraph):
            break
        begin = paragraph_end.end()
    return text[begin:].lstrip("\r\n")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _passages(lines: Sequence[bytes]) -> Iterator[bytes]:
    """For each line, it and the lines behind it that have to recur with it; at the end fewer. `lines` are not empty."""
    padded = [*lines, b"", b"", b"", b""]
    # One expression without calls: it is evaluated for each line of a corpus, and with a function for each, this took
    # three times as long as hashing them.
    return (
        a if len(a) >= RUN_BYTES else three if len(three := a + b + c) >= PASSAGE_BYTES else three + d + e
        for a, b, c, d, e in zip(padded, padded[1:], padded[2:], padded[3:], padded[4:], strict=False)
    )


def _hashes(passages: Iterable[bytes]) -> Hashes:
    digests = b"".join(map(xxhash.xxh3_64_digest, passages, repeat(LINE_SEED)))
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _recurring(lines: Sequence[bytes], hashes: Set[int]) -> list[int]:
    """The numbers of those lines that are part of a passage whose hash is in `hashes`, ascending."""
    passages = list(_passages([*filter(None, lines)]))
    values = _hashes(passages).tolist()
    if hashes.isdisjoint(values):
        return []
    places = [number for number, line in enumerate(lines) if line]
    found: set[int] = set()
    for begin, (passage, value) in enumerate(zip(passages, values, strict=True)):
        if value in hashes:
            end, size = begin, len(passage)
            while size:
                size -= len(lines[places[end]])
                end += 1
            found.update(places[begin:end])
    return sorted(found)


def _paragraph_hash(paragraph: str, min_characters: int) -> int | None:
    """The hash of a paragraph, or None when it is too short."""
    if len(paragraph) < min_characters:
        return None
    folded = " ".join(paragraph.split())
    if len(folded) < min_characters:
        return None
    return xxhash.xxh3_64_intdigest(_encoded(folded), PARAGRAPH_SEED)


def _rest_of_prose(rows: Sequence[bytes], lines: Set[int]) -> Sequence[bytes]:
    """The lines that stay; where lines went, blank lines beside them become one, or none at either end."""
    stripped = list(map(bytes.strip, rows))
    recurring = _recurring(stripped, lines)
    if not recurring:
        return rows
    fenced = _fenced(stripped)
    runs = _runs(stripped, [number for number in recurring if number not in fenced])
    if not runs or not _leaves_a_text(stripped, runs):
        return rows
    rest: list[bytes] = []
    behind = 0
    for run in runs:
        begin, end = run.start, run.stop
        while begin > behind and not stripped[begin - 1]:
            begin -= 1
        while end < len(rows) and not stripped[end]:
            end += 1
        rest += rows[behind:begin]
        if begin > 0 and end < len(rows) and not all(stripped[begin:end]):
            rest.append(b"")
        behind = end
    return rest + list(rows[behind:])


def _rest_of_code(rows: Sequence[bytes], lines: Set[int]) -> Sequence[bytes]:
    """The lines that stay; blank lines behind a comment go with it where nothing stands directly before it."""
    comments = leading_comments(rows)
    if not comments or not any(map(bytes.strip, rows[comments[-1].end :])):
        return rows
    texts = [b""] * comments[-1].end
    for number in (number for comment in comments for number in range(comment.begin, comment.end)):
        texts[number] = comment_text(rows[number])
    recurring = [number for number in _recurring(texts, lines) if not is_directive(rows[number])]
    inside = {number for run in _runs(texts, recurring) for number in run}
    if not inside:
        return rows
    removed = set().union(*(_removed_of_comment(comment, texts, inside) for comment in comments))
    rest: list[bytes] = []
    for number, row in enumerate(rows):
        blank_behind = not row.strip() and (number - 1) in removed and not (rest and rest[-1].strip())
        if number in removed or blank_behind:
            removed.add(number)
        else:
            rest.append(row)
    return rest


def _removed_of_comment(comment: Comment, texts: Sequence[bytes], inside: Set[int]) -> set[int]:
    """Those lines of a comment that go, when the lines `inside` are in runs."""
    numbers = range(comment.begin, comment.end)
    removed = {number for number in numbers if number in inside}
    # Lines of stars go with the words between them.
    if removed and all(number in inside or not _LETTER_OR_DIGIT.search(texts[number]) for number in numbers):
        return set(numbers)
    return removed - {comment.begin, comment.end - 1} if comment.delimited else removed


def _fenced(lines: Sequence[bytes]) -> Set[int]:
    """The numbers of the lines between code fences, the fences included."""
    fences = [number for number, line in enumerate(lines) if line.startswith(_FENCES)]
    ends = [*fences[1::2], len(lines) - 1][: len(fences[0::2])]  # the last may not be closed
    return {number for begin, end in zip(fences[0::2], ends, strict=True) for number in range(begin, end + 1)}


def _runs(lines: Sequence[bytes], recurring: Iterable[int]) -> list[range]:
    """The runs of recurring lines that are boilerplate, in order; `recurring` are the numbers of such lines."""
    runs: list[list[int]] = []
    for number in recurring:
        if not _LETTER.search(lines[number]):
            continue
        if runs and not any(map(_LETTER_OR_DIGIT.search, lines[runs[-1][-1] + 1 : number])):
            runs[-1].append(number)
        else:
            runs.append([number])
    return [range(run[0], run[-1] + 1) for run in runs if _is_boilerplate({lines[place] for place in run})]


def _is_boilerplate(run: Set[bytes]) -> bool:
    if len(run) >= RUN_LINES or sum(map(len, run)) >= RUN_BYTES:
        return True
    return sum(len(line) >= FULL_LINE_BYTES and len(line.split()) > 1 for line in run) >= RUN_FULL_LINES


def _leaves_a_text(lines: Sequence[bytes], runs: Sequence[range]) -> bool:
    """Whether what stands outside of `runs` is a text of its own and not the scattered differences of a version."""
    begins = [0, *(run.stop for run in runs)]
    ends = [*(run.start for run in runs), len(lines)]
    stretches = [sum(map(len, lines[begin:end])) for begin, end in zip(begins, ends, strict=True)]
    kept, longest = sum(stretches), max(stretches)
    return 2 * kept >= sum(map(len, lines)) or (longest >= TEXT_BYTES and 2 * longest >= kept)
