"""How fast a device is, and how much of that a training uses. For `benchmarks/gpu.py`; knows no correctness."""

import contextlib
import dataclasses
import gc
import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.device_manager import DeviceManager
from core.training_config import ModelConfig, TrainingConfig
from models.counting import count_parameters, flops_per_token
from models.float8 import ACTIVATIONS, use_float8
from models.transformer_lm import create_model_from_config
from training import losses
from training.batches import RowBatches
from training.optimizer import take_step
from training.prefetch import moved, prepared
from training.schedules import Horizon
from training.trainer import Trainer

WARM_UP_STEPS = 3
"""They compile, and fill caches and the allocator."""

MEAN_DOCUMENT_TOKENS = 500
"""Of the rows with several documents: of that order are web pages (arbitrary)."""


@dataclasses.dataclass(frozen=True)
class Size:
    """A shape, and how it is trained."""

    model: ModelConfig
    rows: int
    """In a micro-batch."""
    micro_batches: int
    """In a step."""

    @property
    def context(self) -> int:
        """Tokens in a row."""
        return self.model.max_position_embeddings


def _shape(
    layers: int, width: int, heads: int, *, context: int = 2048, vocabulary: int = 50_304
) -> ModelConfig:
    return ModelConfig(
        num_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        vocab_size=vocabulary,
        max_position_embeddings=context,
    )


SIZES = {
    # Heads of 128 features; 64k tokens a micro-batch, of the largest 32k; a step has as many as such models are given.
    "124M": Size(_shape(12, 768, 6), rows=32, micro_batches=8),
    "350M": Size(_shape(24, 1024, 8), rows=32, micro_batches=4),
    "1.5B": Size(_shape(30, 1920, 15), rows=16, micro_batches=4),
}
TINY_SIZES = {
    "tiny": Size(_shape(2, 64, 4, context=64, vocabulary=512), rows=4, micro_batches=2),
    "small": Size(_shape(3, 96, 4, context=64, vocabulary=512), rows=4, micro_batches=2),
}


class RandomRows:
    """Random tokens in rows that begin anywhere in a document, made when they are asked for."""

    fingerprint = "random tokens"
    tokenizer_directory = None

    def __init__(self, size: Size, *, mean_document_tokens: int = MEAN_DOCUMENT_TOKENS) -> None:
        self._tokens, self._context = size.model.vocab_size or 0, size.context
        self._share_of_starts = 1 / mean_document_tokens

    def __len__(self) -> int:
        return 1_000_000

    def batch(self, indices: Sequence[int]) -> dict[str, np.ndarray[Any, Any]]:
        """Rows by number, the same ones each time."""
        generator = np.random.Generator(np.random.PCG64(indices[0]))
        shape = (len(indices), self._context + 1)
        ids = generator.integers(self._tokens, size=shape)
        begins = generator.random((len(indices), self._context)) < self._share_of_starts
        begins[:, 0] = True
        places = np.arange(self._context)
        starts = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
        return {
            "input_ids": np.ascontiguousarray(ids[:, :-1]),
            "labels": np.ascontiguousarray(ids[:, 1:]),
            "position_ids": places - starts,
        }


def source_of(size: Size, **options: Any) -> RowBatches:
    """Micro-batches of random tokens."""
    return RowBatches(RandomRows(size, **options), batch_size=size.rows, seed=0)  # type: ignore[arg-type]


