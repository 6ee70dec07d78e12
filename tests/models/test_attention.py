import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from model_shapes import ATOL, SHAPES, randomize
from torch._subclasses.fake_tensor import FakeTensorMode

import models.attention
from models.attention import (
    Attention,
    Documents,
    attend,
    attend_one,
    cache_mask,
    causal_kernel,
    document_mask,
    document_offsets,
    flash_kernel,
    takes_documents,
    whole_mask,
)
from models.kv_cache import KVCache
from models.rotary import rotate, rotation_at
from models.transformer_lm import Block


def seen_by_hand(lengths: list[int]) -> list[list[bool]]:
    document = [number for number, length in enumerate(lengths) for _ in range(length)]
    size = len(document)
    return [[j <= i and document[i] == document[j] for j in range(size)] for i in range(size)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=3))
def test_a_token_sees_the_earlier_tokens_of_its_document_and_no_other(rows: list[list[int]]) -> None:
    size = max(map(sum, rows))
    rows = [[*lengths, size - sum(lengths)] if sum(lengths) < size else lengths for lengths in rows]
    positions = torch.stack([torch.cat([torch.arange(n) for n in lengths]) for lengths in rows])
    mask = document_mask(positions)
    assert mask.shape == (len(rows), 1, size, size)
    assert mask[:, 0].tolist() == [seen_by_hand(lengths) for lengths in rows]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=3))
def test_documents_laid_end_to_end_have_the_lengths_that_they_were_made_of(rows: list[list[int]]) -> None:
    size = max(map(sum, rows))
    rows = [[*lengths, size - sum(lengths)] if sum(lengths) < size else lengths for lengths in rows]
    positions = torch.stack([torch.cat([torch.arange(n) for n in lengths]) for lengths in rows])
    offsets = document_offsets(positions)
    assert offsets.dtype == torch.int32
    lengths = offsets.diff().tolist()
    assert [n for n in lengths if n] == [n for row in rows for n in row]
    assert (len(lengths) & (len(lengths) - 1)) == 0  # few different shapes, so that little is compiled again
    assert len(lengths) < 2 * sum(map(len, rows))


def one_document_after_the_other(query, key, value, offsets, _offsets, longest, _longest, *, window_size):
    """What `varlen_attn` of torch 2.11 computes, as its documentation has it: each sequence by itself."""
    assert window_size == (-1, 0)
    assert query.shape == key.shape == value.shape
    assert offsets.diff().max() <= longest
    parts = []
    for begin, end in itertools.pairwise(offsets.tolist()):
        q, k, v = (x[begin:end].transpose(0, 1) for x in (query, key, value))
        scores = q @ k.transpose(1, 2) / math.sqrt(query.shape[-1])
        seen = torch.ones(end - begin, end - begin, dtype=torch.bool).tril()
        parts.append((scores.masked_fill(~seen, -math.inf).softmax(dim=-1) @ v).transpose(0, 1))
    return torch.cat(parts)


def with_groups(query, key, value, *rest, window_size, enable_gqa):
    """The same of torch 2.12: grouped queries are asked for, and only then."""
    groups = query.shape[1] // key.shape[1]
    assert enable_gqa == (groups > 1)
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    return one_document_after_the_other(query, key, value, *rest, window_size=window_size)


@pytest.mark.parametrize("varlen_attn", [one_document_after_the_other, with_groups])
@pytest.mark.parametrize("shape", ["qwen3", "qwen3-grouped", "qwen3-one-kv-head", "llama"])
def test_documents_give_what_the_mask_gives_and_the_same_gradients(shape: str, varlen_attn) -> None:
    config = SHAPES[shape]
    attention = Attention(config).double()
    randomize(attention, seed=4)
    positions = torch.tensor([[*range(6), *range(1), *range(4)], [*range(2), *range(9)]])
    B, T = positions.shape
    rotation = rotation_at(positions, features_per_head=config.features_per_head, theta=config.rope_theta)
    kernel = causal_kernel(varlen_attn)
    found = []
    for mask in (document_mask(positions), Documents(document_offsets(positions), T, kernel)):
        generator = torch.Generator().manual_seed(5)
        x = torch.randn(B, T, config.hidden_size, generator=generator, dtype=torch.float64)
        y = attention(x.requires_grad_(), rotation, mask, None)
        attention.zero_grad()
        y.square().mean().backward()
        found.append([y, x.grad, *(p.grad.clone() for p in attention.parameters())])
    for one, other in zip(*found, strict=True):
        # Norms and rotation are float32 throughout, so the rest in float64 leaves differences of their last bit.
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_a_whole_mask_hides_from_each_row_what_the_mask_hides_that_its_heads_share() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 4, 2, 8), torch.randn(3, 4, 6, 8), torch.randn(3, 4, 6, 8)
    mask = torch.arange(6) <= torch.tensor([5, 0, 3])[:, None, None, None]
    whole = whole_mask(mask, (3, 4, 2, 6), torch.float32)
    assert whole.shape == (3, 4, 2, 6)
    assert whole.is_contiguous()
    for row, seen in enumerate((6, 1, 4)):
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=whole)[row]
        alone = F.scaled_dot_product_attention(query[row], key[row, :, :seen], value[row, :, :seen])
        torch.testing.assert_close(y, alone)


