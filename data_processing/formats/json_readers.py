"""Readers of JSON: one value a file, an array of records, or a record a line. Know no rule of quality."""

import codecs
import itertools
import json
from collections.abc import Iterator
from typing import Any

from data_processing.document import Document, Dropped, excerpt
from data_processing.formats.input_bytes import chunks
from data_processing.formats.json_values import (
    DECODER,
    JSON_ERRORS,
    HeldText,
    TooLongError,
    array_elements,
    explain,
    skip_space,
)
from data_processing.formats.raw_input import RawInput, Reading
from data_processing.formats.records import RecordCounts, items_of_record, with_rest
from data_processing.formats.text_encoding import Encoding, Undecodable, decode, detect_encoding
from data_processing.formats.text_lines import MAX_LINE_BYTES, byte_lines, is_wide, text_lines

HEAD_BYTES = 4096
"""So much of the beginning shows whether it may be UTF-16, and whether it is an object."""

Items = Iterator[Document | Dropped]


def read_json(raw: RawInput, reading: Reading) -> Items:
    """An object with a text field, an array of such objects or of strings, or (by content) lines of JSON.

    An array is read element by element, whatever its length. What stands before the first mistake in it is kept; the
    rest is one `malformed_json`.
    """
    if _is_lines_of_json(raw):
        return read_json_lines(raw, reading)
    return _read_value(raw, reading)


def read_json_lines(
    raw: RawInput, reading: Reading, *, first_line: int = 1, counts: RecordCounts | None = None
) -> Items:
    """One document a line; a line that is not a record is dropped with its number.

    Args:
        first_line: Number of the first line, where `raw` is a part of a file.
        counts: Takes what the lines were, for who judges the file when all parts of it are read; None = judge here.

    Raises:
        DataError: of at least `records.MIN_RECORDS_FOR_SHARE` lines, more than
            `reading.limits.max_record_share_malformed` are malformed, and they are judged here.
    """
    return with_rest(raw, _line_items(raw, reading, first_line, counts))


# --- lines -------------------------------------------------------------------------------------------------------


def _line_items(raw: RawInput, reading: Reading, first_line: int, counts: RecordCounts | None) -> Items:
    wide = _wide_encoding(raw)
    lines = _lines(raw, first_line) if wide is None else _decoded_lines(raw, wide)
    seen = RecordCounts() if counts is None else counts
    for number, line, num_bytes in lines:
        items = _items_of_line(line, reading, f"{raw.source}:{number}", raw.format, num_bytes)
        seen.count(items)
        yield from items
    if counts is None:
        seen.check_lines(raw.source, reading)


def _wide_encoding(raw: RawInput) -> Encoding | None:
    """UTF-16 or UTF-32 if the input is that; a NUL character alone does not make it so."""
    raw.file.seek(0)
    if not is_wide(raw.file.read(HEAD_BYTES)):
        return None
    encoding = detect_encoding(chunks(raw))
    if isinstance(encoding, Encoding) and encoding.codec.startswith(("utf-16", "utf-32")):
        return encoding
    return None


TextOfLine = tuple[str, str] | Undecodable | None
"""(characters, name of the encoding), or why there are none; None for a line that is too long."""


def _lines(raw: RawInput, first_line: int) -> Iterator[tuple[int, TextOfLine, int]]:
    for number, line, num_bytes in byte_lines(raw, first_line=first_line):
        yield number, None if line is None else _text_of_line(line), num_bytes


def _text_of_line(line: bytes) -> TextOfLine:
    try:
        return line.decode().removeprefix("\ufeff"), "utf-8"
    except UnicodeDecodeError:
        # Line by line, because such a file was often put together from several.
        decoded = decode(line)
        return decoded if isinstance(decoded, Undecodable) else (decoded[0], decoded[1].name)


def _decoded_lines(raw: RawInput, encoding: Encoding) -> Iterator[tuple[int, TextOfLine, int]]:
    """The lines of UTF-16 and UTF-32."""
    num_bytes = 0
    for number, (line, size) in enumerate(text_lines(raw, encoding), start=1):
        num_bytes += size
        if line and not line.isspace():
            yield number, None if size > MAX_LINE_BYTES else (line, encoding.name), num_bytes
            num_bytes = 0


