"""The rules by which a cleaned text is left out, each with a name. Knows no files and changes no text."""

import re
from collections.abc import Callable
from dataclasses import dataclass

MAX_REPLACEMENT_SHARE = 0.01
"""A text with more U+FFFD than this (share of characters) was ruined by an earlier program; arbitrary."""

# What stands before is looked at by hand: as a pattern that ignores case it took 100 ns a character, this takes 10.
_WWW = re.compile(r"[wW]{3}\.(?=\w)")
# Looked for as they stand, which takes a tenth of the pattern's time.
_PERHAPS_WWW = ("ww.", "WW.", "wW.", "Ww.")
_SCHEMES = ("http", "https", "ftp")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rules compare with; None switches a rule off.

    Attributes:
        min_length: Shortest text, in characters.
        max_length: Longest text, in characters.
        max_urls: Largest number of web addresses in one text.
    """

    min_length: int = 50
    max_length: int | None = None
    max_urls: int | None = 5


Filter = Callable[[str, Limits], str | None]
"""(cleaned text, limits) -> what is wrong with the text, with the numbers, or None when it may stay. It takes
time linear in the text."""


def empty(text: str, limits: Limits) -> str | None:
    """Nothing but white space."""
    return None if text and not text.isspace() else "nothing but white space"


def too_short(text: str, limits: Limits) -> str | None:
    """Fewer characters than `min_length`."""
    if len(text) < limits.min_length:
        return f"{len(text)} characters, fewer than {limits.min_length}"
    return None


def too_long(text: str, limits: Limits) -> str | None:
    """More characters than `max_length`."""
    if limits.max_length is not None and len(text) > limits.max_length:
        return f"{len(text)} characters, more than {limits.max_length}"
    return None


def too_many_urls(text: str, limits: Limits) -> str | None:
    """More web addresses than `max_urls`."""
    if limits.max_urls is None:
        return None
    found = count_urls(text)
    return f"{found} web addresses, more than {limits.max_urls}" if found > limits.max_urls else None


def garbled(text: str, limits: Limits) -> str | None:
    """More replacement characters than `MAX_REPLACEMENT_SHARE`."""
    found = text.count("\ufffd")
    if found > MAX_REPLACEMENT_SHARE * len(text):
        return f"{found} of {len(text)} characters are U+FFFD, left by a failed decoding"
    return None


FILTERS: dict[str, Filter] = {
    "empty": empty,
    "too_short": too_short,
    "too_long": too_long,
    "too_many_urls": too_many_urls,
    "garbled": garbled,
}
"""Reason -> rule, in the order in which they are asked; the first that objects gives the reason."""


def count_urls(text: str) -> int:
    """Number of web addresses (`http://`, `https://`, `ftp://` or a bare `www.`) in `text`."""
    return _count_schemes(text) + _count_bare_www(text)


def _count_schemes(text: str) -> int:
    if "/" not in text:  # found twenty times as fast as what is longer
        return 0
    parts = text.split("://")
    return sum(part[-5:].lower().endswith(_SCHEMES) for part in parts[:-1])


def _count_bare_www(text: str) -> int:
    # Of ASCII, lower case costs less than looking for two spellings.
    if not ("www." in text.lower() if text.isascii() else any(some in text for some in _PERHAPS_WWW)):
        return 0
    befores = (text[match.start() - 1 : match.start()] for match in _WWW.finditer(text))
    # Behind a scheme it was counted; within a name or an e-mail address it is none.
    return sum(not (before.isalnum() or before in _PART_OF_NAME) for before in befores)


_PART_OF_NAME = frozenset("/._@-")
