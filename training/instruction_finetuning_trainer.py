"""Instruction tuning as one class of the public API: the same training as pretraining, on answers only.

The difference is in the data (labels on the answers alone) and in the defaults of the configuration.
"""

from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from core.training_config import InstructionConfig
from models.lora import prepare_tuning
from training.batches import BatchSource
from training.carrying_out import TrainingResult
from training.session import tokenizer_of
from training.stage_trainer import StageTrainer


class InstructionFinetuningTrainer(StageTrainer[InstructionConfig]):
    """Tunes `model`, a pretrained one, to answer. `DataLoader`s of conversations and settings as for every training."""

    description = "instruction tuning"
    default_output_dir = Path("models/instruction_checkpoints")
    default_epochs = 3.0  # InstructGPT and Alpaca used 3 or less

    def train(
        self,
        train_loader: "BatchSource | DataLoader[Any]",
        val_loader: Any = None,
        resume_from_checkpoint: str | Path | None = None,
    ) -> TrainingResult:
        """As `StageTrainer.train`.

        With `config.lora.rank`, `model` must be the one that the run began with, and has adapters afterwards.
        """
        self.tokenizer = self.tokenizer or tokenizer_of(train_loader)
        chat_tokens = (
            () if self.tokenizer is None else (self.tokenizer.end_id, *self.tokenizer.role_ids.values())
        )
        prepare_tuning(self.model, self.config, chat_tokens=chat_tokens)
        return super().train(train_loader, val_loader, resume_from_checkpoint)
