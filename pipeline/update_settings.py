"""The settings of an update's run: those of what it goes on from, and what is new laid over them. Trains nothing."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config_files import SETTINGS_FILE, lay_over
from core.errors import DataError
from core.manifest import read_manifest
from core.training_config import PipelineConfig
from data_processing.rows.learned_texts import LEARNED_NAME, LearnedTexts
from data_processing.rows.split_corpus import learned_from
from evaluation.run_places import DataPlaces
from evaluation.texts import divided_corpus
from pipeline.cleaning import where_now
from pipeline.generations import Update, line_of, updates_of
from pipeline.stages import cache_beside, line

REPLAY_SHARE = 0.75
"""Of the rows of a step, from documents that were known. Without, a book made a model forget the code that it knew
(1.40 to 2.29 bits per byte); with a half it lost 2 %, with three quarters nothing (docs/experiments.md, "Updates")."""

PEAK_SHARE = 0.3
"""Of the learning rate that the run was trained with: higher ones forget more, at a tenth new text took 5 % more bits
(the same tables)."""

MOST_PASSES = 4.0
"""Over new documents: more repetitions teach little (Muennighoff et al. 2023)."""


@dataclass(frozen=True)
class Asked:
    """What an update is to learn.

    Attributes:
        data: Directories and files of new documents, absolute.
        feedback: Files of what people said of answers, absolute.
        feedback_weight: How often one of these is learned for once that another record is.
        overrides: Settings laid over those of the run.
    """

    data: tuple[str, ...]
    feedback: tuple[str, ...]
    feedback_weight: float
    overrides: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """As the record of an update keeps it."""
        return {
            "data": list(self.data),
            "feedback": list(self.feedback),
            "feedback_weight": self.feedback_weight,
            "overrides": dict(self.overrides),
        }


def records_before(run: Path, number: int) -> list[Update]:
    """The updates that have learned from records, of those that `number` goes on from and itself."""
    ancestors = line_of(run, number)
    return [update for update in updates_of(run) if update.number in ancestors and update.records.is_file()]


@dataclass(frozen=True)
class FinishedRun:
    """A finished run or update: its settings, and where its stages' results are."""

    directory: Path
    config: PipelineConfig
    places: Mapping[str, Path]

    @classmethod
    def open(cls, directory: Path) -> "FinishedRun":
        config = PipelineConfig.from_file(directory / SETTINGS_FILE)
        places = {stage.name: where_now(stage.place(config), config, directory) for stage in line()}
        return cls(directory, config, places)

    def metrics(self, stage: str) -> Mapping[str, Any]:
        """What a finished stage measured.

        Raises:
            DataError: it is not finished.
        """
        manifest = read_manifest(self.places[stage])
        if manifest is None or manifest.get("status") != "complete":
            raise DataError(
                f"{self.directory}: has no finished {stage} (looked in {self.places[stage]}); an update goes on from a "
                "run of scripts/train_llm_from_scratch.py that came to its end"
            )
        metrics: Mapping[str, Any] = manifest["metrics"]
        return metrics

    @property
    def data(self) -> DataPlaces:
        """Where its text is."""
        return DataPlaces(self.places["collect"], self.places["dataset"])

    @property
    def answering(self) -> Path | None:
        """The model that answers, if it has one."""
        finals = (self.places[stage] / "final" for stage in ("preference", "finetune"))
        return next((final for final in finals if (final / "config.json").is_file()), None)

    @property
    def continuing(self) -> Path:
        """The model that continues text."""
        return self.places["pretrain"] / "final"


