"""Causal self-attention with grouped queries, and the masks that say who sees whom. Knows nothing of text.

Shapes: B rows, T tokens, S tokens that can be seen (T without a cache), D features, N query heads,
K key/value heads, H features of a head, M documents.

Which kernel runs: without a mask torch's causal one (flash attention on CUDA); with a mask one that reads it, of
B x T x S bytes. Packed documents need no mask on a GPU that has flash attention: `Documents` says where they end, and
the kernel for sequences of any lengths takes all rows end to end (`takes_documents`). In bfloat16 on a CPU, plain
products of blocks of queries, with or without a mask (`models.blockwise_attention`).
"""

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.training_config import ModelConfig
from models.blockwise_attention import attend_blockwise, takes_blocks
from models.kv_cache import KVCache, LayerCache
from models.normalization import RMSNorm
from models.rotary import Rotation, rotate

FLASH_ATTENTION_CAPABILITY = (8, 0)
"""Of CUDA: flash attention runs from Ampere on (Dao 2023)."""

FLASH_ATTENTION_MAX_FEATURES = 256
"""Of one head."""

FEW_QUERIES = 8
"""Up to so many, torch has kernels of their own on MPS."""

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]
"""Queries (B x T, N, H), keys and values (B x T, K, H), `offsets` and `max_length` of `Documents` to (B x T, N, H)."""


class Documents(NamedTuple):
    """Where packed documents end, for a kernel that takes all rows end to end."""

    offsets: Tensor
    """(M + 1,) int32, rising from 0 to B x T, from `document_offsets`; documents of no length are allowed."""
    max_length: int
    """Of a document, or more: T. That of the longest one would be new to torch.compile in each batch."""
    kernel: Kernel


class Attention(nn.Module):
    """Scaled dot-product attention; grouped queries as Ainslie et al. 2023, QK-norm as in Qwen3."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.features_per_head = config.features_per_head
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
        self, x: Tensor, rotation: Rotation | None, mask: Tensor | Documents | None, cache: LayerCache | None
    ) -> Tensor:
        """x (B, T, D) to (B, T, D).

        Args:
            rotation: Of the T tokens; None when positions were added to the embeddings.
            mask: (B or 1, 1, T, S) bool, True = is seen; or the documents, within which each token sees itself and all
                before it; None = each row is one document.
        """
        B, T, _ = x.shape
        query = self.query_norm(self.query(x).view(B, T, -1, self.features_per_head)).transpose(1, 2)
        key = self.key_norm(self.key(x).view(B, T, -1, self.features_per_head)).transpose(1, 2)
        value = self.value(x).view(B, T, -1, self.features_per_head).transpose(1, 2)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if cache is not None:
            key, value = cache.append(key, value)
        dropout = self.dropout if self.training else 0.0
        if cache is not None and T == 1:
            attended = attend_one(query, key, value, mask)
        else:
            attended = attend(query, key, value, mask, dropout=dropout)
        y: Tensor = self.output(attended.reshape(B, T, -1))
        return y


def takes_documents(device: torch.device, dtype: torch.dtype, config: ModelConfig) -> bool:
    """Whether `Attention` can be given `Documents` instead of a mask.

    Args:
        dtype: Of the products.
    """
    return (
        device.type == "cuda"
        and torch.cuda.get_device_capability(device) >= FLASH_ATTENTION_CAPABILITY
        and dtype in (torch.bfloat16, torch.float16)
        and config.features_per_head <= FLASH_ATTENTION_MAX_FEATURES
        and config.features_per_head % 8 == 0
        and not (config.dropout and config.architecture == "gpt2")  # the kernel has no dropout
    )


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | Documents | None, *, dropout: float = 0.0
) -> Tensor:
    """What each query takes of the values, (B, T, N, H) or, with documents, (B x T, N, H).

    Args:
        query: (B, N, T, H).
        key: (B, K, S, H), as `value`.
        mask: As in `Attention.forward`.
        dropout: Of the weights; not within documents.
    """
    if isinstance(mask, Documents):
        return _attend_within(query, key, value, mask)
    return _attend(query, key, value, mask, dropout=dropout).transpose(1, 2)


def attend_one(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | Documents | None) -> Tensor:
    """`attend` for a single token, (B, N, 1, H) to (B, 1, N, H), without dropout.

    The queries of a group see the same, so that they can stand beside each other as tokens of one head. Otherwise a
    kernel without groups is given copies of keys and values, one for each query of a group.
    """
    assert not isinstance(mask, Documents), "a cache holds one document a row"
    B, N, _, H = query.shape
    groups = query.reshape(B, key.shape[1], N // key.shape[1], H)
    if mask is not None and mask.device.type == "mps":
        mask = whole_mask(mask, (*groups.shape[:3], key.shape[2]), query.dtype)
    y = F.scaled_dot_product_attention(groups, key, value, attn_mask=mask)
    return y.reshape(B, 1, N, H)


def whole_mask(mask: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A bool mask as what is added to scores of this shape, an element for each of them.

    For few queries on MPS: where heads share a mask, torch's kernel for these took the first row's for all rows until
    May 2026 (https://github.com/pytorch/pytorch/pull/184180), and it read bool masks wrongly
    (https://github.com/pytorch/pytorch/pull/182285).
    """
    added = torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, -math.inf)
    return added.expand(*shape).contiguous()


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, dropout: float) -> Tensor:
    """(B, N, T, H), (B, K, S, H), (B, K, S, H) to (B, N, T, H)."""
    if dropout == 0.0 and takes_blocks(query, key):
        return attend_blockwise(query, key, value, mask)
    has_groups = bool(query.shape[1] != key.shape[1])  # torch.jit.trace makes a tensor of it
    expand = has_groups and mask is not None and mask.device.type != "cpu"
    if expand:
        # CUDA's memory-efficient kernel takes a mask but no groups; the kernel that takes both keeps all
        # N x T x S weights. On the CPU, groups are faster than copies either way (measured, torch 2.13).
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    if mask is not None and mask.device.type == "mps" and query.shape[2] <= FEW_QUERIES:
        mask = whole_mask(mask, (*query.shape[:3], key.shape[2]), query.dtype)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        # A single new token sees everything; `is_causal` would let it see the first token only.
        is_causal=mask is None and query.shape[2] > 1,
        enable_gqa=has_groups and not expand,
    )


