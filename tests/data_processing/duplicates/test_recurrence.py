"""What recurs, compared with a plain count in dictionaries, in one go and in many ranges."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_processing.collecting.judge_shard import PARAGRAPH_TYPE
from data_processing.collecting.shard_files import write_array
from data_processing.collecting.shard_store import ShardStore
from data_processing.duplicates.recurrence import earlier_paragraphs, first_of_equal_texts, recurring_lines

# Few different values, spread over the whole range, so that some recur and some are neighbours of a range's edge.
HASHES = st.sampled_from(
    [0, 1, 2**32, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1, *(k * 2**60 + 7 for k in range(16))]
)
DOCUMENTS = st.lists(st.sets(HASHES, max_size=6), max_size=6)
MEMORY = st.sampled_from([1, 100, 1000, 10**9])

anew = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def array(values: list[int]) -> np.ndarray:
    return np.array(sorted(values), dtype=np.uint64)


@pytest.fixture
def store(tmp_path: Path) -> ShardStore:
    return ShardStore(str(tmp_path))


@anew
@given(shards=st.lists(DOCUMENTS, max_size=5), memory_bytes=MEMORY, min_documents=st.integers(1, 5))
def test_recurring_lines_are_those_that_enough_documents_have(
    store: ShardStore, shards: list[list[set[int]]], memory_bytes: int, min_documents: int
) -> None:
    whole: Counter[int] = Counter()
    for number, documents in enumerate(shards):
        counts = Counter(line for document in documents for line in document)
        whole += counts
        write_array(store, f"{number}.lines", array(list(counts)))
        numbers = np.array([counts[line] for line in sorted(counts)], dtype=np.uint32)
        write_array(store, f"{number}.line-counts", numbers)
    names = [str(number) for number in range(len(shards))]
    found = recurring_lines(store, names, min_documents=min_documents, memory_bytes=memory_bytes)
    assert found.dtype == np.uint64
    assert found.tolist() == sorted(line for line, count in whole.items() if count >= min_documents)


@given(
    shards=st.lists(st.lists(st.tuples(st.booleans(), st.sets(HASHES, max_size=5)), max_size=5), max_size=4),
    memory_bytes=MEMORY,
)
def test_a_paragraph_is_lost_where_an_earlier_document_that_stays_has_it(
    shards: list[list[tuple[bool, set[int]]]], memory_bytes: int
) -> None:
    paragraphs = [
        np.array(
            sorted((value, row) for row, (_, hashes) in enumerate(shard) for value in hashes),
            dtype=PARAGRAPH_TYPE,
        )
        for shard in shards
    ]
    kept = [np.array([stays for stays, _ in shard], dtype=bool) for shard in shards]
    seen: set[int] = set()
    expected = []
    for number, (stays, hashes) in enumerate(document for shard in shards for document in shard):
        if stays:
            expected += [(number, value) for value in sorted(hashes & seen)]
            seen |= hashes
    numbers, lost = earlier_paragraphs(paragraphs, kept, memory_bytes=memory_bytes)
    assert list(zip(numbers.tolist(), lost.tolist(), strict=True)) == expected


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=8), max_size=5),
    MEMORY,
)
def test_of_equal_texts_the_first_is_found(shards: list[list[tuple[int, int]]], memory_bytes: int) -> None:
    digests = [np.array(shard, dtype=np.uint64).reshape(-1, 2) for shard in shards]
    flat = [digest for shard in shards for digest in shard]
    expected = [number if digest[0] == 0 else flat.index(digest) for number, digest in enumerate(flat)]
    assert first_of_equal_texts(digests, memory_bytes=memory_bytes).tolist() == expected


def test_nothing_recurs_in_nothing(store: ShardStore) -> None:
    assert recurring_lines(store, [], min_documents=2, memory_bytes=10**9).tolist() == []
    assert [len(array) for array in earlier_paragraphs([], [], memory_bytes=10**9)] == [0, 0]
    assert first_of_equal_texts([], memory_bytes=10**9).tolist() == []
