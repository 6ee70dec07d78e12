import time

import pytest

from evaluation import speed
from evaluation.speed import measure_speed
from inference.chat import ChatModel


def test_tokens_a_second_are_tokens_by_seconds(
    tiny_chat_model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that goes on by a second each time it is read, the figures are known."""
    ticks = iter(range(1000))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: float(next(ticks)))
    found = measure_speed(tiny_chat_model)
    assert (found["prompt_tokens"], found["new_tokens"]) == (32, 32)
    assert found["time_to_first_token_seconds"] == 1
    assert found["prefill_tokens_per_second"] == 32
    # The clock is read at the first token, once more for the first figure and at the end.
    assert found["decode_tokens_per_second"] == 31
    assert found["batch_tokens_per_second"] == 8 * 32


def test_memory_is_that_of_the_tensors(tiny_chat_model: ChatModel) -> None:
    started = time.perf_counter()
    found = measure_speed(tiny_chat_model)
    elapsed = time.perf_counter() - started
    model = tiny_chat_model.engine.model
    assert found["weights_bytes"] == sum(p.numel() * 4 for p in model.parameters())
    # Two layers, keys and values, two heads of 8 features, 4 bytes.
    assert found["cache_bytes_per_token"] == 2 * 2 * 2 * 8 * 4
    assert found["peak_memory_bytes"] > found["weights_bytes"]
    assert 0 < found["time_to_first_token_seconds"] < elapsed
