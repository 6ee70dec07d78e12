"""A run that ends on time: its end is moved as the machine turns out faster or slower. Knows clocks and steps only."""

import collections
import logging
import time
from collections.abc import Callable

from training.step_report import StepReport
from training.trainer import Trainer

logger = logging.getLogger(__name__)

PACE_STEPS = 48
"""The pace is that of so many last steps: enough to see past single slow ones, few enough to notice a change."""

SLACK = 0.03
"""Of the budget: an end that comes at most so early stays where it is. So the last steps, when nothing can be moved any
more without ending above the lowest rate, may be slower than those before them."""

SAY_FROM = 0.05
"""Moves add up to this share of the run before they are told."""


class KeepTimeBudget:
    """After each step: moves the end of the run to where it comes on time.

    Steps are counted at their latest pace, what comes between them (evaluations, checkpoints) at its average, and the
    longest such interruption is kept in reserve for the last one.

    Args:
        budget_seconds: For the whole run, its earlier processes included.
        spent_seconds: What they and the start of this one have used.
        now: Seconds that only rise.
    """

    def __init__(
        self, budget_seconds: float, *, spent_seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._budget = budget_seconds
        self._now = now
        self._started = now() - spent_seconds
        self._last_seen = now()
        self._steps: collections.deque[float] = collections.deque(maxlen=PACE_STEPS)
        self._between = 0.0
        self._longest_between = 0.0
        self._num_steps = 0
        self._told_total: int | None = None

    @property
    def spent_seconds(self) -> float:
        """What the run has used so far."""
        return self._now() - self._started

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        """Move the end, if it would be early or late."""
        self._note(report)
        trainer.progress.active_seconds = self.spent_seconds
        if trainer.horizon.progress(report.step) < trainer.horizon.warmup or self._num_steps < 3:
            return
        latest = self._budget - self.spent_seconds - self._longest_between
        pace = sum(self._steps) / len(self._steps) + self._between / self._num_steps
        fewest, most = (max(0, int(left / pace)) for left in (latest - SLACK * self._budget, latest))
        is_on_time = fewest <= trainer.total_steps - report.step <= most
        total = trainer.total_steps if is_on_time else report.step + (fewest + most) // 2
        # Clocks differ; the main process' one counts.
        total = int(trainer.world.sum(total if trainer.world.is_main else 0)[0])
        if total != trainer.total_steps:
            self._move(trainer, total, report.step)

    def _note(self, report: StepReport) -> None:
        seen = self._now()
        between = max(0.0, seen - self._last_seen - report.elapsed_seconds)
        self._last_seen = seen
        self._num_steps += 1
        if self._num_steps == 1:
            return  # the first step of a process waits for caches and compilers
        self._steps.append(report.elapsed_seconds)
        self._between += between
        self._longest_between = max(self._longest_between, between)

    def _move(self, trainer: Trainer, total: int, step: int) -> None:
        self._told_total = self._told_total or trainer.total_steps
        trainer.horizon = trainer.horizon.ending_at(total, seen_from=step)
        if abs(total - self._told_total) > SAY_FROM * self._told_total:
            logger.info(
                "step %d: the run will have %d steps instead of %d, to end after %.0f s",
                step,
                total,
                self._told_total,
                self._budget,
            )
            self._told_total = total
