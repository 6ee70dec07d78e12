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
from training.preference_loss import PREFERENCE_METRICS, PreferenceLoss, preference_measures, whole_pairs
from training.stage_trainer import StageTrainer
from training.trainer import Hook, Measures


class PreferenceTrainer(StageTrainer[PreferenceConfig]):
    """Tunes `model` to find the chosen answers likelier than the rejected ones.

    Args:
        model: One that answers; the rows have to know what it thinks of them
            (`data_processing.rows.preference_dataset`).
        config: Objective, batch, schedule.
        device_manager, tokenizer, hooks, lineage: As for every training.
    """

    description = "preference tuning"
    default_output_dir = Path("models/preference_checkpoints")
    default_epochs = 1.0  # arbitrary: each further one knows the pairs better by heart

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
        super().__init__(
            model,
            config,
            device_manager,
            tokenizer=tokenizer,
            hooks=hooks,
            loss_function=PreferenceLoss(config.loss, config.beta),
            measures=Measures(PREFERENCE_METRICS, preference_measures),
            largest_batch=whole_pairs,
            lineage=lineage,
        )

    def train(
        self,
        train_loader: "BatchSource | DataLoader[Any]",
        val_loader: Any = None,
        resume_from_checkpoint: str | Path | None = None,
    ) -> TrainingResult:
        """As `StageTrainer.train`.

        With `config.lora.rank`, `model` must be the one that the run began with, and has adapters afterwards.
        """
        if self.config.lora.rank is not None:
            add_adapters(self.model, self.config.lora, seed=self.config.seed)
        return super().train(train_loader, val_loader, resume_from_checkpoint)
