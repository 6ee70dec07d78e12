"""The scale of the loss that keeps small gradients above the least float16. Knows numbers, no tensors.

Micikevicius et al. 2018 ("Mixed Precision Training", section 3.2, and 3.3 for what is chosen while training). Powers of
two change no bit of a gradient but its exponent.
"""

FIRST_LOSS_SCALE = 2.0**16
"""As in torch.amp.GradScaler. Where it is too large, that shows within a few steps."""

LEAST_LOSS_SCALE = 1.0
"""A gradient that overflows without being scaled up is trouble, not a matter of scale."""

LARGEST_LOSS_SCALE = 2.0**24
"""The distance of float16's least number to 1: what is smaller than that is no gradient (arbitrary)."""

STEPS_TO_GROW = 2000
"""Updates without an overflow before the scale is doubled, as in torch.amp.GradScaler."""


def next_loss_scale(scale: float, good_steps: int, *, overflow: bool) -> tuple[float, int]:
    """The scale of the next step, and the updates in a row up to there that had a finite gradient at it."""
    if overflow:
        return max(scale / 2, LEAST_LOSS_SCALE), 0
    if good_steps + 1 < STEPS_TO_GROW:
        return scale, good_steps + 1
    return min(scale * 2, LARGEST_LOSS_SCALE), 0
