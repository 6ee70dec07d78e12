"""What a training left to be read, as it runs or after: curves, settings, samples, whether it is alive.

Reads files that another process may be writing, so nothing that is half-written is an error. Loads no tensor library.
"""

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from core.config_files import SETTINGS_FILE
from core.errors import DataError
from core.files import lock_holder
from core.manifest import MANIFEST_NAME

EVENTS_NAME = "events.jsonl"
METRICS_FILE = "metrics.jsonl"
PLAN_FILE = "plan.json"
SAMPLES_FILE = "samples.jsonl"

STAGES = {"pretrain": "training", "finetune": "instruction", "preference": "preference"}
"""Directories of a run that hold a training, and the section of the settings that may place it elsewhere."""

MOST_POINTS = 600
"""Of one drawn curve: more than a plot has pixels only make a page heavy."""

Curve = Sequence[tuple[int, float]]
"""(step, value), by rising step; every value is finite."""


@dataclasses.dataclass(frozen=True)
class TrainingLog:
    """One training, read at one moment."""

    directory: Path
    curves: Mapping[str, Curve] = dataclasses.field(default_factory=dict)
    num_not_finite: int = 0
    """Values that were NaN or infinite, which no curve holds."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    planned_steps: int | None = None
    rows_per_step: int | None = None
    """Of all processes and micro-batches together."""
    stage: str | None = None
    """As the newest checkpoint calls it: "pretraining", "instruction tuning"; None before there is one."""
    begun_with: str | None = None
    """The model that it began with, as the newest checkpoint calls it; None = weights drawn anew."""
    machine: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Device, version of torch and the like, as the newest checkpoint names them."""
    vocab_size: int | None = None
    """Of the newest checkpoint; None where its loss is another than that of the next token."""
    is_finished: bool = False
    """It left the `final` model of its last step."""
    holder: str | None = None
    """The process that runs this training, or another stage of its run, as it names itself."""
    seconds_since_line: float | None = None
    elapsed_seconds: float = 0.0
    """Of all processes of the training, without what a kill undid."""
    checkpoint_bytes: int = 0
    """Size of the newest checkpoint that training can go on from."""
    rollbacks: Sequence[int] = ()
    """Steps at which the run went back to a checkpoint."""
    free_bytes: int | None = None
    """Room on the disk."""

    def values(self, name: str) -> list[float]:
        """The values of a curve, without steps; empty where it was not written."""
        return [value for _, value in self.curves.get(name, ())]

    def last(self, name: str) -> float | None:
        """The latest value of a curve."""
        curve = self.curves.get(name)
        return curve[-1][1] if curve else None

    @property
    def step(self) -> int:
        """The last step that was logged; 0 before there is one."""
        return max((curve[-1][0] for curve in self.curves.values() if curve), default=0)

    @property
    def total_steps(self) -> int | None:
        """Length of the training as it was last said."""
        said = self.last("train/total_steps")
        return self.planned_steps if said is None else int(said)


def find_trainings(place: Path) -> list[Path]:
    """The directories of the trainings of a run that have begun, or the directory of a training itself.

    Raises:
        DataError: it is no run and no training; the message says what was looked for.
    """
    if not place.is_dir():
        found = "a file" if place.exists() else "nothing"
        raise DataError(f"{place}: expected the directory of a run or of a training, found {found}")
    if _is_training(place):
        return [place]
    settings = _read_object(place / SETTINGS_FILE)
    named = [
        Path((settings.get(section) or {}).get("output_dir") or place / stage)
        for stage, section in STAGES.items()
    ]
    begun = [directory for directory in named if _is_training(directory)]
    if not begun and not settings and not (place / ".lock").exists():
        raise DataError(
            f"{place}: is no run and no training: it holds neither {SETTINGS_FILE} nor {METRICS_FILE}, nor "
            f"{' or '.join(f'{stage}/{METRICS_FILE}' for stage in STAGES)}; name a directory such as runs/NAME"
        )
    return begun


