import math
import random

import pytest

from evaluation.intervals import differing_by_chance, mean_interval, wilson_interval


@pytest.mark.parametrize(("num_right", "number"), [(0, 10), (10, 10), (3, 10), (500, 1000)])
def test_wilsons_interval_ends_where_the_test_of_a_share_would_just_accept(
    num_right: int, number: int
) -> None:
    share = num_right / number
    for end in wilson_interval(num_right, number):
        assert 0 <= end <= 1
        if 0 < end < 1:
            deviation = abs(share - end) / math.sqrt(end * (1 - end) / number)
            assert deviation == pytest.approx(1.96, abs=1e-3)


def test_nineteen_of_twenty_intervals_of_a_mean_hold_it() -> None:
    generator = random.Random(3)
    held = 0
    for _ in range(1000):
        low, high = mean_interval([generator.gauss(5, 2) for _ in range(60)]) or (0, 0)
        held += low < 5 < high
    assert 930 <= held <= 965
    assert mean_interval([1.0]) is None


def test_differences_are_as_probable_as_coin_tosses_say() -> None:
    # Of 5 tosses, 0 or 5 heads: 2 of 32.
    assert differing_by_chance(0, 5) == pytest.approx(2 / 32)
    assert differing_by_chance(4, 4) == 1.0
    assert differing_by_chance(0, 0) == 1.0
    assert differing_by_chance(600, 900) < 1e-10
