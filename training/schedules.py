"""Learning rate and momentum as pure functions of the step, so that a resumed run needs no scheduler state."""

import dataclasses
import math
from collections.abc import Callable
from typing import Self

from core.setting_names import named
from core.training_config import OptimizationConfig
from training.stored_values import Count, Positive, Share


def _cosine(progress: float, _decay_share: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _linear(progress: float, _decay_share: float) -> float:
    return 1.0 - progress


def _constant(_progress: float, _decay_share: float) -> float:
    return 1.0


def _warmup_stable_decay(progress: float, decay_share: float) -> float:
    # Hu et al. 2024 (MiniCPM): constant, then a linear decay over the last part.
    return min(1.0, (1.0 - progress) / decay_share)


SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "cosine": _cosine,
    "linear": _linear,
    "constant": _constant,
    "warmup_stable_decay": _warmup_stable_decay,
}
"""Share (1 to 0) of the way from min_learning_rate to learning_rate, by progress (0 to 1) after the warm-up."""


@dataclasses.dataclass(frozen=True)
class Horizon:
    """Where a run ends, and how far through it a step is.

    A run that learns on the way that it ends earlier or later goes on from the progress that it had: the learning rate
    does not jump, and still arrives at its end with the run.
    """

    total_steps: Positive
    warmup: Share
    """Share of the run that the warm-up takes (0 to 1)."""
    from_step: Count = 0
    from_progress: Share = 0.0

    @classmethod
    def of(cls, config: OptimizationConfig, total_steps: int) -> Self:
        """The horizon of a run that starts.

        Raises:
            ConfigError: there is no such schedule.
        """
        named(config.schedule, SCHEDULES, setting="schedule", place="training.schedules.SCHEDULES")
        wanted = config.warmup_steps
        if wanted is None:
            wanted = round(config.warmup_ratio * total_steps)
        return cls(total_steps, min(wanted, total_steps) / total_steps)

    def progress(self, step: int) -> float:
        """How far through the run the beginning of `step` (0-based) is, from 0 to 1."""
        if step >= self.total_steps:
            return 1.0
        steps_from_there = (step - self.from_step) / (self.total_steps - self.from_step)
        return self.from_progress + (1.0 - self.from_progress) * steps_from_there

    def ending_at(self, total_steps: int, *, seen_from: int) -> "Horizon":
        """The horizon that has the same progress at the step `seen_from`, and ends with `total_steps`."""
        return Horizon(total_steps, self.warmup, seen_from, self.progress(seen_from))


def learning_rate(step: int, config: OptimizationConfig, horizon: Horizon) -> float:
    """The learning rate of the update number `step` (0-based).

    Warm-up rises linearly and reaches the peak at its last step; the last update of the run is the one just
    before the schedule would reach min_learning_rate, so that no update is made with a rate of zero.
    """
    progress, warmup = horizon.progress(step), horizon.warmup
    if progress < warmup:
        return config.learning_rate * min(1.0, horizon.progress(step + 1) / warmup)
    # The schedules know only what comes after the warm-up; decay_ratio is a share of all steps.
    after = 1.0 - warmup
    share = SCHEDULES[config.schedule](
        (progress - warmup) / after, min(1.0, config.decay_ratio / after) if after else 1.0
    )
    return config.min_learning_rate + share * (config.learning_rate - config.min_learning_rate)


MOMENTUM_WARMUP_STEPS = 300
FIRST_MOMENTUM, MOMENTUM = 0.85, 0.95
"""Muon's momentum rises over the first steps, where gradients turn fast (Jordan et al. 2024)."""


def muon_momentum(step: int) -> float:
    """Muon's momentum in the update number `step` (0-based)."""
    return FIRST_MOMENTUM + min(1.0, step / MOMENTUM_WARMUP_STEPS) * (MOMENTUM - FIRST_MOMENTUM)


def rate_beside_muon(hidden_size: int) -> float:
    """The peak learning rate that AdamW's part (embedding, head, norms) takes beside Muon's, by the width.

    0.02 at width 256 by measurement (docs/experiments.md; 0.01 is little worse), falling with the square root of the
    width as in nanochat, since sums over more features move more (Yang et al. 2021, "Tensor Programs V"). Muon's own
    rate is the same for every width, because its steps are scaled by the shape of the matrix (`training.muon.Muon`).
    """
    return 0.02 * math.sqrt(256 / hidden_size)
