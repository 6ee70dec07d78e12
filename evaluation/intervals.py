"""How sure a measured figure is: 95 % intervals of shares and means. Knows no model."""

import math
from collections.abc import Sequence

Z = 1.959963984540054
"""The quantile of the normal distribution that leaves 2.5 % on either side."""


def wilson_interval(num_right: int, number: int) -> tuple[float, float]:
    """Between which shares the true one lies, with 95 % confidence (Wilson 1927).

    Unlike the normal approximation it stays within 0 and 1, and does not shrink to nothing when all are right.

    >>> [round(end, 3) for end in wilson_interval(0, 10)]
    [0.0, 0.278]
    """
    assert 0 <= num_right <= number and number > 0
    share = num_right / number
    centre = share + Z**2 / (2 * number)
    spread = Z * math.sqrt(share * (1 - share) / number + Z**2 / (4 * number**2))
    scale = 1 + Z**2 / number
    # At the ends both terms are equal but for rounding.
    low = (centre - spread) / scale if num_right > 0 else 0.0
    high = (centre + spread) / scale if num_right < number else 1.0
    return low, high


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Between which numbers the true mean lies, with 95 % confidence, by the normal approximation; None for one."""
    number = len(values)
    if number == 1:
        return None
    mean = math.fsum(values) / number
    variance = math.fsum((value - mean) ** 2 for value in values) / (number - 1)
    spread = Z * math.sqrt(variance / number)
    return mean - spread, mean + spread


def differing_by_chance(num_first: int, num_second: int) -> float:
    """How probable it is that two equally good models differ at least so much on the same questions.

    McNemar's exact test, two-sided.

    Args:
        num_first: Questions that only the first has right.
        num_second: Questions that only the second has right.
    """
    number, fewer = num_first + num_second, min(num_first, num_second)
    # In integers: 2 ** number is no float from 1,024 questions on.
    tail = sum(math.comb(number, k) for k in range(fewer + 1))
    return float(min(1.0, 2 * tail / 2**number))