def read_training(directory: Path) -> TrainingLog:
    """What is known of a training now."""
    metrics = directory / METRICS_FILE
    lines = list(_read_lines(metrics))
    curves, num_not_finite = _curves(lines)
    plan = _read_object(directory / PLAN_FILE)
    newest = _newest_checkpoint(directory)
    manifest = _read_object(newest / MANIFEST_NAME) if newest is not None else {}
    shape = _read_object(newest / "config.json") if newest is not None else {}
    state = _read_object(newest / "trainer" / "state.json") if newest is not None else {}
    final = _read_object(directory / "final" / MANIFEST_NAME)
    last_step = max((curve[-1][0] for curve in curves.values()), default=0)
    return TrainingLog(
        directory=directory,
        curves=curves,
        num_not_finite=num_not_finite,
        settings=plan.get("settings", {}),
        planned_steps=plan.get("total_steps"),
        rows_per_step=plan.get("rows_per_step"),
        stage=manifest.get("stage"),
        begun_with=manifest.get("initialised_from"),
        machine=state.get("numerics", {}),
        vocab_size=shape.get("vocab_size")
        if state.get("loss_function", "next_token_loss") == "next_token_loss"
        else None,
        is_finished=bool(final) and final.get("step", 0) >= last_step,
        holder=_holder(directory),
        seconds_since_line=max(0.0, time.time() - metrics.stat().st_mtime) if lines else None,
        elapsed_seconds=_elapsed_seconds(curves.get("train/process_seconds", ())),
        checkpoint_bytes=sum(file["size"] for file in manifest.get("files", ())),
        rollbacks=[event["step"] for event in read_events(directory) if event["kind"] == "rollback"],
        free_bytes=shutil.disk_usage(directory).free if directory.is_dir() else None,
    )


def read_samples(directory: Path) -> list[dict[str, Any]]:
    """What the model said at evaluations: `step`, `prompt` and `continuation` each, in order."""
    return [
        line for line in _read_lines(directory / SAMPLES_FILE) if {"prompt", "continuation"} <= line.keys()
    ]


def read_events(directory: Path) -> list[dict[str, Any]]:
    """What happened besides steps: `step`, `kind` and `detail` each, in order."""
    return [line for line in _read_lines(directory / EVENTS_NAME) if "kind" in line]


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """The means of `width` neighbours, from the first full window on; of all of them where there are fewer."""
    width = max(1, min(width, len(values)))
    return [sum(values[end - width : end]) / width for end in range(width, len(values) + 1)] if values else []


def thinned(curve: Curve) -> Curve:
    """At most about `MOST_POINTS` points of a curve: of each stretch the lowest and the highest, so that no spike is
    lost."""
    if len(curve) <= MOST_POINTS:
        return curve
    length = -(-2 * len(curve) // MOST_POINTS)
    stretches = [curve[start : start + length] for start in range(0, len(curve), length)]
    extremes = [{min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])} for stretch in stretches]
    return [point for points in extremes for point in sorted(points)]


def _is_training(directory: Path) -> bool:
    return (directory / METRICS_FILE).is_file() or (directory / PLAN_FILE).is_file()


def _curves(lines: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[tuple[int, float]]], int]:
    curves: dict[str, list[tuple[int, float]]] = {}
    num_not_finite = 0
    for line in lines:
        step = line["step"]
        for name, value in line.items():
            if name == "step" or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if not math.isfinite(value):
                num_not_finite += 1
                continue
            curve = curves.setdefault(name, [])
            # A training that goes on from an earlier step writes it again; what it undid is forgotten.
            while curve and curve[-1][0] >= step:
                curve.pop()
            curve.append((step, float(value)))
    return curves, num_not_finite


def _elapsed_seconds(curve: Curve) -> float:
    """The sum over processes: each counts from 0, so that a value below the one before begins another."""
    values = [value for _, value in curve]
    ends = [value for value, after in pairwise(values) if after < value]
    return sum(ends) + (values[-1] if values else 0.0)


def _newest_checkpoint(directory: Path) -> Path | None:
    """The newest that training can go on from; `final` or `best` where there is none."""
    steps = [path for path in directory.glob("step_*") if (path / MANIFEST_NAME).is_file()]
    numbered = [(int(path.name[5:]), path) for path in steps if path.name[5:].isdecimal()]
    if numbered:
        return max(numbered)[1]
    return next((directory / n for n in ("final", "best") if (directory / n / MANIFEST_NAME).is_file()), None)


def _holder(directory: Path) -> str | None:
    """Who holds the lock of the run of this training, or of its place; None where nobody does or none is to be read."""
    place = directory.absolute()
    for path in (place.with_name(f".{place.name}.lock"), place.parent / ".lock", place / ".lock"):
        try:
            holder = lock_holder(path)
        except OSError:  # not there, or not ours to read
            continue
        if holder is not None:
            return holder
    return None


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON-lines file that have a step; half-written and foreign lines are passed over."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        value = _object(line)
        if isinstance(value.get("step"), int):
            yield value


def _read_object(path: Path) -> dict[str, Any]:
    try:
        return _object(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
