"""A dataclass out of the JSON that `dataclasses.asdict` made of it, when every value is of its type and range.

Knows types, and nothing of what they mean.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Le
from pydantic import TypeAdapter, ValidationError

from core.errors import CorruptArtifactError

Count = Annotated[int, Ge(0), Le(2**53)]
"""What processes can add up in float64 without losing one (`core.distributed.World.sum`)."""

Positive = Annotated[int, Ge(1), Le(2**53)]

Share = Annotated[float, Ge(0), Le(1)]

Kind = TypeVar("Kind")

SHOWN_PROBLEMS = 4
"""Of one object, in a message."""


def stored(kind: type[Kind], values: Any, *, origin: str) -> Kind:
    """What `values`, as JSON has them, describe.

    Args:
        kind: A dataclass, of which no part is filled in by a default, or another type.
        origin: Where the values stand, for messages.

    Raises:
        CorruptArtifactError: a name is missing or unknown, or a value of another type or out of range; each is named.
    """
    if dataclasses.is_dataclass(kind):
        if not isinstance(values, Mapping):
            raise CorruptArtifactError(f"{origin} is {values!r:.80}, expected an object")
        check_names(values, [field.name for field in dataclasses.fields(kind)], origin)
    try:
        # By way of JSON, because strict mode then still takes a list for a tuple.
        return TypeAdapter(kind).validate_json(json.dumps(values, allow_nan=False), strict=True)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc'])) or 'it':.80} is {item['input']!r:.80}: {item['msg']}"
            for item in error.errors()[:SHOWN_PROBLEMS]
        ]
        raise CorruptArtifactError(
            f"{origin}: {'; '.join(problems)}; resume from another checkpoint"
        ) from None
    except ValueError as error:
        raise CorruptArtifactError(f"{origin}: {error}; resume from another checkpoint") from None


def check_names(found: Mapping[str, Any], expected: Iterable[str], origin: str) -> None:
    """Refuse an object that lacks a name or has one that is unknown.

    Raises:
        CorruptArtifactError: the message says which.
    """
    problems = [
        *(f"lacks {name!r}" for name in expected if name not in found),
        *(f"has an unknown {name!r:.80}" for name in found if name not in expected),
    ]
    if problems:
        shown = " and ".join(problems[:SHOWN_PROBLEMS])
        raise CorruptArtifactError(
            f"{origin} {shown}; it was damaged or written by another version of the program, so "
            "training cannot go on exactly: resume from another checkpoint, or start anew from its weights"
        )
