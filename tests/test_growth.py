"""What is linear passes on any machine and what is quadratic does not, by a clock that says what it is told."""

import gc
import itertools
import re
from collections.abc import Callable
from math import log

import pytest

from tests.growth import ATTEMPTS, assert_grows_linearly


class Clock:
    """A clock that work moves, by its cost in seconds on an input of a size."""

    def __init__(self, cost: Callable[[int], float]) -> None:
        self._cost, self._now = cost, 0.0
        self.sizes: list[int] = []

    def __call__(self) -> float:
        return self._now

    def work(self, size: int) -> None:
        self.sizes.append(size)
        self._now += self._cost(size)

    def assert_linear(self) -> None:
        assert_grows_linearly(self.work, lambda number: number, 16_000, clock=self)


@pytest.mark.parametrize(
    "seconds_per_piece", [1e-12, 1e-6, 1.0], ids=["too short to tell", "as here", "slow"]
)
@pytest.mark.parametrize(
    "cost",
    [lambda n: n, lambda n: 2000, lambda n: n * log(n), lambda n: 20_000 + n],
    ids=["n", "1", "n log n", "a + n"],
)
def test_linear_work_passes_on_any_machine_at_once(cost: Callable[[int], float], seconds_per_piece: float):
    clock = Clock(lambda n: cost(n) * seconds_per_piece)
    clock.assert_linear()
    # The first call; then three small ones and a large one, twice.
    assert [round(size, -3) for size in clock.sizes] == [*[1000] * 4, *[16_000] * 4, 256_000]


@pytest.mark.parametrize("seconds_per_pair", [1e-7, 1.0], ids=["fast", "slow"])
@pytest.mark.parametrize(
    "cost",
    [lambda n: n**2, lambda n: n**2 / 2 + 50 * n, lambda n: n**3, lambda n: n**1.6],
    ids=["n²", "n² + n", "n³", "n to the 1.6th"],
)
def test_what_grows_faster_is_found_before_it_takes_long(
    cost: Callable[[int], float], seconds_per_pair: float
):
    clock = Clock(lambda n: cost(n) * seconds_per_pair)
    with pytest.raises(AssertionError, match=r"s for 1000, and .* s for 16 times as much: \d+ times as long"):
        clock.assert_linear()
    assert max(clock.sizes) < 17_000


def test_what_is_quadratic_only_in_a_small_part_is_found_at_the_larger_size():
    clock = Clock(lambda n: 1e-6 * (n + n**2 / 10_000))
    with pytest.raises(
        AssertionError, match=r"s for 16000, and .* s for 16 times as much: 164 times as long"
    ):
        clock.assert_linear()


def test_what_the_first_call_costs_does_not_count():
    costs = itertools.chain([1e9], itertools.repeat(0.0))
    with pytest.raises(AssertionError, match=r" 2\d\d times as long"):
        Clock(lambda n: n**2 + next(costs)).assert_linear()


def test_what_a_busy_machine_adds_now_and_then_is_forgiven_and_what_it_adds_always_is_not():
    # The first call; three of the size and one of sixteen times; the same again; and the next two sizes.
    added = iter([0, 90_000, 0, 90_000, 90_000, 0, 90_000, 90_000, 0, *[0] * 4])
    Clock(lambda n: n + next(added)).assert_linear()
    assert next(added, None) is None
    clock = Clock(lambda n: n + 90_000 * (n >= 16_000))
    with pytest.raises(AssertionError, match=r" 10\d times as long"):
        clock.assert_linear()
    assert len(clock.sizes) == 1 + 4 * ATTEMPTS


def test_no_size_is_asked_for_twice_so_that_nothing_can_be_remembered():
    clock = Clock(lambda n: n if n < 17_000 else n**2)
    with pytest.raises(AssertionError):
        clock.assert_linear()
    assert len(set(clock.sizes)) == len(clock.sizes) == 1 + 4 + 4 * ATTEMPTS


def test_garbage_is_not_collected_meanwhile_and_is_afterwards():
    seen = []
    assert_grows_linearly(lambda _: seen.append(gc.isenabled()), lambda number: number, 1000)
    assert set(seen) == {False}
    assert gc.isenabled()


def test_the_clock_of_the_process_tells_a_pattern_that_goes_to_the_end_from_every_place():
    def text(number: int) -> str:
        return "a" * number

    assert_grows_linearly(re.compile("a+b?").findall, text, 100_000)
    with pytest.raises(AssertionError, match="times as long"):
        assert_grows_linearly(re.compile("a+b").findall, text, 20_000)
