import dataclasses
import itertools
from collections.abc import Callable

import pytest
import torch

from core.distributed import ALONE, World
from core.training_config import TrainingConfig
from training.schedules import Horizon, learning_rate
from training.step_report import Numbers, StepReport
from training.time_budget import KeepTimeBudget
from training.trainer import Progress


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclasses.dataclass
class PretendedTrainer:
    """As much of a trainer as the hook looks at."""

    horizon: Horizon
    progress: Progress = dataclasses.field(default_factory=Progress)
    world: World = ALONE

    @property
    def total_steps(self) -> int:
        return self.horizon.total_steps


@dataclasses.dataclass
class Outcome:
    elapsed: float
    rates: list[float]
    num_steps: int


def simulate(
    budget: float,
    first_guess: int,
    seconds_of_step: Callable[[float], float],
    *,
    eval_every: int = 50,
    eval_seconds: float = 0.0,
    spent: float = 0.0,
    schedule: str = "warmup_stable_decay",
) -> Outcome:
    """A run on a machine whose step takes `seconds_of_step(elapsed)`."""
    config = TrainingConfig(learning_rate=1.0, schedule=schedule)
    clock = Clock()
    trainer = PretendedTrainer(Horizon.of(config, first_guess))
    keep = KeepTimeBudget(budget, spent_seconds=spent, now=clock)
    rates = []
    numbers = Numbers(torch.ones(2))
    for step in itertools.count():
        if step >= trainer.total_steps:
            break
        rates.append(learning_rate(step, config, trainer.horizon))
        took = seconds_of_step(clock.seconds - 1000.0)
        clock.seconds += took
        keep(trainer, StepReport(step + 1, 1.0, 1, 1, took, numbers))  # type: ignore[arg-type]
        if (step + 1) % eval_every == 0 or step + 1 == trainer.total_steps:
            clock.seconds += eval_seconds
    return Outcome(clock.seconds - 1000.0 + spent, rates, len(rates))


MACHINES: dict[str, Callable[[float], float]] = {
    "steady": lambda elapsed: 0.1,
    "slower from the middle on": lambda elapsed: 0.1 if elapsed < 50 else 0.3,
    "slower at the very end": lambda elapsed: 0.1 if elapsed < 90 else 0.2,
    "faster from the middle on": lambda elapsed: 0.3 if elapsed < 50 else 0.1,
    "busy every ten seconds": lambda elapsed: 0.1 if int(elapsed / 10) % 2 else 0.2,
    "few and uneven steps": lambda elapsed: 0.3 if int(elapsed / 5) % 2 else 0.7,
    "a pause of ten seconds": lambda elapsed: 10.0 if 40 < elapsed < 41 else 0.1,
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("schedule", ["warmup_stable_decay", "cosine", "linear"])
@pytest.mark.parametrize("first_guess", [300, 1000, 3000])
def test_the_run_ends_on_time_and_annealed(machine: str, schedule: str, first_guess: int) -> None:
    outcome = simulate(100.0, first_guess, MACHINES[machine], eval_seconds=1.0, schedule=schedule)
    assert outcome.elapsed == pytest.approx(100.0, rel=0.05)
    assert outcome.rates[-1] < 0.05
    jumps = [abs(a - b) for a, b in itertools.pairwise(outcome.rates[100:])]
    assert max(jumps) < 0.1


def test_a_steady_machine_keeps_the_first_guess_where_it_was_right() -> None:
    assert simulate(100.0, 985, MACHINES["steady"]).num_steps == 985


def test_time_of_earlier_processes_counts() -> None:
    outcome = simulate(100.0, 1000, MACHINES["steady"], spent=60.0)
    assert outcome.elapsed == pytest.approx(100.0, rel=0.05)
    assert outcome.num_steps == pytest.approx(400, rel=0.05)


def test_a_budget_that_is_spent_already_ends_after_a_few_steps() -> None:
    assert simulate(100.0, 1000, MACHINES["steady"], spent=200.0).num_steps < 50
