"""What a user never wants in the corpus: documents by name, and texts with certain words or patterns.

Two files say it, one entry a line; blank lines and lines that begin with "#" are passed over.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from core.data_config import BlocklistConfig
from core.errors import DataError
from data_processing.document import Document, Outcome, Step
from data_processing.duplicates.word_hashes import ngram_hashes, word_hashes
from data_processing.rules.hash_set import HashSet
from data_processing.rules.named_files import named_text

REASON: Final = "blocklisted"

_SHA256: Final = re.compile("[0-9a-fA-F]{64}")
# The place of a document in its file, as `Document.source` writes it.
_PLACE: Final = re.compile(r"(?::[0-9]+|\[[0-9]+\]|#part=[0-9]+)$")
_REGULAR_EXPRESSION: Final = re.compile("/(.+)/", re.DOTALL)
# What comes between the words of a phrase without meaning anything.
_WORDS_ONLY: Final = re.compile(r"(?:\w|[\s'’-])+")


@dataclass(frozen=True, slots=True)
class BlockedDocuments:
    """The documents that a file names, one a line: a source, an id, or the SHA-256 of a text in UTF-8.

    A source without a place in it (`notes.jsonl`, `books.zip`) names all documents of that file.

    Attributes:
        name: Of the file, for people.
        entries: Entry (a SHA-256 in lower case) -> number of its line.
        has_digests: Whether one of them may be a SHA-256.
    """

    name: str
    entries: Mapping[str, int]
    has_digests: bool

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """What `path` says.

        Raises:
            DataError: the file cannot be read.
        """
        entries: dict[str, int] = {}
        for number, line in _lines(path, setting="data.blocklist.documents"):
            entries.setdefault(line.lower() if _SHA256.fullmatch(line) else line, number)
        return cls(path.name, entries, any(map(_SHA256.fullmatch, entries)))

    def is_blocked(self, document: Document) -> str | None:
        """Which line names the document, for people; None when none does."""
        names = [document.id, *_sources(document.source)]
        if self.has_digests:
            names.append(sha256(document.text.encode("utf-8", "surrogatepass")).hexdigest())
        numbers = [self.entries[name] for name in names if name in self.entries]
        return f"line {min(numbers)} of {self.name}" if numbers else None


def blocklist_step(config: BlocklistConfig) -> Step:
    """A step that leaves out texts with what `config.patterns` lists; the detail names the line and not what it says.

    A line `/.../` is a regular expression in RE2's syntax, which has no look-around and no back references, and in
    return takes time linear in the text whatever the pattern; Python's own can take longer than the universe on a bad
    pair, and a limit on time would make the outcome depend on the machine. It is case-sensitive unless it says `(?i)`.

    Any other line is a word or phrase, looked for as whole words (of `word_hashes`): case, accents and apostrophes do
    not count, white space and hyphens only divide words, and in scripts without spaces it may stand anywhere. Any other
    sign in it must stand as it is: `c++` is not `c`.

    Thousands of words take hardly more time than one: they are looked up by hash.

    Raises:
        DataError: the file cannot be read, or a regular expression is not one; says which line.
    """
    if config.patterns is None:
        return lambda text, metadata: Outcome(text)
    name = config.patterns.name
    phrases: dict[int, str] = {}
    expressions: list[tuple[int, str | None]] = []
    for number, line in _lines(config.patterns, setting="data.blocklist.patterns"):
        if expression := _REGULAR_EXPRESSION.fullmatch(line):
            _check(expression[1], f"{config.patterns}:{number}")
            expressions.append((number, expression[1]))
        else:
            phrases[number] = line
    listed = _Phrases(phrases)

    def step(text: str, metadata: dict[str, Any]) -> Outcome:
        entries = sorted([*listed.candidates(text), *expressions], key=lambda entry: entry[0])
        number = _first_match(entries, text) if entries else None
        return Outcome(text) if number is None else Outcome(text, REASON, f"line {number} of {name}")

    return step


class _Phrases:
    """Words and phrases by the number of their lines, ready to be looked up."""

    def __init__(self, phrases: Mapping[int, str]) -> None:
        self._sets: list[tuple[int, HashSet, list[list[int]]]] = []
        self._exact: dict[int, str] = {}
        self._without_words: dict[int, str] = {}
        by_length: dict[int, dict[int, list[int]]] = {}
        for number, phrase in phrases.items():
            hashes = word_hashes(phrase)
            if not len(hashes):
                self._without_words[number] = phrase.casefold()
                continue
            if not _WORDS_ONLY.fullmatch(phrase):
                self._exact[number] = _expression_of(phrase)
            whole = int(ngram_hashes(hashes, len(hashes))[0])
            by_length.setdefault(len(hashes), {}).setdefault(whole, []).append(number)
        for length, numbers in sorted(by_length.items()):
            hash_set = HashSet(np.array(list(numbers), dtype=np.uint64))
            # In the order of the set, so that a place in it is a place here.
            self._sets.append((length, hash_set, [numbers[key] for key in hash_set.hashes.tolist()]))

    def candidates(self, text: str) -> Iterator[tuple[int, str | None]]:
        """(line number, regular expression that must match too, or None) of each phrase whose words are in `text`."""
        if self._without_words:
            folded = text.casefold()
            for number, phrase in self._without_words.items():
                if phrase in folded:
                    yield number, None
        if self._sets:
            words = word_hashes(text)
            for length, hash_set, numbers in self._sets:
                for place in hash_set.places_of(ngram_hashes(words, length)).tolist():
                    for number in numbers[place]:
                        yield number, self._exact.get(number)


def _lines(path: Path, *, setting: str) -> Iterator[tuple[int, str]]:
    """(number from 1, line without white space around it) of each entry."""
    for number, line in enumerate(named_text(path, setting=setting).split("\n"), start=1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield number, entry


def _sources(source: str) -> Iterator[str]:
    """`source`, the file that it is a place in, and the archives that this lies in."""
    yield source
    while place := _PLACE.search(source):
        source = source[: place.start()]
        yield source
    while "!" in source:
        source = source.rpartition("!")[0]
        yield source


def _expression_of(phrase: str) -> str:
    """A regular expression for a phrase as it stands, whole words at its ends, whatever the case."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    begin = r"(?:^|[^\pL\pN_])" if re.match(r"\w", phrase) else ""
    end = r"(?:$|[^\pL\pN_])" if re.search(r"\w$", phrase) else ""
    return f"(?i){begin}{words}{end}"


def _first_match(entries: Sequence[tuple[int, str | None]], text: str) -> int | None:
    """The number of the first of (number, regular expression) that matches in `text`; None always matches.

    RE2 tells, which pyarrow brings along.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    # As bytes with a 64-bit length: a text may have 2 GB.
    column = pa.array([text.encode("utf-8", "replace")], type=pa.large_binary())
    for number, expression in entries:
        if expression is None or pc.match_substring_regex(column, pattern=expression)[0].as_py():
            return number
    return None


def _check(expression: str, place: str) -> None:
    import pyarrow as pa

    try:
        _first_match([(0, expression)], "")
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{place}: not a regular expression of RE2 ({str(error).removeprefix('Invalid regular expression: ')}); "
            "correct it (look-around and back references are not possible), or write the words without slashes"
        ) from None
