"""Stages: each reads earlier artifacts and writes one directory whose manifest says what it was made from.

Knows nothing of what a stage computes. A stage is frozen data; the line is an ordered tuple of them.
"""

import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from core.config import Config, nearest
from core.errors import ConfigError, CorruptArtifactError, StaleArtifactError, UsageError
from core.files import move_aside, new_directory, remove_leftovers, sha256_json
from core.manifest import (
    content_fingerprint,
    describe_files,
    read_manifest,
    verify_files,
    write_manifest,
)

logger = logging.getLogger(__name__)

C = TypeVar("C", bound=Config)

RECORDED_LIBRARIES = ("torch", "sentencepiece", "pyarrow", "numpy", "safetensors", "pydantic")


@dataclass(frozen=True)
class Artifact:
    """A finished stage's directory and what its manifest says of it."""

    stage: str
    directory: Path
    fingerprint: str
    metrics: Mapping[str, Any]


Inputs = Mapping[str, Artifact]


def _no_sources(_config: Any) -> Mapping[str, Any]:
    return {}


def _always(_config: Any) -> str | None:
    return None


@dataclass(frozen=True)
class Stage(Generic[C]):
    """One step of the line.

    Attributes:
        run: Does the work: `(config, inputs by stage name, directory to write into) -> metrics`.
        settings: The settings that decide the result, by dotted name.
        place: The directory of the artifact.
        needs: Names of the stages whose artifacts `run` reads; it is skipped when one of them is.
        wants: Names of further stages whose artifacts `run` reads where they are there.
        sources: What else it reads from outside the line, by name, as fingerprints.
        disabled_because: Why the stage has nothing to do under this configuration, or None.
        outputs: Which files below the directory are the result (a glob); the fingerprint is over these.
        version: To be raised when the code's result changes under equal settings.
        resumable: Whether `run` continues what a killed `run` left in its directory. Such stages are the
            expensive ones, and a finished one is never redone unless the user asks.
    """

    name: str
    run: Callable[[C, Inputs, Path], Mapping[str, Any]]
    settings: Callable[[C], Mapping[str, Any]]
    place: Callable[[C], Path]
    needs: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    sources: Callable[[C], Mapping[str, Any]] = _no_sources
    disabled_because: Callable[[C], str | None] = _always
    outputs: str = "**/*"
    version: int = 1
    resumable: bool = False


@dataclass(frozen=True)
class Selection:
    """What the user asked for beyond "everything that is not done yet".

    Attributes:
        until: Last stage to run.
        only: The one stage to run; the artifacts it needs are taken as they are.
        rebuild: Stages to redo, and with them whatever becomes stale.
        skip: Stages whose artifacts are taken as they are.
    """

    until: str | None = None
    only: str | None = None
    rebuild: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()


Action = Literal["reuse", "run", "continue", "redo", "blocked", "taken as it is", "skipped"]


@dataclass(frozen=True)
class Decision:
    """What will happen to one stage, and why."""

    stage: str
    action: Action
    directory: Path
    reasons: tuple[str, ...] = ()
    artifact: Artifact | None = field(default=None, repr=False)

    def __str__(self) -> str:
        ways_out = [f"--rebuild {self.stage} to redo it"] if self.action == "blocked" else []
        why = f"  ({'; '.join([*self.reasons, *ways_out])})" if self.reasons else ""
        return f"{self.stage:<12} {self.action:<14} {self.directory}{why}"


def plan_stages(stages: Sequence[Stage[C]], config: C, selection: Selection = Selection()) -> list[Decision]:
    """What running these stages now would do to each, without doing it.

    Raises:
        UsageError: the selection names an unknown stage.
    """
    _check_selection(stages, selection)
    decisions: dict[str, Decision] = {}
    for stage in stages:
        decisions[stage.name] = _decide(stage, stages, config, selection, decisions)
    return list(decisions.values())


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
        decision = _decide(stage, stages, config, selection, done)
        if decision.action == "blocked" and scratch is None:
            raise StaleArtifactError(_blocked_message(decision))
        if decision.action == "blocked":  # in a dry run nothing is in the way
            decision = replace(decision, action="run")
        announce(decision)
        if decision.action in ("run", "continue", "redo"):
            inputs = {name: found for name in _reads(stage) if (found := done[name].artifact) is not None}
            assert all(need in inputs for need in stage.needs), f"{stage.name} runs without what it needs"
            artifact = _carry_out(stage, config, inputs, decision, scratch)
            decision = Decision(stage.name, "reuse", artifact.directory, artifact=artifact)
        done[stage.name] = decision
    return {name: decision.artifact for name, decision in done.items() if decision.artifact is not None}


