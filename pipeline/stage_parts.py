"""What several stages do alike: find their place, name their settings, save rows, train on rows. Knows no stage."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.config import Config
from core.distributed import world
from core.files import sha256_file
from core.training_config import OptimizationConfig, PipelineConfig
from data_processing.rows.token_dataset import TokenDataset, save_dataset
from data_processing.rows.token_rows import TokenRows
from training.carrying_out import TrainingResult
from training.resuming import agreed_checkpoint
from training.run_log import read_training
from training.run_plots import PLOTS_NAME, can_plot, write_plots
from training.session import row_loaders
from training.stage_trainer import StageTrainer


def place_in_run(name: str, explicit: Path | None, config: PipelineConfig) -> Path:
    """Where a stage writes: where the settings say, or below the run under its name."""
    return explicit if explicit is not None else config.run.directory / name


def section(name: str, section: Config, *fields: str, without: str | None = None) -> dict[str, Any]:
    """Settings by dotted name. What a path points to enters a recipe by its content, so the path itself is left out."""
    values = section.fingerprint_settings()
    return {f"{name}.{key}": values[key] for key in (fields or values) if key != without}


def sha256_or_missing(path: Path) -> str:
    """The digest of a file for a recipe, which is also written where there is none."""
    return sha256_file(path) if path.is_file() else "missing"


def save_rows(dataset: TokenDataset, out: Path) -> dict[str, Any]:
    """Write a dataset to `out` and return its report."""
    with dataset:
        save_dataset(dataset, out)
        return dataset.report


def train_on_rows(
    trainer: StageTrainer[Any],
    settings: OptimizationConfig,
    dataset: Path,
    out: Path,
    *,
    replayed: Sequence[TokenRows] = (),
    replay_share: float = 0.0,
) -> dict[str, Any]:
    """Train to the end on the rows in `dataset`, from the newest checkpoint in `out`; returns what was measured."""
    started = time.monotonic()
    validation = dataset / "validation"
    train, held_out = row_loaders(
        TokenRows(dataset / "train"),
        TokenRows(validation) if validation.is_dir() else None,
        settings,
        replayed=replayed,
        replay_share=replay_share,
    )
    result: TrainingResult = trainer.train(
        train, held_out, resume_from_checkpoint=agreed_checkpoint(world(), out)
    )
    if can_plot() and world().is_main:
        write_plots([read_training(out)], out / PLOTS_NAME)
    return result.metrics() | {"elapsed_seconds": time.monotonic() - started}
