import dataclasses
import itertools
import json
import math
import random
from collections.abc import Iterable

import pytest

from training.rollback import WithoutWindows
from training.stability import (
    BAD_STEPS,
    FIRST_JUDGED_LOSS,
    HIGH_STEPS,
    Stability,
    Window,
    add_window,
    number_at,
)


def left(windows: list[Window]) -> list[int]:
    """The micro-batches that are left of the first two hundred, one by one."""
    out = {number for start, length in windows for number in range(start, start + length)}
    return [number for number in range(200) if number not in out]


def test_windows_that_are_added_one_by_one_leave_what_counting_leaves() -> None:
    generator = random.Random(3)
    for _ in range(200):
        windows: list[Window] = []
        remaining = list(range(200))
        for _ in range(4):
            first = generator.randrange(40)
            end = first + generator.randrange(1, 12)
            gone = remaining[first:end]
            windows = add_window(windows, first=first, end=end)
            # What lies between two parts of a window was left out before.
            remaining = [number for number in remaining if number not in gone]
            assert left(windows) == remaining
            assert [number_at(position, windows) for position in range(100)] == remaining[:100]
        assert windows == sorted(windows)


class Numbers:
    """A source whose micro-batches are their numbers."""

    batches_per_epoch = 7.0
    is_repeatable = True

    def micro_batches(self, numbers: Iterable[int]):
        return iter(numbers)


@pytest.mark.parametrize("start", [0, 3, 4, 9, 30])
@pytest.mark.parametrize("num_each", [1, 3])
def test_a_source_without_windows_goes_on_from_any_position(start: int, num_each: int) -> None:
    windows = [(0, 2), (5, 3), (8, 1), (20, 10)]
    source = WithoutWindows(Numbers(), windows, num_each=num_each)
    expected = [step * num_each + within for step in left(windows) for within in range(num_each)]
    found = list(itertools.islice(source.micro_batches(itertools.count(start)), 40))
    assert found == expected[start : start + 40]


def losses(generator: random.Random, *, num_steps: int, noise: float) -> list[float]:
    """A course as training takes it: a power law to a floor, with noise that is wide now and then."""
    course = []
    for step in range(num_steps):
        usual = 1.5 + 8 * (step + 1) ** -0.4
        wide = 5 if generator.random() < 0.01 else 1
        course.append(usual + generator.gauss(0, noise * wide))
    return course


@pytest.mark.parametrize("noise", [0.001, 0.05, 0.5])
def test_a_usual_course_is_no_trouble(noise: float) -> None:
    for seed in range(10):
        stability = Stability()
        for step, loss in enumerate(losses(random.Random(seed), num_steps=3000, noise=noise), start=1):
            assert stability.note_loss(loss, step=step, sigmas=6.0) is None, (seed, step)


def test_short_spikes_and_falls_are_no_trouble() -> None:
    stability = Stability()
    for step in range(1, 3000):
        spike = 1000.0 if step < 2000 else 3.6
        loss = spike if step % 300 < HIGH_STEPS // 2 else (3.0 if step < 1500 else 1.0)
        assert stability.note_loss(loss, step=step, sigmas=6.0) is None


def test_a_loss_that_stays_high_is_trouble_from_before_it_rose() -> None:
    stability, rose = Stability(), 600
    course = losses(random.Random(1), num_steps=rose, noise=0.1)
    for step, loss in enumerate([*course, *[6.0] * 100], start=1):
        if trouble := stability.note_loss(loss, step=step, sigmas=6.0):
            break
    assert trouble is not None
    assert rose - 30 < trouble.first_step <= rose < step < rose + 3 * HIGH_STEPS
    assert "far above 2." in trouble.reason
    # Told once: what cannot be gone back from is not told again at every step.
    assert all(stability.note_loss(6.0, step=step + i, sigmas=6.0) is None for i in range(100))


def test_the_beginning_of_a_run_is_not_judged() -> None:
    stability = Stability()
    for step in range(1, FIRST_JUDGED_LOSS):
        assert stability.note_loss(float(step), step=step, sigmas=0.1) is None


def test_gradients_must_be_infinite_in_a_row() -> None:
    stability = Stability()
    pattern = ([False] * (BAD_STEPS - 1) + [True]) * 5
    assert not any(stability.note_gradient(is_finite=good, step=s) for s, good in enumerate(pattern))
    told = [stability.note_gradient(is_finite=False, step=s) for s in range(11, 20)]
    assert [trouble.first_step for trouble in told if trouble] == [10]


def test_a_course_that_went_through_json_goes_on_alike() -> None:
    course = losses(random.Random(2), num_steps=700, noise=0.1) + [9.0] * 40
    straight, resumed = Stability([(3, 4)]), Stability([(3, 4)])
    for step, loss in enumerate(course):
        resumed = Stability(**json.loads(json.dumps(dataclasses.asdict(resumed))))
        one, other = (s.note_loss(loss, step=step, sigmas=6.0) for s in (straight, resumed))
        assert one == other
        assert straight == resumed
    assert math.isfinite(straight.loss_variance)
