"""The set of hashes, beside Python's own set."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_processing.duplicates.word_hashes import mix
from data_processing.rules.hash_set import HashSet

hashes = st.lists(st.integers(0, 2**64 - 1), max_size=50)


def array(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


@given(members=hashes, others=hashes)
def test_members_are_told_from_others(members: list[int], others: list[int]):
    hash_set = HashSet(array(members))
    asked = members[::2] + others + members[:3]
    assert hash_set.contains(array(asked)).tolist() == [value in set(members) for value in asked]
    found = hash_set.hashes[hash_set.places_of(array(asked))].tolist()
    assert found == sorted(set(asked) & set(members))


def test_many_members_and_many_questions():
    numbers = mix(np.arange(1, 200_001, dtype=np.uint64))
    hash_set = HashSet(numbers[::2])
    assert np.array_equal(hash_set.contains(numbers), np.arange(200_000) % 2 == 0)
    assert np.array_equal(hash_set.hashes, np.sort(numbers[::2]))
