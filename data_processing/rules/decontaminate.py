"""Texts that hold pieces of evaluation data, told by n-grams of words (Brown et al. 2020, appendix C).

What we changed: words are those of `word_hashes`, so case, accents and punctuation do not hide a piece; and a document
is left out as a whole instead of being cut around the piece.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from core.data_config import DecontaminationConfig
from core.errors import DataError
from data_processing.document import Outcome, Step
from data_processing.duplicates import word_hashes as words
from data_processing.duplicates.word_hashes import Hashes
from data_processing.rules.hash_set import HashSet
from data_processing.rules.named_files import named_text

REASON: Final = "contaminated"

MIN_RECORD_WORDS: Final = 8
"""A record shorter than an n-gram is looked for as a whole, but not below this many words: seven words in a row that
two texts share are often an idiom. Arbitrary."""

MAX_ALTERNATIVES: Final = 32
"""Longer lists in a record are paragraphs or turns and not choices, so they are read in a row alone; arbitrary."""


# What evaluation files put in front of their texts and a corpus does not.
_LABEL: Final = re.compile(
    r"^[ \t]*(?:Question|Query|Q|Answer|A|Context|Passage|Premise|Hypothesis|Goal|Problem|Solution|Choices|Options)"
    r"[ \t]*:",
    re.MULTILINE,
)


def ngram_hashes(text: str, n: int) -> Hashes:
    """One hash for each run of `n` words of `text`, uint64, in the order of the text; empty when it is shorter."""
    return words.ngram_hashes(words.word_hashes(text), n)


def decontamination_step(config: DecontaminationConfig) -> Step:
    """A step that leaves out texts that share more than `config.max_shared_ngrams` n-grams with the evaluation files.

    Counted are different n-grams of `config.ngram_words` words, and whole records of fewer but at least
    `MIN_RECORD_WORDS`. The detail says how many were found and of which files.

    Raises:
        DataError: a file cannot be read; says which, and the line.
    """
    tables = _tables(config)
    if not tables:
        return lambda text, metadata: Outcome(text)
    shortest, longest = min(tables), max(tables)
    # Whatever is looked for begins with one of these; in most texts none is found, and that ends the matter.
    beginnings = HashSet(np.concatenate([table.beginnings for table in tables.values()]))

    def step(text: str, metadata: dict[str, Any]) -> Outcome:
        hashes = words.word_hashes(text)
        begins = np.flatnonzero(beginnings.contains(words.ngram_hashes(hashes, shortest)))
        if not len(begins):
            return Outcome(text)
        hashes = _windows(hashes, begins, longest)
        shared: Counter[int] = Counter()
        for length, table in tables.items():
            places = table.ngrams.places_of(words.ngram_hashes(hashes, length))
            shared.update(table.files[places].tolist())
        if shared.total() <= config.max_shared_ngrams:
            return Outcome(text)
        found = ", ".join(f"{number} of {config.files[file]}" for file, number in sorted(shared.items()))
        detail = f"shares n-grams of {config.ngram_words} words or whole shorter records: {found}"
        return Outcome(text, REASON, detail)

    return step


@dataclass(frozen=True, slots=True)
class _Table:
    """N-grams of one length.

    Attributes:
        ngrams: Their hashes.
        files: For each of them, the index of the first file that has it.
        beginnings: The n-grams of the shortest length in any table that they begin with.
    """

    ngrams: HashSet
    files: npt.NDArray[np.int32]
    beginnings: Hashes


def _tables(config: DecontaminationConfig) -> Mapping[int, _Table]:
    """Length in words -> what is looked for, in all files."""
    shortest = min(MIN_RECORD_WORDS, config.ngram_words)
    readings: dict[int, list[tuple[int, Hashes]]] = {}
    for index, path in enumerate(config.files):
        for record in read_records(path):
            for hashes in _readings(record):
                if len(hashes) >= shortest:
                    readings.setdefault(min(config.ngram_words, len(hashes)), []).append((index, hashes))
    return {length: _table(readings[length], length, min(readings)) for length in sorted(readings)}


def _table(readings: Sequence[tuple[int, Hashes]], length: int, shortest: int) -> _Table:
    ngrams = [words.ngram_hashes(hashes, length) for _, hashes in readings]
    files = np.repeat([index for index, _ in readings], [len(found) for found in ngrams]).astype(np.int32)
    # Of equal ones the first is taken, which is that of the earliest file.
    unique, first = np.unique(np.concatenate(ngrams), return_index=True)
    beginnings = [words.ngram_hashes(hashes, shortest) for _, hashes in readings]
    return _Table(HashSet(unique), files[first], np.unique(np.concatenate(beginnings)))


def _windows(hashes: Hashes, begins: npt.NDArray[np.intp], length: int) -> Hashes:
    """The stretches of `length` words that start at `begins`, joined where they overlap, with a 0 behind each."""
    steps = np.zeros(len(hashes) + length + 1, dtype=np.int32)
    np.add.at(steps, begins, 1)
    np.subtract.at(steps, begins + length, 1)
    inside = np.cumsum(steps)[: len(hashes) + 1] > 0
    behind = np.concatenate(([False], inside[:-1])) & ~inside
    return np.where(inside, np.append(hashes, np.uint64(0)), np.uint64(0))[inside | behind]


def read_records(path: Path) -> Iterator[Any]:
    """The records of an evaluation file: lines of jsonl, elements of a JSON array (or its one value), or paragraphs.

    Raises:
        DataError: the file cannot be read, is not valid JSON, or has another ending.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"data.decontamination.files: {path} ends with {path.suffix!r}; expected one of {', '.join(_READERS)}"
        )
    return reader(named_text(path, setting="data.decontamination.files"), path)