def load_artifact(name: str, directory: Path) -> Artifact | None:
    """The finished artifact in `directory`, its files checked, or None where no finished one is.

    Raises:
        CorruptArtifactError: a file is not what the manifest says.
    """
    manifest = read_manifest(directory)
    if manifest is None or manifest.get("status") != "complete":
        return None
    verify_files(directory, manifest["files"])
    return Artifact(name, directory, manifest["fingerprint"], manifest["metrics"])


def _check_selection(stages: Sequence[Stage[C]], selection: Selection) -> None:
    names = [stage.name for stage in stages]
    for flag, asked in (
        ("--until", {selection.until} - {None}),
        ("--only", {selection.only} - {None}),
        ("--rebuild", selection.rebuild),
        ("--skip", selection.skip),
    ):
        for name in sorted(filter(None, asked)):
            if name not in names:
                raise UsageError(
                    f"{flag} {name}: no such stage{nearest(name, names)} (stages: {', '.join(names)})"
                )
    if selection.only and selection.until:
        raise UsageError("--only and --until exclude each other; keep one")
    for name in sorted(selection.rebuild & selection.skip):
        raise UsageError(f"{name} cannot be both rebuilt and taken as it is; keep one")
    if selection.only and (selection.only in selection.skip or selection.rebuild - {selection.only}):
        raise UsageError(f"--only {selection.only} contradicts what else was said of stages; leave one out")


def _decide(
    stage: Stage[C],
    stages: Sequence[Stage[C]],
    config: C,
    selection: Selection,
    earlier: Mapping[str, Decision],
) -> Decision:
    place = stage.place(config)
    names = [s.name for s in stages]
    last = selection.only or selection.until
    if last is not None and names.index(stage.name) > names.index(last):
        return Decision(stage.name, "skipped", place, (f"comes after {last}",))
    if (reason := stage.disabled_because(config)) is not None:
        return Decision(stage.name, "skipped", place, (reason,))
    for need in stage.needs:
        if earlier[need].action == "skipped":
            return Decision(stage.name, "skipped", place, (f"needs {need}, which is skipped",))
    if stage.name in selection.skip or (selection.only is not None and stage.name != selection.only):
        needed = selection.only is None or stage.name in _all_needs(stages, selection.only)
        if not needed:
            return Decision(stage.name, "skipped", place, (f"{selection.only} does not need it",))
        try:
            return Decision(stage.name, "taken as it is", place, artifact=_take_as_it_is(stage, place))
        except ConfigError:
            if stage.name in selection.skip or stage.name in _all_needs(stages, selection.only, wants=False):
                raise
            return Decision(stage.name, "skipped", place, (f"{selection.only} can do without it",))
    return _compare(stage, stages, config, selection, earlier, place)


def _compare(
    stage: Stage[C],
    stages: Sequence[Stage[C]],
    config: C,
    selection: Selection,
    earlier: Mapping[str, Decision],
    place: Path,
) -> Decision:
    def decision(action: Action, *reasons: str, artifact: Artifact | None = None) -> Decision:
        return Decision(stage.name, action, place, reasons, artifact)

    asked = selection.rebuild & {stage.name, *_all_needs(stages, stage.name)}
    try:
        manifest = read_manifest(place)
        artifact = load_artifact(stage.name, place)
    except CorruptArtifactError as error:
        return decision("redo" if asked or not stage.resumable else "blocked", str(error))
    if manifest is None:
        return decision("run")
    if stage.name in selection.rebuild:
        return decision("redo", "asked for with --rebuild")
    differences = _differences(manifest["recipe"], _recipe(stage, config, earlier))
    differences += [
        f"{name} is not there any more"
        for name in manifest["recipe"]["inputs"]
        if name in earlier and earlier[name].action == "skipped"
    ]
    unknown = [
        name for name in _reads(stage) if earlier[name].artifact is None and earlier[name].action != "skipped"
    ]
    remade = [need for need in unknown if earlier[need].action in ("redo", "blocked")]
    differences += [f"{need} is made anew ({'; '.join(earlier[need].reasons)})" for need in remade]
    if differences:
        return decision("blocked" if stage.resumable and not asked else "redo", *differences)
    if artifact is None:
        if stage.resumable:
            return decision("continue", "interrupted before it was finished")
        return decision("run")
    if unknown:
        return decision("reuse", f"if {' and '.join(unknown)} comes out as before")
    return decision("reuse", artifact=artifact)


