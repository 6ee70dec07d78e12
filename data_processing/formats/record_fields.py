"""What of a record is carried along beside its text. Knows no source of records."""

import datetime
import decimal
import math
import uuid
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

MAX_FIELD_CHARACTERS = 1000
"""Longer texts beside the text of a record are not carried along; arbitrary."""


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "missing"


MISSING = Missing.MISSING
"""In place of a field that is not there; one that holds null is there."""


def field_at(record: Mapping[str, Any], path: str) -> Any:
    """The field `path` of a record, or `MISSING`; `meta.body` is the field of that name, else `body` in `meta`."""
    if path in record:
        return record[path]
    outer, dot, inner = path.partition(".")
    below = record.get(outer)
    return field_at(below, inner) if dot and isinstance(below, Mapping) else MISSING


def scalar_fields(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The fields that are short and simple, as JSON: numbers, booleans, texts of at most `MAX_FIELD_CHARACTERS`.

    Dates, times, decimals and UUIDs, which databases and columnar files have, become texts.
    """
    simple = ((name, _simple(value)) for name, value in fields)
    return {name: value for name, value in simple if value is not None}


def _simple(value: Any) -> Any:
    """The value as JSON has it, or None when it is not carried along."""
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime.date | datetime.time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    if isinstance(value, str) and len(value) <= MAX_FIELD_CHARACTERS:
        return value
    return None
