"""Which stages are up to date, and why the others are not: recipes then and now, compared. Changes nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.config import nearest
from core.errors import ConfigError, CorruptArtifactError, UsageError
from core.manifest import content_fingerprint, describe_files, read_manifest
from core.stage import Action, Artifact, C, Decision, Selection, Stage, load_artifact


def plan_stages(stages: Sequence[Stage[C]], config: C, selection: Selection = Selection()) -> list[Decision]:
    """What running these stages now would do to each, without doing it.

    Raises:
        UsageError: the selection names an unknown stage.
    """
    _check_selection(stages, selection)
    decisions: dict[str, Decision] = {}
    for stage in stages:
        decisions[stage.name] = decide(stage, stages, config, selection, decisions)
    return list(decisions.values())


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


def decide(
    stage: Stage[C],
    stages: Sequence[Stage[C]],
    config: C,
    selection: Selection,
    earlier: Mapping[str, Decision],
) -> Decision:
    """What will happen to `stage`, given what was decided for, or came of, the stages before it."""
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
        return Decision(stage.name, action, place, reasons, reasons, artifact)

    asked = selection.rebuild & {stage.name, *_all_needs(stages, stage.name)}
    try:
        manifest = read_manifest(place)
        artifact = load_artifact(stage.name, place)
    except CorruptArtifactError as error:
        command = stage.repair(config)
        way_out = f"; `{command}` makes what is damaged again" if command is not None else ""
        return decision("redo" if asked or not stage.resumable else "blocked", f"{error}{way_out}")
    if manifest is None:
        return decision("run")
    if stage.name in selection.rebuild:
        return decision("redo", "asked for with --rebuild")
    # What is finished was made from what it was made from.
    allowed = stage.goes_on_with_other(config) if artifact is None else frozenset()
    before, now = manifest["recipe"], recipe_of(stage, config, earlier)
    others = [name for name in sorted(allowed) if _is_other(name, before, now, earlier)]
    differences = _differences(_without_inputs(before, allowed), _without_inputs(now, allowed))
    differences += [
        f"{name} is not there any more"
        for name in manifest["recipe"]["inputs"]
        if name in earlier and earlier[name].action == "skipped"
    ]
    unknown = [
        name
        for name in stage.reads(config)
        if earlier[name].artifact is None and earlier[name].action != "skipped"
    ]
    remade = [n for n in unknown if n not in allowed and earlier[n].action in ("redo", "blocked")]
    roots = tuple(dict.fromkeys([*differences, *(root for need in remade for root in earlier[need].roots)]))
    if remade:
        inherited = "; ".join(dict.fromkeys(root for need in remade for root in earlier[need].roots))
        are = "is" if len(remade) == 1 else "are"
        differences.append(f"{' and '.join(remade)} {are} made anew ({inherited})")
    if differences:
        action: Action = "blocked" if stage.resumable and not asked else "redo"
        return Decision(stage.name, action, place, tuple(differences), roots)
    if others:
        return decision("continue", f"with another {' and '.join(others)} than it began with, as allowed")
    if artifact is None:
        if stage.resumable:
            return decision("continue", "interrupted before it was finished")
        return decision("run")
    if unknown:
        return decision("reuse", f"if {' and '.join(unknown)} comes out as before")
    return decision("reuse", artifact=artifact)


def recipe_of(stage: Stage[C], config: C, earlier: Mapping[str, Decision]) -> dict[str, Any]:
    """What the artifact of `stage` would be made from now: settings, inputs and sources, as JSON."""
    artifacts = {name: earlier[name].artifact for name in stage.reads(config) if name in earlier}
    return {
        "stage": stage.name,
        "version": stage.version,
        "settings": dict(stage.settings(config)),
        "inputs": {need: artifact.fingerprint for need, artifact in artifacts.items() if artifact},
        "sources": dict(stage.sources(config)),
    }


def _is_other(
    name: str, before: Mapping[str, Any], now: Mapping[str, Any], earlier: Mapping[str, Decision]
) -> bool:
    """Whether an input is, or is going to be, another one than before."""
    if name in now["inputs"]:
        return bool(now["inputs"][name] != before["inputs"].get(name))
    return earlier[name].action in ("redo", "run")


def _without_inputs(recipe: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {**recipe, "inputs": {k: v for k, v in recipe["inputs"].items() if k not in names}}


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
        if _lists_files(before) and _lists_files(now):
            return f"{key}: {_changed_files(before['files'], now['files'])}"
        inner = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
        return "; ".join(_named_difference(f"{key}.{k}", before.get(k), now.get(k)) for k in inner)
    return f"{key}: was {_short(before)}, now {_short(now)}"


def _lists_files(fingerprint: Mapping[str, Any]) -> bool:
    return isinstance(fingerprint.get("files"), dict) and "sha256" in fingerprint


def _changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Such as `2 added (a.txt, b.txt), 1 removed (c.txt)`."""
    kinds = {
        "added": [name for name in now if name not in before],
        "changed": [name for name in now if name in before and before[name] != now[name]],
        "removed": [name for name in before if name not in now],
    }
    return ", ".join(f"{len(names):,} {kind} ({_few(names)})" for kind, names in kinds.items() if names)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(_short(name) for name in names[:3])
    return f"{shown} and {len(names) - 3:,} more" if len(names) > 3 else shown


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _all_needs(stages: Sequence[Stage[C]], name: str | None, *, wants: bool = True) -> set[str]:
    by_name = {stage.name: stage for stage in stages}
    if name is None:
        return set()
    stage = by_name[name]
    direct = {*stage.needs, *(stage.wants if wants else ())}
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
