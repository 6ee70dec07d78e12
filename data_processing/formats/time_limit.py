"""An end to work that takes too long, such as laying out a hostile PDF. Knows nothing of the work."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType


class TooSlow(BaseException):
    """The time is over. No `Exception`, because libraries that read broken files swallow those."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TooSlow` in the block, or at its end, when it has taken more than `seconds` of processor time.

    Processor time and not the clock's, so that the same file has the same fate on a machine that is busy. The block is
    interrupted where Python and the operating system allow it: in the main thread on Unix, when no library is within C
    code. Elsewhere it runs to its end, and is too slow then. Limits may not be nested.
    """
    begin = time.process_time()
    can_interrupt = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not can_interrupt:
        yield
    else:
        previous = signal.signal(signal.SIGPROF, _interrupt)
        try:
            signal.setitimer(signal.ITIMER_PROF, seconds)
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, previous)
    if time.process_time() - begin > seconds:
        raise TooSlow


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    raise TooSlow
