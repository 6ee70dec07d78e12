"""The parts that a report page is built of: sections, tables, plots beside tables, excerpts. Knows no facts."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_processing.reports.shown import Html, markup, number, share, size, words

MOST_BARS = 12
"""Bars in one plot; what is smaller is drawn together as one."""

MOST_ROWS = 25
"""Longer tables end with a row that says how many there are more; the JSON beside the page has them all."""


_NAME_PIECE = re.compile(r"[^/_.:!#-]*[/_.:!#-]+|[^/_.:!#-]+")


class Figure(Html):
    """A number with its unit; tables align it to the right."""

    __slots__ = ()


def num(value: float) -> Figure:
    """A count, for a table."""
    return Figure(markup(number(value)))


def size_of(num_bytes: int) -> Figure:
    """Bytes, for a table; the exact number shows under the pointer."""
    return Figure(f'<span title="{num_bytes:,} bytes">{markup(size(num_bytes))}</span>')


def share_of(part: float, whole: float) -> Figure:
    """A share, for a table."""
    return Figure(markup(share(part, whole)))


def section(identifier: str, title: str, lead: str, *parts: Html) -> Html:
    """A section with a heading, a sentence about it, and its parts; nothing where all parts are empty."""
    body = "".join(parts)
    if not body:
        return Html("")
    return Html(
        f'<section id="{identifier}" aria-labelledby="{identifier}-heading">'
        f'<h2 id="{identifier}-heading">{markup(title)}</h2><p class="lead">{markup(lead)}</p>{body}</section>'
    )


def subsection(title: str, *parts: Html) -> Html:
    """A part of a section under a heading of its own; nothing where all parts are empty."""
    body = "".join(parts)
    return Html(f"<h3>{markup(title)}</h3>{body}" if body else "")


def paragraph(text: Any) -> Html:
    """A paragraph."""
    return Html(f"<p>{markup(text)}</p>")


def tiles(values: Sequence[tuple[str, str, str]]) -> Html:
    """Large numbers side by side: (what it is, the number, what to compare it with) each."""
    items = "".join(
        f'<div class="tile"><dt>{markup(name)}</dt><dd><b>{markup(value)}</b><span>{markup(note)}</span></dd></div>'
        for name, value, note in values
    )
    return Html(f'<dl class="tiles">{items}</dl>')


def table(
    caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, total: int | None = None
) -> Html:
    """A table; numbers are aligned to the right, everything that is not `Html` is escaped. Nothing without rows.

    Args:
        total: Number of rows that there are, where `rows` is the beginning of them; None = the number of `rows`.
    """
    if not rows:
        return Html("")
    shown = [[_cell(value) for value in row] for row in rows[:MOST_ROWS]]
    width = len(shown[0])
    right = [' class="right"' if _is_numeric(row[index] for row in shown) else "" for index in range(width)]
    head = "".join(
        f'<th scope="col"{side}>{markup(title)}</th>' for title, side in zip(columns, right, strict=False)
    )
    body = "".join(f"<tr>{_row(row, right)}</tr>" for row in shown)
    more = (len(rows) if total is None else total) - len(shown)
    if more > 0:
        body += f'<tr><td class="more" colspan="{width}">and {more:,} more</td></tr>'
    return Html(
        f'<div class="scroll"><table><caption>{markup(caption)}</caption>'
        + (f"<thead><tr>{head}</tr></thead>" if columns else "")
        + f"<tbody>{body}</tbody></table></div>"
    )


def beside(plot: Html, *tables: Html) -> Html:
    """A plot with the tables of its numbers next to it, or below it on a narrow screen."""
    return Html(f'<div class="beside"><div class="drawn">{plot}</div><div>{"".join(tables)}</div></div>')


def side_by_side(*parts: Html) -> Html:
    """Small parts next to each other where the screen is wide; the empty ones take no place."""
    filled = "".join(f"<div>{part}</div>" for part in parts if part)
    return Html(f'<div class="columns">{filled}</div>' if filled else "")


def details(summary: Any, *parts: Html) -> Html:
    """Something that opens when it is asked for."""
    return Html(f"<details><summary>{markup(summary)}</summary>{''.join(parts)}</details>")


def excerpt_block(text: str) -> Html:
    """An excerpt of somebody's text, line breaks and all."""
    # The direction is the text's own and ends with it.
    return Html(f'<pre dir="auto"><bdi>{markup(text)}</bdi></pre>')


def name(text: Any) -> Html:
    """A name that somebody else chose, such as that of a file, in letters that tell 0 from O.

    It may be broken behind the signs that part it, so that narrow columns do not break it within words.
    """
    pieces = _NAME_PIECE.findall(str(text))
    return Html(f"<code><bdi>{'<wbr>'.join(map(markup, pieces))}</bdi></code>")


def openings(*parts: Html) -> Html:
    """Several `details`, as a list; nothing where there are none."""
    return Html(f'<div class="opening">{"".join(parts)}</div>' if parts else "")


def note_list(sentences: Sequence[str]) -> Html:
    """Sentences one below the other, set apart; nothing where there are none."""
    items = "".join(f"<li>{markup(sentence)}</li>" for sentence in sentences)
    return Html(f'<ul class="notable">{items}</ul>' if items else "")


def scalars(caption: str, values: Mapping[str, Any]) -> Html:
    """The plain numbers and words of a report as a table, whatever they are called."""
    rows = [
        [words(key), _measured(key, value) if isinstance(value, int | float) else value]
        for key, value in values.items()
        if isinstance(value, int | float | str) and not isinstance(value, bool)
    ]
    return table(caption, [], rows)


def records(caption: str, values: Sequence[Mapping[str, Any]]) -> Html:
    """Records with the same keys as a table, whatever the keys are called."""
    columns = list(dict.fromkeys(key for record in values for key in record))
    rows = [
        [
            _measured(key, value) if isinstance(value := record.get(key, ""), int | float) else name(value)
            for key in columns
        ]
        for record in values
    ]
    return table(caption, [words(key) for key in columns], rows)


def largest(ordered: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """As many as a plot draws, the last of them the sum of what it does not."""
    if len(ordered) <= MOST_BARS:
        return list(ordered)
    rest = ordered[MOST_BARS - 1 :]
    return [*ordered[: MOST_BARS - 1], (f"{len(rest)} others", sum(value for _, value in rest))]


def listed(values: Sequence[tuple[str, int]]) -> str:
    """What a screen reader says of a plot: each name with its number."""
    return "; ".join(f"{title}: {number(value)}" for title, value in values)


def _measured(key: str, value: float) -> Figure:
    if key.endswith("share") or key.startswith("share"):
        return share_of(value, 1)
    return size_of(int(value)) if key.endswith("bytes") else num(value)


def _row(cells: Sequence[Html], right: Sequence[str]) -> str:
    # The first cell names the row.
    return f'<th scope="row"{right[0]}>{cells[0]}</th>' + "".join(
        f"<td{side}>{cell}</td>" for cell, side in zip(cells[1:], right[1:], strict=True)
    )


def _cell(value: Any) -> Html:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return num(value)
    return markup(value)


def _is_numeric(cells: Iterable[Html]) -> bool:
    return all(isinstance(cell, Figure) for cell in cells)
