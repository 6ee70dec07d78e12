"""Objectives. Each returns a sum and the count to divide by, so that any split of a batch adds up exactly.

Shapes: N positions (all rows of a batch, end to end), D features, V tokens of the vocabulary.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.transformer_lm import TransformerLM

IGNORED_LABEL = -100
Batch = dict[str, torch.Tensor]

MAX_LOGITS = 2**24
"""Scores held at a time: 64 MB in float32. Of 2,048 positions and 32,000 tokens that is a quarter; smaller parts cost
time, because the gradient of the head is added up once a part."""

MAX_LOGITS_ON_GPU = 2**28
"""1 GB in float32: a GPU needs large products, and 64k positions of 50,000 tokens are still cut into 13 parts.
Estimated; `benchmarks/gpu.py` is there to measure it."""


def next_token_loss(model: TransformerLM, batch: Batch, *, document_masking: bool) -> torch.Tensor:
    """The sum over supervised positions of -ln p(label), in nats: a float32 scalar.

    Args:
        batch: `input_ids`, `labels`, `position_ids`, each (B, T) int64; labels are already shifted and
            -100 where nothing is learned. Where `documents` is there too, it takes the place of a mask.
        document_masking: Whether attention stays within a document; positions then restart with it.
    """
    positions, documents = (
        (batch["position_ids"], batch.get("documents")) if document_masking else (None, None)
    )
    features = model.features(batch["input_ids"], positions, documents=documents)
    return summed_cross_entropy(
        features.flatten(0, 1), model.head_weight, batch["labels"].flatten(), compiled=model.is_compiled
    )


def summed_cross_entropy(
    features: Tensor, head_weight: Tensor, labels: Tensor, *, compiled: bool = False
) -> Tensor:
    """The sum of -ln softmax(features @ head_weightᵀ)[label] where the label is not -100; a float32 scalar.

    All positions go through the products, ignored ones too: taken out, each batch had another shape, and the memory
    of the libraries that prepare each shape grew by 3 MB a step. Never holds the scores of all positions: parts of
    them are made, used for loss and gradients, and dropped. Products run in the type of `features`, or autocast's;
    everything between them in float32.

    Measured on two cores beside `F.cross_entropy` of all scores, forward and backward: 3,072 positions of V 8,192
    take 0.69 of the time (compiled 0.54), 2,048 of V 32,000 take 1.1 (compiled 0.75), with half the memory.

    Args:
        features: (N, D).
        head_weight: (V, D).
        labels: (N,) int64.
        compiled: Let torch.compile fuse what happens between the products.
    """
    kind = features.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else features.dtype
    with torch.autocast(kind, enabled=False):
        if torch.is_grad_enabled():
            loss: Tensor = _SummedCrossEntropy.apply(features, head_weight, labels, dtype, compiled)  # type: ignore[no-untyped-call]
            return loss
        weight, loss = head_weight.to(dtype), torch.zeros((), device=features.device)
        for part in _parts(labels, len(weight)):
            logits = F.linear(features[part].to(dtype), weight).float()
            loss += F.cross_entropy(logits, labels[part], reduction="sum")
        return loss


class _SummedCrossEntropy(torch.autograd.Function):
    """Computes the gradients with the loss, while the scores are there."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, head_weight: Tensor, labels: Tensor, dtype: torch.dtype, compiled: bool
    ) -> Tensor:
        loss_and_error = _compiled_loss_and_error() if compiled else _loss_and_error
        x, weight = features.to(dtype), head_weight.to(dtype)
        d_features = torch.empty_like(x)
        d_weight: Tensor | None = None  # of zeros it would cost one more pass over V x D for each batch
        loss = torch.zeros((), device=x.device)
        for part in _parts(labels, len(weight)):
            part_loss, error = loss_and_error(F.linear(x[part], weight), labels[part])
            loss += part_loss
            torch.mm(error, weight, out=d_features[part])
            d_part = (error.T @ x[part]).to(head_weight.dtype)
            d_weight = d_part if d_weight is None else d_weight.add_(d_part)
            del error  # 32 to 64 MB, which the next part's scores would otherwise lie beside
        ctx.save_for_backward(d_features, torch.zeros_like(head_weight) if d_weight is None else d_weight)
        ctx.features_dtype = features.dtype
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        d_features, d_weight = ctx.saved_tensors
        return d_features.to(ctx.features_dtype) * upstream, d_weight * upstream, None, None, None


def _loss_and_error(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The summed loss, and its gradient with respect to the logits (N, V): probabilities minus one at the label."""
    log_probabilities = F.log_softmax(logits.float(), dim=-1)
    loss = F.nll_loss(log_probabilities, labels, ignore_index=IGNORED_LABEL, reduction="sum")
    target = labels.clamp(min=0)[:, None]
    # An ignored label takes its row out of the gradient: 0 for the probabilities, 0 for the label.
    learned = (labels != IGNORED_LABEL)[:, None].to(log_probabilities.dtype)
    error = log_probabilities.exp_().mul_(learned).scatter_add_(1, target, -learned)
    return loss, error.to(logits.dtype)


@functools.cache
def _compiled_loss_and_error() -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return torch.compile(_loss_and_error)


def _parts(labels: Tensor, num_tokens: int) -> Iterator[slice]:
    """Stretches of nearly equal lengths: no part is larger than it has to be, and all take the same place in memory."""
    most = max(1, (MAX_LOGITS_ON_GPU if labels.is_cuda else MAX_LOGITS) // num_tokens)
    number = -(-len(labels) // most)
    for part in range(number):
        yield slice(part * len(labels) // number, (part + 1) * len(labels) // number)


def label_log_probabilities(features: Tensor, head_weight: Tensor, labels: Tensor) -> Tensor:
    """ln softmax(features @ head_weightᵀ)[label] of each position, 0 where the label is -100: (N,) float32.

    The scores of a part of the positions are made at a time, and made again in the backward pass.

    Args:
        features: (N, D).
        head_weight: (V, D).
        labels: (N,) int64.
    """

    def of_part(features: Tensor, labels: Tensor) -> Tensor:
        logits = F.linear(features, head_weight.to(features.dtype)).float()
        return -F.cross_entropy(logits, labels, ignore_index=IGNORED_LABEL, reduction="none")

    parts = [
        checkpoint(of_part, features[part], labels[part], use_reentrant=False)
        for part in _parts(labels, len(head_weight))
    ]
    return torch.cat(parts)


def whole_batch(rows: int, context: int) -> Batch:
    """A micro-batch of `rows` full rows in which every position is learned, (rows, context) int64."""
    ids = torch.arange(rows * context).view(rows, context) % 8
    positions = torch.arange(context).expand(rows, context).contiguous()
    return {"input_ids": ids, "labels": ids.clone(), "position_ids": positions}


def count_targets(batch: Batch) -> int:
    """Number of supervised positions in a batch on the CPU, or in one that was counted there."""
    if "num_targets" in batch:
        return int(batch["num_targets"])
    return int((batch["labels"] != IGNORED_LABEL).sum())


def count_target_bytes(batch: Batch, token_byte_lengths: torch.Tensor) -> int:
    """UTF-8 bytes of the text that the supervised positions stand for.

    Args:
        token_byte_lengths: (V,) integer, bytes of each token; 0 for control tokens.
    """
    labels = batch["labels"]
    return int(token_byte_lengths[labels[labels != IGNORED_LABEL]].sum())
