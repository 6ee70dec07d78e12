"""How fast tokens are made on a device: by single kernels, recorded graphs and compiled layers, and whether they are
the same. For `benchmarks/gpu.py`; knows no training."""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.gpu_speed import Size, wait_for
from core.device_manager import DeviceManager
from inference.continuous_batch import ContinuousBatch, Request
from inference.engine import Engine
from inference.prepared_weights import cast_weights
from inference.sampling_settings import SamplingSettings
from models.counting import count_parameters
from models.transformer_lm import create_model_from_config

PROMPT_TOKENS = 16

WAYS: dict[str, dict[str, bool]] = {
    "single kernels": {"graphs": False},
    "graphs": {"graphs": True},
    "graphs, compiled": {"graphs": True, "compiled": True},
}


def measure_decoding(size: Size, manager: DeviceManager, *, tiny: bool) -> Iterator[dict[str, Any]]:
    """Each way and number of rows: tokens a second, how fast weights are read for that, and how many of the greedy
    tokens are not those of single kernels (with random weights, rounding decides some)."""
    dtype = manager.compute_dtype("bf16")
    new_tokens = 8 if tiny else 96
    expected: dict[int, list[list[int]]] = {}
    weights = count_parameters(size.model).total * dtype.itemsize
    for way, options in WAYS.items():
        if tiny and "compiled" in options:
            continue  # tested elsewhere; takes longer than all the rest
        torch.compiler.reset()
        model = create_model_from_config(size.model, seed=0)
        cast_weights(model, dtype)
        engine = Engine(model, device=manager.device, dtype=dtype, **options)
        for rows in (1, 2) if tiny else (1, 8, 64):
            started = time.perf_counter()
            _decode(engine, rows=rows, new_tokens=new_tokens)
            warm_up = time.perf_counter() - started
            ids, seconds = _decode(engine, rows=rows, new_tokens=new_tokens)
            pairs = zip(ids, expected.setdefault(rows, ids), strict=True)
            yield {
                "way": way,
                "rows": rows,
                "tokens_per_second": rows / seconds,
                "milliseconds_a_step": 1e3 * seconds,
                "weights_gigabytes_per_second": weights / seconds / 1e9,
                "first_run_seconds": warm_up,
                "other_tokens": sum(a != b for row in pairs for a, b in zip(*row, strict=True)),
            }


def _decode(engine: Engine, *, rows: int, new_tokens: int) -> tuple[list[list[int]], float]:
    """Greedy ids of each row, and the median seconds of a step."""
    batch = ContinuousBatch(engine, max_rows=rows, max_length=PROMPT_TOKENS + new_tokens)
    settings = SamplingSettings(temperature=0.0, max_tokens=new_tokens)
    for row in range(rows):
        prompt = tuple((7 * place + 31 * row) % 500 for place in range(PROMPT_TOKENS))
        batch.add(Request(prompt, settings))
    ids: dict[int, list[int]] = {}
    seconds = []
    while batch.num_running or batch.num_waiting:
        reads_prompts = batch.num_waiting > 0
        wait_for(engine.device)
        started = time.perf_counter()
        events = batch.step()
        if not reads_prompts:
            seconds.append(time.perf_counter() - started)
        for event in events:
            if event.token is not None:
                ids.setdefault(event.key, []).append(event.token)
    batch.close()
    return [ids[key] for key in sorted(ids)], statistics.median(seconds)
