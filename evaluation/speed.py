"""How fast a model answers on this machine, and with how much memory. Knows no quality: what it says is thrown away."""

import platform
import time
from typing import Any

import torch

from core.device_manager import DeviceManager
from inference.chat import ChatModel
from inference.engine import Engine
from inference.sampling import SamplingSettings

LONGEST_PROMPT = 512
NEW_TOKENS = 64
BATCH = 8
REPETITIONS = 3
"""Each figure is the best of so many: what else runs on the machine can only slow it down."""


def measure_speed(model: ChatModel) -> dict[str, Any]:
    """Time to the first token, tokens a second, bytes; prompt and answer are half of the context each, at most.

    Returns:
        `time_to_first_token_seconds` of a prompt of `prompt_tokens`; `prefill_tokens_per_second`;
        `decode_tokens_per_second` of one answer; `batch_tokens_per_second` of 8 at once, their prompts being read
        included; bytes of the weights, of the keys and values of one token, and the most that the process held.
    """
    engine = model.engine
    prompt_tokens = max(1, min(LONGEST_PROMPT, engine.context // 2))
    new_tokens = max(2, min(NEW_TOKENS, engine.context - prompt_tokens))
    allowed = torch.nonzero(model.allowed).flatten()
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(allowed), (prompt_tokens,), generator=generator)
    prompt = allowed.cpu()[chosen].tolist()
    runs = [_one_answer(engine, prompt, new_tokens) for _ in range(REPETITIONS)]
    first_seconds = min(first for first, _ in runs)
    batch_seconds = min(_batch(engine, prompt, new_tokens) for _ in range(REPETITIONS))
    config = engine.model.config
    bytes_a_value = torch.empty(0, dtype=engine.dtype).element_size()
    return {
        "machine": _machine(engine.device),
        "threads": torch.get_num_threads(),
        "compute_dtype": str(engine.dtype).removeprefix("torch."),
        "prompt_tokens": prompt_tokens,
        "new_tokens": new_tokens,
        "time_to_first_token_seconds": first_seconds,
        "prefill_tokens_per_second": prompt_tokens / first_seconds,
        "decode_tokens_per_second": (new_tokens - 1) / min(rest for _, rest in runs),
        "batch_size": BATCH,
        # Of the whole call: reading the prompts is part of it.
        "batch_tokens_per_second": BATCH * new_tokens / batch_seconds,
        "weights_bytes": sum(p.numel() * p.element_size() for p in engine.model.parameters()),
        "cache_bytes_per_token": 2
        * config.num_layers
        * config.kv_heads
        * config.features_per_head
        * bytes_a_value,
        "peak_memory_bytes": DeviceManager(str(engine.device)).peak_memory_bytes(),
    }


def _one_answer(engine: Engine, prompt: list[int], new_tokens: int) -> tuple[float, float]:
    """Seconds to the first token and from there to the last."""
    settings = SamplingSettings(max_tokens=new_tokens, temperature=0.0)
    started = time.perf_counter()
    tokens = engine.stream(prompt, settings)
    next(tokens)
    first = time.perf_counter()
    for _ in tokens:
        pass
    return first - started, time.perf_counter() - first


def _batch(engine: Engine, prompt: list[int], new_tokens: int) -> float:
    """Seconds for several answers at once, prompts included."""
    settings = SamplingSettings(max_tokens=new_tokens, temperature=0.0)
    started = time.perf_counter()
    engine.generate([prompt] * BATCH, settings, batch_size=BATCH)
    return time.perf_counter() - started


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()
