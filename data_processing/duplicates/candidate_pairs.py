"""Pairs of documents that share a band hash, in bounded memory. Sees hashes and lengths, never a text.

Shapes: N documents in all, over all shards; P pairs. A document is known by its position over the shards in order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from core.progress import progress

Indices = npt.NDArray[np.int64]
Pairs = npt.NDArray[np.uint64]
"""uint64 (P,): the smaller index in the upper 32 bits, the larger in the lower, so that sorting them sorts by both."""

MAX_DOCUMENTS: Final = 2**32
ALL_PAIRS_MEMBERS: Final = 16
"""Largest bucket of which every pair is a candidate: 120 pairs, 7.5 a member. Arbitrary, and far above the number of
editions that a text usually has."""
NEIGHBOURS: Final = 3
"""In a larger bucket each member is a candidate together with the longest member and with this many next to it in
length: what is alike is about as long. Four pairs a member at most; arbitrary."""

BYTES_PER_DOCUMENT: Final = 80
"""Peak memory for each document of a part, measured with tracemalloc: 56 when all are alone, 76 when each has a copy.
One bucket of everything takes 200 a member; it cannot be divided."""

_CHUNK_PAIRS: Final = 1 << 18
"""Pairs made at a time, some 15 MB with the arrays in between; arbitrary."""
_INDEX_BITS: Final = np.uint64(32)
_INDEX_MASK: Final = np.uint64(2**32 - 1)


class Bands(Protocol):
    """The band hashes of a shard's documents: an array uint64 (num_bands, documents), or what gives its rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(num_bands, documents)."""

    def __getitem__(self, band: int, /) -> npt.NDArray[np.uint64]:
        """One band of all documents of the shard."""


@dataclass
class BucketCounts:
    """What stood in the buckets of all bands; the same whatever the memory.

    Attributes:
        buckets: Sets of two or more documents with the same hash in one band.
        capped: Those with more than `ALL_PAIRS_MEMBERS` members, of which not every pair is a candidate.
        largest: Members of the largest.
        pairs: Candidates, each counted once for every band that it shares.
    """

    buckets: int = 0
    capped: int = 0
    largest: int = 0
    pairs: int = 0


