"""Clusters of texts that say nearly the same, found by their band hashes and verified on the texts. Reads no files.

Shapes: N documents in all, over all shards. A document is known by its position over the shards in order.
"""

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from core.progress import progress
from data_processing.duplicates.candidate_pairs import (
    MAX_DOCUMENTS,
    Bands,
    BucketCounts,
    Pairs,
    candidate_pairs,
    pack_pairs,
    unique_sorted,
    unpack_pairs,
)
from data_processing.duplicates.minhash import shingle_hashes
from data_processing.duplicates.word_hashes import Hashes

Texts = Callable[[Sequence[int]], Iterator[tuple[int, str]]]
"""(ascending indices of documents) -> (index, text) for each of them, in any order."""

_WINDOW_PAIRS: Final = 1 << 14
"""Pairs looked at together for which documents to load next; arbitrary: 256 kB."""
_PAIR_BYTES: Final = 8
_SET_OVERHEAD_BYTES: Final = 300
"""Of a set of shingles in memory besides the shingles: the array's header, its place in the dictionary (sys.getsizeof,
CPython 3.11, NumPy 2.4)."""


@dataclass(frozen=True, slots=True, eq=False)
class PairSimilarities:
    """Jaccard similarities that were computed.

    Attributes:
        first: Smaller index of each pair, ascending; int64 (V,).
        second: Larger index of each pair, ascending among those of one `first`; int64 (V,).
        similarity: float64 (V,).
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float64]

    @classmethod
    def of(
        cls,
        first: npt.NDArray[np.int64],
        second: npt.NDArray[np.int64],
        similarity: npt.NDArray[np.float64],
    ) -> Self:
        """The same from pairs in any order, each the smaller or the larger index first."""
        pairs = pack_pairs(first, second)
        order = np.argsort(pairs)
        return cls(*unpack_pairs(pairs[order]), similarity[order])


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Which documents belong together.

    Attributes:
        root: Of each document the one that stands for its cluster, itself when it is alone; int64 (N,). It is the
            member with the most characters, of several the first.
        similarity: Jaccard similarity of each document's shingles with those of its root, 1 for the root itself;
            float32 (N,). Below the threshold for a member that is linked through others.
        verified: All similarities that were computed or known, for `known` of a later run.
        statistics: Counts by name. `num_documents`, `num_clusters` (of two or more), `num_duplicates` (documents
            that are not a root), `num_buckets`, `num_capped_buckets`, `largest_bucket` and `num_bucket_pairs` (see
            `BucketCounts`).
        work: `num_computed_pairs`, similarities computed in this run, and `num_texts_read`. Other than all the rest,
            these depend on the memory and on what was known.
    """

    root: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]
    verified: PairSimilarities
    statistics: Mapping[str, int]
    work: Mapping[str, int]


