"""Where the model of a run is, whether it is intact, and what its manifest says of it. Knows no tensor and no text."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.config_files import SETTINGS_FILE
from core.errors import CorruptArtifactError, DataError
from core.json_files import json_object
from core.manifest import MANIFEST_NAME, read_manifest, verify_files

logger = logging.getLogger(__name__)

CONFIG_NAME = "config.json"
TRAINER_STATE = "trainer/state.json"
STAGE_DIRECTORIES = ("preference", "finetune", "pretrain")
"""Directories of a run that hold models, the one to talk to first."""

UPDATES = "updates"
"""Directory of a run that holds its updates, each a run by itself: `updates/1`, `updates/2` and so on."""

LATEST = "latest"
"""File in a run that says which of its updates is used; 0, or no such file, means what the run itself trained."""

STEP_NAME = re.compile(r"step_(\d+)")

PRETRAINING = "pretraining"
"""What the manifest of a model that has learned to continue text, but not to answer, calls its stage."""


def find_model(path: str | Path) -> Path:
    """The directory of the model that `path` stands for.

    A model directory (it has a `config.json`) stands for itself. A run stands for its update that `latest` names, if
    it has any, and else for the `final` of the last stage that has one (`preference`, `finetune`, `pretrain`), else for
    the newest intact checkpoint of the last that has any; the directory of one training stage stands for its own
    `final` or newest checkpoint. Damaged ones are passed over with a warning.

    Raises:
        DataError: nothing is there; the message says what was looked for and what was found.
        CorruptArtifactError: there are models, but none is intact; the message says what is wrong with each.
    """
    path = Path(path)
    return path if (path / CONFIG_NAME).is_file() else _first_intact(latest_of(path))[0]


def find_intact_model(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """The directory that `find_model` names and its manifest (empty where there is none), its files checked.

    Raises:
        DataError: as `find_model`.
        CorruptArtifactError: as `find_model`; or the model directory that was named is damaged.
    """
    path = Path(path)
    return (
        (path, check_model_files(path)) if (path / CONFIG_NAME).is_file() else _first_intact(latest_of(path))
    )


def latest_of(run: Path) -> Path:
    """The directory of the update that a run stands for, or the run itself.

    Raises:
        CorruptArtifactError: what `latest` names is not there.
    """
    number = latest_number(run)
    update = run / UPDATES / str(number)
    if number and not update.is_dir():
        raise CorruptArtifactError(
            f"{run / LATEST}: names update {number}, and {update} is not there; name another with `python "
            f"scripts/update.py {run} --use N`"
        )
    return update if number else run


def latest_number(run: Path) -> int:
    """Which of a run's updates is used; 0 = what the run itself trained.

    Raises:
        CorruptArtifactError: the file holds no number.
    """
    path = run / LATEST
    if not (path.is_file() and (run / SETTINGS_FILE).is_file()):  # other programs have files of this name
        return 0
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not re.fullmatch(r"\d{1,9}", text):
        raise CorruptArtifactError(f"{path}: expected the number of an update, found {text[:40]!r}")
    return int(text)


def run_of(model_directory: Path) -> Path | None:
    """The run that a model directory lies in, of an update the run that was updated; None where it lies in none."""
    directory = model_directory.absolute()
    if directory.parent.name not in STAGE_DIRECTORIES:
        return None
    run = directory.parents[1]
    return run.parents[1] if is_update(run) else run


def is_update(run: Path) -> bool:
    """Whether a run is the update of another one, which keeps a record of it beside it."""
    return run.parent.name == UPDATES and run.with_name(f"{run.name}.json").is_file()


def _first_intact(path: Path) -> tuple[Path, dict[str, Any]]:
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise DataError(f"{path}: expected the directory of a run or of a model, found {found}")
    damaged = []
    for candidate in _candidates(path):
        try:
            return candidate, check_model_files(candidate)
        except CorruptArtifactError as error:
            logger.warning("%s; passed over", error)
            damaged.append(str(error))
    if damaged:
        raise CorruptArtifactError(
            f"{path}: none of its models is intact ({'; '.join(damaged)}); restore one from a backup"
        )
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in path.iterdir())
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise DataError(
        f"{path}: holds no model. Looked for {CONFIG_NAME} here, and for final, step_N and best here and in "
        f"{' and '.join(f'{name}/' for name in STAGE_DIRECTORIES)}; found {shown or 'an empty directory'}. Name a run "
        "that has trained a model, or a directory that holds one"
    )


def newest_run(runs: str | Path = "runs") -> Path:
    """The run in `runs` whose model was written last.

    Raises:
        DataError: there is no run with a model.
    """
    runs = Path(runs)
    written = {
        run: max((candidate / CONFIG_NAME).stat().st_mtime for candidate in candidates)
        for run in sorted(runs.iterdir() if runs.is_dir() else ())
        if run.is_dir() and (candidates := list(_candidates(latest_of(run))))
    }
    if not written:
        raise DataError(
            f"no run was named and {runs.absolute()} holds none with a model; train one first "
            "(python scripts/train_llm_from_scratch.py), or name the directory of a run or a model"
        )
    return max(written, key=lambda run: written[run])


def check_model_files(directory: Path) -> dict[str, Any]:
    """What the manifest says of a model whose files (all but the trainer's) are what was written.

    A directory without a manifest, such as one from elsewhere, cannot be checked; for it the answer is empty.

    Raises:
        CorruptArtifactError: a file is missing, truncated or changed.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        return {}
    files = [file for file in manifest.get("files", ()) if not file["path"].startswith("trainer/")]
    verify_files(directory, files)
    return manifest


def trained_with_tokenizer(directory: Path, manifest: dict[str, Any]) -> str | None:
    """The fingerprint of the tokenizer that a model was trained with, or None where nobody wrote it down.

    Raises:
        CorruptArtifactError: the trainer's state is no JSON object.
    """
    path = directory / TRAINER_STATE
    state = json_object(path, mistake=CorruptArtifactError) if path.is_file() else {}
    fingerprint = state.get("tokenizer_fingerprint") or manifest.get("tokenizer_fingerprint")
    return None if fingerprint is None else str(fingerprint)


def _candidates(path: Path) -> Iterator[Path]:
    """The models of a run or of a training stage, the one to use first."""
    stages = [path / name for name in STAGE_DIRECTORIES] + [path]
    yield from (stage / "final" for stage in stages if _is_committed(stage / "final"))
    for stage in stages:
        steps = [
            (int(match[1]), entry)
            for entry in (stage.iterdir() if stage.is_dir() else ())
            if (match := STEP_NAME.fullmatch(entry.name)) and _is_committed(entry)
        ]
        yield from (entry for _, entry in sorted(steps, reverse=True))
        if _is_committed(stage / "best"):
            yield stage / "best"


def _is_committed(directory: Path) -> bool:
    # The manifest is written last: without it the directory was never finished.
    return (directory / CONFIG_NAME).is_file() and (directory / MANIFEST_NAME).is_file()
