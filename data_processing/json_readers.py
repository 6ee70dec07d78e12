"""Readers of JSON: one value a file, an array of records, or a record a line. Knows no rule of quality."""

import dataclasses
import json
import logging
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from core.errors import DataError
from data_processing.document import Document, Dropped, excerpt
from data_processing.raw_files import changed_since, changed_while_read, format_of
from data_processing.text_encoding import Encoding, Undecodable, decode

logger = logging.getLogger(__name__)

MAX_JSON_BYTES = 256 << 20
"""A longer `.json` file is `too_large`: an array is read as a whole. jsonl has no such limit."""

MAX_RECORD_BYTES = 64 << 20
"""A longer line of jsonl is `too_large`; arbitrary."""

MAX_BAD_LINES = 0.05
"""Share of lines of a jsonl file that may be malformed; more is taken for a damaged or mislabelled file."""

MIN_LINES_FOR_SHARE = 20
"""In a file with fewer lines than this, one bad line would already be too large a share."""

MAX_FIELD_CHARACTERS = 1000
"""Other fields of a record are carried along as metadata when they are numbers, booleans or texts up to this."""

Items = Iterator[Document | Dropped]


def read_json(path: Path, *, source: str, text_field: str) -> Items:
    """An object with a text field, an array of such objects or of strings, or (by content) lines of JSON.

    What stands before the first mistake in an array is kept; the rest is one `malformed_json`.
    """
    name = format_of(path)
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        if before.st_size > MAX_JSON_BYTES:
            detail = f"{before.st_size} bytes of JSON, at most {MAX_JSON_BYTES} are read; convert it to jsonl"
            yield Dropped(source, "too_large", detail, num_bytes=before.st_size, format=name)
            return
        data = file.read(before.st_size)
        if changed_since(file, before):
            yield changed_while_read(source, name, len(data))
            return
    decoded = decode(data)
    if isinstance(decoded, Undecodable):
        yield Dropped(source, decoded.reason, decoded.detail, num_bytes=len(data), format=name)
        return
    text, encoding = decoded
    if _is_lines_of_json(text):
        yield from read_json_lines(path, source=source, text_field=text_field)
        return
    items = _json_items(text, source, text_field, name, encoding)
    yield from _with_all_bytes(items, total=len(data), source=source, name=name)


def read_json_lines(path: Path, *, source: str, text_field: str) -> Items:
    """One document a line; a line that is not a record is dropped with its number, counted from 1.

    Raises:
        DataError: of at least `MIN_LINES_FOR_SHARE` lines, more than `MAX_BAD_LINES` are malformed.
    """
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        items = _json_line_items(file, before.st_size, path, source, text_field)
        yield from _with_all_bytes(items, total=before.st_size, source=source, name=format_of(path))
        if changed_since(file, before):
            yield changed_while_read(source, format_of(path), 0)


class _NotJsonError(ValueError):
    """JSON that Python's parser accepts and the standard does not, or that means two things."""


def _refuse_constant(constant: str) -> None:
    raise _NotJsonError(f"{constant} is not JSON")


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise _NotJsonError(f"key {repeated!r} stands twice in one object")
    return record


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeated)
# What the decoder raises: JSONDecodeError and _NotJsonError are ValueErrors, as is a number of thousands of digits.
_JSON_ERRORS = (ValueError, RecursionError)


def _explain(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _is_lines_of_json(text: str) -> bool:
    """Whether the first line is an object of its own and another one follows."""
    start = _skip_space(text, 0)
    if not text.startswith("{", start):
        return False
    end = text.find("\n", start)
    following = _skip_space(text, end) if end >= 0 else len(text)
    if not text.startswith("{", following):
        return False
    try:
        _DECODER.decode(text[start:end])
    except _JSON_ERRORS:
        return False
    return True


_SPACE = re.compile(r"[ \t\r\n]*")


def _skip_space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    assert match, "the pattern matches the empty string"
    return match.end()


_WITHOUT_MARK = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}


def _json_items(text: str, source: str, text_field: str, name: str, encoding: Encoding) -> Items:
    """The records of a JSON text; the bytes of each are those from the end of the one before."""
    metadata = {"format": name, "encoding": encoding.name}

    codec = _WITHOUT_MARK.get(encoding.codec, encoding.codec)

    def size(part: str) -> int:
        return len(part.encode(codec, "replace"))

    place = end = 0
    try:
        start = _skip_space(text, 0)
        if start == len(text):
            return
        if text[start] != "[":
            value, end = _DECODER.raw_decode(text, start)
            if _skip_space(text, end) < len(text):
                raise json.JSONDecodeError("Extra data", text, end)
            yield _record(value, source, text_field, metadata, size(text), text)
            return
        end = start + 1
        number = 0
        while True:
            start = _skip_space(text, end)
            if text.startswith("]", start):
                if _skip_space(text, start + 1) < len(text):
                    raise json.JSONDecodeError("Extra data", text, start + 1)
                return
            if number:
                if not text.startswith(",", start):
                    raise json.JSONDecodeError("Expecting ',' delimiter", text, start)
                start = _skip_space(text, start + 1)
            value, end = _DECODER.raw_decode(text, start)
            raw = text[place:end]
            yield _record(value, f"{source}[{number}]", text_field, metadata, size(raw), raw)
            place = end
            number += 1
    except _JSON_ERRORS as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else max(place, end)
        line = text.count("\n", 0, position) + 1
        yield Dropped(
            f"{source}:{line}",
            "malformed_json",
            _explain(error),
            excerpt(text[place:]),
            size(text[place:]),
            name,
        )


