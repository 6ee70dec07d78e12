"""What a rule of quality says against a text: a reason and the two numbers. Knows no rule."""

from typing import NamedTuple


class Objection(NamedTuple):
    """Why a text is left out: one word, and what was found, for people."""

    reason: str
    detail: str


def above(reason: str, value: float, threshold: float | None, what: str) -> Objection | None:
    """An objection where `value` is above `threshold`; None = there is no threshold.

    >>> above("gopher_too_many_words", 12, 10, "words").detail
    '12 words, more than 10'
    """
    if threshold is None or value <= threshold:
        return None
    return Objection(reason, f"{_rounded(value)} {what}, more than {threshold}")


def below(reason: str, value: float, threshold: float | None, what: str) -> Objection | None:
    """An objection where `value` is below `threshold`; None = there is no threshold."""
    if threshold is None or value >= threshold:
        return None
    return Objection(reason, f"{_rounded(value)} {what}, less than {threshold}")


def share(part: float, whole: float) -> float:
    """`part` divided by `whole`; 0 of nothing."""
    return part / whole if whole else 0.0


def _rounded(value: float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
