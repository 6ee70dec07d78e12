"""One training run in a process of its own, or in several: `train_child.py DIRECTORY SETTINGS [TROUBLE]`.

Goes on from what is there. Few steps, each of them slow enough that a kill from outside falls between two checkpoints,
or into one. TROUBLE says what goes wrong: `{"kind": …, "rank": …, "step": …}`, see `trouble`.
"""

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.device_manager import DeviceManager
from core.distributed import joined
from core.logs import log_to_console
from core.training_config import InstructionConfig, ModelConfig, TrainingConfig
from models.transformer_lm import create_model_from_config
from pipeline.command import run_command
from training import saving
from training.batches import RowBatches
from training.instruction_finetuning_trainer import InstructionFinetuningTrainer
from training.pretraining_trainer import PretrainingTrainer
from training.resuming import agreed_checkpoint
from training.trainer import Hook, StepReport, Trainer

SHAPE = ModelConfig(
    hidden_size=32,
    num_layers=2,
    num_attention_heads=2,
    vocab_size=64,
    max_position_embeddings=16,
    dropout=0.1,
)


class Rows:
    """Random tokens, the same in every process; of some rows nearly nothing is learned."""

    fingerprint = "random tokens"
    tokenizer_directory = None

    def __init__(self) -> None:
        generator = np.random.Generator(np.random.PCG64(5))
        self._ids = generator.integers(64, size=(300, 16))
        self._ignored = generator.random((300, 16)) < generator.random((300, 1)) ** 0.2

    def __len__(self) -> int:
        return len(self._ids)

    def batch(self, indices: Sequence[int]) -> dict[str, np.ndarray[Any, Any]]:
        ids = self._ids[indices]
        labels = np.concatenate([ids[:, 1:], np.full((len(ids), 1), -100)], axis=1)
        labels[self._ignored[indices]] = -100
        return {
            "input_ids": ids,
            "labels": labels,
            "position_ids": np.broadcast_to(np.arange(16), ids.shape).copy(),
        }


def trouble(kind: str, *, rank: int, step: int) -> Hook:
    """What goes wrong in one of the processes once it has done so many updates."""
    struck = False

    def strike(trainer: Trainer, report: StepReport) -> None:
        nonlocal struck
        if trainer.world.rank != rank:
            return
        match kind:
            case "killed" if report.step == step:
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs" if report.step == step:
                time.sleep(600)
            case "stopped" if report.step == step:
                signal.raise_signal(signal.SIGTERM)
            case "interrupted twice" if report.step == step:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            case "stopped while saving" if report.step == step:
                saving.save_checkpoint = stopped_while(saving.save_checkpoint)
            case "gradients" if report.step == step and not struck:  # of the next three updates
                struck = True
                spoil(next(trainer.model.parameters()), times=3 * trainer.step_batch.micro_batches_each)
            case "gradient":  # of the next update: before it is shared with the others
                parameter = next(trainer.model.parameters())
                if report.step == step:
                    parameter.register_hook(lambda gradient: gradient * math.nan)
                elif report.step == step + 1:
                    assert report.skipped
                    parameter._backward_hooks.clear()
            case "norm":  # of the next update: after it was shared
                parallel = trainer.parallel
                if report.step == step:
                    clip = parallel.clip_gradient
                    parallel.clip_gradient = lambda norm: clip(norm) * math.nan  # type: ignore[method-assign]
                elif report.step == step + 1:
                    assert report.skipped
                    del parallel.clip_gradient

    return strike


def stopped_while(save: Callable[..., Path]) -> Callable[..., Path]:
    """`save`, into which a signal falls each time."""

    def slowly(*arguments: Any, **options: Any) -> Path:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
        return save(*arguments, **options)

    return slowly


def spoil(parameter: torch.Tensor, *, times: int) -> None:
    """Let the next so many gradients of a parameter be NaN, before they are shared with other processes."""
    left = iter(range(times))
    parameter.register_hook(lambda gradient: gradient * (math.nan if next(left, None) is not None else 1.0))  # type: ignore[no-untyped-call]


def main(directory: Path, settings: dict[str, Any], troubles: dict[str, Any] | None) -> int:
    shape = SHAPE.replace(**settings.pop("model", {}))
    kind = InstructionConfig if "lora" in settings else TrainingConfig
    config = kind.from_dict(
        {
            "total_steps": 24,
            "save_steps": 3,
            "logging_steps": 1,
            "batch_size": 4,
            "mixed_precision": "fp32",
            "verify_data": False,
            "output_dir": str(directory),
            **settings,
        }
    )
    model = create_model_from_config(shape, seed=1)
    hooks: list[Hook] = [lambda _trainer, _report: time.sleep(0.02)]
    if troubles is not None:
        hooks.append(trouble(**troubles))
    trainer: PretrainingTrainer | InstructionFinetuningTrainer
    if isinstance(config, InstructionConfig):
        trainer = InstructionFinetuningTrainer(model, config, DeviceManager("cpu"), hooks=tuple(hooks))
    else:
        trainer = PretrainingTrainer(model, config, shape, DeviceManager("cpu"), hooks=tuple(hooks))
    source = RowBatches(Rows(), batch_size=config.batch_size, seed=3)  # type: ignore[arg-type]
    with joined() as world:
        checkpoint = agreed_checkpoint(world, directory)
        print("training begins", flush=True)
        trainer.train(source, resume_from_checkpoint=checkpoint)
    return 0


if __name__ == "__main__":
    log_to_console()
    given = [json.loads(argument) for argument in sys.argv[2:]]
    sys.exit(run_command(lambda: main(Path(sys.argv[1]), given[0], *(given[1:] or [None]))))
