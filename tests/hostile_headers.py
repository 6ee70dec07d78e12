"""JSON and safetensors headers as somebody would write them who wants a reader to crash, hang or reserve all memory."""

import contextlib
import copy
import json
import random
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import BloomeryError

VALUES: list[Any] = [
    *(-1, 0, 1, 7, 2**31, 2**32, -(2**63), 2**63, 2**64, 10**30, 1.5, 1e308, float("inf"), float("nan")),
    *(None, True, "", "1", "\0", "../../../etc/passwd", "x" * 10_000, [], {}, [[1]], {"": {}}, [1] * 10_000),
]

DTYPES = [
    "F64",
    "F32",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "F8_E8M0",
    "F4",
    "C64",
    "I64",
    "U64",
    "U16",
    "BOOL",
    "X",
]

LARGEST_MESSAGE = 2000
"""Characters: what is shown of a hostile value is cut, so that the line can be read."""

MEMORY = 400 << 20
"""More than a reader of these small files may reserve."""


def changed(value: Any, generator: random.Random) -> Any:
    """`value` with something in it removed, repeated under another name, made longer, or replaced."""
    result = copy.deepcopy(value)
    holder, key = generator.choice(list(_places(result)))
    match generator.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[generator.choice(["", "\0", "x" * 10_000, "../x", *holder])] = holder[key]
        case 2 if isinstance(holder, list):
            holder.extend([1] * generator.choice([1, 1000, 100_000]))
        case 3 if type(holder[key]) is int:
            holder[key] += generator.choice([-(10**9), -8, -1, 1, 8, 10**9])
        case 4 if key == "dtype":
            holder[key] = generator.choice(DTYPES)
        case _:
            holder[key] = generator.choice(VALUES)
    return result


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """All members within `value`, each as the object or list that holds it and its key."""
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, member in members:
        yield value, key
        yield from _places(member)


def read_header(path: Path) -> tuple[dict[str, Any], bytes]:
    """A safetensors file's header, and the data after it."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_header(path: Path, header: Any, data: bytes, *, promised: int | None = None) -> None:
    """A safetensors file of these; `promised` is the length of the header that it claims."""
    encoded = json.dumps(header).encode()
    length = len(encoded) if promised is None else promised
    path.write_bytes(length.to_bytes(8, "little") + encoded + data)


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Within, this process can reserve `MEMORY` bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def refused(error: BaseException | None, what: str) -> bool:
    """Whether what was read was refused, as it has to be: by an error for the user, in a line that can be read."""
    if error is None:
        return False
    if not isinstance(error, BloomeryError):
        pytest.fail(f"{what}: {type(error).__name__}: {error}")
    assert len(str(error)) < LARGEST_MESSAGE, f"{what}: {str(error)[:500]}"
    assert error.exit_code in (65, 78)
    return True
