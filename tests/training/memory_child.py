"""The memory of real steps: `memory_child.py SHAPE SETTINGS`, both JSON. Prints bytes beyond what libraries hold."""

import gc
import json
import resource
import sys
from pathlib import Path

import torch

from core.device_manager import DeviceManager
from core.memory import keep_freed_memory
from core.training_config import ModelConfig, TrainingConfig
from models.transformer_lm import create_model_from_config
from training.losses import whole_batch
from training.schedules import Horizon
from training.trainer import Trainer

NUM_STEPS = 4
"""The optimizer's state is there after the first. The mean of two processes of 10 steps and of four of 4, megabytes:
eager 505, 500; selective 418, 411; accumulation 420, 426; large vocabulary 321, 321."""
NUM_MUON_STEPS = 10
"""Its blocks go on being scattered: 476 after 10 steps, 448 after 4."""


def resident_bytes() -> int:
    """What is in memory of this process now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_bytes() -> int:
    """The most that was since the mark was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def train(shape: ModelConfig, config: TrainingConfig, dtype: torch.dtype) -> None:
    """A few steps, and nothing left of them."""
    trainer = Trainer(
        create_model_from_config(shape, seed=1),
        config,
        DeviceManager("cpu"),
        horizon=Horizon.of(config, 100),
        compute_dtype=dtype,
        output_dir=Path(),
    )
    batch = whole_batch(config.batch_size, shape.max_position_embeddings)
    for _ in range(NUM_MUON_STEPS if config.optimizer == "muon" else NUM_STEPS):
        trainer.train_step([batch] * config.gradient_accumulation_steps)


def main(shape: ModelConfig, config: TrainingConfig) -> None:
    keep_freed_memory()
    dtype = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
    # Code of kernels, tables and threads come with the first step of whatever size: they are no part of the model.
    train(shape.replace(hidden_size=64, num_layers=1, num_attention_heads=1, vocab_size=64), config, dtype)
    gc.collect()
    before = resident_bytes()
    Path("/proc/self/clear_refs").write_text("5")
    train(shape, config, dtype)
    print(peak_bytes() - before)


if __name__ == "__main__":
    main(ModelConfig.from_dict(json.loads(sys.argv[1])), TrainingConfig.from_dict(json.loads(sys.argv[2])))
