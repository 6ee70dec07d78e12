"""Pretraining as one class of the public API: a model learns to continue text. Knows no files of text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from core.device_manager import DeviceManager
from core.errors import MismatchError
from core.training_config import ModelConfig, TrainingConfig
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer
from training.batches import BatchSource
from training.carrying_out import TrainingResult
from training.losses import next_token_loss
from training.session import train_model
from training.trainer import Hook, LossFunction

DEFAULT_OUTPUT_DIR = Path("models/checkpoints")


class PretrainingTrainer:
    """Trains `model` on next tokens.

    Args:
        model: From `create_model_from_config`.
        config: Batch, schedule, cadence; `config.output_dir` (default `models/checkpoints`) gets `step_N`, `best`,
            `final` and `metrics.jsonl`.
        model_config: The shape of `model`; checked against it.
        device_manager: Where to train; None = chosen.
        tokenizer: Saved with each checkpoint; None = the one that the training data was encoded with.
        hooks: Callables `(trainer, report)` that are called after every step.
        loss_function: What is learned instead of the next token; see `training.trainer.LossFunction`.
        lineage: What checkpoints say of where `model` comes from.

    Raises:
        MismatchError: `model_config` is not the shape of `model`.
    """

    def __init__(
        self,
        model: TransformerLM,
        config: TrainingConfig,
        model_config: ModelConfig,
        device_manager: DeviceManager | None = None,
        *,
        tokenizer: Tokenizer | None = None,
        hooks: tuple[Hook, ...] = (),
        loss_function: LossFunction = next_token_loss,
        lineage: Mapping[str, str] = {},
    ) -> None:
        if model.config != model_config:
            old, new = model.config.to_dict(), model_config.to_dict()
            names = ", ".join(f"{k}: {old[k]} and {new[k]}" for k in old if old[k] != new[k])
            raise MismatchError(f"model_config is not the shape of model ({names})")
        self.model = model
        self.config = config
        self.device_manager = device_manager or DeviceManager(config.device)
        self.tokenizer = tokenizer
        self.hooks = hooks
        self.loss_function = loss_function
        self.lineage = lineage

    def train(
        self,
        train_loader: "BatchSource | DataLoader[Any]",
        val_loader: Any = None,
        resume_from_checkpoint: str | Path | None = None,
    ) -> TrainingResult:
        """Train to the end of the run; see `training.session.train_model`, also for what it raises.

        Args:
            train_loader: A DataLoader over a split of a dataset (shuffled or not), or `RowBatches`.
            val_loader: A DataLoader or other re-iterable of batches; None = no evaluation.
            resume_from_checkpoint: A `step_N` directory; the result equals the uninterrupted run's.
        """
        return train_model(
            self.model,
            self.config,
            self.device_manager,
            train_loader,
            val_loader,
            output_dir=self.config.output_dir or DEFAULT_OUTPUT_DIR,
            tokenizer=self.tokenizer,
            resume_from_checkpoint=resume_from_checkpoint,
            description="pretraining",
            hooks=self.hooks,
            loss_function=self.loss_function,
            lineage=self.lineage,
        )
