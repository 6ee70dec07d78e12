"""Causal self-attention with grouped queries, and the masks that say who sees whom. Knows nothing of text.

Shapes: B rows, T tokens, S tokens that can be seen (T without a cache), D features, N query heads,
K key/value heads, H features of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.training_config import ModelConfig
from models.kv_cache import KVCache
from models.normalization import RMSNorm
from models.rotary import Rotation, rotate


class Attention(nn.Module):
    """Scaled dot-product attention; grouped queries as Ainslie et al. 2023, QK-norm as in Qwen3."""

    def __init__(self, config: ModelConfig, *, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.features_per_head = config.features_per_head
        self.has_groups = config.kv_heads != config.num_attention_heads
        query_size = config.num_attention_heads * self.features_per_head
        key_size = config.kv_heads * self.features_per_head
        self.query = nn.Linear(config.hidden_size, query_size, bias=config.use_bias)
        self.key = nn.Linear(config.hidden_size, key_size, bias=config.use_bias)
        self.value = nn.Linear(config.hidden_size, key_size, bias=config.use_bias)
        self.output = nn.Linear(query_size, config.hidden_size, bias=config.use_bias)
        self.query_norm: nn.Module = nn.Identity()
        self.key_norm: nn.Module = nn.Identity()
        if config.use_qk_norm:
            self.query_norm = RMSNorm(self.features_per_head, epsilon=config.norm_epsilon)
            self.key_norm = RMSNorm(self.features_per_head, epsilon=config.norm_epsilon)
        # Llama and Qwen3 implementations have no dropout on attention weights that our one setting could mean.
        self.dropout = config.dropout if config.architecture == "gpt2" else 0.0

    def forward(
        self, x: Tensor, rotation: Rotation | None, mask: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """x (B, T, D) to (B, T, D).

        Args:
            rotation: Of the T tokens; None when positions were added to the embeddings.
            mask: (B or 1, 1, T, S) bool, True = is seen; None = each token sees itself and all before it.
        """
        B, T, _ = x.shape
        query = self.query_norm(self.query(x).view(B, T, -1, self.features_per_head)).transpose(1, 2)
        key = self.key_norm(self.key(x).view(B, T, -1, self.features_per_head)).transpose(1, 2)
        value = self.value(x).view(B, T, -1, self.features_per_head).transpose(1, 2)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if cache is not None:
            key, value = cache.append(self.layer, key, value)
        expand = self.has_groups and mask is not None and mask.device.type != "cpu"
        if expand:
            # CUDA's memory-efficient kernel takes a mask but no groups; the kernel that takes both keeps all
            # N x T x S weights. On the CPU, groups are faster than copies either way (measured, torch 2.13).
            repeats = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            # A single new token sees everything; `is_causal` would let it see the first token only.
            is_causal=mask is None and T > 1,
            enable_gqa=self.has_groups and not expand,
        )
        y: Tensor = self.output(attended.transpose(1, 2).reshape(B, T, -1))
        return y


def document_mask(position_ids: Tensor) -> Tensor:
    """Who sees whom in rows of packed documents, (B, 1, T, T) bool: earlier tokens of the same document.

    A document begins wherever a position is not the one after its predecessor.

    Args:
        position_ids: (B, T) int64, counting from 0 in each document.
    """
    T = position_ids.shape[1]
    begins = F.pad(position_ids[:, 1:] != position_ids[:, :-1] + 1, (1, 0))
    document = begins.cumsum(dim=1)
    same = document[:, None, :, None] == document[:, None, None, :]
    return same & torch.ones(T, T, dtype=torch.bool, device=position_ids.device).tril()


def cache_mask(cache: KVCache, *, num_tokens: int, device: torch.device) -> Tensor | None:
    """Who of the next T tokens sees whom in the cache and among themselves, (B or 1, 1, T, S) bool.

    None where `Attention` needs none: rows without padding, and either an empty cache or a single token.
    """
    if cache.left_padding is None and (cache.length == 0 or num_tokens == 1):
        return None
    seen = torch.arange(cache.length + num_tokens, device=device)
    seeing = seen[cache.length :, None]
    mask = seen <= seeing
    if cache.left_padding is None:
        return mask[None, None]
    # Padding sees itself: a softmax over nothing is NaN, and NaN x 0 would reach the real tokens.
    return mask & ((seen >= cache.left_padding[:, None, None, None]) | (seen == seeing))
