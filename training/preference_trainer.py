"""Preference tuning as one class of the public API: the same training, of which answer is found likelier.

The difference is in the data (pairs of answers, with what another model thinks of them), the loss, and the defaults.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from core.device_manager import DeviceManager
from core.training_config import PreferenceConfig
from models.lora import add_adapters
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer
from training.batches import BatchSource
from training.carrying_out import TrainingResult
from training.preference_loss import PREFERENCE_METRICS, PreferenceLoss, preference_measures
from training.session import train_model
from training.trainer import Hook, Measures

DEFAULT_EPOCHS = 1.0
"""Passes over the pairs when the configuration names no length; arbitrary: each further one knows the pairs better by
heart."""

DEFAULT_OUTPUT_DIR = Path("models/preference_checkpoints")


class PreferenceTrainer:
    """Tunes `model` to find the chosen answers likelier than the rejected ones.

    Args:
        model: One that answers; the rows have to know what it thinks of them
            (`data_processing.rows.preference_dataset`).
        config: Objective, batch, schedule; `config.output_dir` gets `step_N`, `best`, `final` and `metrics.jsonl`.
        device_manager: Where to train; None = chosen.
        tokenizer: Saved with each checkpoint; None = the one that the training data was encoded with.
        hooks: Callables `(trainer, report)` that are called after every step.
        lineage: What checkpoints say of where `model` comes from.
    """

    def __init__(
        self,
        model: TransformerLM,
        config: PreferenceConfig,
        device_manager: DeviceManager | None = None,
        *,
        tokenizer: Tokenizer | None = None,
        hooks: tuple[Hook, ...] = (),
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
        if self.config.lora.rank is not None:
            add_adapters(self.model, self.config.lora, seed=self.config.seed)
        return train_model(
            self.model,
            self.config,
            self.device_manager,
            train_loader,
            val_loader,
            output_dir=self.config.output_dir or DEFAULT_OUTPUT_DIR,
            tokenizer=self.tokenizer,
            resume_from_checkpoint=resume_from_checkpoint,
            description="preference tuning",
            hooks=self.hooks,
            loss_function=PreferenceLoss(self.config.loss, self.config.beta),
            measures=Measures(PREFERENCE_METRICS, preference_measures),
            lineage=self.lineage,
        )