def pack_pairs(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Pairs:
    """The pairs of the same places in `first` and `second`, whichever of the two is smaller."""
    smaller, larger = np.minimum(first, second).astype(np.uint64), np.maximum(first, second).astype(np.uint64)
    return (smaller << _INDEX_BITS) | larger


def unpack_pairs(pairs: Pairs) -> tuple[Indices, Indices]:
    """(smaller indices, larger indices) of `pairs`."""
    return (pairs >> _INDEX_BITS).astype(np.int64), (pairs & _INDEX_MASK).astype(np.int64)


def unique_sorted(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The different `values` in ascending order.

    Sorted here because `np.unique` of NumPy 2.4 goes through a hash table: 61 against 840 MB/s (Xeon with AVX-512).
    """
    ordered = np.sort(values)
    if len(ordered) < 2:
        return ordered
    different = np.empty(len(ordered), dtype=np.bool_)
    different[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=different[1:])
    return ordered[different]


def candidate_pairs(
    bands: Sequence[Bands],
    num_characters: npt.NDArray[np.integer],
    *,
    memory_bytes: int,
    counts: BucketCounts,
) -> Iterator[Pairs]:
    """Pairs that share a bucket, band after band; a pair comes once for every band that it shares.

    Every pair of a bucket up to `ALL_PAIRS_MEMBERS` comes; of a larger one each member with the longest (the first of
    several equally long) and with the `NEIGHBOURS` next shorter ones. So a bucket costs no more than its size times
    the logarithm of it.

    Where N * `BYTES_PER_DOCUMENT` exceeds `memory_bytes`, the range of hashes is divided into parts, and each band is
    read once for every part.

    Args:
        bands: For each shard its band hashes, such as a memory map; 0 takes no part.
        num_characters: Length of each document, (N,).
        memory_bytes: Bytes that the arrays in between may take.
        counts: Is added to.
    """
    num_parts = max(1, -(-len(num_characters) * BYTES_PER_DOCUMENT // memory_bytes))
    num_bands = bands[0].shape[0] if bands else 0
    for band in progress(range(num_bands), description="looking for near duplicates", unit="bands"):
        for part in range(num_parts):
            hashes, indices = _read_part([shard[band] for shard in bands], part, num_parts)
            yield from _pairs_of_buckets(hashes, indices, num_characters, counts)


def _read_part(
    columns: Sequence[npt.NDArray[np.uint64]], part: int, num_parts: int
) -> tuple[npt.NDArray[np.uint64], Indices]:
    """(hashes, indices) of the documents that take part and whose hash falls into `part` of the range."""
    hashes, indices = [], []
    begin = 0
    for column in columns:
        chosen = column != 0
        if num_parts > 1:
            # The upper half of the hash as a fraction of the range, scaled to the number of parts.
            scaled = (column >> _INDEX_BITS) * np.uint64(num_parts)
            chosen &= (scaled >> _INDEX_BITS) == np.uint64(part)
        places = np.flatnonzero(chosen)
        hashes.append(column[places])
        indices.append(places + begin)
        begin += len(column)
    return np.concatenate(hashes), np.concatenate(indices)


def _pairs_of_buckets(
    hashes: npt.NDArray[np.uint64],
    indices: Indices,
    num_characters: npt.NDArray[np.integer],
    counts: BucketCounts,
) -> Iterator[Pairs]:
    members, sizes = _buckets(hashes, indices)
    counts.buckets += len(sizes)
    counts.capped += int((sizes > ALL_PAIRS_MEMBERS).sum())
    counts.largest = max(counts.largest, int(sizes.max(initial=0)))
    starts = np.cumsum(sizes) - sizes
    for size in range(2, ALL_PAIRS_MEMBERS + 1):
        left, right = np.triu_indices(size, 1)
        for some in _chunks(starts[sizes == size], _CHUNK_PAIRS // len(left)):
            rows = members[some[:, None] + np.arange(size)]
            counts.pairs += len(some) * len(left)
            yield pack_pairs(rows[:, left].ravel(), rows[:, right].ravel())
    large = np.flatnonzero(sizes > ALL_PAIRS_MEMBERS)
    chunk = np.cumsum(sizes[large]) * (NEIGHBOURS + 1) // _CHUNK_PAIRS
    for some in np.split(large, np.flatnonzero(np.diff(chunk)) + 1) if len(large) else ():
        rows = np.concatenate([members[starts[bucket] : starts[bucket] + sizes[bucket]] for bucket in some])
        pairs = _pairs_of_large(rows, np.repeat(some, sizes[some]), num_characters)
        counts.pairs += len(pairs)
        yield pairs


def _chunks(values: Indices, length: int) -> Iterator[Indices]:
    return (values[begin : begin + length] for begin in range(0, len(values), length))


def _buckets(hashes: npt.NDArray[np.uint64], indices: Indices) -> tuple[Indices, Indices]:
    """(members, sizes): the documents of each bucket of two or more in ascending order, one bucket after another."""
    order = np.argsort(hashes)
    ordered = hashes[order]
    sizes = _run_lengths(ordered)
    several = sizes > 1
    members = indices[order[np.repeat(several, sizes)]]
    sizes = sizes[several]
    # The fast sort above is not stable, and few documents are left: sort those by bucket and index together.
    bucket = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
    packed = np.sort((bucket << _INDEX_BITS) | members.astype(np.uint64))
    return (packed & _INDEX_MASK).astype(np.int64), sizes


def _run_lengths(values: npt.NDArray[Any]) -> Indices:
    """How many times each value is repeated, run after run; they add up to the number of `values`."""
    ends = np.flatnonzero(values[1:] != values[:-1]) + 1
    return np.diff(ends, prepend=0, append=len(values)) if len(values) else ends


def _pairs_of_large(members: Indices, bucket: Indices, num_characters: npt.NDArray[np.integer]) -> Pairs:
    """Each member with the longest of its bucket, and with the `NEIGHBOURS` next in length."""
    order = np.lexsort((members, -num_characters[members].astype(np.int64), bucket))
    members, bucket = members[order], bucket[order]
    sizes = _run_lengths(bucket)
    longest = np.repeat(members[np.cumsum(sizes) - sizes], sizes)
    others = longest != members
    parts = [pack_pairs(longest[others], members[others])]
    for distance in range(1, NEIGHBOURS + 1):
        same = bucket[distance:] == bucket[:-distance]
        parts.append(pack_pairs(members[:-distance][same], members[distance:][same]))
    return unique_sorted(np.concatenate(parts))
