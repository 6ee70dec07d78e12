"""Preference tuning as stages do it: pairs of answers → rows that a model has judged → a model that prefers.

Knows no list of stages.
"""

import logging
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from core.device_manager import DeviceManager
from core.training_config import PipelineConfig
from data_processing.rows.preference_dataset import build_preference_dataset
from data_processing.rows.preferences import read_preferences
from pipeline.initial_model import lineage, load_initial_model, room_for, shape_of
from pipeline.stage_parts import save_rows, sha256_or_missing, train_on_rows
from tokenization.tokenizer import Tokenizer
from training.preference_loss import judge_rows
from training.preference_trainer import PreferenceTrainer

logger = logging.getLogger(__name__)

ROW_SETTINGS = ("max_records", "val_split")
"""Of `preference`: what the rows are made by."""


def preference_rows(
    config: PipelineConfig, model_directory: Path, tokenizer: Tokenizer, out: Path
) -> dict[str, Any]:
    """Write the pairs as rows with what the model thinks of each answer; returns the report of the dataset."""
    settings = config.preference
    assert settings.data is not None
    device_manager = DeviceManager(config.training.device)
    # As `prefer` begins with it: chat tokens that tuning adds to a foreign model have rows.
    room = room_for(tokenizer, shape_of(model_directory))
    model = load_initial_model(model_directory, room, seed=settings.seed).to(device_manager.device)
    dataset = build_preference_dataset(
        islice(read_preferences(settings.data), settings.max_records),
        tokenizer,
        lambda rows: judge_rows(model, rows, device_manager),
        max_length=model.config.max_position_embeddings,
        val_split=settings.val_split,
        seed=config.data.seed,
        work_dir=out.parent,
    )
    report = save_rows(dataset, out)
    left_out = ", ".join(f"{reason} {number}" for reason, number in report["dropped"].items()) or "none"
    logger.info("pairs: kept %d of %d records; left out: %s", report["pairs"], report["records"], left_out)
    return report


def prefer(
    config: PipelineConfig, tuned: Path, tokenizer: Tokenizer, pairs: Path, out: Path
) -> dict[str, Any]:
    """Tune the model in `tuned` on pairs, or go on with it; returns what was measured."""
    settings = config.preference.replace(output_dir=str(out))
    trainer = PreferenceTrainer(
        load_initial_model(tuned, room_for(tokenizer, shape_of(tuned)), seed=settings.seed),
        settings,
        DeviceManager(config.training.device),
        tokenizer=tokenizer,
        lineage=lineage(tuned),
    )
    return train_on_rows(trainer, settings, pairs, out)


def no_preferences(config: PipelineConfig) -> str | None:
    """Why there is nothing to prefer by, or None."""
    return "no pairs of answers: preference.data names none" if config.preference.data is None else None


def preference_source(config: PipelineConfig) -> Mapping[str, Any]:
    """The file of pairs, by its content."""
    data = config.preference.data
    return {} if data is None else {"preference file": sha256_or_missing(data)}
