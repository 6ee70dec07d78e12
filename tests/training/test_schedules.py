import itertools
import math

import pytest

from core.training_config import TrainingConfig
from training.schedules import SCHEDULES, learning_rate


def rates(total: int = 100, **settings: object) -> list[float]:
    config = TrainingConfig.from_dict({"learning_rate": 1.0, "warmup_steps": 10, **settings})
    return [learning_rate(step, config, total) for step in range(total)]


def test_the_warm_up_rises_linearly_to_the_peak() -> None:
    assert rates()[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])


def test_cosine_is_half_way_down_in_the_middle_and_ends_at_the_minimum() -> None:
    values = rates(110, min_learning_rate=0.1)
    assert values[60] == pytest.approx(0.55)
    assert values[35] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert values[-1] == pytest.approx(0.1, abs=1e-3)


def test_linear_falls_by_equal_amounts() -> None:
    values = rates(schedule="linear")[10:]
    assert all(a - b == pytest.approx(1 / 90) for a, b in itertools.pairwise(values))


def test_constant_stays() -> None:
    assert set(rates(schedule="constant")[10:]) == {1.0}


def test_warmup_stable_decay_is_flat_and_then_linear_to_zero() -> None:
    values = rates(100, schedule="warmup_stable_decay", decay_ratio=0.2, warmup_steps=50)
    assert set(values[49:80]) == {1.0}
    assert values[90] == pytest.approx(0.5)
    assert values[-1] == pytest.approx(0.05)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_schedule_rises_after_the_warm_up_or_makes_an_update_of_size_zero(schedule: str) -> None:
    values = rates(schedule=schedule)
    assert all(a >= b for a, b in itertools.pairwise(values[9:]))
    assert min(values) > 0


def test_a_warm_up_can_be_a_share_of_the_run_or_nothing() -> None:
    assert learning_rate(4, TrainingConfig(learning_rate=1.0, warmup_ratio=0.1), 100) == pytest.approx(0.5)
    assert learning_rate(0, TrainingConfig(learning_rate=1.0, warmup_steps=0), 100) == 1.0


def test_a_warm_up_longer_than_the_run_does_not_divide_by_zero() -> None:
    assert learning_rate(2, TrainingConfig(learning_rate=1.0, warmup_steps=50), 3) == pytest.approx(1.0)
