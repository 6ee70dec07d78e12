"""What pretraining and tuning have in common as classes of the public API. Knows no data and no objective."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch.utils.data import DataLoader

from core.device_manager import DeviceManager
from core.training_config import OptimizationConfig
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer
from training.batches import BatchSource
from training.carrying_out import TrainingResult
from training.losses import next_token_loss
from training.session import train_model
from training.trainer import Hook, LargestBatch, LossFunction, Measures

Settings = TypeVar("Settings", bound=OptimizationConfig)


class StageTrainer(Generic[Settings]):
    """Trains `model` to the end of a run.

    Args:
        model: What learns.
        config: Batch, schedule, cadence; `config.output_dir` gets `step_N`, `best`, `final` and `metrics.jsonl`.
        device_manager: Where to train; None = chosen.
        tokenizer: Saved with each checkpoint; None = the one that the training data was encoded with.
        hooks: Callables `(trainer, report)` that are called after every step.
        loss_function: What is learned; see `training.trainer.LossFunction`.
        measures, largest_batch: What belongs to a loss function besides; see `training.trainer.Trainer`.
        lineage: What checkpoints say of where `model` comes from.
    """

    description: ClassVar[str]
    """What people call the stage."""
    default_output_dir: ClassVar[Path]
    default_epochs: ClassVar[float | None] = None
    """Passes over the data when the configuration names no length; None = the rule of `training.run_length`."""

    def __init__(
        self,
        model: TransformerLM,
        config: Settings,
        device_manager: DeviceManager | None = None,
        *,
        tokenizer: Tokenizer | None = None,
        hooks: tuple[Hook, ...] = (),
        loss_function: LossFunction = next_token_loss,
        measures: Measures | None = None,
        largest_batch: LargestBatch | None = None,
        lineage: Mapping[str, str] = {},
    ) -> None:
        lengths = (config.total_steps, config.time_budget_seconds, config.epochs)
        if self.default_epochs is not None and lengths == (None, None, None):
            config = config.replace(epochs=self.default_epochs)
        self.model = model
        self.config = config
        self.device_manager = device_manager or DeviceManager()
        self.tokenizer = tokenizer
        self.hooks = hooks
        self.loss_function = loss_function
        self.measures = measures
        self.largest_batch = largest_batch
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
            output_dir=self.config.output_dir or self.default_output_dir,
            tokenizer=self.tokenizer,
            resume_from_checkpoint=resume_from_checkpoint,
            description=self.description,
            hooks=self.hooks,
            loss_function=self.loss_function,
            measures=self.measures,
            largest_batch=self.largest_batch,
            lineage=self.lineage,
        )
