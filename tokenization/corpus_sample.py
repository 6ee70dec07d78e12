"""An even sample of a corpus of any size, in one pass and bounded memory. Knows no tokenizer.

Every record is divided into chunks of about `CHUNK_BYTES`, every chunk draws a number, and the chunks with the highest
numbers are the sample. How many chunks a line of JSON gives depends on its length alone, so a line none of whose chunks
can still be in the sample is passed over without being parsed.
"""

import heapq
import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from core.errors import DataError
from core.progress import progress
from tokenization.chunks import CONTINUATION_BYTES
from tokenization.tokenizer import utf8

CHUNK_BYTES = 4096
"""Size of the chunks, about: small enough that a sample of 100 MB has many, large enough that a word or two at the
ends of a chunk of text without spaces do not matter."""

SEED = 0

MAX_GROUPS = 256
"""Sources beyond this number are one group together, which bounds the time to find the largest."""

PROGRESS_BYTES = 1 << 20

WORD_START = re.compile(rb"(?<! ) ")
LINE_END = re.compile(rb"\n")
SOURCE = re.compile(rb'"source"\s*+:\s*+"([^"\\]*+(?:\\.[^"\\]*+)*+)"')
EXTENSION = re.compile(rb".*?(\.\w+)(?:[:#\[!].*)?", re.DOTALL)
"""The extension in `notes.txt`, `records.jsonl:12`, `records.json[3]` and `big.txt#part=2`."""


T = TypeVar("T")


class _Chunk(NamedTuple, Generic[T]):
    draw: float
    number: int
    num_bytes: int
    item: T


class _Group(Generic[T]):
    """The chunks of one group that are in the sample so far; those that draw less than `bar` no longer can be."""

    def __init__(self) -> None:
        self.chunks: list[_Chunk[T]] = []
        self.num_bytes = 0
        self.bar = -1.0

    def add(self, chunk: _Chunk[T]) -> None:
        heapq.heappush(self.chunks, chunk)
        self.num_bytes += chunk.num_bytes

    def drop_lowest(self) -> int:
        """Take out the chunk that drew least and return its size."""
        lowest = heapq.heappop(self.chunks)
        self.bar = lowest.draw
        self.num_bytes -= lowest.num_bytes
        return lowest.num_bytes


class CorpusSample(Generic[T]):
    """At most `max_bytes` of text: of each group all of it, or as much as of every other group that has more.

    While there is too much, the largest group gives up the chunk that drew least. That is filling glasses of different
    sizes to one height: a group that ends below the height has kept everything, and what the others kept are the
    chunks that drew highest in them, wherever they stood in the corpus. The memory is `max_bytes` and some 200 bytes a
    chunk, besides one record.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._draw = random.Random(SEED).random
        self._groups: dict[bytes, _Group[T]] = {}
        self._num_bytes = 0
        self._num_chunks = 0
        self._number = 0

    def candidates(self, group: bytes, num_chunks: int) -> list[tuple[int, float]]:
        """Which of the next record's chunks may be in the sample, and what they drew. Draws for all of them."""
        bar = self._group(group).bar
        draws = [self._draw() for _ in range(num_chunks)]
        return [(index, draw) for index, draw in enumerate(draws) if draw > bar]

    def add(self, group: bytes, draw: float, item: T, num_bytes: int) -> None:
        """Take in a chunk that `candidates` named, unless what came after that has made it one too many."""
        chosen = self._group(group)
        if not num_bytes or draw <= chosen.bar:
            return
        self._number += 1
        chosen.add(_Chunk(draw, self._number, num_bytes, item))
        self._num_bytes += num_bytes
        self._num_chunks += 1
        # One chunk always stays, however large.
        while self._num_bytes > self._max_bytes and self._num_chunks > 1:
            largest = max(self._groups.values(), key=lambda one: one.num_bytes)
            self._num_bytes -= largest.drop_lowest()
            self._num_chunks -= 1

    def take(self) -> list[T]:
        """The sample in the order of the corpus. It is handed over: nothing of it is kept here."""
        chunks = [chunk for group in self._groups.values() for chunk in group.chunks]
        self._groups = {}
        chunks.sort(key=lambda chunk: chunk.number)
        return [chunk.item for chunk in chunks]

    def _group(self, name: bytes) -> _Group[T]:
        if name not in self._groups and len(self._groups) >= MAX_GROUPS:
            name = b""
        return self._groups.setdefault(name, _Group())


