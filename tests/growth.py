"""Whether work grows in proportion to its input: two sizes, two times, their quotient.

Refuses to know how fast a machine is: one that is ten times slower has the same quotient.
"""

import gc
import itertools
import math
import time
from collections.abc import Callable
from typing import TypeVar

Input = TypeVar("Input")

TIMES_LARGER = 16
HIGHEST_QUOTIENT = 64
"""Linear work gives 16 and quadratic work 256; this is their geometric mean. Arrays that the allocator does not keep
cost new pages each time they are made: by that, linear work was once found 3.3 times too slow."""

SHORTEST_SECONDS = 0.00025
"""A time below this counts as this: it is that of the clock, of a call and of new pages rather than of the input. It
can only let work pass. Of 5000 pieces the large input has 80,000, which a quadratic step does not pass in 64 times
this: 3 billion pairs would have to take five picoseconds each."""

ATTEMPTS = 3
"""What else the machine does can only add to a time, so what passes once has passed."""


def assert_grows_linearly(
    work: Callable[[Input], object],
    make_input: Callable[[int], Input],
    size: int,
    *,
    clock: Callable[[], float] = time.process_time,
) -> None:
    """Do the work on inputs of `size` and of 16 times `size`, and hold the quotient of their times against 64.

    A sixteenth of `size` is held against `size` first: most of what is quadratic shows there, and soon. Nothing is
    measured while inputs are made, nor at the first call, which may import, compile and load. No size is asked for
    twice, so that nothing can be remembered of an input.

    Args:
        size: What `make_input` gets; also a sixteenth and sixteen times of it, and a few more. Characters, pieces or
            records: so many that the work takes a millisecond or a few.
        clock: Seconds of this process.

    Raises:
        AssertionError: the time grew faster.
    """
    numbers = itertools.count()

    def seconds(number: int) -> float:
        made = make_input(number + next(numbers))
        started = clock()
        work(made)
        return clock() - started

    collecting = gc.isenabled()
    # A collection goes through all that the session holds, and would count as work on whatever it falls upon.
    gc.disable()
    try:
        seconds(size // TIMES_LARGER)
        for smaller in (size // TIMES_LARGER, size):
            _hold_against_each_other(seconds, smaller)
    finally:
        if collecting:
            gc.enable()


def _hold_against_each_other(seconds: Callable[[int], float], size: int) -> None:
    small = large = math.inf
    for _ in range(ATTEMPTS):
        small = min(small, *(seconds(size) for _ in range(3)))
        large = min(large, seconds(TIMES_LARGER * size))
        if large <= HIGHEST_QUOTIENT * max(small, SHORTEST_SECONDS):
            return
    raise AssertionError(
        f"{small:.4f} s for {size}, and {large:.4f} s for {TIMES_LARGER} times as much: {large / small:.0f} times as "
        f"long, more than the {HIGHEST_QUOTIENT} that lie between linear and quadratic"
    )
