"""Text cut into chunks that no token crosses, so that a chunk that was met before is not encoded again.

Words repeat: of a 30 MB mixture of code and prose 0.15 million different chunks are left to encode (measured, a
SentencePiece vocabulary of 32,000), and the rest is array work: 24 MB/s on one core from a cold start, 42 when the
chunks are known, against 6 and 12 when a text was cut by a regular expression and its chunks were Python strings.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Cuts = NDArray[np.bool_]
Ids = NDArray[np.int32]
Counts = NDArray[np.int64]

NUM_PAIRS = 1 << 16
CONTINUATION_BYTES = range(0x80, 0xC0)
"""The bytes of UTF-8 that do not begin a character."""

REMEMBERED_CHUNKS = 1 << 19
REMEMBERED_BYTES = 1 << 24
"""Beyond these bounds (some 150 MB of Python objects) all chunks are forgotten."""

SHORT_BYTES = 1000
"""Less text than this is looked up chunk by chunk: setting up the arrays takes longer (two cores, 2026)."""

WINDOW_BYTES = 1 << 16


def cuts_outside(pieces: Iterable[bytes]) -> Cuts:
    """Where a text may be cut if tokens are `pieces`: between two bytes that stand side by side in none of them.

    A token that reached over such a place would hold both bytes. Never inside a character.
    """
    crossed = np.zeros(NUM_PAIRS, dtype=np.bool_)
    for piece in pieces:
        crossed[pairs_of(piece)] = True
    crossed.reshape(256, 256)[:, CONTINUATION_BYTES] = True
    return ~crossed


def pairs_of(data: bytes) -> NDArray[np.uint16]:
    """(len(data) - 1,) uint16: each byte but the last and its successor, as 256 * first + second."""
    codes = np.frombuffer(data, dtype=np.uint8)
    pairs = codes[:-1].astype(np.uint16)
    pairs <<= 8
    pairs |= codes[1:]
    return pairs


def find_chunks(data: bytes, ends: Counts, cuts: Cuts, apart: Iterable[bytes] = ()) -> Counts:
    """Where the chunks of `data` begin, and its length.

    Args:
        ends: Where texts within `data` end; no chunk reaches over one.
        apart: What is a chunk of its own besides.
    """
    is_start = np.empty(len(data) + 1, dtype=np.bool_)
    # "clip" because NumPy would else copy the output; every index is in range.
    np.take(cuts, pairs_of(data), out=is_start[1:-1], mode="clip")
    is_start[0] = is_start[-1] = True
    is_start[ends] = True
    for symbol in apart:
        place = data.find(symbol)
        while place != -1:
            is_start[[place, place + len(symbol)]] = True
            place = data.find(symbol, place + len(symbol))
    return np.flatnonzero(is_start)


def next_cut(data: bytes, start: int, cuts: Cuts) -> int:
    """The first place at or after `start` (at least 1) where `data` may be cut; its length if there is none."""
    for window in range(start - 1, len(data) - 1, WINDOW_BYTES):
        found = np.flatnonzero(cuts[pairs_of(data[window : window + WINDOW_BYTES + 1])])
        if len(found):
            return window + 1 + int(found[0])
    return len(data)


def as_arrow(data: bytes, starts: Counts) -> Any:
    """The chunks as a pyarrow.LargeBinaryArray over the same memory."""
    import pyarrow as pa

    buffers = [None, pa.py_buffer(starts), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(starts) - 1, buffers)


class ChunkMemory:
    """Ids of texts through the ids of their chunks, which are remembered. Threads may share it.

    Args:
        encode: The ids of each of some chunks, on a number of threads.
        cuts: As in `find_chunks`.
        fixed: Chunks whose ids are given.
    """

    def __init__(
        self,
        encode: Callable[[Sequence[bytes], int], list[list[int]]],
        cuts: Cuts,
        fixed: Mapping[bytes, list[int]],
    ) -> None:
        self._encode = encode
        self._cuts = cuts
        self._fixed = fixed
        self._forget()

    def encode(self, texts: Sequence[bytes], num_threads: int) -> tuple[Ids, Counts]:
        """The ids of all texts one after the other, and how many each text has."""
        data = b"".join(texts)
        ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
        starts = find_chunks(data, ends, self._cuts, self._fixed)
        if len(data) < SHORT_BYTES:
            places = starts.tolist()
            lists = self._ids_of([data[start:end] for start, end in pairwise(places)], num_threads)
            ids, chunk_ends = _joined(lists)
        else:
            chunks = as_arrow(data, starts).dictionary_encode()
            lists = self._ids_of(chunks.dictionary.to_pylist(), num_threads)
            ids, chunk_ends = _look_up(lists, chunks.indices.to_numpy())
        # Every end of a text is the start of a chunk; before chunk k there are chunk_ends[k - 1] ids.
        before = np.concatenate([[0], chunk_ends])[np.searchsorted(starts, ends)]
        return ids, np.diff(before, prepend=0)

    def _ids_of(self, chunks: list[bytes], num_threads: int) -> list[list[int]]:
        remembered = self._remembered
        if new := list(dict.fromkeys(chunk for chunk in chunks if chunk not in remembered)):
            remembered.update(zip(new, self._encode(new, num_threads), strict=True))
            self._size += sum(map(len, new))
        found = list(map(remembered.__getitem__, chunks))
        if len(remembered) > REMEMBERED_CHUNKS or self._size > REMEMBERED_BYTES:
            self._forget()
        return found

    def _forget(self) -> None:
        # A new mapping: another thread may still read the old one.
        self._remembered = dict(self._fixed)
        self._size = 0


def _look_up(lists: list[list[int]], codes: NDArray[np.integer[Any]]) -> tuple[Ids, Counts]:
    """`lists[code]` for each code, one after the other, and where each of them ends."""
    table, table_ends = _joined(lists)
    lengths = np.diff(table_ends, prepend=0)
    starts = table_ends - lengths
    counts = lengths[codes]
    ends = np.cumsum(counts)
    places = np.repeat(starts[codes] - (ends - counts), counts)
    places += np.arange(len(places))
    return table[places], ends


def _joined(lists: list[list[int]]) -> tuple[Ids, Counts]:
    """All numbers of the lists, one after the other, and where each list ends."""
    ends = np.cumsum(np.fromiter(map(len, lists), np.int64, len(lists)))
    return np.fromiter(chain.from_iterable(lists), np.int32, int(ends[-1]) if len(ends) else 0), ends
