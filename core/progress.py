"""Progress with an estimate of the time that is left, for anything that may take longer than two seconds."""

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

SILENT_SECONDS = 2.0
"""Nothing is drawn before this much time has passed, so short work stays quiet."""


def progress(
    iterable: Iterable[T] | None = None,
    *,
    total: float | None = None,
    description: str,
    unit: str = "it",
    initial: float = 0,
) -> "tqdm[T]":
    """A bar around `iterable`, or one that is moved by `.update(n)`; also a context manager.

    On a terminal it is redrawn ten times a second; into a file or pipe it writes a line every ten seconds.
    """
    terminal = sys.stderr.isatty()
    scaled: dict[str, Any] = {"unit_scale": True, "unit_divisor": 1000} if unit in ("B", "tokens") else {}
    return tqdm(
        iterable,
        total=total,
        desc=description,
        unit=unit,
        initial=initial,
        delay=SILENT_SECONDS,
        mininterval=0.1 if terminal else 10.0,
        dynamic_ncols=terminal,
        ascii=None if terminal else True,
        leave=terminal,
        **scaled,
    )
