"""Where the run is that a model lies in, and where it keeps what the model was made from. Opens no file."""

from dataclasses import dataclass
from pathlib import Path

SETTINGS_NAME = "settings.json"
"""The settings of a run, in its directory."""

TRAININGS = {"pretrain": "Pretraining", "finetune": "Instruction tuning", "preference": "Preference tuning"}
"""The stages that train a model, and what people call them."""


@dataclass(frozen=True)
class DataPlaces:
    """Where a run keeps what its model was made from: corpus, rows of text and, of a tuned model, of conversations."""

    corpus: Path
    dataset: Path
    instructions: Path | None = None


def run_of(model_directory: Path) -> Path | None:
    """The run that a model directory lies in, or None where it lies in none.

    A run has a dataset; one that tunes a model from elsewhere has none, but settings beside its stages.
    """
    directory = model_directory.absolute()
    return next(
        (
            parent
            for parent in directory.parents
            if _has_dataset(parent)
            or ((parent / SETTINGS_NAME).is_file() and directory.relative_to(parent).parts[0] in TRAININGS)
        ),
        None,
    )


def places_of(model_directory: Path) -> DataPlaces | None:
    """Those of the run that a model directory lies in, or None where it lies in none with a dataset."""
    directory, run = model_directory.absolute(), run_of(model_directory)
    if run is None or not _has_dataset(run):
        return None
    conversations = run / "instructions"
    is_of_tuning = any(directory.is_relative_to(run / stage) for stage in ("finetune", "preference"))
    is_tuned = is_of_tuning and (conversations / "train").is_dir()
    return DataPlaces(run / "corpus", run / "dataset", conversations if is_tuned else None)


def _has_dataset(run: Path) -> bool:
    return (run / "dataset" / "train").is_dir()
