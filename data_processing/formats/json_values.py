"""JSON as the standard has it, and the elements of an array one after the other. Knows no records and no documents.

An array is decoded while it is read, so that one of any length takes the memory of its longest element.
"""

import json
import re
from collections.abc import Iterator
from typing import Any


class NotJsonError(ValueError):
    """JSON that Python's parser accepts and the standard does not, or that means two things."""


class TooLongError(ValueError):
    """A value, or the white space before one, is longer than may be held."""


def _refuse_constant(constant: str) -> None:
    raise NotJsonError(f"{constant} is not JSON")


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise NotJsonError(f"key {repeated!r} stands twice in one object")
    return record


# Seeing repeated keys takes a fifth to a quarter of the time; to look for them in the text beforehand takes longer.
DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeated)

# What the decoder raises: JSONDecodeError and NotJsonError are ValueErrors, as is a number of thousands of digits.
JSON_ERRORS = (ValueError, RecursionError)

FORGET_CHARACTERS = 1 << 20
"""What was read is forgotten in pieces of this size: each costs a copy of what is still held. Arbitrary."""

_MOST_CUT_CHARACTERS = 16
"""What is cut off within a word of JSON (`-Infinity`, a pair of \\u escapes) is complained of so far before the end, at
most; a string, however long it is, at its beginning."""

_SPACE = re.compile(r"[ \t\r\n]*")


def explain(error: Exception) -> str:
    """What is wrong, for people."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def skip_space(text: str, place: int) -> int:
    """Where the white space at `place` ends."""
    match = _SPACE.match(text, place)
    assert match, "the pattern matches the empty string"
    return match.end()


class HeldText:
    """A text that comes in pieces, of which a stretch is held: it grows at its end and is forgotten at its beginning.

    Args:
        pieces: The text, in order.
        most: Longest value, and longest white space between two, in characters.

    Attributes:
        text: What is held.
        is_all: Whether nothing comes behind it.
        num_lines_before: Line ends in what was forgotten.
    """

    def __init__(self, pieces: Iterator[str], *, most: int) -> None:
        self._pieces = pieces
        self._most = most
        self.text = ""
        self.is_all = False
        self.num_lines_before = 0

    def grow(self, num_characters: int = 1) -> bool:
        """Hold so many characters more, as far as there are any; whether there were."""
        new: list[str] = []
        while num_characters > 0 and not self.is_all:
            piece = next(self._pieces, None)
            self.is_all = piece is None
            new.append(piece or "")
            num_characters -= len(piece or "")
        before = len(self.text)
        self.text += "".join(new)
        return len(self.text) > before

    def forget(self, place: int) -> None:
        """Hold no longer what stands before `place`."""
        self.num_lines_before += self.text.count("\n", 0, place)
        self.text = self.text[place:]

    def after_space(self, place: int) -> int:
        """Where the white space at `place` ends; the end of everything if nothing follows.

        Raises:
            TooLongError: the white space is too long.
        """
        end = skip_space(self.text, place)
        while end == len(self.text) and end - place <= self._most and self.grow():
            end = skip_space(self.text, end)
        if end - place > self._most:
            raise TooLongError(f"white space of more than {self._most} characters")
        return end

    def decode(self, place: int) -> tuple[Any, int]:
        """The value at `place`, and where it ends.

        Raises:
            ValueError, RecursionError: it is no JSON.
            TooLongError: it is too long.
        """
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, place)
            except json.JSONDecodeError as error:
                if self.is_all or not _may_be_cut_off(error):
                    raise
                end = len(self.text)
                # Twice as much each time, so that going over it again costs in all no more than once more.
                num_missing = end - place + 1
            else:
                # A number may go on behind what is held of it: 1 with e+9.
                is_cut_off = isinstance(value, int | float) and end + _MOST_CUT_CHARACTERS > len(self.text)
                num_missing = 0 if self.is_all or not is_cut_off else _MOST_CUT_CHARACTERS
            if end - place > self._most:
                raise TooLongError(f"a value of more than {self._most} characters")
            if not num_missing:
                return value, end
            self.grow(num_missing)

    def line_of(self, place: int) -> int:
        """The number of the line, from 1, in which `place` is."""
        return self.num_lines_before + self.text.count("\n", 0, place) + 1


def _may_be_cut_off(error: json.JSONDecodeError) -> bool:
    """Whether more text behind it may make JSON of what the decoder has objected to."""
    return error.msg.startswith("Unterminated string") or error.pos >= len(error.doc) - _MOST_CUT_CHARACTERS


def array_elements(held: HeldText) -> Iterator[tuple[Any, str]]:
    """(value, text from the end of the value before it to its own end) of each element of an array.

    Args:
        held: The array, of which nothing is forgotten yet. When something is raised, `held` begins behind the last
            element that was given, and the position of a `JSONDecodeError` is that in `held.text`.

    Raises:
        ValueError, RecursionError: what follows is no JSON.
        TooLongError: an element is too long.
    """
    begin = held.after_space(0)
    assert held.text.startswith("[", begin), "the text is an array"
    place, end, is_first = 0, begin + 1, True
    try:
        while True:
            if place > FORGET_CHARACTERS:
                held.forget(place)
                place = end = 0
            start = held.after_space(end)
            if held.text.startswith("]", start):
                end = held.after_space(start + 1)
                if end < len(held.text):
                    raise json.JSONDecodeError("Extra data", held.text, end)
                return
            if not is_first:
                if not held.text.startswith(",", start):
                    raise json.JSONDecodeError("Expecting ',' delimiter", held.text, start)
                start = held.after_space(start + 1)
            value, end = held.decode(start)
            yield value, held.text[place:end]
            place, is_first = end, False
    except JSON_ERRORS as error:
        held.forget(place)
        if isinstance(error, json.JSONDecodeError):
            raise json.JSONDecodeError(error.msg, held.text, error.pos - place) from None
        raise
