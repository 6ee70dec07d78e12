"""How names, numbers and excerpts stand where people read them: legible, and unable to act. Knows no page."""

import html
import re
from collections.abc import Mapping
from typing import Any

# What reorders or hides what stands beside it: controls but tab and line feed, soft hyphen, the Arabic letter mark,
# zero-width space, direction marks, line and paragraph separators, embeddings, overrides and isolates, byte-order mark,
# lone surrogates, and the tag characters. The joiners U+200C and U+200D stay: Persian, Hindi and emoji need them.
_TRICKY = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|~&$#])")
_DECIMAL_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Html(str):
    """Markup that this program wrote. Any other string is escaped where it enters a page."""

    __slots__ = ()


def visible(text: str) -> str:
    r"""`text` with characters that hide or reorder others written as their numbers.

    >>> visible("photo_\u202egnp.exe")
    'photo_[U+202E]gnp.exe'
    """
    return _TRICKY.sub(lambda match: f"[U+{ord(match[0]):04X}]", text)


def markup(value: Any) -> Html:
    """`value` as it can stand in HTML, in an attribute too: markup of ours as it is, anything else escaped."""
    return value if isinstance(value, Html) else Html(html.escape(visible(str(value))))


def markdown(value: Any) -> str:
    """`value` on one line, with nothing in it that Markdown or HTML would take for its own."""
    return _MARKDOWN.sub(r"\\\1", " ".join(visible(str(value)).split()))


def one_line(text: str, limit: int = 160) -> str:
    """`text` on one line of at most `limit` characters; what is cut is cut from the middle, and an ellipsis says so."""
    line = visible(" ".join(text.split()))
    if len(line) <= limit:
        return line
    tail = limit // 3
    return f"{line[: limit - tail - 1]}…{line[len(line) - tail :]}"


def number(value: float) -> str:
    """A count with thousands separators, or a measured number with up to four significant digits.

    >>> number(1234567), number(3.14159), number(0.00012)
    ('1,234,567', '3.142', '0.00012')
    """
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1e3 else f"{value:.4g}"


def counted(times: int, noun: str) -> str:
    """A number of things, whose plural takes an s.

    >>> counted(1, "document"), counted(1200, "cluster")
    ('1 document', '1,200 clusters')
    """
    return f"{number(times)} {noun}" + ("" if times == 1 else "s")


def size(num_bytes: int) -> str:
    """Bytes in decimal units.

    >>> size(999), size(1_234), size(-45_200_000)
    ('999 B', '1.23 kB', '-45.2 MB')
    """
    for factor, unit in _DECIMAL_UNITS:
        # 999.6 kB would be written as 1000 kB.
        if abs(num_bytes) >= 0.9995 * factor:
            value = num_bytes / factor
            digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
            return f"{value:,.{digits}f} {unit}"
    return f"{num_bytes} B"


def share(part: float, whole: float) -> str:
    """Percent; never "0 %" of something, nor "100 %" of what is not all.

    >>> share(1, 3), share(1, 10**6), share(999_999, 10**6), share(0, 0)
    ('33.3 %', '<0.1 %', '>99.9 %', '–')
    """
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < abs(percent) < 0.05:
        return "<0.1 %" if percent > 0 else ">-0.1 %"
    if 99.95 <= percent < 100:
        return ">99.9 %"
    return f"{percent:.0f} %" if percent in (0, 100) else f"{percent:.1f} %"


def words(name: str) -> str:
    """A name from a report in words: `num_capped_buckets` is `capped buckets`."""
    return name.removeprefix("num_").replace("_", " ")


def by_size(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names with their counts, the largest first; equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
