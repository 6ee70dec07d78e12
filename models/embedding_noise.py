"""Noise on embeddings while tuning (NEFTune, Jain et al. 2023): as much for a conversation, whatever it is packed with.

Shapes: B rows, T tokens, D features.
"""

import torch
from torch import Tensor

from models.attention import document_begins


def noise_like(x: Tensor, positions: Tensor, *, alpha: float) -> Tensor:
    """Uniform noise between plus and minus alpha / sqrt(L x D), for documents of L tokens: (B, T, D) in x's dtype.

    The paper's L is the length of an example. Of packed rows it is that of the document a token is in; the last one of
    a row counts its padding, as the paper's code does. (Others take the length of the row, so that noise would depend
    on how much is packed into it.)

    Args:
        x: (B, T, D) embeddings.
        positions: (B or 1, T) int64, from 0 in each document.
    """
    document = document_begins(positions).cumsum(dim=1) - 1
    lengths = torch.zeros_like(document).scatter_add_(1, document, torch.ones_like(document))
    bound = alpha / (lengths.gather(1, document) * x.shape[-1]).sqrt()
    return torch.empty_like(x).uniform_(-1.0, 1.0) * bound[..., None].to(x.dtype)
