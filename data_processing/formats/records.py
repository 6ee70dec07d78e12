"""From a record (a JSON object, a row of a table) to the documents in it. Knows no file format.

Where the text is, a path says: `text`, `meta.body` for nested objects, `items[].text` for one document an element.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from core.errors import DataError
from data_processing.document import Document, Dropped, excerpt, utf8_size
from data_processing.formats.raw_input import RawInput, Reading

MAX_FIELD_CHARACTERS = 1000
"""Other fields of a record are carried along as metadata when they are numbers, booleans or texts up to this."""

MIN_RECORDS_FOR_SHARE = 20
"""In a file with fewer records than this, one malformed record would already be too large a share."""

Item = Document | Dropped

logger = logging.getLogger(__name__)


def items_of_record(
    value: Any, reading: Reading, *, source: str, metadata: dict[str, Any], num_bytes: int, raw: str
) -> list[Item]:
    """The documents in a value, or why there is none; their bytes add up to `num_bytes`.

    Short simple fields beside the text go to `metadata["fields"]`.

    Args:
        raw: The record as it was read, for the sample of what is dropped.
    """
    field = reading.text_field
    if isinstance(value, str):
        return [Document.of(value, source=source, metadata=metadata, num_bytes=num_bytes)]
    if isinstance(value, dict) and isinstance(text := value.get(field), str):
        # A key with dots in it is taken at its word, before it is read as a path.
        metadata = with_fields(metadata, value, without=field)
        return [Document.of(text, source=source, metadata=metadata, num_bytes=num_bytes)]
    steps = steps_of(field)
    if not isinstance(value, dict) or len(steps) == 1:
        detail = _why_no_text(value, field)
        return [Dropped(source, "no_text_field", detail, excerpt(raw), num_bytes, str(metadata["format"]))]
    found = _follow(value, steps)
    metadata = with_fields(metadata, value, without=steps[0])
    return [
        Document.of(text, source=source + place, metadata=metadata, num_bytes=size)
        if problem is None
        else Dropped(source + place, "no_text_field", problem, excerpt(raw), size, str(metadata["format"]))
        for (place, text, problem), size in zip(found, _shares(found, num_bytes), strict=True)
    ]


def with_fields(metadata: dict[str, Any], record: Mapping[str, Any], *, without: str) -> dict[str, Any]:
    """`metadata`, and in it under `fields` what of a record is short and simple."""
    # Types by identity: this runs for every field of every record, and takes half the time so.
    fields = {
        key: value
        for key, value in record.items()
        if key != without
        and (
            len(value) <= MAX_FIELD_CHARACTERS
            if type(value) is str
            else type(value) is int or type(value) is bool or (type(value) is float and math.isfinite(value))
        )
    }
    return {**metadata, "fields": fields} if fields else metadata


def with_rest(raw: RawInput, items: Iterable[Item]) -> Iterator[Item]:
    """The items, the last of them with the bytes that are still missing from `raw.num_bytes` (a closing bracket, blank
    lines at the end); without any, the record of the input's being `empty`."""
    last: Item | None = None
    counted = 0
    for item in items:
        if last is not None:
            yield last
        last = item
        counted += item.num_bytes or 0
    if last is None:
        yield raw.dropped("empty", "holds no records")
    else:
        yield dataclasses.replace(last, num_bytes=(last.num_bytes or 0) + raw.num_bytes - counted)