@pytest.mark.parametrize(
    ("attends", "num_queries", "device", "shape"),
    [
        (attend_one, 1, "mps", (3, 2, 2, 20)),
        (attend, 8, "mps", (3, 4, 8, 20)),
        (attend, 9, "mps", None),
        (attend_one, 1, "cpu", None),
    ],
)
def test_few_queries_are_given_a_whole_mask_on_mps(
    attends: Callable[..., torch.Tensor],
    num_queries: int,
    device: str,
    shape: tuple[int, ...] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masks: list[object] = []

    def kernel(query: torch.Tensor, *_: object, attn_mask: object, **options: object) -> torch.Tensor:
        masks.append(attn_mask)
        return torch.empty_like(query)

    monkeypatch.setattr(models.attention, "whole_mask", lambda _mask, shape, dtype: (tuple(shape), dtype))
    monkeypatch.setattr(F, "scaled_dot_product_attention", kernel)
    with FakeTensorMode():  # devices and shapes alone
        query, key = (
            torch.empty(3, 4, num_queries, 16, device=device),
            torch.empty(3, 2, 20, 16, device=device),
        )
        mask = torch.empty(3, 1, num_queries, 20, dtype=torch.bool, device=device)
        attends(query, key, key, mask)
    assert masks == [mask if shape is None else (shape, torch.float32)]


@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_the_kernel_of_torch_takes_these_shapes_and_has_gradients(num_kv_heads: int) -> None:
    offsets = document_offsets(torch.tensor([[*range(6), *range(6)]] * 2))
    with FakeTensorMode(allow_non_fake_inputs=True):  # shapes and types alone: the CPU has no such kernel
        query, key, value = (
            torch.empty(24, heads, 16, dtype=torch.bfloat16, requires_grad=True)
            for heads in (4, num_kv_heads, num_kv_heads)
        )
        y = flash_kernel()(query, key, value, offsets, 12)
        y.sum().backward()
        assert y.shape == query.shape
        assert key.grad is not None
        assert key.grad.shape == key.shape


def test_a_compiled_block_calls_the_kernel_from_one_graph() -> None:
    torch.compiler.reset()
    config = SHAPES["qwen3-grouped"]
    block = Block(config)
    positions = torch.tensor([[*range(6), *range(10)]] * 2)
    rotation = rotation_at(positions, features_per_head=config.features_per_head, theta=config.rope_theta)
    documents = Documents(document_offsets(positions), 16, flash_kernel())
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _inputs: list[torch.Tensor]):
        graphs.append(graph)
        return graph.forward

    block.compile(fullgraph=True, dynamic=False, backend=keep)
    with pytest.raises(NotImplementedError, match="_flash_attention_forward"):  # there is none for the CPU
        block(torch.randn(2, 16, config.hidden_size), rotation, documents)
    [graph] = graphs
    assert sum("varlen_attn" in str(node.target) for node in graph.graph.nodes) == 1


def test_no_documents_are_given_to_a_device_without_the_kernel() -> None:
    assert not takes_documents(torch.device("cpu"), torch.bfloat16, SHAPES["qwen3"])


def test_padding_with_equal_positions_sees_itself_only() -> None:
    mask = document_mask(torch.tensor([[0, 1, 2, 0, 0, 0]]))
    assert mask[0, 0].tolist() == seen_by_hand([3, 1, 1, 1])


def mask_of(lengths: list[int], num_new: int) -> list[object] | None:
    cache = KVCache(SHAPES["qwen3"], batch_size=2, max_length=10)
    cache.lengths[:] = torch.tensor(lengths)
    cache.begin(2, num_new)
    mask = cache_mask(cache)
    return None if mask is None else mask[:, 0].tolist()


def test_cache_mask_leaves_the_fast_paths_without_a_mask() -> None:
    assert mask_of([0, 0], 4) is None
    assert mask_of([4, 4], 1) is None
    assert mask_of([4, 4], 2) == [[[True] * 5 + [False], [True] * 6]]


def test_cache_mask_hides_what_is_after_the_end_of_a_row() -> None:
    assert mask_of([3, 1], 1) == [[[True] * 4], [[True, True, False, False]]]
    assert mask_of([1, 0], 2) == [
        [[True, True, False], [True, True, True]],
        [[True, False, False], [True, True, False]],
    ]


@pytest.mark.parametrize("shape", ["qwen3-grouped", "qwen3-one-kv-head", "llama-bias", "llama"])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_written_out_formula(shape: str, masked: bool) -> None:
    config = SHAPES[shape]
    attention = Attention(config)
    randomize(attention, seed=4)
    B, T, H = 2, 11, config.features_per_head
    x = torch.randn(B, T, config.hidden_size, generator=torch.Generator().manual_seed(5))
    positions = torch.arange(T)[None]
    documents = torch.tensor([[*range(6), *range(5)]] * B)
    mask = document_mask(documents) if masked else None
    rotation = rotation_at(positions, features_per_head=H, theta=config.rope_theta)
    got = attention(x, rotation, mask, None)

    repeats = config.num_attention_heads // config.kv_heads
    heads = []
    for head in range(config.num_attention_heads):
        group = head // repeats
        query = attention.query(x)[..., head * H : (head + 1) * H]
        key = attention.key(x)[..., group * H : (group + 1) * H]
        value = attention.value(x)[..., group * H : (group + 1) * H]
        query = rotate(attention.query_norm(query)[:, None], rotation)[:, 0]
        key = rotate(attention.key_norm(key)[:, None], rotation)[:, 0]
        scores = query @ key.transpose(1, 2) / math.sqrt(H)
        seen = torch.tensor(seen_by_hand([6, 5] if masked else [T]))
        heads.append(scores.masked_fill(~seen, -math.inf).softmax(dim=-1) @ value)
    expected = attention.output(torch.cat(heads, dim=-1))
    torch.testing.assert_close(got, expected, atol=ATOL, rtol=0)
