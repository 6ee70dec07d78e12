"""Objectives. Each returns a sum and the count to divide by, so that any split of a batch adds up exactly."""

import torch
import torch.nn.functional as F

from models.transformer_lm import TransformerLM

IGNORED_LABEL = -100
Batch = dict[str, torch.Tensor]


def next_token_loss(model: TransformerLM, batch: Batch, *, document_masking: bool) -> torch.Tensor:
    """The sum over supervised positions of -ln p(label), in nats: a float32 scalar.

    Args:
        batch: `input_ids`, `labels`, `position_ids`, each (B, T) int64; labels are already shifted and
            -100 where nothing is learned.
        document_masking: Whether attention stays within a document; positions then restart with it.
    """
    positions = batch["position_ids"] if document_masking else None
    logits = model(batch["input_ids"], positions)
    return F.cross_entropy(
        logits.float().flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED_LABEL, reduction="sum"
    )


def count_targets(batch: Batch) -> int:
    """Number of supervised positions in a batch on the CPU."""
    return int((batch["labels"] != IGNORED_LABEL).sum())


def count_target_bytes(batch: Batch, token_byte_lengths: torch.Tensor) -> int:
    """UTF-8 bytes of the text that the supervised positions stand for.

    Args:
        token_byte_lengths: (V,) integer, bytes of each token; 0 for control tokens.
    """
    labels = batch["labels"]
    return int(token_byte_lengths[labels[labels != IGNORED_LABEL]].sum())
