"""Whether a run goes wrong, and which data it leaves out since: numbers only, kept in checkpoints, so that a run that
was interrupted decides as one that was not. Knows no trainer and no files."""

import dataclasses
import math
from typing import NamedTuple

from training.stored_values import Count, Positive

BAD_STEPS = 3
"""So many updates in a row without a finite gradient are no accident of one batch (arbitrary)."""

HIGH_STEPS = 20
"""The loss must be high for so many steps in a row: short spikes heal by themselves (arbitrary)."""

LEAST_RISE_NATS = 0.5
"""A smaller rise is no spike, however quiet the losses were before: e to this power, 1.6 times, in perplexity."""

FIRST_JUDGED_LOSS = 200
"""Before so many losses the loss falls steeply and says little about what is usual (arbitrary)."""

SMOOTHED_OVER, USUAL_OVER = 10, 100
"""Steps that the smoothed loss, and the usual loss that it is compared with, are averaged over (arbitrary)."""

Window = tuple[Count, Positive]
"""First step and number of steps whose data are left out, counted as if nothing were."""


class Trouble(NamedTuple):
    """The run went wrong."""

    first_step: int
    """Updates that were done before those that led here; going back to no more than these helps."""
    reason: str


@dataclasses.dataclass
class Stability:
    """The course of a run, and what is left out of its data."""

    skipped_windows: list[Window] = dataclasses.field(default_factory=list)
    """In order, without overlap."""
    num_rollbacks: Count = 0
    bad_steps: Count = 0
    """In a row, up to now, without a finite gradient."""
    num_losses: Count = 0
    smoothed_loss: float = 0.0
    usual_loss: float = 0.0
    loss_variance: float = 0.0
    """Of single losses around the usual one."""
    high_steps: Count = 0
    """In a row, up to now, with a smoothed loss far above the usual one."""

    def __post_init__(self) -> None:
        self.skipped_windows = [(start, length) for start, length in self.skipped_windows]  # JSON has lists

    def note_gradient(self, *, is_finite: bool, step: int) -> Trouble | None:
        """Take note of the gradient of an update; `step` counts it in. Trouble is told once, when it begins."""
        self.bad_steps = 0 if is_finite else self.bad_steps + 1
        if self.bad_steps != BAD_STEPS:
            return None
        return Trouble(step - BAD_STEPS, f"{BAD_STEPS} updates in a row had no finite gradient (step {step})")

    def note_loss(self, loss: float, *, step: int, sigmas: float) -> Trouble | None:
        """Take note of the loss of an update; `step` counts it in. Trouble is told once, when it begins.

        Chowdhery et al. 2022 (PaLM, section 5.1) went back about 100 steps and left out the batches before and during
        the spike; the same data did no harm to other weights.

        Args:
            sigmas: Standard deviations above the usual loss that the smoothed one may be.
        """
        allowed = max(sigmas * math.sqrt(self.loss_variance), LEAST_RISE_NATS)
        bar = self.usual_loss + allowed
        is_judged = self.num_losses >= FIRST_JUDGED_LOSS
        self.num_losses += 1
        # One huge loss counts as a high one, or it would stay in the mean for longer than `HIGH_STEPS`.
        counted = min(loss, bar + allowed) if is_judged else loss
        self.smoothed_loss += (counted - self.smoothed_loss) / min(self.num_losses, SMOOTHED_OVER)
        # What is high is not made usual: the bar would rise with what it is to stop.
        if not is_judged or loss <= bar:
            self._note_usual(loss)
        if not is_judged or self.smoothed_loss <= bar:
            self.high_steps = 0
            return None
        self.high_steps += 1
        if self.high_steps != HIGH_STEPS:
            return None
        # The smoothed loss rises after the single ones.
        first = max(0, step - HIGH_STEPS - SMOOTHED_OVER)
        return Trouble(
            first,
            f"the loss was far above {self.usual_loss:.2f} nats for {HIGH_STEPS} steps, last {loss:.2f} (step {step})",
        )

    def _note_usual(self, loss: float) -> None:
        share = 1 / min(self.num_losses, USUAL_OVER)
        above = loss - self.usual_loss
        self.usual_loss += share * above
        self.loss_variance = (1 - share) * (self.loss_variance + share * above * above)


def number_at(position: int, windows: list[Window]) -> int:
    """The number of the step at a position (from 0) among those that are not in `windows`."""
    number = position
    for start, length in windows:
        if number >= start:
            number += length
    return number


def add_window(windows: list[Window], *, first: int, end: int) -> list[Window]:
    """`windows`, and the steps at the positions from `first` to before `end` among those that were left."""
    start, stop = number_at(first, windows), number_at(end - 1, windows) + 1
    # Windows that lie between its ends are part of it now.
    apart = [(begin, length) for begin, length in windows if begin + length <= start or begin >= stop]
    return sorted([*apart, (start, stop - start)])
