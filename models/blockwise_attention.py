"""Attention by plain products of blocks of queries, for bfloat16 on a CPU. Knows masks, no text and no layer.

Shapes: B rows, T tokens, S tokens that can be seen (T, or more with a cache), N query heads, K key/value heads,
H features of a head; R rows, Q queries at a time.

Torch's own kernel for the CPU multiplies small tiles, at a fraction of the speed of large products in bfloat16. Here a
product over all heads makes the scores of Q queries, one more their results, and torch's softmax stands between.
Forward and backward on one core of an EPYC with bf16: 19 ms instead of 45 for 12 x 6 heads of 256 tokens, 37 instead
of 106 for 4 x 12 of 512 (docs/experiments.md). As in that kernel, the backward pass computes scores again.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

QUERIES = 128
"""At a time. With fewer the products are small, with more they compute more of what nobody sees (tried: 64 to 256)."""

MAX_SCORES = 2**21
"""At a time: 4 MB in bfloat16, and the backward pass holds four such. Twice or half as many are as fast."""

LEAST_TOKENS = 64
"""With fewer, torch's kernel is done before these operations have been started."""


def takes_blocks(query: Tensor, key: Tensor) -> bool:
    """Whether `attend_blockwise` can be asked, and is the faster way, for (B, N, T, H) and (B, K, S, H)."""
    return (
        query.device.type == "cpu"
        and query.dtype == torch.bfloat16
        and query.shape[2] <= key.shape[2]
        and query.shape[2] >= LEAST_TOKENS
    )


def attend_blockwise(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """(B, N, T, H), (B, K, S, H), (B, K, S, H) to (B, N, T, H): each token sees itself and earlier ones.

    Scores are rounded to bfloat16 before the softmax, where torch's kernel keeps them in float32: of random numbers,
    the result is off by 0.0033 of its norm instead of 0.0019, gradients by 0.0048 instead of 0.0047 at most.

    Args:
        mask: (B or 1, 1, T, S) bool, True = is seen, and nobody sees later tokens: of T, token t sees S - T + t at
            most. None = all earlier ones are seen. Without a mask, and for gradients, T = S.
    """
    result: Tensor = _Blockwise.apply(query, key, value, mask)  # type: ignore[no-untyped-call]
    return result


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(query, key, value, mask)
        result: Tensor = torch.ops.bloomery.blockwise_attention(query, key, value, mask)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, mask = ctx.saved_tensors
        gradients = torch.ops.bloomery.blockwise_attention_backward(upstream, query, key, value, mask)
        d_query, d_key, d_value = gradients
        return d_query, d_key, d_value, None


def _forward(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    result = _empty(query)
    before = key.shape[2] - query.shape[2]
    for rows in _row_blocks(query, key):
        q, k, v = _heads(query[rows], key[rows], value[rows])
        for queries in _query_blocks(query):
            seen = slice(before + queries.stop)
            weights = _weights(_block(q, queries), k[:, seen], mask, rows, queries, query)
            attended = torch.bmm(weights, v[:, seen])
            part = result[rows, :, queries]
            part.copy_(attended.view(part.shape))
    return result


def _backward(
    upstream: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    d_query, d_key, d_value = _empty(query), _empty(key), _empty(value)
    for rows in _row_blocks(query, key):
        q, k, v = _heads(query[rows], key[rows], value[rows])
        up = upstream[rows].reshape(q.shape)
        # Float32, because a key gets a part from each block: rounded each time, 0.0075 instead of 0.0045 at 16 blocks.
        dk, dv = torch.zeros_like(k, dtype=torch.float32), torch.zeros_like(v, dtype=torch.float32)
        for queries in _query_blocks(query):
            seen = slice(queries.stop)
            q_block, up_block = _block(q, queries), _block(up, queries)
            weights = _weights(q_block, k[:, seen], mask, rows, queries, query)
            dv[:, seen] += torch.bmm(weights.mT, up_block)
            d_weights = torch.bmm(up_block, v[:, seen].mT)
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            dk[:, seen] += torch.bmm(d_scores.mT, q_block)
            part = d_query[rows, :, queries]
            part.copy_(torch.bmm(d_scores, k[:, seen]).view(part.shape)).mul_(_scale(query))
        d_key[rows], d_value[rows] = dk.view(d_key[rows].shape), dv.view(d_value[rows].shape)
    return d_query, d_key, d_value


def _heads(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scaled queries (R x K, N / K, T, H), keys and values (R x K, S, H): the queries of one key together."""
    R, K, S, H = key.shape
    q = (query * _scale(query)).reshape(R * K, -1, query.shape[2], H)
    return q, key.reshape(R * K, S, H), value.reshape(R * K, S, H)


def _block(x: Tensor, queries: slice) -> Tensor:
    """(R x K, N / K, T, H) to (R x K, N / K x Q, H)."""
    return x[:, :, queries].flatten(1, 2)


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, rows: slice, queries: slice, query: Tensor) -> Tensor:
    """What each query takes of each value up to the last query, (R x K, N / K x Q, S)."""
    scores = torch.bmm(q, k.mT)
    num_queries, num_seen = queries.stop - queries.start, k.shape[1]
    by_head = scores.view(-1, query.shape[1], num_queries, num_seen)
    if mask is None:
        hidden = torch.full((num_queries, num_queries), -torch.inf, dtype=q.dtype).triu(1)
        by_head[..., queries] += hidden
    else:
        mask = mask if len(mask) == 1 else mask[rows]
        by_head += torch.where(mask[:, :, queries, :num_seen], 0.0, -torch.inf).to(q.dtype)
    return torch.softmax(scores, dim=-1)


def _scale(query: Tensor) -> float:
    return 1.0 / math.sqrt(query.shape[-1])


def _row_blocks(query: Tensor, key: Tensor) -> Iterator[slice]:
    B, N, T, _ = query.shape
    size = max(1, MAX_SCORES // (N * min(QUERIES, T) * key.shape[2]))
    return (slice(start, min(start + size, B)) for start in range(0, B, size))


def _query_blocks(query: Tensor) -> Iterator[slice]:
    T = query.shape[2]
    return (slice(start, min(start + QUERIES, T)) for start in range(0, T, QUERIES))


def _empty(like: Tensor) -> Tensor:
    """(B, N, T, H), and in memory (B, T, N, H), as the linear layers around want it."""
    B, N, T, H = like.shape
    return like.new_empty(B, T, N, H).transpose(1, 2)


# Operators of their own, because torch.compile would otherwise unroll the loops. By the library and not by
# `torch.library.custom_op`, whose first call imports torch._dynamo: a second that a chat would wait for its first word.
_LIBRARY: Any = torch.library.Library("bloomery", "FRAGMENT")  # type: ignore[no-untyped-call]
_INPUTS = "Tensor query, Tensor key, Tensor value, Tensor? mask"
_LIBRARY.define(f"blockwise_attention({_INPUTS}) -> Tensor")
_LIBRARY.impl("blockwise_attention", _forward, "CPU")
_LIBRARY.impl("blockwise_attention", lambda query, key, value, mask: _empty(query), "Meta")
_LIBRARY.define(f"blockwise_attention_backward(Tensor upstream, {_INPUTS}) -> (Tensor, Tensor, Tensor)")
_LIBRARY.impl("blockwise_attention_backward", _backward, "CPU")
_LIBRARY.impl(
    "blockwise_attention_backward",
    lambda upstream, query, key, value, mask: (_empty(query), _empty(key), _empty(value)),
    "Meta",
)