def make_trainer(
    size: Size,
    manager: DeviceManager,
    *,
    compiled: bool = True,
    fp8: bool = False,
    by_mask: bool = False,
    bf16_stream: bool = False,
    max_logits: int = losses.MAX_LOGITS_ON_GPU,
    **settings: Any,
) -> Trainer:
    """A trainer as a session sets it up, in the precision that is fast on the device.

    Args:
        by_mask: Keep documents apart by a mask also where there is a kernel that needs none.
        bf16_stream: Let the residual stream be bf16 from the embedding on, instead of float32.
        max_logits: As `training.losses.MAX_LOGITS_ON_GPU`, for this trainer and those that come after.
    """
    losses.MAX_LOGITS_ON_GPU = max_logits
    if bf16_stream:  # not left to what is fast: a stream of bf16 takes products of bf16
        settings["mixed_precision"] = "bf16"
    config = TrainingConfig.from_dict(
        {"batch_size": size.rows, "gradient_accumulation_steps": size.micro_batches, **settings}
    )
    model = create_model_from_config(size.model, seed=0).to(manager.device)
    if bf16_stream:
        model.embedding.register_forward_hook(lambda _module, _inputs, x: x.to(torch.bfloat16))
    if fp8:  # by hand, because a CPU computes it for tests but is refused it by the configuration
        use_float8(model.blocks)
    trainer = Trainer(
        model,
        config,
        manager,
        horizon=Horizon.of(config, 1_000_000),
        compute_dtype=manager.compute_dtype(config.mixed_precision),
        compiled=compiled,
        output_dir=Path(),
    )
    if by_mask:
        trainer._with_documents = False
    return trainer


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(action: Callable[[], object], device: torch.device, *, times: int) -> float:
    """Mean seconds of an action, after one that does not count."""
    action()
    wait_for(device)
    started = time.perf_counter()
    for _ in range(times):
        action()
    wait_for(device)
    return (time.perf_counter() - started) / times


@contextlib.contextmanager
def fresh_memory(device: torch.device) -> Iterator[None]:
    """Measure the peak of what is done in the block, and give all of it back after."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield


def measure_ceilings(manager: DeviceManager, *, tiny: bool) -> dict[str, float]:
    """Products of random numbers in FLOP/s (zeros are faster, because they cost less power), copies in bytes/s."""
    device, size = manager.device, 256 if tiny else 8192
    times = 3 if tiny else 30
    found: dict[str, float] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        found[f"{name}_flops"] = 2 * size**3 / seconds_of(lambda a=left, b=right: a @ b, device, times=times)
    with manager.numerics(deterministic=False, tf32=True):
        left, right = (torch.randn(size, size, device=device) for _ in range(2))
        found["tf32_flops"] = 2 * size**3 / seconds_of(lambda: left @ right, device, times=times)
    one = torch.ones((), device=device)
    left8, right8 = (torch.randn(size, size, device=device).to(ACTIVATIONS) for _ in range(2))
    with contextlib.suppress(RuntimeError):  # a device without fp8 has no such ceiling
        seconds = seconds_of(
            lambda: torch._scaled_mm(
                left8, right8.T, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
            ),
            device,
            times=times,
        )
        found["fp8_flops"] = 2 * size**3 / seconds
    source = torch.empty(2**24 if tiny else 2**31, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found["copied_bytes"] = 2 * source.numel() / seconds_of(lambda: target.copy_(source), device, times=times)
    return found


def measure_training(
    size: Size,
    manager: DeviceManager,
    *,
    steps: int,
    ceiling_flops: float,
    parts: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Speed, memory and use of the device of `make_trainer(size, manager, **options)`.

    Args:
        parts: Also measure the share of the optimizer and of waiting for data.
    """
    device = manager.device
    with fresh_memory(device):
        trainer = make_trainer(size, manager, **options)
        # As a session does.
        with manager.numerics(deterministic=trainer.config.deterministic, tf32=True):
            return _measured(trainer, size, steps=steps, ceiling_flops=ceiling_flops, parts=parts)


def _measured(
    trainer: Trainer, size: Size, *, steps: int, ceiling_flops: float, parts: bool
) -> dict[str, Any]:
    manager = trainer.device_manager
    device = manager.device
    resident = [
        moved(prepared(batch, with_documents=trainer._with_documents), device)
        for batch in itertools.islice(source_of(size).micro_batches(itertools.count()), size.micro_batches)
    ]
    started = time.perf_counter()
    for _ in range(WARM_UP_STEPS):
        trainer.train_step(resident)
    wait_for(device)
    warm_up = time.perf_counter() - started
    reports = []
    seconds = _seconds_a_step(trainer, lambda: reports.append(trainer.train_step(resident)), steps)
    tokens = size.rows * size.micro_batches * size.context
    operations = flops_per_token(size.model, context=size.context)
    attention = 12 * size.model.num_layers * size.model.num_attention_heads * size.model.features_per_head
    peak = manager.get_device_info()["peak_flops"]
    found = {
        "parameters": count_parameters(size.model).total,
        "tokens_a_step": tokens,
        "seconds_a_step": seconds,
        "tokens_per_second": tokens / seconds,
        "mfu": tokens / seconds * operations / peak if peak else None,
        "mfu_causal_halved": tokens / seconds * (operations - attention * size.context / 2) / peak
        if peak
        else None,
        "share_of_measured_ceiling": tokens / seconds * operations / ceiling_flops,
        "peak_memory_bytes": manager.peak_memory_bytes(),
        "warm_up_seconds": warm_up,
        "first_loss": reports[0].loss_nats,
        "last_loss": reports[-1].loss_nats,
    }
    if parts:
        found["data_wait_share"] = _data_wait(trainer, size, seconds, steps)
        found["optimizer_share"] = _optimizer_seconds(trainer, device, tiny=steps < 5) / seconds
    return found


