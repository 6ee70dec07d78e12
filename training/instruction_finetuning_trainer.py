"""Instruction tuning as one class of the public API: the same training as pretraining, on answers only.

The difference is in the data (labels on the answers alone) and in the defaults of the configuration.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from core.device_manager import DeviceManager
from core.training_config import InstructionConfig
from models.lora import prepare_tuning
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer
from training.batches import BatchSource
from training.carrying_out import TrainingResult
from training.losses import next_token_loss
from training.session import tokenizer_of, train_model
from training.trainer import Hook, LossFunction

DEFAULT_EPOCHS = 3.0
"""Passes over the records when the configuration names no length; InstructGPT and Alpaca used 3 or less."""

DEFAULT_OUTPUT_DIR = Path("models/instruction_checkpoints")


class InstructionFinetuningTrainer:
    """Tunes `model` to answer.

    Args:
        model: A pretrained one.
        config: Batch, schedule, cadence; `config.output_dir` gets `step_N`, `best`, `final` and `metrics.jsonl`.
        device_manager: Where to train; None = chosen.
        tokenizer: Saved with each checkpoint; None = the one that the training data was encoded with.
        hooks: Callables `(trainer, report)` that are called after every step.
        loss_function: What is learned instead of the next token; see `training.trainer.LossFunction`.
        lineage: What checkpoints say of where `model` comes from.
    """

    def __init__(
        self,
        model: TransformerLM,
        config: InstructionConfig,
        device_manager: DeviceManager | None = None,
        *,
        tokenizer: Tokenizer | None = None,
        hooks: tuple[Hook, ...] = (),
        loss_function: LossFunction = next_token_loss,
        lineage: Mapping[str, str] = {},
    ) -> None:
        self.model = model
        no_length = (
            config.total_steps is None and config.time_budget_seconds is None and config.epochs is None
        )
        self.config = config.replace(epochs=DEFAULT_EPOCHS) if no_length else config
        self.device_manager = device_manager or DeviceManager()
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

        With `config.lora.rank`, `model` must be the one that the run began with, and has adapters afterwards.
        """
        tokenizer = self.tokenizer or tokenizer_of(train_loader)
        chat_tokens = () if tokenizer is None else (tokenizer.end_id, *tokenizer.role_ids.values())
        prepare_tuning(self.model, self.config, chat_tokens=chat_tokens)
        return train_model(
            self.model,
            self.config,
            self.device_manager,
            train_loader,
            val_loader,
            output_dir=self.config.output_dir or DEFAULT_OUTPUT_DIR,
            tokenizer=tokenizer,
            resume_from_checkpoint=resume_from_checkpoint,
            description="instruction tuning",
            hooks=self.hooks,
            loss_function=self.loss_function,
            lineage=self.lineage,
        )
