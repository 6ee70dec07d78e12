import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data_processing.rows.split_assignment as split_assignment
from core.errors import ConfigError
from data_processing.rows.split_assignment import SplitAssignment, fewest_divided
from data_processing.rows.splits import split_of

SHARES = {"train": 0.9, "validation": 0.05, "test": 0.05}


def assign(keys, *, shares=SHARES, seed=1):
    assignment = SplitAssignment(shares=shares, seed=seed)
    return list(assignment.assign((key, (number, key)) for number, key in enumerate(keys))), assignment


@settings(deadline=None)
@given(st.lists(st.text(max_size=3), max_size=60), st.integers(0, 99))
def test_every_item_comes_out_once_and_equal_keys_stay_together(keys, seed):
    assigned, _ = assign(keys, seed=seed)
    assert sorted(item for _, item in assigned) == list(enumerate(keys))
    splits = defaultdict(set)
    for split, (_, key) in assigned:
        splits[key].add(split)
    assert all(len(found) == 1 for found in splits.values())


@settings(deadline=None)
@given(st.sets(st.text(max_size=3), max_size=40), st.integers(0, 99))
def test_no_split_is_empty_when_there_are_as_many_keys_as_splits(keys, seed):
    assigned, assignment = assign(sorted(keys), seed=seed)
    found = {split for split, _ in assigned}
    assert found == set(list(SHARES)[: len(keys)])  # with fewer, the later splits go without
    assert assignment.empty_splits == [split for split in SHARES if split not in found]


@settings(deadline=None)
@given(st.sets(st.text(max_size=3), min_size=1, max_size=40), st.integers(0, 99), st.randoms())
def test_only_what_fills_an_empty_split_differs_from_the_hash_and_it_does_not_depend_on_the_order(
    keys, seed, chooser
):
    shuffled = sorted(keys)
    chooser.shuffle(shuffled)
    results = [assign(order, seed=seed) for order in (sorted(keys), shuffled)]
    first, second = ({key: split for split, (_, key) in assigned} for assigned, _ in results)
    assert first == second
    by_hash = {key: split_of(key, shares=SHARES, seed=seed) for key in keys}
    moved = {key: split for key, split in first.items() if by_hash[key] != split}
    assert moved == results[0][1].moved
    assert len(moved) <= 2
    assert not set(moved.values()) & set(by_hash.values())


def test_a_large_corpus_is_split_by_hash_alone_and_keeps_its_order_after_the_beginning():
    keys = [str(number) for number in range(3000)]
    assigned, assignment = assign(keys)
    assert all(split == split_of(key, shares=SHARES, seed=1) for split, (_, key) in assigned)
    assert assignment.moved == {}
    numbers = [number for _, (number, _) in assigned]
    assert numbers[1000:] == list(range(1000, 3000))


def test_a_key_returns_to_its_split_when_the_corpus_has_grown():
    moved = assign(["a", "b", "c"])[1].moved
    assert moved
    grown = ["a", "b", "c", *(str(number) for number in range(1000))]
    assert assign(grown)[1].moved == {}


def test_a_split_with_a_share_of_zero_is_never_filled():
    assigned, assignment = assign(list("abc"), shares={"train": 0.9, "validation": 0.1, "test": 0.0})
    assert {split for split, _ in assigned} == {"train", "validation"}
    assert assignment.empty_splits == []


def test_very_many_items_of_one_key_are_not_held_back(monkeypatch):
    monkeypatch.setattr(split_assignment, "MAX_HELD_ITEMS", 10)
    assignment = SplitAssignment(shares=SHARES, seed=0)
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield "one topic", number

    first = next(assignment.assign(items()))
    assert first == ("train", 0)
    assert len(taken) == 10


def test_shares_that_make_no_whole_are_refused_before_any_item_is_read():
    with pytest.raises(ConfigError, match="add up to 1"):
        SplitAssignment(shares={"train": 0.9, "validation": 0.2}, seed=0)


def test_shares_hold_for_many_keys():
    chooser = random.Random(0)
    assigned, _ = assign([str(chooser.random()) for _ in range(20_000)])
    counts = {name: sum(split == name for split, _ in assigned) for name in SHARES}
    assert (
        abs(counts["validation"] - 1000) < 5 * 31
    )  # five standard deviations, sqrt(20000 * 0.05 * 0.95) = 31
    assert abs(counts["test"] - 1000) < 5 * 31


@pytest.mark.parametrize(("number", "expected"), [(19, {"train"}), (20, {"train", "validation"})])
def test_fewer_keys_than_a_share_takes_one_of_are_not_divided(number: int, expected: set[str]) -> None:
    shares = {"train": 0.95, "validation": 0.05}
    assignment = SplitAssignment(shares=shares, seed=1, divided_from=fewest_divided(0.05))
    keys = [str(n % number) for n in range(3 * number)]
    assigned = list(assignment.assign((key, key) for key in keys))
    assert {split for split, _ in assigned} == expected
    assert sorted(key for _, key in assigned) == sorted(keys)
    assert assignment.is_undivided == (expected == {"train"})