def find_near_duplicates(
    bands: Sequence[Bands],
    num_characters: npt.NDArray[np.integer],
    texts: Texts,
    *,
    min_similarity: float,
    memory_bytes: int,
    known: PairSimilarities | None = None,
) -> Clusters:
    """The connected clusters of documents whose sets of 5-word shingles have Jaccard similarity >= `min_similarity`.

    Candidates are pairs that share a band hash (`minhash.band_hashes` has the probability, 0.997 at 0.8). The
    similarity of each is computed exactly from the texts, unless other pairs have linked the two already. Buckets of
    more than 16 documents are searched in time linear in their size (`candidate_pairs`), so ten thousand copies of
    one text cost ten thousand times one copy.

    The clusters depend on the texts, their order and `min_similarity` alone: not on how they are divided into shards,
    nor on the memory, nor on `known`.

    Memory: besides `memory_bytes`, 28 bytes a document and 16 for each pair verified; and while two texts are compared
    that alone exceed it, their sets of shingles (some 2 bytes a character, 8 in Chinese), and ten times the text.

    Args:
        bands: For each shard uint64 (32, documents in it) with a `band_hashes` in each column, such as a memory map
            of a .npy file (in C order, so that one band lies in one piece); a column of zeros takes no part.
        num_characters: Length of each document, (N,).
        texts: Gives the texts that are asked for.
        min_similarity: Smallest similarity of two near duplicates (0 to 1).
        memory_bytes: Bytes for buckets, candidate pairs and sets of shingles.
        known: Similarities that need not be computed again, such as `Clusters.verified` of a run before documents
            were added, with their indices of today.
    """
    num_documents = sum(shard.shape[1] for shard in bands)
    assert num_documents == len(num_characters) < MAX_DOCUMENTS, (num_documents, len(num_characters))
    counts = BucketCounts()
    forest = _Forest(num_documents)
    similarities = _Similarities(texts, num_characters, memory_bytes // 4, known)
    found = candidate_pairs(bands, num_characters, memory_bytes=memory_bytes // 2, counts=counts)
    # Sorting and making unique hold a second copy of the pairs.
    for pairs in _in_rounds(found, max_pairs=max(1, memory_bytes // 4 // (2 * _PAIR_BYTES))):
        for first, second, value in similarities.of(pairs, forest):
            if value >= min_similarity:
                forest.join(first, second)

    root = _representatives(forest.roots(np.arange(num_documents)), num_characters)
    members = np.flatnonzero(root != np.arange(num_documents))
    similarity = np.ones(num_documents, dtype=np.float32)
    for first, second, value in similarities.of(np.sort(pack_pairs(root[members], members))):
        similarity[second if root[second] == first else first] = value
    statistics = {
        "num_documents": num_documents,
        "num_clusters": len(np.unique(root[members])),
        "num_duplicates": len(members),
        "num_buckets": counts.buckets,
        "num_capped_buckets": counts.capped,
        "largest_bucket": counts.largest,
        "num_bucket_pairs": counts.pairs,
    }
    work = {
        "num_computed_pairs": similarities.num_computed,
        "num_texts_read": similarities.num_texts_read,
    }
    return Clusters(root, similarity, similarities.known(), statistics, work)


def jaccard(first: Hashes, second: Hashes) -> float:
    """Share of common elements among all elements of two sets, each sorted and without repetition; 0 if both are empty.

    >>> jaccard(np.array([1, 2, 3], dtype=np.uint64), np.array([2, 3, 4], dtype=np.uint64))
    0.5
    """
    union_and_shared = np.concatenate((first, second))
    # "stable" finds the two sorted runs and merges them: 2 ns an element, where searching one in the other takes 6.
    union_and_shared.sort(kind="stable")
    shared = int(np.count_nonzero(union_and_shared[1:] == union_and_shared[:-1]))
    return shared / max(1, len(union_and_shared) - shared)


def shingle_set(text: str) -> Hashes:
    """The 5-word shingles of `text`, sorted and without repetition, uint64."""
    return unique_sorted(shingle_hashes(text))


def _in_rounds(found: Iterable[Pairs], *, max_pairs: int) -> Iterator[Pairs]:
    """What was found, sorted and without repetition, at once if those are at most `max_pairs`; else in several parts,
    in which a pair may come again."""
    held: list[Pairs] = []
    num_held = 0
    for pairs in found:
        held.append(pairs)
        num_held += len(pairs)
        if num_held > max_pairs:
            held = [unique_sorted(np.concatenate(held))]
            if len(held[0]) > max_pairs // 2:
                yield held.pop()
            num_held = sum(map(len, held))
    if held:
        yield unique_sorted(np.concatenate(held))


def _representatives(
    roots: npt.NDArray[np.int64], num_characters: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """For each document the longest, of several the first, of those that have the same entry in `roots`."""
    clustered = np.flatnonzero(roots != np.arange(len(roots)))
    clustered = np.union1d(clustered, roots[clustered])
    order = clustered[np.lexsort((clustered, -num_characters[clustered].astype(np.int64), roots[clustered]))]
    # The first of each run of equal roots is the longest member.
    begins = np.flatnonzero(np.diff(roots[order], prepend=-1))
    representatives = roots.copy()
    representatives[order] = np.repeat(order[begins], np.diff(begins, append=len(order)))
    return representatives


class _Forest:
    """Which documents are linked, directly or through others (union-find; Tarjan & van Leeuwen 1984, path halving)."""

    def __init__(self, num_documents: int) -> None:
        self._parents = np.arange(num_documents)
        self._view = self._parents.data
        """The same numbers; reading one takes a third of the time that the array takes."""

    def root(self, index: int) -> int:
        """The same for all that are linked with `index`."""
        view = self._view
        while view[index] != index:
            view[index] = index = view[view[index]]
        return index

    def join(self, first: int, second: int) -> None:
        """Links two documents."""
        low, high = sorted((self.root(first), self.root(second)))
        self._view[high] = low

    def roots(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """`root` of each of `indices`."""
        roots = self._parents[indices]
        while True:
            above = self._parents[roots]
            if np.array_equal(above, roots):
                return roots
            roots = above

    def apart(self, pairs: Pairs) -> npt.NDArray[np.bool_]:
        """Whether the two of each pair are not linked."""
        first, second = unpack_pairs(pairs)
        apart: npt.NDArray[np.bool_] = self.roots(first) != self.roots(second)
        return apart


class _Similarities:
    """Jaccard similarities of pairs, with the sets of shingles of recent documents kept in `memory_bytes`."""

    def __init__(
        self,
        texts: Texts,
        num_characters: npt.NDArray[np.integer],
        memory_bytes: int,
        known: PairSimilarities | None,
    ) -> None:
        self._texts = texts
        self._num_characters = num_characters
        self._memory_bytes = memory_bytes
        self._sets: OrderedDict[int, Hashes] = OrderedDict()
        self._sets_bytes = 0
        self._pairs = pack_pairs(known.first, known.second) if known else np.empty(0, dtype=np.uint64)
        self._values = known.similarity if known else np.empty(0)
        # Not yet among the sorted arrays above; 16 bytes a pair, where a dictionary would take 200.
        self._new_pairs = array("Q")
        self._new_values = array("d")
        self.num_computed = 0
        self.num_texts_read = 0

    def of(self, pairs: Pairs, forest: _Forest | None = None) -> Iterator[tuple[int, int, float]]:
        """(smaller index, larger index, similarity) of `pairs` without those that `forest` has linked by then."""
        self._merge_new()
        with progress(total=len(pairs), description="comparing near duplicates", unit="pairs") as bar:
            for begin in range(0, len(pairs), _WINDOW_PAIRS):
                window = pairs[begin : begin + _WINDOW_PAIRS]
                places, is_known = self._look_up(window)
                first, second = unpack_pairs(window[is_known])
                values = self._values[places[is_known]]
                yield from zip(first.tolist(), second.tolist(), values.tolist(), strict=True)
                yield from self._compute(window[~is_known], forest)
                bar.update(len(window))

    def known(self) -> PairSimilarities:
        """Everything known and computed."""
        self._merge_new()
        return PairSimilarities(*unpack_pairs(self._pairs), self._values)

    def _compute(self, pairs: Pairs, forest: _Forest | None) -> Iterator[tuple[int, int, float]]:
        while len(pairs):
            if forest is not None:
                pairs = pairs[forest.apart(pairs)]
            num_loaded = self._load_for(pairs)
            loaded, pairs = pairs[:num_loaded], pairs[num_loaded:]
            firsts, seconds = unpack_pairs(loaded)
            for pair, first, second in zip(loaded.tolist(), firsts.tolist(), seconds.tolist(), strict=True):
                # Again, because the pairs before this one may have linked these two.
                if forest is None or forest.root(first) != forest.root(second):
                    value = jaccard(self._sets[first], self._sets[second])
                    self.num_computed += 1
                    self._new_pairs.append(pair)
                    self._new_values.append(value)
                    yield first, second, value

    def _load_for(self, pairs: Pairs) -> int:
        """Loads the sets of as many of the first `pairs` as fit, of one at least; returns how many."""
        if not len(pairs):
            return 0
        indices, first_use = np.unique(np.stack(unpack_pairs(pairs), axis=1), return_index=True)
        by_use = np.argsort(first_use)
        # At most a shingle for each character, as in Chinese; English has one for six, so there it loads less than
        # it could, which costs nothing, because the sets stay for the next time.
        num_characters = self._num_characters[indices[by_use]].astype(np.int64)
        room = np.cumsum(num_characters * 8 + _SET_OVERHEAD_BYTES)
        num_fitting = int(np.searchsorted(room, self._memory_bytes // 2, side="right"))
        num_pairs = len(pairs)
        if num_fitting < len(indices):
            num_pairs = max(1, int(first_use[by_use[num_fitting]]) // 2)
        self._load(indices[first_use < 2 * num_pairs].tolist())
        return num_pairs

    def _load(self, needed: list[int]) -> None:
        """Has the sets of `needed` (ascending) in memory, and those used last besides, in half of the memory."""
        missing = [index for index in needed if index not in self._sets]
        for index in needed:
            if index in self._sets:
                self._sets.move_to_end(index)
        num_others = len(self._sets) - (len(needed) - len(missing))
        while num_others and self._sets_bytes > self._memory_bytes // 2:
            self._sets_bytes -= self._sets.popitem(last=False)[1].nbytes + _SET_OVERHEAD_BYTES
            num_others -= 1
        if missing:
            for index, text in self._texts(missing):
                shingles = shingle_set(text)
                self._sets[index] = shingles
                self._sets_bytes += shingles.nbytes + _SET_OVERHEAD_BYTES
            self.num_texts_read += len(missing)

    def _look_up(self, pairs: Pairs) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
        """(places among the known pairs, whether it is there) for each of `pairs`."""
        if not len(self._pairs):
            return np.zeros(len(pairs), dtype=np.intp), np.zeros(len(pairs), dtype=np.bool_)
        places = np.searchsorted(self._pairs, pairs)
        places[places == len(self._pairs)] = 0
        return places, self._pairs[places] == pairs

    def _merge_new(self) -> None:
        pairs = np.concatenate((self._pairs, np.frombuffer(self._new_pairs, dtype=np.uint64)))
        order = np.argsort(pairs)
        self._pairs = pairs[order]
        self._values = np.concatenate((self._values, np.frombuffer(self._new_values)))[order]
        self._new_pairs, self._new_values = array("Q"), array("d")