def _seconds_a_step(trainer: Trainer, step: Callable[[], object], steps: int) -> float:
    wait_for(trainer.device_manager.device)
    started = time.perf_counter()
    for _ in range(steps):
        step()
    wait_for(trainer.device_manager.device)
    return (time.perf_counter() - started) / steps


def _data_wait(trainer: Trainer, size: Size, resident_seconds: float, steps: int) -> float:
    """How much longer a step takes that is given its batches by `fit` than one whose batches are there already."""
    # Only what `fit` times between two steps is counted, so that its start does not matter.
    ends: list[float] = []
    trainer.horizon = Horizon.of(trainer.config, trainer.progress.step + steps + 2)
    trainer.fit(source_of(size), [lambda _trainer, _report: ends.append(time.perf_counter())])
    seconds = (ends[-1] - ends[0]) / (len(ends) - 1)
    return 1 - resident_seconds / seconds


def find_host_waits(size: Size, manager: DeviceManager) -> list[str] | None:
    """Where the host waits for the device in the steps between two lines of the log; None where torch cannot tell."""
    if manager.device.type != "cuda":
        return None
    trainer = make_trainer(size, manager, compiled=False, document_masking=True)
    found: list[str] = []

    def watch(trainer: Trainer, _report: object) -> None:
        # The first steps make state and load libraries.
        mode = "warn" if trainer.progress.step >= WARM_UP_STEPS else "default"
        torch.cuda.set_sync_debug_mode(mode)

    trainer.horizon = Horizon.of(trainer.config, WARM_UP_STEPS + 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            trainer.fit(source_of(size), [watch])
        finally:
            torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        place = f"{Path(warning.filename).name}:{warning.lineno}: {str(warning.message)[:100]}"
        found += [place] if "synchroniz" in place and place not in found else []
    return found


def _optimizer_seconds(trainer: Trainer, device: torch.device, *, tiny: bool) -> float:
    """Clipping and the update, of gradients that are there."""
    for parameter in trainer.model.parameters():
        parameter.grad = torch.randn_like(parameter)
    no = torch.zeros((), dtype=torch.bool, device=device)

    def update() -> None:
        trainer._clip_gradients(None)
        take_step(trainer.optimizers, skip=no)

    seconds = seconds_of(update, device, times=2 if tiny else 10)
    trainer.model.zero_grad(set_to_none=True)
    return seconds


def profile_kernels(size: Size, manager: DeviceManager, *, top: int = 20) -> list[dict[str, Any]]:
    """Where the time of two steps goes, by kernel (on a CPU by operation)."""
    device = manager.device
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with fresh_memory(device):
        trainer = make_trainer(size, manager, compiled=device.type == "cuda")
        batches = list(itertools.islice(source_of(size).micro_batches(itertools.count()), size.micro_batches))
        for _ in range(WARM_UP_STEPS):
            trainer.train_step(batches)
        wait_for(device)
        with torch.profiler.profile(activities=activities) as profile:
            for _ in range(2):
                trainer.train_step(batches)
            wait_for(device)
    attribute = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    rows = [(getattr(event, attribute), event) for event in profile.key_averages()]
    total = sum(microseconds for microseconds, _ in rows) or 1
    rows.sort(key=lambda row: -row[0])
    return [
        {
            "name": event.key[:90],
            "calls": event.count,
            "milliseconds": microseconds / 1000,
            "share": microseconds / total,
        }
        for microseconds, event in rows[:top]
    ]
