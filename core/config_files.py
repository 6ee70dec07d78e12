"""The whole configuration from files, presets and overrides, in this order. Knows no setting by its meaning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.config import merge, nearest
from core.errors import ConfigError
from core.json_files import read_json_object
from core.training_config import PipelineConfig

SETTINGS_FILE = "settings.json"
"""The resolved configuration of a run. Not `config.json`: a directory with that name in it is a model."""

CONFIG_ROOT = Path(__file__).resolve().parent.parent / "configs"
AUTO_PRESET = "auto"
LENGTHS = ("total_steps", "epochs", "time_budget_seconds")


def read_sections(path: str | Path) -> dict[str, Any]:
    """The raw values of a configuration: a directory of `<section>_config.json` files, or one file of sections.

    Raises:
        ConfigError: nothing is there, or a file names no section.
    """
    path = Path(path)
    if path.is_file():
        return read_json_object(path)
    if not path.is_dir():
        known = sorted(p.name for p in CONFIG_ROOT.iterdir() if p.is_dir())
        raise ConfigError(
            f"{path}: no such configuration directory or file{nearest(path.name, known)} "
            f"(shipped: {', '.join(f'configs/{name}' for name in known)})"
        )
    sections = {}
    for file in sorted(path.glob("*.json")):
        section = file.name.removesuffix("_config.json")
        if section not in PipelineConfig.model_fields:
            names = [f"{name}_config.json" for name in PipelineConfig.model_fields]
            raise ConfigError(f"{file}: no section has this name{nearest(file.name, names)}")
        sections[section] = read_json_object(file)
    if not sections:
        raise ConfigError(f"{path}: holds no <section>_config.json file")
    return sections


def load_config(
    path: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    preset_for_auto: str | None = "quickstart",
) -> PipelineConfig:
    """The whole configuration: the preset named by `run.preset`, then the files at `path`, then `overrides`.

    With a `run.time_budget`, the preset "auto" stands for none: the model is planned for the time then.
    A preset given in `overrides` is laid over the files instead, because it was asked for last; null stands for none.
    A length of training given in `overrides` (steps, epochs or seconds) replaces whichever the files have.

    Args:
        path: Directory or file (see `read_sections`); None = defaults.
        overrides: Nested values, as `parse_overrides` returns them.
        preset_for_auto: The preset that `run.preset = "auto"` stands for on this machine; None = none.

    Raises:
        ConfigError: as `read_sections` and `Config.from_dict`.
    """
    overrides = dict(overrides or {})
    values = read_sections(path) if path is not None else {}
    # Each layer is checked on its own first, so that a message names the file that the mistake is in.
    if path is not None:
        PipelineConfig.from_dict(values, origin=str(path))
    run_overrides = overrides.get("run")
    asked = run_overrides if isinstance(run_overrides, Mapping) else {}
    in_file = None if "preset" in asked else values.get("run", {}).get("preset")
    if asked.get("time_budget", values.get("run", {}).get("time_budget")) is not None:
        preset_for_auto = None
    file_preset = _preset_sections(in_file, preset_for_auto)
    override_preset = _preset_sections(asked.get("preset"), preset_for_auto)
    layered = file_preset
    for layer in (values, override_preset, overrides):
        layered = lay_over(layered, layer)
    return PipelineConfig.from_dict(layered, origin="settings" if overrides else str(path or ""))


def lay_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it. A length of training in `changes` replaces whichever `base` has: the last
    word counts, not both. So does a `run.time_budget`, for both trainings."""
    result = dict(base)
    run = changes.get("run")
    budget = isinstance(run, Mapping) and run.get("time_budget") is not None
    for section in ("training", "instruction", "preference"):
        given = changes.get(section)
        if budget or (isinstance(given, Mapping) and any(given.get(name) is not None for name in LENGTHS)):
            result[section] = {k: v for k, v in result.get(section, {}).items() if k not in LENGTHS}
    return merge(result, changes)


def _preset_sections(name: str | None, preset_for_auto: str | None) -> dict[str, Any]:
    name = preset_for_auto if name == AUTO_PRESET else name
    if name is None:
        return {}
    try:
        sections = read_sections(CONFIG_ROOT / name)
    except ConfigError as error:
        raise ConfigError(f"run.preset: {error}") from None
    # A preset says what to train; where the result goes stays with the user.
    sections.pop("run", None)
    return sections
