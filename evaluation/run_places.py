"""Where the run is that a model lies in, and where it keeps what the model was made from. Looks into no result."""

from dataclasses import dataclass
from pathlib import Path

from core.config_files import SETTINGS_FILE
from core.errors import CorruptArtifactError
from core.json_files import json_object

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
            or ((parent / SETTINGS_FILE).is_file() and directory.relative_to(parent).parts[0] in TRAININGS)
        ),
        None,
    )


def places_of(model_directory: Path) -> DataPlaces | None:
    """Those of the run that a model directory lies in, or None where it lies in none with a dataset.

    A dataset elsewhere counts where the run's settings name it, as those of an update do that learned no text.

    Raises:
        CorruptArtifactError: the settings are damaged.
    """
    directory, run = model_directory.absolute(), run_of(model_directory)
    if run is None:
        return None
    corpus, dataset = run / "corpus", run / "dataset"
    if not _has_dataset(run):
        settings = json_object(run / SETTINGS_FILE, mistake=CorruptArtifactError).get("data", {})
        corpus, dataset = (Path(settings.get(name) or run) for name in ("output_dir", "dataset_dir"))
        if not (dataset / "train").is_dir():
            return None
    conversations = run / "instructions"
    is_of_tuning = any(directory.is_relative_to(run / stage) for stage in ("finetune", "preference"))
    is_tuned = is_of_tuning and (conversations / "train").is_dir()
    return DataPlaces(corpus, dataset, conversations if is_tuned else None)


def _has_dataset(run: Path) -> bool:
    return (run / "dataset" / "train").is_dir()
