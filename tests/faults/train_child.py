"""One training run in a process of its own: `train_child.py DIRECTORY SETTINGS`. Goes on from what is there.

Few steps, each of them slow enough that a kill from outside falls between two checkpoints, or into one.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.device_manager import DeviceManager
from core.training_config import ModelConfig, TrainingConfig
from models.transformer_lm import create_model_from_config
from training.batches import RowBatches
from training.checkpoint import latest_checkpoint
from training.pretraining_trainer import PretrainingTrainer

SHAPE = ModelConfig(
    hidden_size=32,
    num_layers=2,
    num_attention_heads=2,
    vocab_size=64,
    max_position_embeddings=16,
    dropout=0.1,
)


class Rows:
    """Random tokens, the same in every process."""

    fingerprint = "random tokens"
    tokenizer_directory = None

    def __init__(self) -> None:
        self._ids = np.random.Generator(np.random.PCG64(5)).integers(64, size=(300, 16))

    def __len__(self) -> int:
        return len(self._ids)

    def batch(self, indices: Sequence[int]) -> dict[str, np.ndarray[Any, Any]]:
        ids = self._ids[indices]
        labels = np.concatenate([ids[:, 1:], np.full((len(ids), 1), -100)], axis=1)
        return {
            "input_ids": ids,
            "labels": labels,
            "position_ids": np.broadcast_to(np.arange(16), ids.shape).copy(),
        }


def main(directory: Path, settings: dict[str, Any]) -> None:
    config = TrainingConfig.from_dict(
        {
            "total_steps": 24,
            "save_steps": 3,
            "logging_steps": 1,
            "batch_size": 4,
            "mixed_precision": "fp32",
            "device": "cpu",
            "output_dir": str(directory),
            **settings,
        }
    )
    model = create_model_from_config(SHAPE, seed=1)
    slow = (lambda _trainer, _report: time.sleep(0.02),)
    trainer = PretrainingTrainer(model, config, SHAPE, DeviceManager("cpu"), hooks=slow)
    source = RowBatches(Rows(), batch_size=config.batch_size, seed=3)  # type: ignore[arg-type]
    trainer.train(source, resume_from_checkpoint=latest_checkpoint(directory))


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
