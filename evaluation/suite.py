"""All that is measured of one model, result by result, and where the results are. Knows no figure itself."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import DataError
from core.files import sha256_file, write_json
from core.manifest import read_manifest
from evaluation.generation_quality import evaluate_quality
from evaluation.language_model import LanguageModel
from evaluation.run_places import DataPlaces, places_of, run_of
from evaluation.speed import measure_speed
from evaluation.stored_results import stored
from evaluation.task_files import Task
from evaluation.task_results import evaluate_tasks
from evaluation.texts import SPLITS, evaluate_texts, texts_in_file, texts_of_split
from evaluation.training_text import TrainingText

logger = logging.getLogger(__name__)

SCORES = "scores"
"""The directory of a run, or of `runs`, that holds the results of single models."""

VERSION = 1
"""To be raised when equal texts and an equal model give other figures."""


@dataclass(frozen=True)
class Suite:
    """What is to be measured.

    Attributes:
        tasks: Questions to ask, with
        num_shots: solved examples in front of each.
        texts: Files to predict, or names of splits of the model's run.
        limit: Most documents of a text; None = all.
        quality: Whether it writes samples in which something is counted.
        speed: Whether its speed is measured; both only of models that this project opens itself.
        seed: Of examples and of what the model writes.
    """

    tasks: Sequence[Task] = ()
    num_shots: int = 0
    texts: Sequence[str] = ()
    limit: int | None = None
    quality: bool = False
    speed: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Results:
    """What was measured of a model; `directory` holds it too, a file for each result."""

    model: str
    directory: Path
    num_parameters: int
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """What the model's directory says of it; empty for one from elsewhere."""
    tasks: Sequence[Mapping[str, Any]] = ()
    texts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    quality: Mapping[str, Any] | None = None
    speed: Mapping[str, Any] | None = None


def run_suite(model: LanguageModel, suite: Suite, out: Path, *, places: DataPlaces | None = None) -> Results:
    """Measure a model; what is in `out` already, of the same model and the same questions, is read.

    Args:
        places: What the model was made from; None = what the run says that it lies in, if it lies in one.

    Raises:
        DataError: a text cannot be read, or a split is not known; what was measured before is kept.
        DiskError: a result cannot be written; likewise.
    """
    chat_model = model.chat_model
    training = None
    if chat_model is not None and (places := places or places_of(Path(model.name))) is not None:
        training = TrainingText(places, chat_model.tokenizer)
    if chat_model is None and (suite.quality or suite.speed):
        logger.warning(
            "%s: samples and speed are measured of models that this project opens itself; left out here",
            model.name,
        )
    texts = {name: _text_result(model, name, suite, out, training) for name in suite.texts}
    tasks = evaluate_tasks(
        model, suite.tasks, out, training=training, num_shots=suite.num_shots, seed=suite.seed
    )
    speed = None
    if suite.speed and chat_model is not None:
        # Always anew: another machine, or another hour, gives other figures.
        speed = measure_speed(chat_model)
        write_json(out / "speed.json", speed)
    quality = None
    if suite.quality and chat_model is not None:
        quality = stored(
            out / "quality.json",
            {
                "version": VERSION,
                "model": model.fingerprint,
                "seed": suite.seed,
                "training_text": training.fingerprint if training else None,
            },
            lambda: evaluate_quality(chat_model, training, seed=suite.seed),
        )
    manifest = read_manifest(Path(model.name)) or {}
    return Results(model.name, out, model.num_parameters, manifest, tasks, texts, quality, speed)


def place_of_results(model: LanguageModel, out: Path | None) -> Path:
    """The directory for the results of a model, one for each model: in `out`, or in its run, or in `runs/scores`."""
    if out is None:
        out = (run_of(Path(model.name)) or Path("runs")) / SCORES
    return out / label_of(Path(model.name), model.fingerprint)


def label_of(model_directory: Path, fingerprint: str) -> str:
    """The name of the directory of a model's results."""
    directory = model_directory.absolute()
    return f"{directory.parent.name}-{directory.name}-{fingerprint[:8]}"


def held_out_splits(model: LanguageModel) -> tuple[str, ...]:
    """The splits that the model's run kept from it."""
    places = places_of(Path(model.name))
    return tuple(name for name in ("validation", "test") if places and (places.dataset / name).is_dir())


def _text_result(
    model: LanguageModel, name: str, suite: Suite, out: Path, training: TrainingText | None
) -> dict[str, Any]:
    if name in SPLITS:
        if training is None:
            raise DataError(
                f"--text {name}: {model.name} lies in no run with a dataset, so its splits are not known; name a file"
            )
        source, texts = training.fingerprint, texts_of_split(training.places, name)
    else:
        path = Path(name)
        if not path.is_file():
            raise DataError(f"--text {name}: no such file, and no split ({', '.join(SPLITS)})")
        source, texts = sha256_file(path), texts_in_file(path)
    # A result of some documents never takes the place of that of all.
    whole, part = f"text-{Path(name).name}.json", f"text-{Path(name).name}-first-{suite.limit}.json"
    return stored(
        out / (whole if suite.limit is None else part),
        {"version": VERSION, "model": model.fingerprint, "text": [name, source], "limit": suite.limit},
        lambda: {
            "whole": whole,
            **evaluate_texts(model, texts, description=f"predicting {Path(name).name}", limit=suite.limit),
        },
    )
