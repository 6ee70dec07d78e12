import itertools
import json
import math

import pytest

from core.config_files import CONFIG_ROOT, load_config
from core.training_config import TrainingConfig
from training.schedules import SCHEDULES, Horizon, learning_rate, muon_momentum, rate_beside_muon


def rates(total: int = 100, **settings: object) -> list[float]:
    plain = {"learning_rate": 1.0, "warmup_steps": 10, "schedule": "cosine"}
    config = TrainingConfig.from_dict({**plain, **settings})
    return [learning_rate(step, config, Horizon.of(config, total)) for step in range(total)]


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


def rate_at(step: int, total: int, **settings: object) -> float:
    config = TrainingConfig.from_dict({"learning_rate": 1.0, **settings})
    return learning_rate(step, config, Horizon.of(config, total))


def test_a_warm_up_can_be_a_share_of_the_run_or_nothing() -> None:
    assert rate_at(4, 100, warmup_ratio=0.1) == pytest.approx(0.5)
    assert rate_at(0, 100, warmup_steps=0) == 1.0


def test_a_warm_up_longer_than_the_run_does_not_divide_by_zero() -> None:
    assert rate_at(2, 3, warmup_steps=50) == pytest.approx(1.0)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("new_end", [61, 90, 400])
def test_a_moved_end_neither_makes_the_rate_jump_nor_leaves_it_above_the_minimum(
    schedule: str, new_end: int
) -> None:
    config = TrainingConfig(learning_rate=1.0, warmup_steps=10, schedule=schedule, decay_ratio=0.5)
    before = Horizon.of(config, 100)
    after = before.ending_at(new_end, seen_from=60)
    assert after.progress(60) == pytest.approx(before.progress(60))
    assert learning_rate(60, config, after) == pytest.approx(learning_rate(60, config, before))
    assert after.progress(new_end) == 1.0
    values = [learning_rate(step, config, after) for step in range(60, new_end)]
    assert all(a >= b for a, b in itertools.pairwise(values))
    if schedule != "constant":
        steps = new_end - 60
        assert values[-1] <= 2.0 * values[0] / steps


def test_the_momentum_rises_over_300_steps() -> None:
    assert [muon_momentum(step) for step in (0, 150, 300, 10_000)] == pytest.approx([0.85, 0.9, 0.95, 0.95])


def test_the_rate_beside_muon_halves_when_the_width_is_four_times_as_large() -> None:
    assert rate_beside_muon(4096) == pytest.approx(0.5 * rate_beside_muon(1024))


@pytest.mark.parametrize("preset", sorted(path.name for path in CONFIG_ROOT.iterdir() if path.is_dir()))
def test_every_preset_with_muon_has_the_rate_that_the_rule_gives_its_width(preset: str) -> None:
    config = load_config(CONFIG_ROOT / preset)
    own = json.loads((CONFIG_ROOT / preset / "training_config.json").read_text(encoding="utf-8"))
    if config.training.optimizer == "muon":
        assert own["learning_rate"] == pytest.approx(rate_beside_muon(config.model.hidden_size), rel=0.05)
        assert config.training.schedule == "warmup_stable_decay"
    else:
        assert config.training.learning_rate <= 1e-3
