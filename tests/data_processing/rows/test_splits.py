"""Splits by hash."""

from collections import Counter

import pytest

from core.errors import ConfigError
from data_processing.rows.splits import split_of

SHARES = {"train": 0.9, "val": 0.05, "test": 0.05}


def test_a_key_stays_in_its_split_when_other_keys_come_and_go():
    few = {key: split_of(key, shares=SHARES, seed=1) for key in map(str, range(100))}
    many = {key: split_of(key, shares=SHARES, seed=1) for key in map(str, range(1000))}
    assert few.items() <= many.items()


def test_shares_hold_within_five_standard_deviations():
    count = Counter(split_of(str(n), shares=SHARES, seed=7) for n in range(20_000))
    for name, share in SHARES.items():
        deviation = (20_000 * share * (1 - share)) ** 0.5
        assert abs(count[name] - 20_000 * share) < 5 * deviation


def test_another_seed_gives_another_division():
    divisions = [
        [split_of(str(n), shares={"a": 0.5, "b": 0.5}, seed=seed) for n in range(100)] for seed in (1, 2)
    ]
    assert 30 < sum(x != y for x, y in zip(*divisions, strict=True)) < 70


def test_a_growing_share_only_moves_keys_into_the_split_that_grew():
    for n in range(2000):
        before = split_of(str(n), shares={"train": 0.8, "val": 0.2}, seed=3)
        after = split_of(str(n), shares={"train": 0.9, "val": 0.1}, seed=3)
        assert before == after or (before, after) == ("val", "train")


@pytest.mark.parametrize("shares", [{"train": 1.0, "val": 0.0}, {"val": 0.0, "train": 1.0}])
def test_a_split_without_a_share_gets_nothing(shares: dict[str, float]):
    assert {split_of(str(n), shares=shares, seed=0) for n in range(1000)} == {"train"}


def test_the_largest_seed_and_strange_keys_are_taken():
    assert split_of("\udc80\n", shares=SHARES, seed=2**63 - 1) in SHARES


@pytest.mark.parametrize("shares", [{"train": 0.9}, {"train": 1.2, "val": -0.2}, {}])
def test_shares_that_do_not_add_up_are_refused_with_their_sum(shares: dict[str, float]):
    with pytest.raises(ConfigError, match=r"add up to 1, found .*sum"):
        split_of("x", shares=shares, seed=0)