@dataclasses.dataclass
class RecordCounts:
    """How many records of a file were what they should be, to notice that it is damaged or something else.

    Attributes:
        num_records: All of them.
        num_bad, first_bad: Those that are malformed, and what the first of these is.
        num_without_text, first_without_text: Those without the field that was asked for, likewise.
    """

    num_records: int = 0
    num_bad: int = 0
    first_bad: str = ""
    num_without_text: int = 0
    first_without_text: str = ""

    def count(self, items: Iterable[Item]) -> None:
        """Take the items of one record."""
        self.num_records += 1
        for item in items:
            if isinstance(item, Dropped):
                self._count_dropped(item)

    def _count_dropped(self, item: Dropped) -> None:
        if item.reason == "no_text_field":
            self.num_without_text += 1
            self.first_without_text = self.first_without_text or item.detail
        elif item.reason != "too_large":
            self.num_bad += 1
            self.first_bad = self.first_bad or f"{item.source}: {item.detail}"

    def add(self, other: "RecordCounts") -> None:
        """Take what was counted behind these records."""
        self.num_records += other.num_records
        self.num_bad += other.num_bad
        self.first_bad = self.first_bad or other.first_bad
        self.num_without_text += other.num_without_text
        self.first_without_text = self.first_without_text or other.first_without_text

    def check(self, reading: Reading, *, kind: str) -> None:
        """Refuse the file when too much of it is malformed.

        Args:
            reading: Its share of malformed records that is allowed.
            kind: What it should be, for people, such as `a table whose first row names its columns`.

        Raises:
            DataError: of at least `MIN_RECORDS_FOR_SHARE` records, more than the share that is allowed are malformed.
        """
        share = reading.limits.max_record_share_malformed
        if self.num_records >= MIN_RECORDS_FOR_SHARE and self.num_bad > share * self.num_records:
            raise DataError(
                f"{self.first_bad} (the first of {self.num_bad} malformed records among {self.num_records}, more "
                f"than {share:.0%}): the file is damaged or is not {kind}; repair it, move it out of the way, "
                "name it .txt to read it as plain text, or raise data.reading.max_record_share_malformed"
            )

    def check_lines(self, source: str, reading: Reading) -> None:
        """`check` for lines of JSON; says aloud when none of them has the field with the text.

        Raises:
            DataError: as `check`.
        """
        self.check(reading, kind="jsonl, which has one JSON object on each line")
        if self.num_without_text and self.num_without_text == self.num_records:
            # Unusual enough to say aloud, but a directory may well hold records that are not for pretraining.
            logger.warning(
                "%s: none of its %d records is used: %s; set data.text_field to the field that holds the text",
                source,
                self.num_records,
                self.first_without_text,
            )


@functools.cache
def steps_of(path: str) -> tuple[str, ...]:
    """The keys along a path; `[]` stands alone for every element of an array."""
    steps: list[str] = []
    for part in path.split("."):
        key = part
        arrays = 0
        while key.endswith("[]"):
            key = key.removesuffix("[]")
            arrays += 1
        steps += [key] * (key != "") + ["[]"] * arrays
    return tuple(steps)


Found = tuple[str, str, str | None]
"""Place behind the source, text, and what is wrong (None = nothing)."""


def _follow(value: Any, steps: tuple[str, ...], place: str = "", first: int = 0) -> list[Found]:
    """What is at the end of a path whose first steps have led to `value`."""
    for number, step in enumerate(steps[first:], start=first):
        if step == "[]":
            if not isinstance(value, list):
                detail = f"field {_path(steps[:number])!r} holds {json_type(value)}, expected an array"
                return [(place, "", detail)]
            if not value:
                return [(place, "", f"the array {_path(steps[:number])!r} has no elements")]
            return [
                found
                for index, element in enumerate(value)
                for found in _follow(element, steps, f"{place}[{index}]", number + 1)
            ]
        if not isinstance(value, dict) or step not in value:
            return [(place, "", _why_no_text(value, _path(steps), missing=step))]
        value = value[step]
    if isinstance(value, str):
        return [(place, value, None)]
    return [(place, "", _wrong_type(_path(steps), value))]


def _why_no_text(value: Any, path: str, missing: str | None = None) -> str:
    if not isinstance(value, dict):
        return f"{json_type(value)}, expected an object with a field {path!r} or a string"
    key = path if missing is None else missing
    if key in value:
        return _wrong_type(path, value[key])
    where = "" if key == path else f", the path {path!r} ends there"
    return f"no field {key!r}{where} (fields here: {excerpt(', '.join(value)) or 'none'})"


def _wrong_type(path: str, value: Any) -> str:
    detail = f"field {path!r} holds {json_type(value)}, expected a string"
    if isinstance(value, list) and value and isinstance(value[0], str):
        detail += f"; data.text_field={path}[] makes a document of each element"
    return detail


def _path(steps: tuple[str, ...]) -> str:
    return ".".join(steps).replace(".[]", "[]")


def _shares(found: list[Found], num_bytes: int) -> list[int]:
    """Bytes of the record for each document in it: those of its text, and for the last one what remains."""
    sizes: list[int] = []
    missing = num_bytes
    for _, text, _ in found[:-1]:
        sizes.append(min(utf8_size(text), missing))
        missing -= sizes[-1]
    return [*sizes, missing]


def json_type(value: Any) -> str:
    """What a value is, for people."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "a number"
    names = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"a value of type {type(value).__name__}")
