"""JSON values out of a jsonl file or one JSON array, each with its line. Does not know what they mean."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import DataError


class JsonRecord(NamedTuple):
    """One value, or what is wrong where one should stand."""

    line: int
    """Where it begins in the file, from 1."""
    value: Any
    problem: str | None
    """None when `value` is the value; otherwise what is wrong, for people."""
    num_bytes: int
    """Bytes of the file that it takes."""


def read_json_lines(path: Path) -> Iterator[JsonRecord]:
    """One record a line, one line in memory at a time; lines of white space are passed over.

    Raises:
        DataError: the file is missing, is a directory or is not readable.
    """
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.isspace() or not line:
                continue
            try:
                yield JsonRecord(number, json.loads(line.decode("utf-8")), None, len(line))
            except UnicodeDecodeError as error:
                yield JsonRecord(number, None, f"not UTF-8 ({error.reason} at byte {error.start})", len(line))
            except (ValueError, RecursionError) as error:  # ValueError: numbers of more than 4300 digits too
                yield JsonRecord(number, None, f"not JSON ({_reason(error)})", len(line))


def read_json_records(path: Path) -> Iterator[JsonRecord]:
    """The records of a jsonl file, or the elements of a file that is one JSON array.

    An array's text is held in memory as a whole, its values one at a time. Where an element is broken, the rest of
    the array is lost with it.

    Raises:
        DataError: as `read_json_lines`; also an array that is not UTF-8.
    """
    with _open(path) as file:
        beginning = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not beginning.startswith(b"["):
        yield from read_json_lines(path)
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    yield from _array_elements(text)


def _array_elements(text: str) -> Iterator[JsonRecord]:
    decoder = json.JSONDecoder()
    place = _skip_space(text, text.index("[") + 1)
    line, counted = 1, 0
    separator = "["
    while place < len(text) and text[place] != "]":
        line, counted = line + text.count("\n", counted, place), place
        try:
            if separator not in "[,":
                raise ValueError(f"expected , or ] before {text[place : place + 20]!r}")
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            yield JsonRecord(line, None, f"not JSON ({_reason(error)}); the rest of the array is lost", 0)
            return
        yield JsonRecord(line, value, None, len(text[place:end].encode("utf-8", "surrogatepass")))
        place = _skip_space(text, end)
        separator = text[place : place + 1]
        if separator == ",":
            place = _skip_space(text, place + 1)
    line += text.count("\n", counted, place)
    if place == len(text):
        yield JsonRecord(line, None, "not JSON (the array is not closed by ]: is the file cut off?)", 0)
    elif rest := text[place + 1 :].strip():
        yield JsonRecord(line, None, f"not JSON (something follows the array: {rest[:20]!r})", 0)


def _skip_space(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _open(path: Path) -> Any:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a jsonl or json file") from None


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