def sample_jsonl(
    path: Path, *, max_bytes: int, text_field: str = "text", balanced: bool = True
) -> list[bytes]:
    """A sample of the texts of a JSONL file, in chunks of UTF-8.

    Args:
        balanced: Whether every source gets the same amount. The source of a record is the first directory in its
            "source", or the extension of a file without one.

    Raises:
        DataError: the file is missing, or a line that is parsed is no JSON object with a text (the message names file
            and line). Lines that cannot be in the sample are not parsed.
    """
    sample: CorpusSample[bytes] = CorpusSample(max_bytes)
    for number, line in numbered_lines(path):
        group = group_of(line) if balanced else b""
        num_chunks = -(-len(line) // CHUNK_BYTES)
        if wanted := sample.candidates(group, num_chunks):
            text = _text_of_line(line, text_field, f"{path}:{number}")
            for index, draw in wanted:
                chunk = chunk_of(text, index, num_chunks)
                sample.add(group, draw, chunk, len(chunk))
    return sample.take()


def sample_texts(texts: Iterable[str], *, max_bytes: int, origin: str) -> list[bytes]:
    """A sample of `texts`, in chunks of UTF-8.

    Raises:
        DataError: a text has a lone surrogate; the message names `origin`.
    """
    sample: CorpusSample[bytes] = CorpusSample(max_bytes)
    for number, text in enumerate(texts):
        data = utf8(text, f"{origin}: text {number}")
        num_chunks = -(-len(data) // CHUNK_BYTES)
        for index, draw in sample.candidates(b"", num_chunks):
            chunk = chunk_of(data, index, num_chunks)
            sample.add(b"", draw, chunk, len(chunk))
    return sample.take()


def chunk_of(text: bytes, index: int, num_chunks: int) -> bytes:
    """One of `num_chunks` parts of a text in UTF-8, at most twice as long as an even part and a character.

    Parts begin in front of the first space of a run of spaces where there is one, so that whoever cuts text there finds
    the words of the whole text; else in front of a line end, else of any character.
    """
    return text[_boundary(text, index, num_chunks) : _boundary(text, index + 1, num_chunks)]


def group_of(line: bytes) -> bytes:
    """The source that a line of a corpus counts as, without parsing it; b"" if it names none.

    In the corpora that are written here, "source" stands between the text and "metadata", in which there may be
    another. Within the text it would have a backslash in front of its quotation mark.
    """
    metadata = line.rfind(b'"metadata"')
    place = line.rfind(b'"source"', 0, metadata if metadata != -1 else len(line))
    found = SOURCE.match(line, place if place != -1 else max(line.rfind(b'"source"'), 0))
    if found is None:
        return b""
    directory, slash, _ = found[1].partition(b"/")
    if slash:
        return directory
    extension = EXTENSION.fullmatch(directory)
    return extension[1] if extension else b""


def _boundary(text: bytes, index: int, num_chunks: int) -> int:
    if index == num_chunks:
        return len(text)
    start, limit = (len(text) * part // num_chunks for part in (index, index + 1))
    if start == 0:
        return 0
    found = WORD_START.search(text, start, limit) or LINE_END.search(text, start, limit)
    if found:
        return found.start()
    while start < len(text) and text[start] in CONTINUATION_BYTES:
        start += 1
    return start


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file that are not blank, with their numbers."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); expected a JSONL file of texts"
        ) from None
    done = 0
    with path.open("rb") as file, progress(total=size, description="reading the corpus", unit="B") as bar:
        for number, line in enumerate(file, start=1):
            done += len(line)
            if done > PROGRESS_BYTES:
                bar.update(done)
                done = 0
            if not line.isspace():
                yield number, line
        bar.update(done)


def record_of_line(line: bytes, text_field: str, place: str) -> dict[str, Any]:
    """The object in a line of a corpus, whose text is a string.

    Raises:
        DataError: it is no such object; the message names `place`.
    """
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not valid JSON ({error}); repair or remove this line") from None
    expected = f'expected {{"{text_field}": "..."}}'
    if not isinstance(record, dict):
        raise DataError(f"{place}: found {type(record).__name__}, {expected}")
    text = record.get(text_field)
    if not isinstance(text, str):
        found = (
            f"a value of type {type(text).__name__} there"
            if text_field in record
            else f"keys {sorted(record)}"
        )
        raise DataError(f"{place}: no text under {text_field!r}: found {found}, {expected}")
    return record


def _text_of_line(line: bytes, text_field: str, place: str) -> bytes:
    return utf8(record_of_line(line, text_field, place)[text_field], place)
