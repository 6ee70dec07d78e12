"""Pretraining as one class of the public API: a model learns to continue text. Knows no files of text."""

from collections.abc import Mapping
from pathlib import Path

from core.device_manager import DeviceManager
from core.errors import MismatchError
from core.training_config import ModelConfig, TrainingConfig
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer
from training.losses import next_token_loss
from training.stage_trainer import StageTrainer
from training.trainer import Hook, LossFunction


class PretrainingTrainer(StageTrainer[TrainingConfig]):
    """Trains `model` on next tokens.

    Args:
        model: From `create_model_from_config`.
        config: Batch, schedule, cadence; `config.output_dir` (default `models/checkpoints`) gets `step_N`, `best`,
            `final` and `metrics.jsonl`.
        model_config: The shape of `model`; checked against it.
        device_manager: Where to train; None = where `config.device` says.
        tokenizer, hooks, loss_function, lineage: As for every training.

    Raises:
        MismatchError: `model_config` is not the shape of `model`.
    """

    description = "pretraining"
    default_output_dir = Path("models/checkpoints")

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
        super().__init__(
            model,
            config,
            device_manager or DeviceManager(config.device),
            tokenizer=tokenizer,
            hooks=hooks,
            loss_function=loss_function,
            lineage=lineage,
        )