def _lines_of_json(text: str, path: Path) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _parsed(line, f"{path}:{number}")


def _json_elements(text: str, path: Path) -> Iterator[Any]:
    value = _parsed(text, str(path))
    yield from value if isinstance(value, list) else [value]


def _paragraphs(text: str, path: Path) -> Iterator[Any]:
    paragraph: list[str] = []
    for line in [*text.split("\n"), ""]:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "\n".join(paragraph)
            paragraph = []


_READERS: Final = {
    ".jsonl": _lines_of_json,
    ".ndjson": _lines_of_json,
    ".json": _json_elements,
    ".txt": _paragraphs,
}


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"data.decontamination.files: {place}: not JSON ({error.msg} at line {error.lineno}, column "
            f"{error.colno}); correct it or leave it out"
        ) from None
    except RecursionError:
        raise DataError(
            f"data.decontamination.files: {place}: not usable (JSON nested too deeply); leave it out"
        ) from None


def _readings(record: Any) -> Iterator[Hashes]:
    """The texts that one record makes, as hashes of words: all its strings in a row, and two texts an alternative.

    A question with choices stands in a corpus with one of the choices behind it, an unfinished sentence behind one of
    its beginnings, and the order of the fields tells neither. So for the k-th alternative every list is replaced by its
    k-th element, and what was in lists comes behind the rest and before it: of `{"choices": [a, b], "query": q}` come
    `a b q`, `q a`, `a q`, `q b` and `b q`.
    """
    hashed: dict[str, Hashes] = {}

    def joined(strings: Sequence[str]) -> Hashes:
        for string in strings:
            if string not in hashed:
                hashed[string] = words.word_hashes(_LABEL.sub("", string))
        return np.concatenate([np.empty(0, np.uint64), *(hashed[string] for string in strings)])

    yield joined([text for text, _ in _strings(record, choice=None)])
    for choice in range(_num_alternatives(record)):
        strings = list(_strings(record, choice=choice))
        listed = [text for text, in_list in strings if in_list]
        others = [text for text, in_list in strings if not in_list]
        yield joined(others + listed)
        yield joined(listed + others)


def _num_alternatives(record: Any) -> int:
    """The length of the longest list in a record; 0 when that is no list of alternatives."""
    longest = max(
        (len(value) for value, _ in _values(record, choice=None) if isinstance(value, list)), default=0
    )
    return longest if 1 < longest <= MAX_ALTERNATIVES else 0


def _strings(record: Any, *, choice: int | None) -> Iterator[tuple[str, bool]]:
    """(string, whether it is in a list) of each string in a record; lists as in `_values`."""
    return ((value, in_list) for value, in_list in _values(record, choice=choice) if isinstance(value, str))


def _values(record: Any, *, choice: int | None) -> Iterator[tuple[Any, bool]]:
    """(value, whether it is in a list) of a record and all JSON values inside it, in order.

    Of each list only the element `choice` is taken, unless that is None.
    """
    waiting = [(record, False)]  # not recursion: what the parser could nest, this can read
    while waiting:
        value, in_list = waiting.pop()
        yield value, in_list
        if isinstance(value, dict):
            waiting.extend((inner, in_list) for inner in reversed(value.values()))
        elif isinstance(value, list):
            chosen = value if choice is None else value[choice : choice + 1]
            waiting.extend((inner, True) for inner in reversed(chosen))