def _items_of_line(
    text: TextOfLine, reading: Reading, place: str, name: str, num_bytes: int
) -> list[Document | Dropped]:
    if text is None:
        detail = f"a line of {num_bytes} bytes, at most {MAX_LINE_BYTES} are read"
        return [Dropped(place, "too_large", detail, num_bytes=num_bytes, format=name)]
    if isinstance(text, Undecodable):
        return [Dropped(place, text.reason, text.detail, "", num_bytes, name)]
    line, encoding = text
    try:
        value, end = DECODER.raw_decode(line, 0 if line[:1] == "{" else skip_space(line, 0))
        if line[end:] != "\n" and skip_space(line, end) < len(line):
            raise json.JSONDecodeError("Extra data", line, end)
    except JSON_ERRORS as error:
        return [Dropped(place, "malformed_json", explain(error), excerpt(line), num_bytes, name)]
    metadata = {"format": name, "encoding": encoding}
    return items_of_record(value, reading, source=place, metadata=metadata, num_bytes=num_bytes, raw=line)


# --- one value ---------------------------------------------------------------------------------------------------


def _is_lines_of_json(raw: RawInput) -> bool:
    """Whether the first line is an object of its own and another one follows."""
    lines = _first_lines(raw)
    if len(lines) < 2 or not all(line.lstrip("\ufeff \t\r\n").startswith("{") for line in lines):
        return False
    try:
        DECODER.decode(lines[0].removeprefix("\ufeff"))
    except JSON_ERRORS:
        return False
    return True


def _first_lines(raw: RawInput) -> list[str]:
    """The first two lines that are not blank, as far as they can be decoded; long ones are left out."""
    if (encoding := _wide_encoding(raw)) is None:
        raw.file.seek(0)
        if not raw.file.read(HEAD_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
            return []
        lines = itertools.islice(byte_lines(raw), 2)
        return [line.decode("utf-8", "replace") for _, line, _ in lines if line is not None]
    decoded = (
        line for line, size in text_lines(raw, encoding) if size <= MAX_LINE_BYTES and not line.isspace()
    )
    return list(itertools.islice(decoded, 2))


def _read_value(raw: RawInput, reading: Reading) -> Items:
    encoding = detect_encoding(chunks(raw))
    if isinstance(encoding, Undecodable):
        yield raw.dropped(encoding.reason, encoding.detail)
        return
    most = reading.limits.max_json_bytes
    held = HeldText(_decoded(raw, encoding), most=most)
    try:
        start = held.after_space(0)
    except TooLongError as error:
        yield raw.dropped("too_large", f"{error}; raise data.reading.max_json_bytes")
        return
    if not held.text.startswith("[", start) and raw.num_bytes > most:
        detail = (
            f"one value of {raw.num_bytes} bytes, at most {most} are read at once; convert it to jsonl, or raise "
            "data.reading.max_json_bytes"
        )
        yield raw.dropped("too_large", detail)
        return
    yield from with_rest(raw, _value_items(held, start, encoding, raw, reading))


def _decoded(raw: RawInput, encoding: Encoding) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding.codec)(encoding.errors)
    for chunk in chunks(raw):
        yield decoder.decode(chunk)
    yield decoder.decode(b"", final=True)


_WITHOUT_MARK = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}


def _value_items(held: HeldText, start: int, encoding: Encoding, raw: RawInput, reading: Reading) -> Items:
    """The records of a JSON text; the bytes of each are those from the end of the one before."""
    codec = _WITHOUT_MARK.get(encoding.codec, encoding.codec)
    metadata = {"format": raw.format, "encoding": encoding.name}

    def record(value: Any, source: str, part: str) -> Items:
        size = len(part.encode(codec, "replace"))
        yield from items_of_record(value, reading, source=source, metadata=metadata, num_bytes=size, raw=part)

    try:
        if start == len(held.text):
            return
        if held.text.startswith("[", start):
            for number, (value, part) in enumerate(array_elements(held)):
                yield from record(value, f"{raw.source}[{number}]", part)
            return
        held.grow(raw.num_bytes)
        value, end = held.decode(start)
        if skip_space(held.text, end) < len(held.text):
            raise json.JSONDecodeError("Extra data", held.text, end)
        yield from record(value, raw.source, held.text)
    except JSON_ERRORS as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else 0
        is_long = isinstance(error, TooLongError)
        yield Dropped(
            f"{raw.source}:{held.line_of(position)}",
            "too_large" if is_long else "malformed_json",
            f"{error}; raise data.reading.max_json_bytes" if is_long else explain(error),
            excerpt(held.text),
            # What was not read any more is counted with the last item.
            len(held.text.encode(codec, "replace")),
            raw.format,
        )