def learning_text(update: Update, asked: Asked, earlier: FinishedRun) -> PipelineConfig:
    """The settings of a run that learns new documents beside a share of the known ones, and then the answers anew."""
    learned = update.directory / LEARNED_NAME
    dataset, training = earlier.metrics("dataset"), earlier.metrics("pretrain")
    earlier.metrics("collect")
    if not learned.is_file():
        known, before = learned_from(divided_corpus(earlier.data)), earlier.places["dataset"] / LEARNED_NAME
        (known | LearnedTexts.from_file(before) if before.is_file() else known).save(learned)
    share = earlier.config.training.replay_share or 0.0
    passes = training["num_tokens"] * (1.0 - share) / dataset["splits"]["train"]["tokens"]
    places = [str(place) for place in earlier.config.data.more_data]
    # Of the run itself: the rate of an update before is a share already.
    first = FinishedRun.open(update.run).config.training
    return _settled(
        update,
        asked,
        earlier,
        taken=(),
        changes={
            "data": {
                "more_data": [*places, *(place for place in asked.data if place not in places)],
                "learned": str(learned),
                "output_dir": None,
                "dataset_dir": None,
            },
            "tokenizer": {"path": None, "output_dir": None},
            "training": {
                "init_from": str(earlier.continuing),
                "replay_share": REPLAY_SHARE,
                "learning_rate": first.learning_rate * PEAK_SHARE,
                "matrix_learning_rate": first.matrix_learning_rate * PEAK_SHARE,
                "total_steps": None,
                "time_budget_seconds": None,
                "warmup_steps": None,
                "epochs": round(min(max(passes, 1.0), MOST_PASSES), 3),
                "output_dir": None,
            },
        },
    )


def learning_answers(update: Update, asked: Asked, earlier: FinishedRun) -> PipelineConfig:
    """The settings of a run that takes text and pretrained model of another one as they are, and tunes anew."""
    for stage in ("collect", "tokenizer", "dataset", "pretrain"):
        earlier.metrics(stage)
    report = update.directory / "data_report"
    if not report.exists() and earlier.places["data_report"].is_dir():
        shutil.copytree(earlier.places["data_report"], report)
    return _settled(
        update,
        asked,
        earlier,
        taken=("data", "tokenizer", "model", "training"),
        changes={
            "data": {
                "output_dir": str(earlier.places["collect"]),
                "dataset_dir": str(earlier.places["dataset"]),
                "learned": _now(earlier.config.data.learned, earlier.places["dataset"] / LEARNED_NAME),
            },
            "tokenizer": {
                "output_dir": str(earlier.places["tokenizer"]),
                "path": _now(earlier.config.tokenizer.path, earlier.places["tokenizer"]),
            },
            "training": {
                "output_dir": str(earlier.places["pretrain"]),
                "init_from": _now(earlier.config.training.init_from, earlier.continuing),
            },
        },
    )


def _now(path: Path | None, instead: Path) -> str | None:
    """A path of a run's settings; of a run that was moved since, what is as good for stages that are not run again."""
    return None if path is None else str(path if path.exists() else instead)


def _settled(
    update: Update,
    asked: Asked,
    earlier: FinishedRun,
    *,
    taken: tuple[str, ...],
    changes: Mapping[str, Any],
) -> PipelineConfig:
    """The settings of the run itself, those sections `taken` from what it goes on from, changes, and what was asked."""
    first = FinishedRun.open(update.run)
    # What updates learned from lies in them, wherever the run is by now.
    more_records = {str(file): weight for file, weight in first.config.instruction.more_data.items()}
    for one in [*records_before(update.run, update.parent), *([update] if update.records.is_file() else [])]:
        more_records[str(one.records)] = float(one.facts["asked"]["feedback_weight"])
    common: dict[str, Any] = {
        "run": {
            "dir": str(update.directory),
            "parent": str(earlier.directory),
            "time_budget": None,
            "preset": None,
        },
        # Shards are named by their content, so that what was read for the run is not read again.
        "data": {"cache_dir": cache_beside(first.places["collect"], first.config)},
        "instruction": {"more_data": more_records, "output_dir": None},
        "preference": {"output_dir": None},
    }
    # Of the run itself: what was asked of one update is not asked of the next.
    before = first.config.to_dict() | {name: getattr(earlier.config, name).to_dict() for name in taken}
    before["instruction"] = {**before["instruction"], "more_data": {}}
    layers = lay_over(lay_over(before, common), changes)
    return PipelineConfig.from_dict(lay_over(layers, asked.overrides), origin=f"update of {update.run}")
