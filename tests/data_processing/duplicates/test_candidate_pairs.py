"""Pairs from buckets, compared with all pairs looked at one by one."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.duplicates.candidate_pairs import (
    ALL_PAIRS_MEMBERS,
    BYTES_PER_DOCUMENT,
    NEIGHBOURS,
    BucketCounts,
    candidate_pairs,
    pack_pairs,
    unique_sorted,
    unpack_pairs,
)

PLENTY = 10**9


def bands_of(rows: list[list[int]]) -> np.ndarray:
    """uint64 (bands, documents)."""
    return np.array(rows, dtype=np.uint64)


def found_pairs(
    shards: list[np.ndarray], lengths: np.ndarray, memory_bytes: int = PLENTY
) -> tuple[list[tuple[int, int]], BucketCounts]:
    """All candidates in ascending order, each as often as it came, and the counts."""
    counts = BucketCounts()
    pairs = list(candidate_pairs(shards, lengths, memory_bytes=memory_bytes, counts=counts))
    first, second = unpack_pairs(np.concatenate([np.empty(0, dtype=np.uint64), *pairs]))
    return sorted(zip(first.tolist(), second.tolist(), strict=True)), counts


# Numbers over the whole range of hashes, few enough to meet.
HASHES = st.sampled_from([0, 1, 2**63, 2**64 - 1, 0x9E3779B97F4A7C15, 3 << 40])


@given(
    st.integers(0, 14).flatmap(
        lambda n: st.lists(st.lists(HASHES, min_size=n, max_size=n), min_size=1, max_size=3)
    )
)
def test_every_two_documents_of_a_small_bucket_are_a_pair_of_each_band_that_they_share(rows: list[list[int]]):
    num_documents = len(rows[0])
    expected = sorted(
        (first, second)
        for row in rows
        for first, second in combinations(range(num_documents), 2)
        if row[first] == row[second] != 0
    )
    pairs, counts = found_pairs([bands_of(rows)], np.ones(num_documents, dtype=np.int64))
    assert pairs == expected
    assert counts.pairs == len(expected)
    assert counts.buckets == sum(row.count(value) > 1 for row in rows for value in set(row) - {0})
    assert counts.capped == 0


@given(
    st.lists(st.lists(HASHES, min_size=2, max_size=2), max_size=40),
    st.lists(st.integers(0, 40), max_size=4),
    st.sampled_from([BYTES_PER_DOCUMENT * 3, BYTES_PER_DOCUMENT * 7, PLENTY]),
)
def test_neither_shards_nor_parts_change_what_is_found(
    columns: list[list[int]], cuts: list[int], memory_bytes: int
):
    bands = bands_of([list(row) for row in zip(*columns, strict=True)] or [[], []])
    lengths = np.arange(bands.shape[1], dtype=np.int64) % 5
    shards = np.split(bands, sorted(min(cut, bands.shape[1]) for cut in cuts), axis=1)
    assert found_pairs(shards, lengths, memory_bytes) == found_pairs([bands], lengths)


def test_a_large_bucket_is_searched_from_its_longest_member_and_between_neighbours_in_length():
    generator = np.random.default_rng(1)
    for size in (ALL_PAIRS_MEMBERS + 1, 500):
        lengths = generator.permutation(size).astype(np.uint32)
        pairs, counts = found_pairs([np.full((1, size), 9, dtype=np.uint64)], lengths)
        by_length = np.argsort(-lengths.astype(int))
        expected = {tuple(sorted((by_length[0], other))) for other in by_length[1:]}
        for distance in range(1, NEIGHBOURS + 1):
            expected |= {tuple(sorted(two)) for two in zip(by_length, by_length[distance:], strict=False)}
        assert pairs == sorted(expected)
        assert len(pairs) <= (NEIGHBOURS + 1) * size
        assert counts == BucketCounts(buckets=1, capped=1, largest=size, pairs=len(pairs))


def test_the_first_of_several_longest_members_is_compared_with_all():
    pairs, _ = found_pairs([np.full((1, 100), 9, dtype=np.uint64)], np.full(100, 5))
    assert {(0, other) for other in range(1, 100)} <= set(pairs)


def test_large_and_small_buckets_side_by_side_do_not_mix():
    hashes = np.repeat(np.array([5, 7, 2**63, 2**64 - 1, 0], dtype=np.uint64), [20, 2, 30, 16, 50])
    order = np.random.default_rng(2).permutation(len(hashes))
    pairs, counts = found_pairs([hashes[order][None]], np.ones(len(hashes), dtype=np.int64))
    assert all(hashes[order][first] == hashes[order][second] != 0 for first, second in pairs)
    assert (counts.buckets, counts.capped, counts.largest) == (4, 2, 30)
    assert sum(bool(hashes[order][first] == 7) for first, _ in pairs) == 1
    assert sum(bool(hashes[order][first] == 2**64 - 1) for first, _ in pairs) == 16 * 15 // 2


def test_no_documents_give_no_pairs():
    assert found_pairs([], np.empty(0, dtype=np.int64)) == ([], BucketCounts())
    assert found_pairs([np.empty((2, 0), dtype=np.uint64)], np.empty(0, dtype=np.int64)) == (
        [],
        BucketCounts(),
    )


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))))
def test_packed_pairs_come_out_with_the_smaller_index_first(pairs: list[tuple[int, int]]):
    first = np.array([pair[0] for pair in pairs], dtype=np.int64)
    second = np.array([pair[1] for pair in pairs], dtype=np.int64)
    smaller, larger = unpack_pairs(pack_pairs(first, second))
    assert smaller.tolist() == [min(pair) for pair in pairs]
    assert larger.tolist() == [max(pair) for pair in pairs]


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 3)))
def test_unique_values_are_ascending(values: list[int]):
    assert unique_sorted(np.array(values, dtype=np.uint64)).tolist() == sorted(set(values))


@pytest.mark.parametrize("num_copies", [1, 2, 16])
def test_memory_stays_within_what_is_allowed(num_copies: int):
    """The larger part of the documents alone, with one copy each, or in the largest bucket of which all pairs come."""
    num_documents, memory_bytes = 400_000, 8_000_000
    hashes = np.arange(1, num_documents + 1, dtype=np.uint64) // np.uint64(num_copies)
    hashes *= np.uint64(0x9E3779B97F4A7C15)
    lengths = np.ones(num_documents, dtype=np.int32)
    tracemalloc.start()
    for _ in candidate_pairs([hashes[None]], lengths, memory_bytes=memory_bytes, counts=BucketCounts()):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_documents * BYTES_PER_DOCUMENT > 2 * memory_bytes
    assert peak < memory_bytes + 15_000_000, peak
