"""The base class of every configuration: strict, frozen, from and to JSON. Knows nothing of what is configured."""

import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import annotated_types
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from core.errors import ConfigError


class SettingHelp(NamedTuple):
    """What `--help` says about one setting."""

    key: str
    type: str
    default: str
    description: str


class Config(BaseModel):
    """A group of settings. Unknown keys, wrong types and values out of range are errors that name the key.

    >>> class Oven(Config):
    ...     temperature_celsius: int = Field(180, ge=0, le=1500, description="Heat, in degrees Celsius.")
    >>> Oven.from_dict({"temperature_celsius": 1200}).temperature_celsius
    1200
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, origin: str = "") -> Self:
        """The configuration that `values` (as JSON has them) describes.

        Args:
            origin: Where the values came from, for messages: a file name or "command line".

        Raises:
            ConfigError: for an unknown key (with the nearest known one), a wrong type or a value out of range.
        """
        try:
            # By way of JSON, because strict mode then still takes a list for a tuple and a string for a path.
            return cls.model_validate_json(json.dumps(values, default=_json_default))
        except ValidationError as error:
            raise ConfigError(_explain(cls, error, origin)) from None

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """The configuration in a JSON file.

        Raises:
            ConfigError: the file is missing, is not JSON, repeats a key, or holds what `from_dict` refuses.
        """
        return cls.from_dict(read_json_object(Path(path)), origin=str(path))

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON has them: paths are strings, tuples are lists."""
        return self.model_dump(mode="json")

    def save(self, path: str | Path) -> None:
        """Write the settings to a JSON file that `from_file` reads."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    def replace(self, **changes: Any) -> Self:
        """A copy with other values, checked like new ones; a section can be changed by a mapping of its fields."""
        return type(self).from_dict(merge(self.to_dict(), changes))

    @classmethod
    def settings_help(cls, prefix: str = "") -> list[SettingHelp]:
        """One row for each setting, sections within it included, in order of definition."""
        rows: list[SettingHelp] = []
        for name, field in cls.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
                rows.extend(field.annotation.settings_help(f"{prefix}{name}."))
                continue
            default = field.get_default(call_default_factory=True)
            rows.append(
                SettingHelp(
                    key=prefix + name,
                    type=_type_name(field.annotation),
                    default=json.dumps(default, default=_json_default),
                    description=" ".join(filter(None, [field.description, _range_text(field)])),
                )
            )
        return rows

    @classmethod
    def describe(cls, prefix: str = "") -> str:
        """The settings with type, default, meaning, unit and range, as text for `--help`."""
        return "\n".join(
            f"  {row.key}  ({row.type}, default {row.default})\n      {row.description}"
            for row in cls.settings_help(prefix)
        )

    @classmethod
    def runtime_fields(cls) -> frozenset[str]:
        """Settings that say where or how a run is carried out and cannot change what comes out of it."""
        return frozenset(
            name
            for name, field in cls.model_fields.items()
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("runtime")
        )

    def fingerprint_settings(self) -> dict[str, Any]:
        """The settings that decide what comes out: all but the runtime fields, those of sections included."""
        values = self.to_dict()
        for name in self.runtime_fields():
            del values[name]
        for name in values:
            section = getattr(self, name)
            if isinstance(section, Config):
                values[name] = section.fingerprint_settings()
        return values


RUNTIME: dict[str, Any] = {"runtime": True}
"""`json_schema_extra` of a field that stays out of fingerprints (device, cadence, paths, logging)."""


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ConfigError: the file is missing, is not valid JSON, or repeats a key.
    """

    def refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"{path}: key {key!r} stands twice; remove one of them")
        return dict(pairs)

    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=refuse_repeated)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a JSON object {{...}}, found {type(value).__name__}")
    return value


def parse_overrides(assignments: Iterable[str]) -> dict[str, Any]:
    """Nested values from dotted assignments such as `training.learning_rate=1e-3`.

    A value is read as JSON where it is JSON (`true`, `3`, `null`, `[1, 2]`) and as a plain string otherwise.

    Raises:
        ConfigError: an assignment without `=` or without a key.
    """
    result: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip(".- "):
            raise ConfigError(
                f"override {assignment!r}: expected section.setting=value, "
                "for example training.learning_rate=1e-3"
            )
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        branch: Any = value
        for part in reversed(key.split(".")):
            branch = {part: branch}
        result = merge(result, branch)
    return result


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, section by section."""
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`; did you mean …?` with the candidate closest to `name`, or nothing when none is close."""
    matches = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _json_default(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} is not a configuration value")


def _explain(cls: type[Config], error: ValidationError, origin: str) -> str:
    lines = []
    for item in error.errors():
        location = [str(part) for part in item["loc"] if not str(part).startswith("function-")]
        where = f"{origin}: " if origin else ""
        if item["type"] == "extra_forbidden":
            known = _fields_at(cls, location[:-1])
            lines.append(
                f"{where}unknown setting {'.'.join(location)!r}{nearest(location[-1], known)}"
                f" (known here: {', '.join(sorted(known))})"
            )
        elif item["type"] == "value_error":
            message = item["msg"].removeprefix("Value error, ")
            section = ".".join(location)
            lines.append(f"{where}{section + ': ' if section else ''}{message}")
        else:
            # Of a union's members each complains; the tag of the member is no part of the user's key.
            key = ".".join(part for part in location if part in _all_field_names(cls) or part.isdigit())
            lines.append(f"{where}{key}: {item['msg']}, found {json.dumps(item['input'], default=str)}")
    return "; ".join(dict.fromkeys(lines))


def _fields_at(cls: type[Config], location: list[str]) -> set[str]:
    for part in location:
        field = cls.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Config)):
            return set()
        cls = field.annotation
    return set(cls.model_fields)


def _all_field_names(cls: type[Config]) -> set[str]:
    names = set(cls.model_fields)
    for field in cls.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            names |= _all_field_names(field.annotation)
    return names


def _type_name(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return " | ".join(json.dumps(value) for value in typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_name(member) for member in typing.get_args(annotation))
    if origin is typing.Annotated:
        return _type_name(typing.get_args(annotation)[0])
    if annotation is type(None):
        return "null"
    if origin is not None:
        return str(annotation).replace("typing.", "")
    return str(getattr(annotation, "__name__", annotation))


_BOUND_SIGNS = {
    annotated_types.Ge: ("ge", "≥"),
    annotated_types.Gt: ("gt", ">"),
    annotated_types.Le: ("le", "≤"),
    annotated_types.Lt: ("lt", "<"),
}


def _range_text(field: FieldInfo) -> str:
    bounds = []
    for constraint in field.metadata:
        if type(constraint) in _BOUND_SIGNS:
            attribute, sign = _BOUND_SIGNS[type(constraint)]
            bounds.append(f"{sign} {getattr(constraint, attribute)}")
    return f"[{', '.join(bounds)}]" if bounds else ""
