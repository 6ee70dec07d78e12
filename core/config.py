"""The base class of every configuration: strict, frozen, from and to JSON. Knows nothing of what is configured."""

import json
import os
import textwrap
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import annotated_types
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo

from core.errors import ConfigError
from core.expectations import expectation
from core.files import LONGEST_NAME_BYTES
from core.json_files import read_json_object
from core.setting_names import SettingHelp, suggest
from core.setting_names import nearest as nearest


class Config(BaseModel):
    """A group of settings. Unknown keys, wrong types and values out of range are errors that name the key.

    >>> class Oven(Config):
    ...     temperature_celsius: int = Field(180, ge=0, le=1500, description="Heat, in degrees Celsius.")
    >>> Oven.from_dict({"temperature_celsius": 1200}).temperature_celsius
    1200
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    @field_validator("*", mode="after")
    @classmethod
    def _at_home(cls, value: Any) -> Any:
        """A path that begins with `~` lies in the home directory: many a shell leaves it as it is in `a=~/b`."""
        if isinstance(value, tuple):
            return tuple(map(from_home, value))
        return from_home(value)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, origin: str = "") -> Self:
        """The configuration that `values` (as JSON has them) describes.

        Args:
            origin: Where the values came from, for messages: a file name or "command line".

        Raises:
            ConfigError: for an unknown key (with the nearest known one), a wrong type, a text that is empty or that
                nothing can be called, or a value out of range.
        """
        if problems := list(_unusable_texts(cls, values)):
            where = f"{origin}: " if origin else ""
            raise ConfigError("; ".join(f"{where}{key}: {problem}" for key, problem in problems))
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
        """A copy with other values, checked like new ones; a section can be changed by a mapping of its fields.

        What was not set, here or before, stays unset, so that it can be told from a default that somebody wrote down.
        """
        return type(self).from_dict(merge(self.model_dump(mode="json", exclude_unset=True), changes))

    @classmethod
    def settings_help(cls, prefix: str = "") -> list[SettingHelp]:
        """One row for each setting, sections within it included, in order of definition."""
        rows: list[SettingHelp] = []
        for name, field in cls.model_fields.items():
            if (section := _section(field)) is not None:
                rows.extend(section.settings_help(f"{prefix}{name}."))
                continue
            rows.append(
                SettingHelp(
                    key=prefix + name,
                    type=_type_name(field.annotation),
                    default=_default_text(field),
                    description=" ".join(filter(None, [field.description, _range_text(field)])),
                )
            )
        return rows

    @classmethod
    def describe(cls, prefix: str = "") -> str:
        """The settings with type, default, meaning, unit and range, as text for `--help`; sections within come last."""
        inner = {name: section for name, field in cls.model_fields.items() if (section := _section(field))}
        rows = [
            row
            for row in cls.settings_help(prefix)
            if row.key.removeprefix(prefix).partition(".")[0] not in inner
        ]
        lines = [_wrapped(f"{prefix.removesuffix('.')}: {_first_paragraph(cls)}", indent=0)] if prefix else []
        for row in rows:
            lines.append(_wrapped(f"{row.key}  ({row.type}, default {row.default})", indent=2))
            lines.append(_wrapped(row.description, indent=6))
        sections = [section.describe(f"{prefix}{name}.") for name, section in inner.items()]
        return "\n\n".join(["\n".join(lines), *sections] if lines else sections)

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


def from_home(path: Any) -> Any:
    """`path`, with `~` and `~name` at its beginning replaced by the home directory; what is no path, as it is.

    Raises:
        ValueError: there is no such user, nobody says where the home directory is, or no file system takes the name.
    """
    if not isinstance(path, Path):
        return path
    is_address = path.parts[:1] and path.parts[0].endswith(":")
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > LONGEST_NAME_BYTES and not is_address:
        raise ValueError(
            f"a name of {longest} bytes ({str(path)!r:.80}…), file systems take {LONGEST_NAME_BYTES}; choose a shorter "
            "one"
        )
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"{str(path)!r}: no home directory is known for it; write out the path") from None


HELP_COLUMNS = 79
"""Width of the text for `--help`, in characters: a terminal has 80 unless somebody made it wider."""

RUNTIME: dict[str, Any] = {"runtime": True}
"""`json_schema_extra` of a field that stays out of fingerprints (device, cadence, paths, logging)."""

VERBATIM: dict[str, Any] = {"verbatim": True}
"""`json_schema_extra` of a field in which white space is a text like any other."""


def parse_overrides(assignments: Iterable[str], *, configured: type[Config] | None = None) -> dict[str, Any]:
    """Nested values from dotted assignments such as `training.learning_rate=1e-3`.

    A value is read as JSON where it is JSON (`true`, `3`, `null`, `[1, 2]`) and as a plain string otherwise.

    Args:
        configured: Whose settings they are, if its lists of texts may be given as `a,b` too; nothing after the `=` is
            an empty list. Texts with commas in them need JSON.

    Raises:
        ConfigError: an assignment without `=` or without a key, or a list with nothing between two commas.
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
        # What JSON takes for a number or a truth value, such as a directory called 2024, is a text in a list of texts.
        is_plain = value is text or isinstance(value, int | float)
        if is_plain and configured is not None and _is_list_of_texts(_field_at(configured, key.split("."))):
            value = _separated(key, text)
        branch: Any = value
        for part in reversed(key.split(".")):
            branch = {part: branch}
        result = merge(result, branch)
    return result


