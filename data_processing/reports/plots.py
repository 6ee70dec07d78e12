"""Plots as inline SVG: bars, columns and curves, drawn from labels and numbers alone. Knows no report.

Horizontal places are percentages and vertical ones pixels, so a plot takes the width that it is given and its letters
keep their size: on a telephone as on a wide screen. Colours are classes (`kept`, `dropped` ...) that the page defines,
for light and for dark.
"""

from collections.abc import Sequence
from typing import NamedTuple

from data_processing.reports.shown import Html, markup, number, one_line

ROW_PIXELS = 40
BAR_PIXELS = 12
LABEL_CHARACTERS = 26
"""Longer labels are cut in the middle, so that on a telephone they do not run into the numbers; the table beside a plot
has them whole."""

COLUMN_PIXELS = 170
LINE_UNITS = 1000
"""Width of the plane that curves are drawn in, before it is stretched."""

MIN_VISIBLE_PERCENT = 0.4
MIN_VISIBLE_SHARE = 0.01
"""A bar, and a piece of at least this share of it, is never drawn thinner than that (percent of the width)."""


class Part(NamedTuple):
    """A piece of a bar: the class that colours it, its length, and what the pointer shows."""

    kind: str
    value: float
    title: str = ""


class Bar(NamedTuple):
    """A row: its label on the left, its pieces, and a text on the right."""

    label: str
    parts: Sequence[Part]
    note: str = ""


class Column(NamedTuple):
    """A column of a histogram: the label below, its height, and what the pointer shows."""

    label: str
    value: float
    title: str = ""


class Line(NamedTuple):
    """A curve: the class that colours it, and its points (x, y) by rising x."""

    kind: str
    points: Sequence[tuple[float, float]]


def bar_chart(
    bars: Sequence[Bar], *, identifier: str, title: str, description: str, scale: float | None = None
) -> Html:
    """Horizontal bars, one below the other, each from its pieces laid end to end.

    Args:
        identifier: Unique in the page.
        title, description: What a screen reader says of the plot.
        scale: Value that fills the width; None = the longest bar does.
    """
    scale = scale or max((sum(part.value for part in bar.parts) for bar in bars), default=0) or 1
    drawn = []
    for index, bar in enumerate(bars):
        top = index * ROW_PIXELS
        drawn.append(
            f'<text class="label" x="0" y="{top + 14}">{markup(one_line(bar.label, LABEL_CHARACTERS))}</text>'
            f'<text class="note" x="100%" y="{top + 14}" text-anchor="end">{markup(bar.note)}</text>'
            f'<rect class="track" x="0" y="{top + 21}" width="100%" height="{BAR_PIXELS}" rx="2"/>'
        )
        start = 0.0
        whole = sum(max(part.value, 0) for part in bar.parts)
        for part in bar.parts:
            width = 100 * part.value / scale
            if width <= 0:
                continue
            if part.value >= MIN_VISIBLE_SHARE * whole:
                width = max(width, MIN_VISIBLE_PERCENT)
            start = min(start, 100 - width)
            drawn.append(
                f'<rect class="{part.kind}" x="{start:.3f}%" y="{top + 21}" width="{width:.3f}%" '
                f'height="{BAR_PIXELS}" rx="2">{_pointer(part.title)}</rect>'
            )
            start += width
    return _svg(drawn, len(bars) * ROW_PIXELS, identifier=identifier, title=title, description=description)


