import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_shapes import ATOL, SHAPES, randomize

from models.attention import Attention, cache_mask, document_mask
from models.kv_cache import KVCache
from models.rotary import rotate, rotation_at


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


def test_padding_with_equal_positions_sees_itself_only() -> None:
    mask = document_mask(torch.tensor([[0, 1, 2, 0, 0, 0]]))
    assert mask[0, 0].tolist() == seen_by_hand([3, 1, 1, 1])


def test_cache_mask_leaves_the_fast_paths_without_a_mask() -> None:
    cache = KVCache(SHAPES["qwen3"], batch_size=2, max_length=10)
    device = torch.device("cpu")
    assert cache_mask(cache, num_tokens=4, device=device) is None
    cache.advance(4)
    assert cache_mask(cache, num_tokens=1, device=device) is None
    mask = cache_mask(cache, num_tokens=2, device=device)
    assert mask is not None
    assert mask.tolist() == [[[[True] * 5 + [False], [True] * 6]]]


def test_cache_mask_hides_padding_and_leaves_no_row_empty() -> None:
    cache = KVCache(SHAPES["qwen3"], batch_size=2, max_length=10, left_padding=torch.tensor([0, 2]))
    mask = cache_mask(cache, num_tokens=3, device=torch.device("cpu"))
    assert mask is not None
    first = [[True, False, False], [True, True, False], [True, True, True]]
    second = [[True, False, False], [False, True, False], [False, False, True]]
    assert mask[:, 0].tolist() == [first, second]


@pytest.mark.parametrize("shape", ["qwen3-grouped", "qwen3-one-kv-head", "llama-bias", "llama"])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_written_out_formula(shape: str, masked: bool) -> None:
    config = SHAPES[shape]
    attention = Attention(config, layer=0)
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