def _separated(key: str, text: str) -> list[str]:
    items = [item.strip() for item in text.split(",")] if text.strip() else []
    if "" in items:
        raise ConfigError(
            f"{key}={text}: nothing stands between two commas, or before or behind one; expected {key}=a,b or JSON, as "
            f'in {key}=\'["a", "b"]\''
        )
    return items


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, section by section."""
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


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
            lines.append(where + _explain_unknown(cls, location, item["input"]))
        elif item["type"] == "value_error":
            section = f"{'.'.join(location)}: " if location else ""
            lines.append(f"{where}{section}{item['msg'].removeprefix('Value error, ')}")
        else:
            # Of a union's members each complains; the tag of the member is no part of the user's key.
            key = ".".join(part for part in location if part in _all_field_names(cls) or part.isdigit())
            found = json.dumps(item["input"], default=str)
            lines.append(f"{where}{key}: {expectation(item)}, found {found:.200}")
    return "; ".join(dict.fromkeys(lines))


def _explain_unknown(cls: type[Config], location: list[str], value: Any) -> str:
    here = _fields_at(cls, location[:-1])
    # A section where a section is meant, a setting where a setting is.
    alike = [name for name, field in here.items() if (_section(field) is None) != isinstance(value, dict)]
    place, suggestion = suggest(location, value, here=alike, rows=cls.settings_help())
    return f"unknown setting {place!r:.200}{suggestion} (known here: {', '.join(sorted(here))})"


def _unusable_texts(cls: type[Config], values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings that are given as a text of nothing or of what no file can be called, or as a list with one; and why.

    Checked before the types are, which make the current directory of an empty path.
    """
    for name, value in values.items():
        field = cls.model_fields.get(name)
        section = None if field is None else _section(field)
        if section is not None and isinstance(value, Mapping):
            yield from ((f"{name}.{key}", problem) for key, problem in _unusable_texts(section, value))
            continue
        texts = value if isinstance(value, list | tuple) else [value]
        if field is not None and field.json_schema_extra != VERBATIM and any(map(_is_blank, texts)):
            yield name, f"is empty; {_how_to_unset(field)}"
        for text in map(str, filter(_is_text, _members(value))):
            if "\0" in text:
                yield (
                    name,
                    f"{text!r:.80} holds a NUL character, which nothing that is named can; leave it out",
                )
            elif any("\ud800" <= character <= "\udfff" for character in text):
                yield name, f"{text!r:.80} is no UTF-8; rename what it names, or name it by a link"


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def _is_text(value: Any) -> bool:
    return isinstance(value, str | Path)


def _members(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list | tuple) else [value]


def _how_to_unset(field: FieldInfo) -> str:
    if _is_list_of_texts(field):
        return "leave out what is empty; [] is an empty list"
    if type(None) in typing.get_args(field.annotation):
        return "set it to null to leave it unset"
    return f"leave it out for the default, {_default_text(field)}"


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "none"
    return json.dumps(field.get_default(call_default_factory=True), default=_json_default)


def _section(field: FieldInfo) -> type[Config] | None:
    """What is in a field that is a section; None for a setting."""
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Config) else None


def _is_list_of_texts(field: FieldInfo | None) -> bool:
    if field is None or typing.get_origin(field.annotation) is not tuple:
        return False
    member = typing.get_args(field.annotation)[0]
    return member in (str, Path) or typing.get_origin(member) is typing.Literal


def _field_at(cls: type[Config], location: list[str]) -> FieldInfo | None:
    return _fields_at(cls, location[:-1]).get(location[-1])


def _fields_at(cls: type[Config], location: list[str]) -> dict[str, FieldInfo]:
    for part in location:
        field = cls.model_fields.get(part)
        section = None if field is None else _section(field)
        if section is None:
            return {}
        cls = section
    return cls.model_fields


def _all_field_names(cls: type[Config]) -> set[str]:
    names = set(cls.model_fields)
    for field in cls.model_fields.values():
        if (section := _section(field)) is not None:
            names |= _all_field_names(section)
    return names


def _first_paragraph(cls: type[Config]) -> str:
    return " ".join((cls.__doc__ or "").partition("\n\n")[0].split())


def _wrapped(text: str, *, indent: int) -> str:
    """`text` in lines for a terminal; what continues a line is set in by six."""
    return textwrap.fill(
        text,
        HELP_COLUMNS,
        initial_indent=" " * indent,
        subsequent_indent=" " * 6,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _type_name(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return " | ".join(json.dumps(value) for value in typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type_name(member) for member in typing.get_args(annotation))
    if origin is typing.Annotated:
        return _type_name(typing.get_args(annotation)[0])
    if origin is tuple:
        return f"list of {_type_name(typing.get_args(annotation)[0])}"
    if origin is dict:
        return " -> ".join(map(_type_name, typing.get_args(annotation)))
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
            bound = getattr(constraint, attribute)
            bounds.append(f"{sign} {int(bound):,}" if bound == int(bound) else f"{sign} {bound:g}")
    return f"[{', '.join(bounds)}]" if bounds else ""
