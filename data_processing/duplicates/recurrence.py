"""What recurs across the documents of a corpus of any size: lines, paragraphs, whole texts. Sees hashes only.

Each function works through ranges of hashes, one after the other, so that no more than `memory_bytes` of them are in
memory at a time; what comes out does not depend on how many ranges that makes.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from data_processing.collecting.shard_files import read_array
from data_processing.collecting.shard_store import ShardStore

SORTING_FACTOR = 6
"""Memory that sorting n bytes of hashes takes, as a multiple of n: the copy, the order, the sums."""

Hashes = np.ndarray
"""uint64, sorted, each value once."""


def recurring_lines(
    store: ShardStore, parts: Sequence[str], *, min_documents: int, memory_bytes: int
) -> Hashes:
    """The hashes of the lines that stand, with the same lines behind them, in at least `min_documents` documents."""
    lines = [read_array(store, f"{part}.lines") for part in parts]
    counts = [read_array(store, f"{part}.line-counts") for part in parts]
    found = [np.empty(0, np.uint64)]
    for slices in _ranges(lines, memory_bytes):
        hashes = np.concatenate([array[here] for array, here in zip(lines, slices, strict=True)])
        number = np.concatenate([array[here] for array, here in zip(counts, slices, strict=True)])
        order = np.argsort(hashes, kind="stable")
        hashes, number = hashes[order], number[order]
        starts = np.flatnonzero(np.diff(hashes, prepend=hashes[:1] ^ np.uint64(1)))
        if len(starts):
            documents = np.add.reduceat(number, starts, dtype=np.int64)
            found.append(hashes[starts[documents >= min_documents]])
    return np.concatenate(found)


def earlier_paragraphs(
    paragraphs: Sequence[np.ndarray], kept: Sequence[np.ndarray], *, memory_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which paragraphs stand in an earlier document that is kept.

    Args:
        paragraphs: One array a part, `hash` and `row` of each paragraph, sorted; of one document each hash once.
        kept: For each part, which of its documents stay; the others neither lose paragraphs nor make others lose any.

    Returns:
        Numbers of documents, ascending, int64 (P,), and the hash of a paragraph that it loses beside each, uint64 (P,).
    """
    offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in kept])])
    numbers, lost = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for slices in _ranges([array["hash"] for array in paragraphs], memory_bytes):
        picked, where = [], []
        for array, here, rows, offset in zip(paragraphs, slices, kept, offsets, strict=False):
            stays = rows[array["row"][here]]
            picked.append(array["hash"][here][stays])
            where.append(array["row"][here][stays] + offset)
        hashes, documents = np.concatenate(picked), np.concatenate(where)
        # Stable, and parts and rows come in order: of equal hashes the first is that of the first document.
        order = np.argsort(hashes, kind="stable")
        hashes, documents = hashes[order], documents[order]
        again = np.flatnonzero(hashes[1:] == hashes[:-1]) + 1
        numbers.append(documents[again])
        lost.append(hashes[again])
    number, hash_ = np.concatenate(numbers), np.concatenate(lost)
    order = np.lexsort((hash_, number))
    return number[order], hash_[order]


def first_of_equal_texts(digests: Sequence[np.ndarray], *, memory_bytes: int) -> np.ndarray:
    """For each document, the number of the first one with the same digest.

    Args:
        digests: One array a part, uint64 (n, 2): 128 bits of each document's digest; zeros for what takes no part.

    Returns:
        int64 (N,): documents are numbered through the parts in order; what takes no part is its own first.
    """
    sizes = [len(array) for array in digests]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    first = np.arange(offsets[-1], dtype=np.int64)
    num_ranges = max(1, -(-int(offsets[-1]) * 24 * SORTING_FACTOR // memory_bytes))
    for number in range(num_ranges):
        picked, where = [], []
        for array, offset in zip(digests, offsets, strict=False):
            high = array[:, 0]
            here = np.flatnonzero((high % np.uint64(num_ranges) == number) & (high != 0))
            picked.append(array[here])
            where.append(here + offset)
        if not picked:
            break
        values, index = np.concatenate(picked), np.concatenate(where)
        order = np.lexsort((index, values[:, 1], values[:, 0]))
        values, index = values[order], index[order]
        new = np.ones(len(index), dtype=bool)
        new[1:] = (values[1:] != values[:-1]).any(axis=1)
        if len(index):
            first[index] = index[np.flatnonzero(new)[np.cumsum(new) - 1]]
    return first


def _ranges(arrays: Sequence[np.ndarray], memory_bytes: int) -> Iterator[list[slice]]:
    """For each range of hash values, the slice of every sorted array that lies in it."""
    total = sum(array.nbytes for array in arrays)
    num_ranges = max(1, -(-total * SORTING_FACTOR // memory_bytes))
    if not arrays:
        return
    # Hashes are spread evenly, so ranges of values of one width hold about as many each.
    edges = [int(number * 2**64 // num_ranges) for number in range(1, num_ranges)]
    cuts = [
        [0, *np.searchsorted(array, np.array(edges, dtype=np.uint64)).tolist(), len(array)]
        for array in arrays
    ]
    for number in range(num_ranges):
        yield [slice(cut[number], cut[number + 1]) for cut in cuts]
