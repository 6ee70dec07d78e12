"""How likely a model finds a continuation after a context, for many pairs at once. Knows no task and no gold answer.

Shapes: B rows, T tokens, N positions, V tokens of the vocabulary.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from core.progress import progress
from evaluation.language_model import LanguageModel

BATCH_TOKENS = 8192
"""Tokens of a batch, padding included. Arbitrary: large enough to keep two cores or a small GPU busy."""

MAX_LOGITS = 2**24
"""Scores held at a time: 64 MB in float32, as in `training.losses`."""


class Pair(NamedTuple):
    """What is asked: how likely is `continuation` behind `context`."""

    context: str
    continuation: str


class Row(NamedTuple):
    """Tokens of which the last ones are asked for; at least one stands before them.

    Attributes:
        ids: One more than the model's context at most: the last is predicted and not read.
        num_asked: How many of the last are predicted.
        is_cut: Whether the beginning was left out, because it does not fit.
    """

    ids: Sequence[int]
    num_asked: int
    is_cut: bool = False


class Likelihood(NamedTuple):
    """What a model says of a row.

    Attributes:
        log_probability: The natural logarithm of the probability of what is asked for as a whole.
        num_tokens: How many tokens that is.
        num_likeliest: How many of them are the likeliest one at their place.
        is_cut: As in the row.
    """

    log_probability: float
    num_tokens: int
    num_likeliest: int
    is_cut: bool

    @property
    def is_greedy(self) -> bool:
        """Whether the model would have written exactly this."""
        return self.num_likeliest == self.num_tokens


def log_likelihoods(
    model: LanguageModel, pairs: Sequence[Pair], *, description: str, batch_tokens: int = BATCH_TOKENS
) -> list[Likelihood]:
    """The likelihood of the continuation of each pair, in their order.

    As lm-evaluation-harness does it: white space at the end of a context is encoded with the continuation; both are
    encoded as one text, which is divided where the context alone ends; what does not fit loses its beginning. One
    difference: where a token spans the border ("?" with a line break), it is read as it stands, and the harness reads
    the context's own last token in its place, without the line break.
    """
    with progress(total=len(pairs), description=description, unit="text") as bar:
        return score_rows(model, _rows(model, pairs), batch_tokens=batch_tokens, seen=bar.update)


def score_rows(
    model: LanguageModel,
    rows: Sequence[Row],
    *,
    batch_tokens: int = BATCH_TOKENS,
    seen: Callable[[int], object] = lambda _: None,
) -> list[Likelihood]:
    """The likelihood of each row, in their order. Rows of similar length run together, the longest first.

    Args:
        seen: Is told the number of rows of each batch when it was scored.
    """
    found: dict[int, Likelihood] = {}
    for batch in _batches(rows, batch_tokens):
        found |= dict(zip(batch, _score([rows[index] for index in batch], model), strict=True))
        seen(len(batch))
    return [found[index] for index in range(len(rows))]


def _rows(model: LanguageModel, pairs: Sequence[Pair]) -> list[Row]:
    moved = [_with_space_moved(pair) for pair in pairs]
    wholes = model.encode([pair.context + pair.continuation for pair in moved])
    # Several continuations of one context are the rule.
    contexts = list(dict.fromkeys(pair.context for pair in moved))
    num_of_context = {text: len(ids) for text, ids in zip(contexts, model.encode(contexts), strict=True)}
    rows = []
    for pair, ids in zip(moved, wholes, strict=True):
        # Where context and continuation melt into one token, that token is asked for.
        start = min(num_of_context[pair.context], len(ids) - 1)
        assert start >= 0, "a continuation is never empty"
        whole = [*model.start_ids, *ids]
        if start == 0 and not model.start_ids:
            whole = [model.boundary_id, *ids]
        kept = whole[-(model.context + 1) :]
        rows.append(Row(kept, min(len(ids) - start, len(kept) - 1), is_cut=len(kept) < len(whole)))
    return rows


def _with_space_moved(pair: Pair) -> Pair:
    kept = pair.context.rstrip()
    return Pair(kept, pair.context[len(kept) :] + pair.continuation)


def _batches(rows: Sequence[Row], batch_tokens: int) -> Iterator[list[int]]:
    """Indices by falling length, as many at a time as the longest leaves room for."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index].ids))
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // len(rows[order[start]].ids))
        yield order[start : start + size]
        start += size


@torch.inference_mode()
def _score(rows: Sequence[Row], model: LanguageModel) -> list[Likelihood]:
    longest = max(len(row.ids) for row in rows) - 1
    # Padded at the end, which no position before it sees; with any token.
    padded = [[*row.ids[:-1], *[row.ids[-1]] * (longest + 1 - len(row.ids))] for row in rows]
    features = model.features(torch.tensor(padded, device=model.device))
    places = [
        (index, place)
        for index, row in enumerate(rows)
        for place in range(len(row.ids) - 1 - row.num_asked, len(row.ids) - 1)
    ]
    chosen = torch.tensor(places, device=model.device)
    targets = torch.tensor([rows[index].ids[place + 1] for index, place in places], device=model.device)
    log_probabilities, is_likeliest = _of_targets(model, features[chosen[:, 0], chosen[:, 1]], targets)
    likelihoods = []
    end = 0
    for row in rows:
        begin, end = end, end + row.num_asked
        asked = slice(begin, end)
        likelihoods.append(
            Likelihood(math.fsum(log_probabilities[asked]), end - begin, sum(is_likeliest[asked]), row.is_cut)
        )
    return likelihoods


def _of_targets(
    model: LanguageModel, features: torch.Tensor, targets: torch.Tensor
) -> tuple[list[float], list[bool]]:
    """Of each position (N, D) the log-probability of its target and whether no token is likelier."""
    log_probabilities: list[float] = []
    is_likeliest: list[bool] = []
    num_scores = model.logits(features[:1]).shape[-1]
    size = max(1, MAX_LOGITS // num_scores)
    for start in range(0, len(targets), size):
        logits = model.logits(features[start : start + size]).float()
        part = targets[start : start + size]
        log_probabilities += (-F.cross_entropy(logits, part, reduction="none")).tolist()
        is_likeliest += (logits.argmax(-1) == part).tolist()
    return log_probabilities, is_likeliest
