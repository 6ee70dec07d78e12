"""What is known of a run, gathered from the files that its stages left. Computes no figure and knows no page."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.config_files import SETTINGS_FILE
from core.errors import CorruptArtifactError
from core.json_files import json_object
from core.manifest import read_manifest
from data_processing.reports.data_report import DATASET_REPORT, FACTS_NAME
from data_processing.rows.json_records import read_json_lines
from evaluation.language_model import model_fingerprint
from evaluation.suite import SCORES, label_of
from inference.feedback import FEEDBACK_NAME
from models.counting import count_parameters
from models.hf_settings import model_config_from_hf
from training.run_log import read_training

Facts = Mapping[str, Any]
Places = Mapping[str, Path]

TRAININGS = {"pretrain": "Pretraining", "finetune": "Instruction tuning", "preference": "Preference tuning"}
"""The stages that train a model, and what people call them."""


def default_places(run: Path) -> dict[str, Path]:
    """Where a run keeps the results of its stages unless its settings name other places."""
    names = (
        "tokenizer",
        "dataset",
        "data_report",
        "pretrain",
        "instructions",
        "finetune",
        "preferences",
        "preference",
    )
    return {"collect": run / "corpus", **{name: run / name for name in names}, "evaluate": run / "evaluation"}


def gather_run_facts(places: Places, run: Path, *, settings: Facts) -> dict[str, Any]:
    """What the page and the card show.

    Keys: `name`, `command` (what makes the run again), `stages` (the manifests), `data` and `dataset` (their reports,
    or empty), `logs` (the trainings), `evaluation`, `scores` (of the last models, by stage), `shape` (the `config.json`
    of the last model), `feedback` (counts, or None) and `settings`.
    """
    present = {stage: place for stage, place in places.items() if place.is_dir()}
    trained = [stage for stage in TRAININGS if (places[stage] / "final" / "config.json").is_file()]
    return {
        "name": run.name,
        "command": shlex.join(
            ["python", "scripts/train_llm_from_scratch.py", "--config-dir", str(run / SETTINGS_FILE)]
        ),
        "stages": [
            {"stage": stage, **manifest}
            for stage, place in present.items()
            if (manifest := read_manifest(place)) is not None
        ],
        "data": _object(places["data_report"] / FACTS_NAME),
        "dataset": _object(places["dataset"] / DATASET_REPORT),
        "logs": {stage: read_training(places[stage]) for stage in trained},
        "evaluation": _object(places["evaluate"] / "evaluation.json"),
        "scores": {stage: _scores(run, places[stage] / "final") for stage in trained},
        "shape": _object(places[trained[-1]] / "final" / "config.json") if trained else {},
        "feedback": _feedback(run / FEEDBACK_NAME),
        "settings": {
            f"{section}.{key}": value for section, values in settings.items() for key, value in values.items()
        },
    }


def _object(path: Path) -> dict[str, Any]:
    return json_object(path, mistake=CorruptArtifactError) if path.is_file() else {}


def _scores(run: Path, model: Path) -> dict[str, Facts]:
    """The results of a model as it is now; those of earlier ones in its place lie beside them."""
    directory = run / SCORES / label_of(model, model_fingerprint(model))
    return {path.name: _object(path) for path in sorted(directory.glob("*.json"))}


def _feedback(path: Path) -> dict[str, int] | None:
    """How often people liked an answer, did not, or wrote a better one."""
    if not path.is_file():
        return None
    counts = {"answers": 0, "liked": 0, "not_liked": 0, "corrected": 0, "unreadable": 0}
    for _, record, problem, _ in read_json_lines(path):
        if problem is not None or not isinstance(record, dict):
            counts["unreadable"] += 1
            continue
        counts["answers"] += 1
        counts["liked"] += record.get("rating") == 1
        counts["not_liked"] += record.get("rating") == -1
        counts["corrected"] += bool(record.get("correction"))
    return counts


def headline(facts: Facts) -> str:
    """What the last model is, in a sentence."""
    shape = facts["shape"]
    if not shape:
        return "No model was trained yet."
    origin = facts["settings"].get("training.init_from")
    begun = "trained from nothing" if origin is None else f"trained on from {origin}"
    tuned = " and tuned to answer" if {"finetune", "preference"} & facts["logs"].keys() else ""
    return f"A {shape['model_type']} of {num_parameters(facts):,} parameters, {begun}{tuned}."


def num_parameters(facts: Facts) -> int:
    """Of the last model, whose `shape` it is; tied ones once."""
    return count_parameters(model_config_from_hf(facts["shape"])).total
