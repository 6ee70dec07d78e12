import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import blockwise_attention
from models.attention import document_mask
from models.blockwise_attention import LEAST_TOKENS, attend_blockwise, takes_blocks

SHAPES = {
    # B, N, K, T, H
    "even": (2, 4, 4, 256, 64),
    "grouped": (3, 6, 2, 200, 32),
    "one-key-head": (2, 4, 1, 300, 64),
    "one-block": (2, 3, 3, 70, 16),
    "long": (1, 2, 2, 1100, 64),
}
LARGEST_ERROR = 0.006
"""Of the norm: bfloat16 rounds by up to 0.004, and torch's own kernel is off by up to 0.0048."""


def random_inputs(name: str) -> tuple[list[Tensor], Tensor]:
    """Queries, keys, values laid out as linear layers leave them, and a gradient of the result."""
    B, N, K, T, H = SHAPES[name]
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(B, T, heads, H, generator=generator).bfloat16().transpose(1, 2) for heads in (N, K, K)
    ]
    return inputs, torch.randn(B, N, T, H, generator=generator).bfloat16()


def packed_documents(rows: int, num_tokens: int) -> Tensor:
    cuts = [num_tokens // 3 + row for row in range(rows)]
    return torch.stack([torch.cat([torch.arange(cut), torch.arange(num_tokens - cut)]) for cut in cuts])


def with_gradients(
    attend, inputs: list[Tensor], upstream: Tensor, *, dtype: torch.dtype = torch.bfloat16
) -> list[Tensor]:
    leaves = [x.to(dtype).requires_grad_() for x in inputs]
    result = attend(*leaves)
    return [result.detach(), *torch.autograd.grad(result, leaves, upstream.to(dtype))]


def error(found: Tensor, true: Tensor) -> float:
    return float((found.double() - true).norm() / true.norm())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_results_and_gradients_are_those_of_float64_up_to_rounding(name: str, masked: bool) -> None:
    inputs, upstream = random_inputs(name)
    B, N, K, T, _ = SHAPES[name]
    mask = document_mask(packed_documents(B, T)) if masked else None
    found = with_gradients(lambda q, k, v: attend_blockwise(q, k, v, mask), inputs, upstream)
    seen = mask if mask is not None else torch.ones(T, T, dtype=torch.bool).tril()

    def by_the_book(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = (x.repeat_interleave(N // K, dim=1) for x in (k, v))
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf)
        return scores.softmax(dim=-1) @ v

    true = with_gradients(by_the_book, inputs, upstream, dtype=torch.float64)
    assert [error(*pair) < LARGEST_ERROR for pair in zip(found, true, strict=True)] == [True] * 4


def test_many_small_blocks_are_no_further_off_than_a_single_one(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, upstream = random_inputs("long")
    true = with_gradients(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        inputs,
        upstream,
        dtype=torch.float64,
    )
    errors = []
    for size in (16, inputs[0].shape[2]):
        monkeypatch.setattr(blockwise_attention, "QUERIES", size)
        found = with_gradients(lambda q, k, v: attend_blockwise(q, k, v, None), inputs, upstream)
        errors.append([error(*pair) for pair in zip(found, true, strict=True)])
    for many, one in zip(*errors, strict=True):
        assert many < 1.25 * one  # 2 and more, where sums over blocks are rounded each time


def test_a_mask_of_all_earlier_tokens_changes_no_bit() -> None:
    inputs, upstream = random_inputs("grouped")
    T = inputs[0].shape[2]
    mask = torch.ones(1, 1, T, T, dtype=torch.bool).tril()
    without = with_gradients(lambda q, k, v: attend_blockwise(q, k, v, None), inputs, upstream)
    with_it = with_gradients(lambda q, k, v: attend_blockwise(q, k, v, mask), inputs, upstream)
    assert all(torch.equal(a, b) for a, b in zip(without, with_it, strict=True))


def test_a_later_token_changes_no_bit_of_earlier_results() -> None:
    (q, k, v), _ = random_inputs("even")
    before = attend_blockwise(q, k, v, None)
    for x in (q, k, v):
        x[:, :, 130:] += 1.0
    after = attend_blockwise(q, k, v, None)
    assert torch.equal(before[:, :, :130], after[:, :, :130])
    assert not torch.equal(before[:, :, 130:], after[:, :, 130:])


def test_rows_taken_one_at_a_time_come_out_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, upstream = random_inputs("grouped")
    mask = document_mask(packed_documents(*inputs[0].shape[::2]))
    at_once = with_gradients(lambda q, k, v: attend_blockwise(q, k, v, mask), inputs, upstream)
    monkeypatch.setattr(blockwise_attention, "MAX_SCORES", 1)
    one_by_one = with_gradients(lambda q, k, v: attend_blockwise(q, k, v, mask), inputs, upstream)
    for a, b in zip(at_once, one_by_one, strict=True):
        torch.testing.assert_close(
            a, b, rtol=0.01, atol=1e-3
        )  # other shapes may be added up in another order


def test_what_torch_is_told_of_the_results_is_what_comes_out() -> None:
    inputs, upstream = random_inputs("one-key-head")
    operators = torch.ops.bloomery
    mask = document_mask(packed_documents(*inputs[0].shape[::2]))
    kinds = ("test_schema", "test_faketensor")  # nothing is written to; shapes, types and strides
    torch.library.opcheck(operators.blockwise_attention.default, (*inputs, mask), test_utils=kinds)
    torch.library.opcheck(
        operators.blockwise_attention_backward.default, (upstream, *inputs, None), test_utils=kinds
    )


def test_tokens_that_continue_rows_of_different_lengths_see_what_the_mask_says() -> None:
    B, N, K, T, S, H = 3, 6, 2, 150, 400, 32
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(B, heads, length, H, generator=generator).bfloat16()
        for heads, length in ((N, T), (K, S), (K, S))
    )
    positions = torch.tensor([S - T, 7, 0])[:, None] + torch.arange(T)
    mask = torch.arange(S) <= positions[:, None, :, None]
    true = F.scaled_dot_product_attention(
        query.double(), key.double(), value.double(), attn_mask=mask, enable_gqa=True
    )
    assert error(attend_blockwise(query, key, value, mask), true) < LARGEST_ERROR


@pytest.mark.parametrize(
    ("dtype", "num_queries", "num_keys", "takes"),
    [
        (torch.bfloat16, LEAST_TOKENS, LEAST_TOKENS, True),
        (torch.bfloat16, LEAST_TOKENS - 1, LEAST_TOKENS - 1, False),
        (torch.bfloat16, LEAST_TOKENS, LEAST_TOKENS + 1, True),  # a cache that is continued
        (torch.bfloat16, 1, LEAST_TOKENS, False),
        (torch.float32, LEAST_TOKENS, LEAST_TOKENS, False),
    ],
)
def test_blocks_are_for_many_queries_in_bfloat16(dtype, num_queries: int, num_keys: int, takes: bool) -> None:
    query = torch.zeros(1, 1, num_queries, 8, dtype=dtype)
    assert takes_blocks(query, torch.zeros(1, 1, num_keys, 8, dtype=dtype)) is takes
