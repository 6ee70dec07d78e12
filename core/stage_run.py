"""Brings stages up to date, one after the other, so that a kill at any moment leaves whole artifacts only.

Knows nothing of what a stage computes, and decides nothing: that is `stage_plan`'s.
"""

import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

from core.errors import ConfigError, StaleArtifactError
from core.files import move_aside, new_directory, remove_leftovers, sha256_json
from core.manifest import content_fingerprint, describe_files, read_manifest, write_manifest
from core.stage import Artifact, C, Decision, Inputs, Selection, Stage, load_artifact
from core.stage_plan import decide, plan_stages, recipe_of

logger = logging.getLogger(__name__)

RECORDED_LIBRARIES = ("torch", "sentencepiece", "pyarrow", "numpy", "safetensors", "pydantic")


def run_stages(
    stages: Sequence[Stage[C]],
    config: C,
    selection: Selection = Selection(),
    *,
    announce: Callable[[Decision], None] = lambda decision: None,
    scratch: Path | None = None,
) -> dict[str, Artifact]:
    """Bring every selected stage up to date and return the artifacts by stage name.

    The caller holds the lock of the run directory.

    Args:
        announce: Called with each decision before it is carried out.
        scratch: Where stages that have to run write instead of their own place (a dry run); what is up to date
            is read from its place all the same.

    Raises:
        StaleArtifactError: a finished training stage no longer matches; raised before any stage has run if the
            difference can be known by then.
        BloomeryError: whatever a stage raises.
    """
    if scratch is None:
        for decision in plan_stages(stages, config, selection):
            if decision.action == "blocked":
                raise StaleArtifactError(_blocked_message(decision))
    done: dict[str, Decision] = {}
    for stage in stages:
        decision = decide(stage, stages, config, selection, done)
        if decision.action == "blocked" and scratch is None:
            raise StaleArtifactError(_blocked_message(decision))
        if decision.action == "blocked":  # in a dry run nothing is in the way
            decision = replace(decision, action="run")
        announce(decision)
        if decision.action in ("run", "continue", "redo"):
            inputs = {
                name: found for name in stage.reads(config) if (found := done[name].artifact) is not None
            }
            assert all(need in inputs for need in stage.needs), f"{stage.name} runs without what it needs"
            artifact = _carry_out(stage, config, inputs, decision, scratch)
            decision = Decision(stage.name, "reuse", artifact.directory, artifact=artifact)
        done[stage.name] = decision
    return {name: decision.artifact for name, decision in done.items() if decision.artifact is not None}


def _carry_out(
    stage: Stage[C], config: C, inputs: Inputs, decision: Decision, scratch: Path | None
) -> Artifact:
    place = decision.directory if scratch is None else scratch / stage.name

    def aside(old: Path) -> None:
        logger.info("%s: the old result is kept at %s", stage.name, move_aside(old, "stale"))

    redo = decision.action == "redo" and place.exists()
    if redo and stage.resumable:
        aside(place)
    earlier = {
        need: Decision(need, "reuse", artifact.directory, artifact=artifact)
        for need, artifact in inputs.items()
    }
    recipe = recipe_of(stage, config, earlier)
    place.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(place)
    if stage.resumable:
        place.mkdir(exist_ok=True)
        if read_manifest(place) is None:
            write_manifest(place, {"status": "running", "recipe": recipe})
        return _run_into(stage, config, inputs, recipe, place)
    if place.exists() and not redo:
        _clear_unfinished(stage, place)
    # The old result of a stage that is made whole stays until the new one is there: a mistake costs nothing.
    with new_directory(place, aside=aside if redo else None) as out:
        _run_into(stage, config, inputs, recipe, out)
    artifact = load_artifact(stage.name, place)
    assert artifact is not None
    return artifact


def _clear_unfinished(stage: Stage[C], place: Path) -> None:
    if any(place.iterdir()):
        raise ConfigError(
            f"{place}: holds files that no {stage.name} stage wrote; empty it or choose another directory"
        )
    place.rmdir()


def _run_into(stage: Stage[C], config: C, inputs: Inputs, recipe: Mapping[str, Any], out: Path) -> Artifact:
    started = time.time()
    clock = time.monotonic()
    metrics = dict(stage.run(config, inputs, out))
    files = describe_files(out, (path for path in out.glob(stage.outputs) if path.is_file()))
    files = [file for file in files if not file["path"].startswith("MANIFEST")]
    fingerprint = content_fingerprint(
        [file for file in files if stage.content is None or PurePath(file["path"]).match(stage.content)]
    )
    write_manifest(
        out,
        {
            "status": "complete",
            "recipe": recipe,
            "recipe_fingerprint": sha256_json(recipe),
            "fingerprint": fingerprint,
            "files": files,
            "metrics": metrics,
            "config": config.to_dict(),
            "versions": library_versions(),
            "started_unix_seconds": started,
            "elapsed_seconds": time.monotonic() - clock,
        },
    )
    return Artifact(stage.name, out, fingerprint, metrics)


def library_versions() -> dict[str, str]:
    """Versions of Python, of this project and of the libraries that can change a result."""
    versions = {"python": platform.python_version()}
    for name in ("bloomery", *RECORDED_LIBRARIES):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _blocked_message(decision: Decision) -> str:
    return (
        f"{decision.stage} at {decision.directory} is finished or under way and would have to be redone: "
        f"{'; '.join(decision.reasons)}. Either set back what changed, or add --rebuild {decision.stage} "
        "(the old one is kept beside it), or start another run with run.name=NEW"
    )
