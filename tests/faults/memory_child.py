"""One training run whose address space may grow by so many megabytes only: `memory_child.py DIRECTORY MB SETTINGS`.

A failure ends as in the scripts: one line, and the exit code.
"""

import json
import resource
import sys
from pathlib import Path

from core.device_manager import DeviceManager
from core.logs import log_to_console
from core.training_config import ModelConfig, TrainingConfig
from models.transformer_lm import create_model_from_config
from pipeline.command import run_command
from tests.faults.train_child import Rows
from training.batches import RowBatches
from training.checkpoint import latest_checkpoint
from training.pretraining_trainer import PretrainingTrainer

SHAPE = ModelConfig(
    hidden_size=256, num_layers=4, num_attention_heads=4, vocab_size=64, max_position_embeddings=16
)


def address_space_bytes() -> int:
    """What this process has mapped now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def main(directory: Path, megabytes: float, settings: dict[str, object]) -> int:
    log_to_console()
    config = TrainingConfig.from_dict(
        {
            "batch_size": 128,
            "total_steps": 6,
            "save_steps": 3,
            "logging_steps": 1,
            "mixed_precision": "fp32",
            "save_in_background": False,
            "verify_data": False,
            "device": "cpu",
            "output_dir": str(directory),
            **settings,
        }
    )
    model = create_model_from_config(SHAPE, seed=1)
    source = RowBatches(Rows(), batch_size=config.batch_size, seed=3)  # type: ignore[arg-type]
    trainer = PretrainingTrainer(model, config, SHAPE, DeviceManager("cpu"))
    if megabytes:
        limit = address_space_bytes() + int(megabytes * 1e6)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    trainer.train(source, resume_from_checkpoint=latest_checkpoint(directory))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(Path(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3]))))
