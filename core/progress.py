"""Progress with an estimate of the time that is left, for anything that may take longer than two seconds."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

SILENT_SECONDS = 2.0
"""Nothing is drawn before this much time has passed, so short work stays quiet."""

LINE_SECONDS = 10.0
"""Time between lines where a bar cannot be redrawn."""


def progress(
    iterable: Iterable[T] | None = None,
    *,
    total: float | None = None,
    description: str,
    unit: str = "it",
    initial: float = 0,
    bar_format: str | None = None,
) -> "tqdm[T]":
    """A bar around `iterable`, or one that is moved by `.update(n)`; also a context manager.

    On a terminal it is redrawn ten times a second; into a file or pipe it writes a line every ten seconds and one at
    the end. `bar_format` is tqdm's, and has its " [" after what says how far it is.
    """
    terminal = sys.stderr.isatty()
    scaled: dict[str, Any] = {"unit_scale": True, "unit_divisor": 1000} if unit in ("B", "tokens") else {}
    return tqdm(
        iterable,
        total=total,
        desc=description,
        unit=unit,
        initial=initial,
        bar_format=bar_format,
        delay=SILENT_SECONDS,
        mininterval=0.1 if terminal else LINE_SECONDS,
        dynamic_ncols=terminal,
        ascii=None if terminal else True,
        file=None if terminal else _Lines(),
        **scaled,
    )


def short_number(value: float) -> str:
    """A speed in at most four characters.

    >>> short_number(87.4), short_number(5_812), short_number(10_243), short_number(1_243_000)
    ('87', '5.8k', '10k', '1.2M')
    """
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.1f}{unit}" if value < 9.95 * factor else f"{value / factor:.0f}{unit}"
    return f"{value:.0f}"


class _Lines:
    """Standard error for a bar that cannot be redrawn: each of its states becomes a line."""

    _last = ""

    def write(self, text: str) -> None:
        """Write a state; the carriage returns and blanks around it are for terminals."""
        text = text.strip()
        # A bar that ends draws its last state twice, with another speed in brackets.
        state = text.partition(" [")[0]
        if text and state != self._last:
            self._last = state
            sys.stderr.write(text + "\n")

    def flush(self) -> None:
        """Write out what is held back."""
        sys.stderr.flush()


@contextlib.contextmanager
def timed_progress(*, expected_seconds: float, description: str) -> Iterator[None]:
    """A bar that the clock moves, around work that cannot say how far it is; it waits at the end if that takes longer.

    Args:
        expected_seconds: An estimate; the time left is as good as it is.
    """
    done = threading.Event()
    started = time.monotonic()

    def follow_the_clock() -> None:
        with progress(total=round(expected_seconds, 1), description=description, unit="s") as bar:
            while not done.wait(0.1):
                bar.update(min(time.monotonic() - started, expected_seconds) - bar.n)

    thread = threading.Thread(target=follow_the_clock, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
