"""The choice of the next token from the scores of all. Knows neither models nor text.

Shapes: B rows, V tokens of the vocabulary, C candidates that are left of them.
"""

import math
import secrets
from collections.abc import Sequence

import torch
from torch import Tensor

from core.errors import DataError
from core.seeds import derive_seed
from inference.sampling_settings import SamplingOptions, SamplingSettings

__all__ = ["SamplingOptions", "SamplingSettings", "log_probabilities", "row_generators", "sample"]

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
    settings: SamplingSettings,
    generators: Sequence[torch.Generator],
    *,
    seen: Tensor | None = None,
    allowed: Tensor | None = None,
) -> Tensor:
    """The next id of each row, (B,) int64, on the device of `logits`.

    Args:
        logits: (B, V) float32, the model's scores; not changed.
        generators: One a row, as `row_generators` makes them; each is advanced by one number, or not at all when
            the temperature is 0.
        seen: (B, V) bool, the tokens that were there before; needed for a repetition penalty.
        allowed: (V,) bool, True = may be chosen; None = all.

    Raises:
        DataError: the best score of a row is NaN or infinite.
    """
    assert len(generators) == len(logits), "one generator a row"
    scores = logits
    if settings.repetition_penalty != 1.0:
        assert seen is not None, "a penalty is for the tokens that were seen"
        scores = _penalize(scores, seen, settings)
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
    if settings.min_p is not None:
        least = settings.min_p * probabilities.amax(dim=-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    chosen = _draw(probabilities, generators)
    return chosen if ids is None else ids.gather(-1, chosen[:, None])[:, 0]


def log_probabilities(logits: Tensor, ids: Tensor, num_likeliest: int) -> tuple[Tensor, Tensor, Tensor]:
    """ln p of each row's id, (B,) float32, and of the likeliest tokens: their ids and ln p, each (B, num_likeliest).

    Args:
        logits: (B, V) float32.
        ids: (B,) int64.
    """
    log_p = logits.log_softmax(dim=-1)
    top, top_ids = log_p.topk(min(num_likeliest, log_p.shape[-1]), dim=-1)
    return log_p.gather(-1, ids[:, None])[:, 0], top_ids, top


def _penalize(scores: Tensor, seen: Tensor, settings: SamplingSettings) -> Tensor:
    penalty = settings.repetition_penalty
    penalized = torch.where(scores > 0, scores / penalty, scores * penalty)
    exempt = torch.tensor(settings.stop_ids, dtype=torch.int64, device=scores.device)
    return torch.where(seen.index_fill(-1, exempt, False), penalized, scores)


def _draw(probabilities: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """An index into C for each row, (B,) int64: the inverse of the cumulative distribution at a uniform number."""
    # On the CPU, where sums are taken one after the other: they never decrease and stay equal over a probability of
    # zero, which then is never chosen. Parallel sums promise neither. In float64, so that no probability is lost.
    cumulative = probabilities.double().cpu().cumsum(dim=-1)
    uniform = torch.cat([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])
    # The largest uniform number is 1 - 2**-53; its product with the sum is below the sum, so the index is below C.
    index = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    return index[:, 0].to(probabilities.device)
