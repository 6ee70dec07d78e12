"""What is known of a run, gathered from the files that its stages left. Computes no figure and knows no page."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.config_files import SETTINGS_FILE
from core.errors import CorruptArtifactError
from core.json_files import json_object
from core.manifest import read_manifest
from data_processing.reports.data_report import DATASET_REPORT, FACTS_NAME
from data_processing.rows.json_records import read_json_lines
from evaluation.language_model import model_fingerprint
from evaluation.run_places import TRAININGS
from evaluation.suite import SCORES, label_of
from inference.feedback import FEEDBACK_NAME
from inference.model_directory import UPDATES
from models.counting import count_parameters
from models.hf_settings import model_config_from_hf
from training.run_log import read_training

Facts = Mapping[str, Any]
Places = Mapping[str, Path]


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
    of the last model), `feedback` (counts, or None), `curriculum` and `settings`.
    """
    present = {stage: place for stage, place in places.items() if place.is_dir()}
    trained = [stage for stage in TRAININGS if (places[stage] / "final" / "config.json").is_file()]
    return {
        "name": run.name,
        "command": shlex.join(_command(places, trained, run / SETTINGS_FILE)),
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
        "curriculum": curriculum(run),
        "settings": {
            f"{section}.{key}": value for section, values in settings.items() for key, value in values.items()
        },
    }


@dataclass(frozen=True)
class Learned:
    """What one run added to those before it; None where it trained nothing of the kind.

    Attributes:
        run: Its directory.
        begun_with: The model that its pretraining began with; None = weights drawn anew.
        documents, tokens: That were new to it, to learn from.
        num_tokens: That its pretraining read, repetitions and replayed ones included.
        steps, learning_rate, replay_share: Of pretraining.
        conversations: That it was tuned on.
        tuning_steps: Of instruction tuning.
    """

    run: str
    begun_with: str | None = None
    documents: int | None = None
    tokens: int | None = None
    num_tokens: int | None = None
    steps: int | None = None
    learning_rate: float | None = None
    replay_share: float | None = None
    conversations: int | None = None
    tuning_steps: int | None = None


def curriculum(run: Path) -> list[dict[str, Any]]:
    """What each run learned, the first one first, as JSON (`Learned`); one whose directory is gone is only named.

    Raises:
        CorruptArtifactError: settings or a manifest are damaged.
    """
    settings = run / SETTINGS_FILE
    if not settings.is_file():
        return [asdict(Learned(str(run)))]
    config = json_object(settings, mistake=CorruptArtifactError)
    parent = config.get("run", {}).get("parent")
    earlier = [] if parent is None else curriculum(_where_now(Path(parent), seen_from=run))
    return [*earlier, asdict(_learned(run, config))]


def _where_now(parent: Path, *, seen_from: Path) -> Path:
    """What an update goes on from, also when the run that both belong to was moved."""
    if parent.exists() or seen_from.parent.name != UPDATES:
        return parent
    return seen_from.parent / parent.name if parent.parent.name == UPDATES else seen_from.parents[1]


def _learned(run: Path, config: Mapping[str, Any]) -> Learned:
    is_update = config.get("run", {}).get("parent") is not None

    def made(stage: str, section: str = "", place: str = "output_dir") -> Mapping[str, Any]:
        # What an update takes as it is lies in the run that made it, and is told of there.
        explicit = None if is_update else config.get(section, {}).get(place)
        directory = run / stage if explicit is None else Path(explicit)
        manifest = read_manifest(directory)
        return manifest if manifest is not None and manifest.get("status") == "complete" else {}

    dataset = made("dataset", "data", "dataset_dir").get("metrics", {})
    pretraining = made("pretrain", "training")
    tuning = made("finetune", "instruction").get("metrics", {})
    train = dataset.get("splits", {}).get("train", {})
    training = pretraining.get("config", {}).get("training", {})
    measured = pretraining.get("metrics", {})
    return Learned(
        run=str(run),
        begun_with=training.get("init_from"),
        documents=train.get("documents"),
        tokens=train.get("tokens"),
        num_tokens=measured.get("num_tokens"),
        steps=measured.get("num_steps"),
        learning_rate=training.get("learning_rate"),
        replay_share=training.get("replay_share"),
        conversations=made("instructions").get("metrics", {}).get("conversations"),
        tuning_steps=tuning.get("num_steps"),
    )


def _command(places: Places, trained: Sequence[str], settings: Path) -> list[str]:
    """What makes the run again, from the directory that one is in now."""
    config = ["--config-dir", str(_from_here(settings))]
    if not trained or trained[0] == "pretrain":
        return ["python", "scripts/train_llm_from_scratch.py", *config]
    # A run that began with a model from elsewhere.
    begun_with = read_manifest(places[trained[0]] / "final") or {}
    model = Path(begun_with.get("initialised_from", "DIR"))
    return [
        "python",
        "scripts/train_instruction_finetuning.py",
        "--pretrained-model",
        str(_from_here(model)),
        *config,
    ]


def _from_here(path: Path) -> Path:
    """A path below the current directory as people type it; others as they are."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _object(path: Path) -> dict[str, Any]:
    return json_object(path, mistake=CorruptArtifactError) if path.is_file() else {}


def _scores(run: Path, model: Path) -> dict[str, Facts]:
    """The results of a model as it is now; those of earlier ones in its place lie beside them.

    A result of a part of a text or task is passed over where there is one of the whole.
    """
    directory = run / SCORES / label_of(model, model_fingerprint(model))
    found = {path.name: _object(path) for path in sorted(directory.glob("*.json"))}
    parts = {name for name, result in found.items() if result.get("whole", name) in found.keys() - {name}}
    return {name: result for name, result in found.items() if name not in parts}


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
