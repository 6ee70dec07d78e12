"""How fast this machine trains: a few real steps of models of several widths. Knows no data and no budget of a run."""

import dataclasses
import itertools
import logging
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from core.device_manager import DeviceManager
from core.memory import keep_freed_memory
from core.progress import progress
from core.training_config import ModelConfig, OptimizationConfig
from models.counting import flops_per_token
from models.transformer_lm import create_model_from_config
from training.losses import whole_batch
from training.schedules import Horizon
from training.trainer import Trainer

logger = logging.getLogger(__name__)

TIMED_STEPS = 3

PROBE_TOKENS = {"cpu": 1024, "mps": 4096, "cuda": 32_768}
"""In one step, by kind of device: enough that a step's fixed cost does not decide (arbitrary)."""


@dataclasses.dataclass(frozen=True)
class Speed:
    """Useful operations a second by width, as measured."""

    flops_per_second: dict[int, float]
    """Width → FLOP/s of `models.counting.flops_per_token`, of a whole step with its optimizer."""

    def seconds_per_token(self, shape: ModelConfig) -> float:
        """Time of one token in training. Between measured widths in proportion to the logarithm of the width; beyond
        them as at the nearest, which for wider models is too pessimistic (products of larger matrices are faster)."""
        operations = flops_per_token(shape, context=shape.max_position_embeddings)
        return operations / self._at(shape.hidden_size)

    def _at(self, width: int) -> float:
        known = sorted(self.flops_per_second)
        width = min(max(width, known[0]), known[-1])
        for low, high in itertools.pairwise(known):
            if low <= width <= high:
                part = math.log(width / low) / math.log(high / low)
                slow, fast = self.flops_per_second[low], self.flops_per_second[high]
                between: float = slow ** (1.0 - part) * fast**part
                return between
        return self.flops_per_second[known[0]]


def measure_speed(
    shapes: Sequence[ModelConfig],
    config: OptimizationConfig,
    device_manager: DeviceManager,
    *,
    at_most_seconds: float,
    now: Callable[[], float] = time.monotonic,
) -> Speed:
    """The speed of training `shapes`, from small to large, as many as time allows; of the first one always.

    Args:
        shapes: With the vocabulary filled in.
        config: Optimizer and precision.
        now: Seconds that only rise.
    """
    if device_manager.device.type == "cpu":
        keep_freed_memory()
    dtype = device_manager.compute_dtype(config.mixed_precision)
    started = now()
    found: dict[int, float] = {}
    last = 0.0
    for shape in progress(shapes, description="measuring the speed", unit="model"):
        # The next one is up to eight times the work of the one before: twice the width, twice the depth, and some.
        if found and now() - started + 8.0 * last > at_most_seconds:
            break
        begun = now()
        found[shape.hidden_size] = _flops_per_second(shape, config, device_manager, dtype, now)
        last = now() - begun
    return Speed(found)


def _flops_per_second(
    shape: ModelConfig,
    config: OptimizationConfig,
    device_manager: DeviceManager,
    dtype: torch.dtype,
    now: Callable[[], float],
) -> float:
    context = shape.max_position_embeddings
    rows = max(1, PROBE_TOKENS[device_manager.device.type] // context)
    trainer = Trainer(
        create_model_from_config(shape, seed=config.seed).to(device_manager.device),
        config,
        device_manager,
        horizon=Horizon.of(config, 1_000_000),
        compute_dtype=dtype,
        output_dir=Path(),
    )
    batch = whole_batch(rows, context)
    seconds = []
    with torch.random.fork_rng(devices=[]):
        for _ in range(1 + TIMED_STEPS):
            begun = now()
            trainer.train_step([batch])  # ends by reading the gradient's norm, so a GPU is waited for
            seconds.append(now() - begun)
    # The first step fills caches. What else the machine does now it may do later, too: the middle, not the least.
    step_seconds = statistics.median(seconds[1:])
    return flops_per_token(shape, context=context) * rows * context / max(step_seconds, 1e-9)