def _recipe(stage: Stage[C], config: C, earlier: Mapping[str, Decision]) -> dict[str, Any]:
    artifacts = {name: earlier[name].artifact for name in _reads(stage) if name in earlier}
    return {
        "stage": stage.name,
        "version": stage.version,
        "settings": dict(stage.settings(config)),
        "inputs": {need: artifact.fingerprint for need, artifact in artifacts.items() if artifact},
        "sources": dict(stage.sources(config)),
    }


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    if old["version"] != new["version"]:
        found.append(f"the code of {new['stage']} is now version {new['version']}, was {old['version']}")
    for kind in ("settings", "sources"):
        for key in sorted(old[kind].keys() | new[kind].keys()):
            before, now = old[kind].get(key), new[kind].get(key)
            if before != now:
                found.append(_named_difference(key, before, now))
    for name, fingerprint in new["inputs"].items():
        if name not in old["inputs"]:
            found.append(f"{name} is new")
        elif old["inputs"][name] != fingerprint:
            found.append(f"{name} is not the one it was made from")
    return found


def _named_difference(key: str, before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        inner = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
        return "; ".join(_named_difference(f"{key}.{k}", before.get(k), now.get(k)) for k in inner)
    return f"{key}: was {_short(before)}, now {_short(now)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _all_needs(stages: Sequence[Stage[C]], name: str | None, *, wants: bool = True) -> set[str]:
    by_name = {stage.name: stage for stage in stages}
    if name is None:
        return set()
    direct = set(_reads(by_name[name]) if wants else by_name[name].needs)
    return direct.union(*(_all_needs(stages, need, wants=wants) for need in direct))


def _take_as_it_is(stage: Stage[C], place: Path) -> Artifact:
    artifact = load_artifact(stage.name, place)
    if artifact is not None:
        return artifact
    # A directory that another program or an older run made: its content speaks for itself.
    paths = [path for path in place.glob(stage.outputs) if path.is_file() and not path.name.startswith(".")]
    if not paths:
        raise ConfigError(
            f"{stage.name} is to be taken as it is, but {place} holds no finished result; "
            f"run without skipping {stage.name}, or name the run.dir that has it"
        )
    return Artifact(stage.name, place, content_fingerprint(describe_files(place, paths)), {})


def _reads(stage: Stage[C]) -> tuple[str, ...]:
    return stage.needs + stage.wants


def _carry_out(
    stage: Stage[C], config: C, inputs: Inputs, decision: Decision, scratch: Path | None
) -> Artifact:
    place = decision.directory if scratch is None else scratch / stage.name
    if decision.action == "redo" and place.exists():
        logger.info("%s: the old result is kept at %s", stage.name, move_aside(place, "stale"))
    earlier = {
        need: Decision(need, "reuse", artifact.directory, artifact=artifact)
        for need, artifact in inputs.items()
    }
    recipe = _recipe(stage, config, earlier)
    place.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(place)
    if stage.resumable:
        place.mkdir(exist_ok=True)
        if read_manifest(place) is None:
            write_manifest(place, {"status": "running", "recipe": recipe})
        return _run_into(stage, config, inputs, recipe, place)
    if place.exists():
        _clear_unfinished(stage, place)
    with new_directory(place) as out:
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
    fingerprint = content_fingerprint(files)
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
