import pytest
import torch
from model_shapes import ATOL, SHAPES, random_ids, random_model

from core.errors import DataError
from models.kv_cache import KVCache


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunks", [(18,), (8, 1, 1, 1, 1), (1,) * 8, (5, 6, 7), (6, 1, 5, 1, 4)], ids=str)
def test_logits_with_a_cache_are_those_of_the_whole_row(shape: str, chunks: tuple[int, ...]) -> None:
    config = SHAPES[shape]
    model, ids = random_model(config), random_ids(config, 3, sum(chunks))
    cache = KVCache(config, batch_size=3, max_length=sum(chunks))
    with torch.inference_mode():
        pieces = [model(piece, cache=cache) for piece in ids.split(list(chunks), dim=1)]
        whole = model(ids)
    assert cache.length == sum(chunks)
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=ATOL, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunks", [(12,), (8, 1, 1, 1, 1), (2, 10)], ids=str)
def test_rows_of_different_lengths_come_out_as_each_alone(shape: str, chunks: tuple[int, ...]) -> None:
    config = SHAPES[shape]
    model, lengths = random_model(config), [7, 2, 0]
    ids = random_ids(config, 3, 7 + sum(chunks))
    cache = KVCache(config, batch_size=3, max_length=20)
    for kept in (*cache.keys, *cache.values):
        kept.fill_(1e4)  # what other rows have left
    with torch.inference_mode():
        for row, length in enumerate(lengths):
            if length:
                model(ids[row : row + 1, :length], cache=cache.rows(row, row + 1))
        assert cache.lengths.tolist() == lengths
        new = torch.stack([ids[row, length : length + 12] for row, length in enumerate(lengths)])
        pieces = torch.cat([model(piece, cache=cache) for piece in new.split(list(chunks), dim=1)], dim=1)
        for row, length in enumerate(lengths):
            alone = model(ids[row : row + 1, : length + 12])
            torch.testing.assert_close(pieces[row], alone[0, length:], atol=ATOL, rtol=0)


def test_a_row_that_was_moved_goes_on_as_before_and_leaves_its_place_empty() -> None:
    config = SHAPES["qwen3-grouped"]
    model, ids = random_model(config), random_ids(config, 3, 12)
    cache = KVCache(config, batch_size=3, max_length=12)
    with torch.inference_mode():
        model(ids[:, :8], cache=cache)
        cache.rewind(8)
        model(ids[2:, 8:10], cache=cache.rows(2, 3))
        cache.move(2, 0)
        assert cache.lengths.tolist() == [10, 8, 0]
        last = model(ids[2:, 10:], cache=cache.rows(0, 1))
        torch.testing.assert_close(last, model(ids[2:])[:, 10:], atol=ATOL, rtol=0)
        anew = model(ids[1:2], cache=cache.rows(2, 3))
        torch.testing.assert_close(anew, model(ids[1:2]), atol=ATOL, rtol=0)


def test_another_continuation_after_rewinding_is_unaffected_by_the_first() -> None:
    config = SHAPES["llama-grouped"]
    model, ids = random_model(config), random_ids(config, 1, 20)
    cache = KVCache(config, batch_size=1, max_length=20)
    with torch.inference_mode():
        model(ids[:, :10], cache=cache)
        model(ids[:, 10:20].flip(1), cache=cache)
        cache.rewind(10)
        second = model(ids[:, 10:20], cache=cache)
        whole = model(ids)
    torch.testing.assert_close(second, whole[:, 10:], atol=ATOL, rtol=0)


def test_a_cache_keeps_only_key_value_heads() -> None:
    config = SHAPES["qwen3-one-kv-head"]
    cache = KVCache(config, batch_size=2, max_length=5, dtype=torch.bfloat16)
    assert [tuple(keys.shape) for keys in cache.keys] == [(2, 1, 5, 32)] * config.num_layers
    assert cache.values[0].dtype == torch.bfloat16


def test_overflow_of_the_cache_is_refused_with_its_numbers_and_changes_nothing() -> None:
    config = SHAPES["qwen3"]
    model, cache = random_model(config), KVCache(config, batch_size=1, max_length=10)
    ids = random_ids(config, 1, 12)
    with torch.inference_mode():
        model(ids[:, :8], cache=cache)
        with pytest.raises(DataError, match=r"room for 10 tokens, holds 8 and was given 3 more"):
            model(ids[:, 8:11], cache=cache)
        assert cache.length == 8
        last = model(ids[:, 8:10], cache=cache)
        torch.testing.assert_close(last, model(ids[:, :10])[:, 8:], atol=ATOL, rtol=0)


def test_a_cache_longer_than_the_context_is_refused_with_both_numbers() -> None:
    with pytest.raises(DataError, match=r"cache of 65 tokens was asked for.*context is 64 tokens"):
        KVCache(SHAPES["qwen3"], batch_size=1, max_length=65)


def test_a_cache_for_another_number_of_rows_is_a_broken_invariant() -> None:
    config = SHAPES["qwen3"]
    cache = KVCache(config, batch_size=2, max_length=10)
    with pytest.raises(AssertionError, match="1 rows for a cache of 2"):
        random_model(config)(random_ids(config, 1, 4), cache=cache)


def test_autocast_takes_a_cache_of_its_own_dtype() -> None:
    config = SHAPES["qwen3-grouped"]
    model, ids = random_model(config), random_ids(config, 2, 12)
    cache = KVCache(config, batch_size=2, max_length=12, dtype=torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        pieces = [model(piece, cache=cache) for piece in ids.split([6, 1, 5], dim=1)]
        whole = model(ids)
    # Eight bits of precision, and another order of summation, in logits whose size is about 3.
    torch.testing.assert_close(torch.cat(pieces, dim=1).float(), whole.float(), atol=0.25, rtol=0)