def histogram(columns: Sequence[Column], *, identifier: str, title: str, description: str) -> Html:
    """Columns side by side above their labels, with the largest value written at its height.

    Where many columns share a narrow screen, every second label is hidden (class `minor`).
    """
    top = max((column.value for column in columns), default=0) or 1
    pitch = 100 / max(len(columns), 1)
    base = COLUMN_PIXELS + 20
    drawn = [
        '<line class="grid" x1="0" x2="100%" y1="20" y2="20"/>',
        f'<text class="note" x="0" y="14">{markup(number(top))}</text>',
    ]
    for index, column in enumerate(columns):
        left = index * pitch
        height = max(COLUMN_PIXELS * column.value / top, 1.5 if column.value else 0)
        minor = " minor" if index % 2 else ""
        drawn.append(
            f'<rect class="kept" x="{left + 0.08 * pitch:.3f}%" y="{base - height:.1f}" '
            f'width="{0.84 * pitch:.3f}%" height="{height:.1f}">{_pointer(column.title)}</rect>'
            f'<text class="tick{minor}" x="{left + pitch / 2:.3f}%" y="{base + 16}" text-anchor="middle">'
            f"{markup(column.label)}</text>"
        )
    drawn.append(f'<line class="axis" x1="0" x2="100%" y1="{base}" y2="{base}"/>')
    return _svg(drawn, base + 24, identifier=identifier, title=title, description=description)


def line_chart(
    curves: Sequence[Line],
    *,
    identifier: str,
    title: str,
    description: str,
    span: tuple[float, float] | None = None,
) -> Html:
    """Curves over one pair of axes; the highest and the lowest value are written at the left, the ends of x below.

    Args:
        span: First and last x of the axis; None = those of the points.
    """
    points = [point for curve in curves for point in curve.points]
    values = [y for _, y in points] or [0.0]
    first, last = span or (min((x for x, _ in points), default=0), max((x for x, _ in points), default=0))
    low, high = min(values), max(values)
    base = COLUMN_PIXELS + 20

    def place(point: tuple[float, float]) -> str:
        x = (point[0] - first) / ((last - first) or 1) * LINE_UNITS
        y = base - (point[1] - low) / ((high - low) or 1) * COLUMN_PIXELS
        return f"{x:.1f},{y:.1f}"

    drawn = [
        '<line class="grid" x1="0" x2="100%" y1="20" y2="20"/>',
        f'<line class="axis" x1="0" x2="100%" y1="{base}" y2="{base}"/>',
        f'<text class="tick" x="0" y="{base + 16}">{markup(number(first))}</text>',
        f'<text class="tick" x="100%" y="{base + 16}" text-anchor="end">{markup(number(last))}</text>',
        # Stretched to the width of the plot; strokes keep their width.
        f'<svg width="100%" height="{base + 4}" viewBox="0 0 {LINE_UNITS} {base + 4}" preserveAspectRatio="none">',
        *(
            f'<polyline class="{curve.kind}" fill="none" stroke-width="2" vector-effect="non-scaling-stroke" '
            f'stroke-linejoin="round" points="{" ".join(map(place, curve.points))}"/>'
            for curve in curves
        ),
        "</svg>",
        # Over the curves, which lie lowest where most have been for long; the style gives letters an edge.
        f'<text class="note" x="0" y="14">{markup(number(high))}</text>',
        f'<text class="note" x="0" y="{base - 5}">{markup(number(low))}</text>',
    ]
    return _svg(drawn, base + 24, identifier=identifier, title=title, description=description)


def legend(kinds: Sequence[tuple[str, str]]) -> Html:
    """What the colours mean: (class, words) each."""
    items = "".join(
        f'<li><svg class="key" width="12" height="12" aria-hidden="true">'
        f'<rect class="{kind}" width="12" height="12" rx="2"/></svg>{markup(meaning)}</li>'
        for kind, meaning in kinds
    )
    return Html(f'<ul class="legend">{items}</ul>')


def _pointer(title: str) -> str:
    return f"<title>{markup(title)}</title>" if title else ""


def _svg(drawn: Sequence[str], height: int, *, identifier: str, title: str, description: str) -> Html:
    return Html(
        f'<svg class="plot" id="{identifier}" role="img" width="100%" height="{height}" '
        f'aria-labelledby="{identifier}-title {identifier}-text">'
        f'<title id="{identifier}-title">{markup(title)}</title>'
        f'<desc id="{identifier}-text">{markup(description)}</desc>{"".join(drawn)}</svg>'
    )
