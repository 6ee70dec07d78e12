"""Loss, perplexity and bits per byte of a model on a split of a dataset. Knows no training run."""

import itertools

import numpy as np
import torch

from core.device_manager import DeviceManager
from core.progress import progress
from data_processing.rows.token_rows import TokenRows
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer
from training.batches import rows_in_order
from training.losses import Batch, next_token_loss
from training.trainer import Evaluation, mean_loss


def evaluate_rows(
    model: TransformerLM,
    rows: TokenRows,
    tokenizer: Tokenizer,
    device_manager: DeviceManager,
    *,
    document_masking: bool,
    batch_size: int = 16,
    max_batches: int | None = None,
    description: str = "evaluating",
) -> Evaluation:
    """How well `model` predicts the supervised tokens of `rows`, in the order they are stored.

    Args:
        max_batches: Most batches to read; None = all.
        document_masking: Whether attention stays within a document, as the model was trained.
    """
    assert model.config.vocab_size is not None
    byte_lengths = np.zeros(model.config.vocab_size, dtype=np.int64)
    byte_lengths[: tokenizer.vocab_size] = tokenizer.byte_lengths
    # What a lossy tokenizer leaves out is in no token, so its tokens do not say how long the text was.
    lengths = torch.from_numpy(byte_lengths) if tokenizer.lossless else None
    device = device_manager.device
    model = model.to(device).eval()

    def summed_loss(batch: Batch) -> torch.Tensor:
        on_device = {key: tensor.to(device) for key, tensor in batch.items()}
        return next_token_loss(model, on_device, document_masking=document_masking)

    batches = rows_in_order(rows, batch_size=batch_size)
    some = itertools.islice(batches, max_batches)
    total = len(batches) if max_batches is None else min(max_batches, len(batches))
    bar = progress(some, total=total, description=description, unit="batch")
    return mean_loss(summed_loss, bar, lengths)
