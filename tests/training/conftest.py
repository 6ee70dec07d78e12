"""A tiny dataset and model for the training room's tests."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.device_manager import DeviceManager
from core.training_config import ModelConfig, TrainingConfig
from data_processing.dataset_builder import DatasetBuilder
from data_processing.rows.token_dataset import TokenDataset
from models.transformer_lm import TransformerLM, create_model_from_config
from tokenization.tokenizer import Tokenizer
from training.losses import next_token_loss
from training.pretraining_trainer import PretrainingTrainer
from training.schedules import Horizon
from training.trainer import LossFunction, Trainer


@pytest.fixture(scope="session")
def small_dataset(small_corpus: Path, small_tokenizer_directory: Path) -> Iterator[TokenDataset]:
    """Rows of 32 tokens."""
    builder = DatasetBuilder(small_tokenizer_directory, 32)
    with builder.build_from_jsonl(small_corpus, 0.8, 0.1, 0.1) as dataset:
        yield dataset


@dataclasses.dataclass
class Kit:
    """Makes models and trainers of one tiny shape."""

    dataset: TokenDataset
    tokenizer: Tokenizer
    root: Path
    shape: ModelConfig
    loss_function: LossFunction = next_token_loss

    def model(self, seed: int = 1) -> TransformerLM:
        return create_model_from_config(self.shape, seed=seed)

    def config(self, **settings: Any) -> TrainingConfig:
        values = {
            "total_steps": 12,
            "eval_steps": 6,
            "save_steps": 4,
            "eval_batches": 3,
            "batch_size": 4,
            "mixed_precision": "fp32",
            "logging_steps": 2,
            "save_total_limit": None,
            "output_dir": str(self.root / "checkpoints"),
        }
        return TrainingConfig.from_dict({**values, **settings})

    def pretraining(self, **settings: Any) -> PretrainingTrainer:
        return PretrainingTrainer(
            self.model(),
            self.config(**settings),
            self.shape,
            DeviceManager("cpu"),
            tokenizer=self.tokenizer,
            loss_function=self.loss_function,
        )

    def trainer(self, *, loss_function: LossFunction = next_token_loss, **settings: Any) -> Trainer:
        config = self.config(**settings)
        return Trainer(
            self.model(),
            config,
            DeviceManager("cpu"),
            horizon=Horizon.of(config, settings.get("total_steps", 12)),
            compute_dtype=torch.float32,
            output_dir=self.root,
            loss_function=loss_function,
        )


@pytest.fixture
def kit(small_dataset: TokenDataset, small_tokenizer: Tokenizer, tmp_path: Path) -> Kit:
    """A fresh kit with its own directory; dropout is on, so that random state matters."""
    shape = ModelConfig(
        hidden_size=32,
        num_layers=2,
        num_attention_heads=2,
        vocab_size=small_tokenizer.vocab_size,
        max_position_embeddings=32,
        dropout=0.1,
    )
    return Kit(small_dataset, small_tokenizer, tmp_path, shape)


@pytest.fixture
def same_weights() -> Callable[[TransformerLM, TransformerLM], bool]:
    """Whether two models have equal bits."""

    def compare(one: TransformerLM, other: TransformerLM) -> bool:
        left, right = one.state_dict(), other.state_dict()
        return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)

    return compare
