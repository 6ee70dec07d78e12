"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

import math
from collections.abc import Callable

from core.training_config import OptimizationConfig


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


def num_warmup_steps(config: OptimizationConfig, total_steps: int) -> int:
    """Length of the warm-up, in steps; at most the whole run."""
    wanted = config.warmup_steps
    if wanted is None:
        wanted = round(config.warmup_ratio * total_steps)
    return min(wanted, total_steps)


def learning_rate(step: int, config: OptimizationConfig, total_steps: int) -> float:
    """The learning rate of the update number `step` (0-based) of `total_steps`.

    Warm-up rises linearly and reaches the peak at its last step; the last update of the run is the one just
    before the schedule would reach min_learning_rate, so that no update is made with a rate of zero.
    """
    warmup = num_warmup_steps(config, total_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    # The schedules know only what comes after the warm-up; the setting is a share of all steps.
    decay_share = min(1.0, config.decay_ratio * total_steps / max(1, total_steps - warmup))
    share = SCHEDULES[config.schedule](min(progress, 1.0), decay_share)
    return config.min_learning_rate + share * (config.learning_rate - config.min_learning_rate)
