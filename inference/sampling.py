"""The choice of the next token from the scores of all. Knows neither models nor text.

Shapes: B rows, S tokens seen so far, V tokens of the vocabulary, C candidates that are left of them.
"""

import math
import secrets
from collections.abc import Sequence

import torch
from torch import Tensor

from core.errors import DataError
from core.seeds import derive_seed
from inference.sampling_settings import SamplingOptions, SamplingSettings

__all__ = ["SamplingOptions", "SamplingSettings", "row_generators", "sample"]

GREEDY_BELOW = 1e-6
"""Smaller temperatures are greedy: float32 scores of usual size differ by more than this, so only the best is left,
and dividing by numbers near zero would end in infinity minus infinity."""


def row_generators(seed: int | None, num_rows: int, *, first_row: int = 0) -> list[torch.Generator]:
    """One source of random numbers a row, so that a row's choices depend on the seed and its number alone.

    They are on the CPU: the same seed then gives the same numbers on every device.

    Args:
        seed: None = a new one from the operating system.
    """
    if seed is None:
        seed = secrets.randbits(63)
    rows = range(first_row, first_row + num_rows)
    return [torch.Generator().manual_seed(derive_seed(seed, "sampling", row)) for row in rows]


def sample(
    logits: Tensor,
    previous: Tensor,
    settings: SamplingSettings,
    generators: Sequence[torch.Generator],
    *,
    allowed: Tensor | None = None,
) -> Tensor:
    """The next id of each row, (B,) int64, on the device of `logits`.

    Args:
        logits: (B, V) float32, the model's scores; not changed.
        previous: (B, S) int64, the ids before, for the repetition penalty; their order does not matter.
        generators: One a row, as `row_generators` makes them; each is advanced by one number, or not at all when
            the temperature is 0.
        allowed: (V,) bool, True = may be chosen; None = all.

    Raises:
        DataError: the best score of a row is NaN or infinite.
    """
    assert len(generators) == len(logits) == len(previous), "one generator and one list of ids a row"
    scores = logits
    if settings.repetition_penalty != 1.0:
        scores = _penalize(scores, previous, settings)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    if not bool(torch.isfinite(scores.amax(dim=-1)).all()):
        raise DataError(
            "the model's scores are NaN or infinite (or no token is allowed): its weights are damaged or it diverged "
            "in training; use another checkpoint"
        )
    if settings.temperature < GREEDY_BELOW:
        return scores.argmax(dim=-1)

    ids: Tensor | None = None
    if settings.top_k is not None:
        scores, ids = scores.topk(min(settings.top_k, scores.shape[-1]), dim=-1)
    elif settings.top_p is not None:
        scores, ids = scores.sort(dim=-1, descending=True)
    probabilities = (scores / settings.temperature).softmax(dim=-1)
    if settings.top_p is not None:
        # Kept as long as those before it do not reach top_p: the first always, and the one that crosses it.
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill(before >= settings.top_p, 0.0)
    chosen = _draw(probabilities, generators)
    return chosen if ids is None else ids.gather(-1, chosen[:, None])[:, 0]


def _penalize(scores: Tensor, previous: Tensor, settings: SamplingSettings) -> Tensor:
    seen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, previous, True)
    seen[:, list(settings.stop_ids)] = False
    penalty = settings.repetition_penalty
    return torch.where(seen, torch.where(scores > 0, scores / penalty, scores * penalty), scores)


def _draw(probabilities: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """An index into C for each row, (B,) int64: the inverse of the cumulative distribution at a uniform number."""
    # On the CPU, where sums are taken one after the other: they never decrease and stay equal over a probability of
    # zero, which then is never chosen. Parallel sums promise neither. In float64, so that no probability is lost.
    cumulative = probabilities.double().cpu().cumsum(dim=-1)
    uniform = torch.cat([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])
    # The largest uniform number is 1 - 2**-53; its product with the sum is below the sum, so the index is below C.
    index = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    return index[:, 0].to(probabilities.device)
