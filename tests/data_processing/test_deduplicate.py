"""Exact duplicates."""

import pytest

from data_processing.deduplicate import ExactDuplicates


def test_the_first_of_equal_texts_is_new_and_the_others_are_not():
    duplicates = ExactDuplicates()
    assert [duplicates.is_new(text) for text in ["a", "b", "a", "A", "b", ""]] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]


def test_texts_of_a_failed_transaction_are_forgotten_and_earlier_ones_are_not():
    duplicates = ExactDuplicates()
    with duplicates.transaction():
        assert duplicates.is_new("kept")
    with pytest.raises(RuntimeError), duplicates.transaction():
        assert duplicates.is_new("lost")
        assert not duplicates.is_new("lost")
        raise RuntimeError
    assert duplicates.is_new("lost")
    assert not duplicates.is_new("kept")
    assert len(duplicates) == 2