def _attend_within(query: Tensor, key: Tensor, value: Tensor, documents: Documents) -> Tensor:
    """(B, N, T, H), (B, K, T, H), (B, K, T, H) to (B x T, N, H)."""
    query, key, value = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))
    return documents.kernel(query, key, value, documents.offsets, documents.max_length)


@functools.cache
def flash_kernel() -> Kernel:
    """Torch's flash attention for sequences of any lengths."""
    # A second to import, for what a CPU does not have.
    from torch.nn.attention.varlen import varlen_attn

    return causal_kernel(varlen_attn)


def causal_kernel(varlen_attn: Callable[..., Any]) -> Kernel:
    """What calls `torch.nn.attention.varlen.varlen_attn`, which has `enable_gqa` from torch 2.12 on, causally."""
    takes_groups = "enable_gqa" in inspect.signature(varlen_attn).parameters

    def attend(query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, max_length: int) -> Tensor:
        options: dict[str, Any] = {"window_size": (-1, 0)}  # all before, none after
        groups = query.shape[1] // key.shape[1]
        if takes_groups:
            options["enable_gqa"] = groups > 1
        elif groups > 1:
            key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        y: Tensor = varlen_attn(query, key, value, offsets, offsets, max_length, max_length, **options)
        return y

    return attend


def document_mask(position_ids: Tensor) -> Tensor:
    """Who sees whom in rows of packed documents, (B, 1, T, T) bool: earlier tokens of the same document.

    A document begins wherever a position is not the one after its predecessor.

    Args:
        position_ids: (B, T) int64, counting from 0 in each document.
    """
    T = position_ids.shape[1]
    document = document_begins(position_ids).cumsum(dim=1)
    same = document[:, None, :, None] == document[:, None, None, :]
    return same & torch.ones(T, T, dtype=torch.bool, device=position_ids.device).tril()


def document_offsets(position_ids: Tensor) -> Tensor:
    """Where the documents of packed rows begin and end when the rows are laid end to end, (M + 1,) int32 on the CPU.

    M is the next power of two, filled up with documents of no length: the shape is part of what torch.compile
    specializes on. Counting documents on a GPU would make the host wait for it.

    Args:
        position_ids: (B, T) int64 on the CPU, counting from 0 in each document.
    """
    starts = document_begins(position_ids).flatten().nonzero().flatten()
    num_slots = 1 << (len(starts) - 1).bit_length()
    offsets = torch.full((num_slots + 1,), position_ids.numel(), dtype=torch.int32)
    offsets[: len(starts)] = starts
    return offsets


def document_begins(position_ids: Tensor) -> Tensor:
    """Where documents begin, (B, T) bool: at the head of each row, and wherever a position does not follow on the one
    before it."""
    return F.pad(position_ids[:, 1:] != position_ids[:, :-1] + 1, (1, 0), value=True)


def cache_mask(cache: KVCache) -> Tensor | None:
    """Who of the tokens that `cache.begin` was told of sees whom in the cache and among themselves.

    (B or 1, 1, T, S) bool; None where `Attention` needs none: rows of equal length, and either an empty cache or a
    single token.
    """
    num_new, num_seen = cache.positions.shape[1], cache.length + cache.positions.shape[1]
    if cache.is_even and num_new in (1, num_seen):
        return None
    seen = torch.arange(num_seen, device=cache.positions.device)
    return seen <= cache.positions[:, None, :, None]