def _json_line_items(file: BinaryIO, size: int, path: Path, source: str, text_field: str) -> Items:
    name = format_of(path)
    num_lines = num_bad = num_without_text = 0
    first_bad = first_without_text = ""
    for number, line, num_bytes in _lines(file, size):
        place = f"{source}:{number}"
        num_lines += 1
        if line is None:
            detail = f"a line of {num_bytes} bytes, at most {MAX_RECORD_BYTES} are read"
            yield Dropped(place, "too_large", detail, num_bytes=num_bytes, format=name)
            continue
        item = _json_line(line, place, text_field, name, num_bytes)
        if isinstance(item, Dropped) and item.reason == "no_text_field":
            num_without_text += 1
            first_without_text = first_without_text or item.detail
        elif isinstance(item, Dropped):
            num_bad += 1
            first_bad = first_bad or f"{path}:{number}: {item.detail}"
        yield item
    if num_lines >= MIN_LINES_FOR_SHARE and num_bad > MAX_BAD_LINES * num_lines:
        raise DataError(
            f"{first_bad} (the first of {num_bad} malformed lines among {num_lines}, more than "
            f"{MAX_BAD_LINES:.0%}): the file is damaged or is not jsonl, which has one JSON object on each line; "
            "repair it, move it out of the way, or name it .txt to read it as plain text"
        )
    if num_without_text and num_without_text == num_lines:
        # Unusual enough to say aloud, but a directory may well hold records that are not for pretraining.
        logger.warning(
            "%s: none of its %d records is used: %s; set data.text_field to the field that holds the text",
            path,
            num_without_text,
            first_without_text,
        )


def _lines(file: BinaryIO, size: int) -> Iterator[tuple[int, bytes | None, int]]:
    """(number, line, bytes since the end of the line before) of every line that is not blank; None in place of a
    line that is too long to be held in memory."""
    number = num_bytes = 0
    while size > 0 and (line := file.readline(min(size, MAX_RECORD_BYTES + 1))):
        number += 1
        size -= len(line)
        num_bytes += len(line)
        if not line.strip():
            continue
        end = line
        while size > 0 and not end.endswith(b"\n") and (end := file.readline(min(size, MAX_RECORD_BYTES))):
            size -= len(end)
            num_bytes += len(end)
        yield number, line if end is line else None, num_bytes
        num_bytes = 0


def _json_line(line: bytes, place: str, text_field: str, name: str, num_bytes: int) -> Document | Dropped:
    encoding = "utf-8"
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        decoded = decode(line)
        if isinstance(decoded, Undecodable):
            return Dropped(place, decoded.reason, decoded.detail, "", num_bytes, name)
        text, encoding = decoded[0], decoded[1].name
    try:
        value = _DECODER.decode(text)
    except _JSON_ERRORS as error:
        return Dropped(place, "malformed_json", _explain(error), excerpt(text), num_bytes, name)
    return _record(value, place, text_field, {"format": name, "encoding": encoding}, num_bytes, text)


def _record(
    value: Any, source: str, text_field: str, metadata: dict[str, Any], num_bytes: int, raw: str
) -> Document | Dropped:
    """The document in a JSON value; short simple fields beside the text go to `metadata["fields"]`."""
    if isinstance(value, str):
        return Document.of(value, source=source, metadata=metadata, num_bytes=num_bytes)
    if isinstance(value, dict) and isinstance(text := value.get(text_field), str):
        fields = {
            key: field
            for key, field in value.items()
            if key != text_field
            and (
                (isinstance(field, int | float) and math.isfinite(field))
                or (isinstance(field, str) and len(field) <= MAX_FIELD_CHARACTERS)
            )
        }
        if fields:
            metadata = {**metadata, "fields": fields}
        return Document.of(text, source=source, metadata=metadata, num_bytes=num_bytes)
    if isinstance(value, dict) and text_field in value:
        detail = f"field {text_field!r} holds {_json_type(value[text_field])}, expected a string"
    elif isinstance(value, dict):
        detail = f"no field {text_field!r} (fields here: {excerpt(', '.join(value)) or 'none'})"
    else:
        detail = f"{_json_type(value)}, expected an object with a field {text_field!r} or a string"
    return Dropped(source, "no_text_field", detail, excerpt(raw), num_bytes, str(metadata["format"]))


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _with_all_bytes(items: Items, *, total: int, source: str, name: str) -> Items:
    """The items, the last of them with the bytes that are still missing from `total` (a closing bracket, blank
    lines at the end)."""
    last: Document | Dropped | None = None
    counted = 0
    for item in items:
        if last is not None:
            yield last
        last = item
        counted += item.num_bytes or 0
    if last is None:
        yield Dropped(source, "empty", "holds no records", num_bytes=total, format=name)
    else:
        yield dataclasses.replace(last, num_bytes=(last.num_bytes or 0) + total - counted)
