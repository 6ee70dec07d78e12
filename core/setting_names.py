"""What a setting is called, and what somebody may have meant who called it something else. Knows no types."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from core.errors import ConfigError

T = TypeVar("T")


class SettingHelp(NamedTuple):
    """What `--help` says about one setting."""

    key: str
    type: str
    default: str
    description: str


def suggest(
    location: Sequence[str], value: Any, *, here: Iterable[str], rows: Sequence[SettingHelp]
) -> tuple[str, str]:
    """The name of an unknown setting, and `; did you mean …?` where something is like it.

    First comes what has this name in another section, then what is like it in its own, then in all.

    Args:
        location: Where it was given, section by section.
        value: What was given; a mapping may hold the rest of the name.
        here: What its own section has; of that the name alone is said, of others the whole path.
        rows: Every setting there is.
    """
    known = list(dict.fromkeys(key for row in rows for key in (*_sections_of(row.key), row.key)))
    for place in _places_within(list(location), value):
        ending = "." + ".".join(place[len(location) - 1 :])
        if found := [key for key in known if f".{key}".endswith(ending)]:
            return ".".join(place), _one_of(found)
    name = location[-1]
    suggestion = (
        nearest(name, here) or _one_of(_with_like_names(name, rows)) or _one_of(_with_all_words(name, rows))
    )
    return ".".join(location), suggestion


def named(name: str, parts: Mapping[str, T], *, setting: str, place: str) -> T:
    """What is called `name` in a list that a room keeps, such as its optimizers.

    The settings cannot know these names themselves, because a list may be added to.

    Args:
        setting: Where the name was given.
        place: The list, for somebody who wants to add to it.

    Raises:
        ConfigError: there is no such part.
    """
    if name not in parts:
        raise ConfigError(
            f"{setting}: {name!r} is none of {', '.join(parts)}{nearest(name, parts)} (a part of your own has to be in "
            f"{place} before it is named)"
        )
    return parts[name]


def nearest(name: str, candidates: Iterable[str]) -> str:
    """`; did you mean …?` with the candidate closest to `name`, or nothing when none is close."""
    matches = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _places_within(location: list[str], value: Any) -> list[list[str]]:
    """The place itself and, as long as there is one key alone in it, those within, the innermost first."""
    places = [location]
    while isinstance(value, dict) and len(value) == 1:
        [(key, value)] = value.items()
        places.insert(0, [*places[0], str(key)])
    return places


def _sections_of(key: str) -> list[str]:
    """The sections that a setting is in, the outermost first."""
    parts = key.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _with_like_names(name: str, rows: Iterable[SettingHelp]) -> list[str]:
    keys: dict[str, list[str]] = {}
    for row in rows:
        keys.setdefault(row.key.rpartition(".")[2], []).append(row.key)
    # Stricter than among a dozen names of one section: of two hundred some are always alike.
    matches = difflib.get_close_matches(name, keys, n=1, cutoff=0.75)
    return keys[matches[0]] if matches else []


def _with_all_words(name: str, rows: Iterable[SettingHelp]) -> list[str]:
    """The settings in whose name and description all words of `name` stand: `max_characters` is `max_text_length`."""
    words = {word for word in name.lower().split("_") if len(word) > 2}
    texts = {row.key: set(re.findall("[a-z0-9]+", f"{row.key} {row.description}".lower())) for row in rows}
    return [key for key, text in texts.items() if words and words <= text]


def _one_of(keys: Sequence[str], most: int = 3) -> str:
    """`; did you mean …?` with the first of the keys, or nothing when there are none."""
    if not keys:
        return ""
    *others, last = map(repr, keys[:most])
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
