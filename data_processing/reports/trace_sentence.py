"""Where a sentence of the corpus came from: its document, split and near duplicates. Reads the corpus once, raw.

A sentence is found whatever its white space and the shape of its quotation marks and dashes, as people copy them from
books, mails and models. The corpus is searched as bytes, and only lines that match are parsed.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import CorruptArtifactError, DataError
from core.progress import progress
from data_processing.reports.corpus_files import CORPUS_NAME, DROPPED_NAME, DUPLICATES_NAME, read_report
from data_processing.reports.inspect_corpus import Places
from data_processing.reports.line_search import blocks, line_around, lines_with
from data_processing.rows.splits import split_of, text_key

MOST_DOCUMENTS = 10
"""Documents that are told; of others it is only told how many there are."""
CONTEXT_CHARACTERS = 80
"""Shown on each side of a sentence; arbitrary: a line."""

DATASET_REPORT = "dataset_report.json"

_ALIKE = ('"“”„‟«»″', "'‘’‚‛′`´", "-‐‑‒–—−")
_SPACES = (
    rb" ",
    rb"\\[ntrf]",
    rb"\\u000[bB]",
    rb"\xc2\xa0",
    rb"\xe2\x80[\x80-\x8a\xa8\xa9\xaf]",
    rb"\xe3\x80\x80",
)
"""White space in a JSON string: escaped, or as the UTF-8 of what Unicode has besides."""
_SPACES_BACKWARDS = (
    rb" ",
    rb"[ntrf]\\",
    rb"[bB]000u\\",
    rb"\xa0\xc2",
    rb"[\x80-\x8a\xa8\xa9\xaf]\x80\xe2",
    rb"\x80\x80\xe3",
)

MOST_SPACE_BYTES = 4096
"""White space within a sentence that is looked through backwards; arbitrary: fifty blank lines of eighty columns."""


class Found(NamedTuple):
    """A document that holds the sentence.

    Attributes:
        record: Its line of the corpus (or of `dropped.jsonl`), with or without the sentence's own text.
        line: Its number in the file, from 1.
        start: Where the sentence begins in the text, in characters.
        before, sentence, after: The sentence as it stands there, and what is around it.
        split: What the dataset made of it; None when there is no dataset.
        members: The other documents of its cluster of near duplicates.
    """

    record: Mapping[str, Any]
    line: int
    start: int
    before: str
    sentence: str
    after: str
    split: str | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trace:
    """Where a sentence stands: in `num_documents` of the corpus, the first of which are `found`. Where it stands in
    none, `dropped` holds what was left out and begins with it, as far as its kept excerpt shows that."""

    num_documents: int
    found: list[Found] = field(default_factory=list)
    dropped: list[Found] = field(default_factory=list)


def trace(places: Places, sentence: str) -> Trace:
    """Where a sentence of the corpus came from.

    Raises:
        DataError: there is nothing to look for in it, or no corpus to look in.
        CorruptArtifactError: a line of the corpus is not JSON.
    """
    pattern = SentencePattern(sentence)
    corpus = places.corpus / CORPUS_NAME
    if not corpus.is_file():
        raise DataError(f"{corpus}: not there; collect again")
    num_documents, found = _search(corpus, pattern, "text")
    if not num_documents:
        dropped = places.corpus / DROPPED_NAME
        return Trace(0, dropped=_search(dropped, pattern, "sample")[1] if dropped.is_file() else [])
    division = _division(places)
    return Trace(
        num_documents,
        [
            one._replace(split=_split(one.record, division), members=_other_members(places, one.record))
            for one in found
        ],
    )


class SentencePattern:
    """A sentence as it may stand in JSON and in a text, around an anchor that `bytes.find` looks for.

    The anchor is the longest stretch without white space and without signs of several shapes. Both sides of it are
    matched where they must stand, so the time for a place that is none does not depend on the length of its line.

    Raises:
        DataError: the sentence has nothing to look for.
    """

    def __init__(self, sentence: str) -> None:
        words = " ".join(unicodedata.normalize("NFC", sentence).split())
        stretches = list(re.finditer(f"[^{re.escape(''.join(_ALIKE))}\\\\\x00-\x20\x7f]+", words))
        if not stretches:
            raise DataError(f"{sentence!r}: nothing to look for; give a sentence, or at least a word")
        longest = max(stretches, key=lambda stretch: len(_utf8(stretch[0])))
        self.anchor = _utf8(longest[0])
        before, after = words[: longest.start()], words[longest.end() :]
        self._after = re.compile(b"".join(_json_forms(character) for character in after))
        self._before = re.compile(
            b"".join(_json_forms(character, backwards=True) for character in reversed(before))
        )
        self._most_before = 6 * len(_utf8(before)) + MOST_SPACE_BYTES
        self.in_text = re.compile("".join(map(_text_forms, words)))

    def stands_around(self, block: bytes, place: int) -> bool:
        """Whether the sentence stands around the anchor at `place`. Line ends need no care: none is part of a match."""
        if self._after.match(block, place + len(self.anchor)) is None:
            return False
        return self._before.match(block[max(0, place - self._most_before) : place][::-1]) is not None


def _json_forms(character: str, *, backwards: bool = False) -> bytes:
    """A pattern for everything that may stand in JSON for a character, read from either side."""
    if character == " ":
        return b"(?:" + b"|".join(_SPACES_BACKWARDS if backwards else _SPACES) + b")+"
    forms = [_utf8(json.dumps(shape, ensure_ascii=False)[1:-1]) for shape in _shapes(character)]
    return b"(?:" + b"|".join(re.escape(form[::-1] if backwards else form) for form in forms) + b")"


def _text_forms(character: str) -> str:
    return r"\s+" if character == " " else f"[{re.escape(_shapes(character))}]"


def _shapes(character: str) -> str:
    return next((alike for alike in _ALIKE if character in alike), character)


def _utf8(text: str) -> bytes:
    return text.encode(
        "utf-8", "replace"
    )  # half a surrogate pair, from a terminal, stands nowhere in a corpus


def _search(path: Path, pattern: SentencePattern, name: str) -> tuple[int, list[Found]]:
    """How many records hold the sentence in their field `name`, and the first of them."""
    found: list[Found] = []
    number = 0
    for line, raw in _matching_lines(path, pattern):
        if len(found) == MOST_DOCUMENTS:
            number += 1
        elif (one := _found(path, line, raw, pattern, name)) is not None:
            found.append(one)
            number += 1
    return number, found


def _matching_lines(path: Path, pattern: SentencePattern) -> Iterator[tuple[int, bytes]]:
    """(number, line) of every line in which the sentence stands in JSON."""
    lines_before = 0
    with progress(total=path.stat().st_size, description=f"searching {path.name}", unit="B") as bar:
        for block in blocks(path):
            counted = place = 0
            while (place := block.find(pattern.anchor, place)) >= 0:
                if pattern.stands_around(block, place):
                    start, place = line_around(block, place)
                    lines_before += block.count(b"\n", counted, start)
                    counted = start
                    yield lines_before + 1, block[start:place]
                place += 1
            lines_before += block.count(b"\n", counted)
            bar.update(len(block))


def _found(path: Path, line: int, raw: bytes, pattern: SentencePattern, name: str) -> Found | None:
    try:
        record = json.loads(raw)
        text = record[name]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptArtifactError(
            f"{path}:{line}: no record with {name!r} ({error}); collect again"
        ) from None
    match = pattern.in_text.search(text)
    if match is None:  # it stands in another field, such as the name of the file
        return None
    start, end = match.span()
    return Found(
        record,
        line,
        start,
        text[max(0, start - CONTEXT_CHARACTERS) : start],
        match[0],
        text[end : end + CONTEXT_CHARACTERS],
    )


def _division(places: Places) -> dict[str, Any] | None:
    """How the dataset was divided, or None where there is none."""
    if places.dataset is None or not (places.dataset / DATASET_REPORT).is_file():
        return None
    return read_report(places.dataset / DATASET_REPORT)


def _split(record: Mapping[str, Any], division: Mapping[str, Any] | None) -> str | None:
    """The split of a document, computed as the dataset computed it (`splits.split_of`)."""
    if division is None:
        return None
    if division["documents_cut"]:
        return "cut by position: its first part is in train, the rest is held out"
    key = record.get("metadata", {}).get("cluster") or text_key(record["text"])
    split = split_of(key, shares=division["shares"], seed=division["seed"])
    if given := [name for name in division["splits_given_a_document"] if name != split]:
        return f"{split}, unless it is the document that was given to {' or '.join(given)}"
    return split


def _other_members(places: Places, record: Mapping[str, Any]) -> tuple[str, ...]:
    cluster = record.get("metadata", {}).get("cluster")
    path = places.corpus / DUPLICATES_NAME
    if cluster is None or not path.is_file():
        return ()
    for line in lines_with(path, json.dumps(cluster).encode()):
        entry = json.loads(line)
        if entry["cluster"] == cluster:
            return tuple(
                member["source"] for member in entry["members"] if member["source"] != record["source"]
            )
    return ()
