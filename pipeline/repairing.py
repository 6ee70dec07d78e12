"""Damaged files of the rows of a run, made again from what they were made of. Leaves all other files alone."""

import contextlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import CorruptArtifactError, DataError
from core.files import TEMPORARY_MARK, atomic_writer, lock, sha256_file
from core.manifest import MANIFEST_NAME, damaged_files, read_manifest
from core.stage import Artifact, Decision, Stage, load_artifact
from core.stage_plan import recipe_of
from core.training_config import PipelineConfig
from pipeline.cleaning import where_now

REPEATABLE = ("dataset", "instructions", "preferences")
"""Stages of which equal inputs give equal bytes, so that one file can be made again beside the others; of preferences
on the machine that made them, because a model took part."""


def repair_rows(stages: Sequence[Stage[PipelineConfig]], config: PipelineConfig, run: Path) -> list[Path]:
    """The files that were damaged or missing and are as they were written again.

    A damaged stage is carried out once more beside its place; files that came out with the recorded SHA-256 replace
    the damaged ones, each by a rename.

    Args:
        config: What the run was configured with.
        run: Where its directory is now.

    Raises:
        DataError: what the rows were made of is not there any more, so they would not come out as they were.
        CorruptArtifactError: what they were made of is damaged itself.
        LockedError: somebody works in the run, or another run in the place that it names for the rows.
        DiskError: the disk is full, read-only or failing; what was damaged is as it was then.
    """
    repaired = []
    with lock(run / ".lock", held=run):
        for stage in stages:
            place = where_now(stage.place(config), config, run)
            manifest = read_manifest(place) if stage.name in REPEATABLE else None
            if manifest is None or manifest["status"] != "complete":
                continue
            if damaged := damaged_files(place, manifest["files"]):
                inputs = _inputs_of(stage, stages, config, run, manifest)
                with lock(place.parent / f".{place.name}.lock", held=place):
                    _make_again(stage, config, inputs, place, damaged)
                repaired += [place / file["path"] for file in damaged]
    return repaired


def _inputs_of(
    stage: Stage[PipelineConfig],
    stages: Sequence[Stage[PipelineConfig]],
    config: PipelineConfig,
    run: Path,
    manifest: Mapping[str, Any],
) -> dict[str, Artifact]:
    places = {other.name: where_now(other.place(config), config, run) for other in stages}
    try:
        inputs = {
            name: artifact
            for name in stage.reads(config)
            if (artifact := load_artifact(name, places[name])) is not None
        }
    except CorruptArtifactError as error:
        raise CorruptArtifactError(
            f"{error}; {places[stage.name]} is made of it, so the command that made the run has to make both anew"
        ) from None
    made_now = recipe_of(
        stage,
        config,
        {
            name: Decision(name, "reuse", artifact.directory, artifact=artifact)
            for name, artifact in inputs.items()
        },
    )
    if made_now != manifest["recipe"]:
        raise DataError(
            f"{places[stage.name]}: cannot be repaired, because what it was made of has changed since ({MANIFEST_NAME} "
            f"says what that was); the command that made the run makes {stage.name} anew and keeps this one beside it"
        )
    return inputs


def _make_again(
    stage: Stage[PipelineConfig],
    config: PipelineConfig,
    inputs: Mapping[str, Artifact],
    place: Path,
    damaged: Sequence[Mapping[str, Any]],
) -> None:
    beside = Path(tempfile.mkdtemp(prefix=f".{place.name}{TEMPORARY_MARK}", dir=place.parent))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, beside)
        stage.run(config, inputs, beside / place.name)
        for file in damaged:
            made = beside / place.name / file["path"]
            if not made.is_file() or sha256_file(made) != file["sha256"]:
                raise CorruptArtifactError(
                    f"{place / file['path']}: cannot be repaired, because it came out with another content than it was "
                    f"written with; the command that made the run makes {stage.name} anew and keeps this one beside it"
                )
        for file in damaged:
            with (
                (beside / place.name / file["path"]).open("rb") as source,
                atomic_writer(place / file["path"]) as target,
            ):
                shutil.copyfileobj(source, target)
