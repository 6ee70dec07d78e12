"""Objections are raised strictly beyond a threshold and name both numbers."""

from data_processing.rules.objections import above, below, share


def test_a_value_at_its_threshold_is_no_objection():
    assert above("reason", 0.5, 0.5, "of it") is None
    assert below("reason", 0.5, 0.5, "of it") is None


def test_without_a_threshold_there_is_no_objection():
    assert above("reason", 10**9, None, "of it") is None
    assert below("reason", -1, None, "of it") is None


def test_an_objection_has_both_numbers_as_far_as_they_differ():
    assert above("reason", 0.30004, 0.3, "of it") == ("reason", "0.30004 of it, more than 0.3")
    assert below("reason", 2, 3, "words") == ("reason", "2 words, less than 3")


def test_a_share_of_nothing_is_nothing():
    assert share(0, 0) == 0.0
    assert share(1, 4) == 0.25
