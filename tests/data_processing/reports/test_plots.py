"""Plots, read back from their SVG."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.reports.plots import (
    LABEL_CHARACTERS,
    Bar,
    Column,
    Line,
    Part,
    bar_chart,
    histogram,
    legend,
    line_chart,
)

values = st.floats(0, 1e12, allow_nan=False)


def draw(svg: str) -> ElementTree.Element:
    """Well-formed XML, or an error."""
    return ElementTree.fromstring(svg)


def bars_of(root: ElementTree.Element, kind: str) -> list[tuple[float, float]]:
    """(left, width) in percent of the bars of one colour."""
    return [
        (float(one.attrib["x"].rstrip("%")), float(one.attrib["width"].rstrip("%")))
        for one in root.iter("rect")
        if one.attrib["class"] == kind
    ]


def chart(bars: list[Bar], scale: float | None = None) -> ElementTree.Element:
    return draw(bar_chart(bars, identifier="x", title="T", description="D", scale=scale))


def test_the_parts_of_a_bar_lie_end_to_end_in_proportion():
    root = chart([Bar("a", [Part("kept", 30), Part("dropped", 10)], "40"), Bar("b", [Part("kept", 20)])])
    assert bars_of(root, "kept") == [(0, 75), (0, 50)]
    assert bars_of(root, "dropped") == [(75, 25)]


def test_a_scale_can_be_given():
    assert bars_of(chart([Bar("a", [Part("kept", 0.25)])], scale=1), "kept") == [(0, 25)]


@given(st.lists(st.lists(values, max_size=4), max_size=5))
def test_no_bar_leaves_the_plot(rows: list[list[float]]):
    root = chart([Bar("a", [Part("kept", value) for value in row]) for row in rows])
    for left, width in bars_of(root, "kept"):
        assert left >= 0 and left + width <= 100.01


def test_what_is_there_is_seen_and_what_is_not_is_not():
    small = Bar("b", [Part("kept", 95), Part("dropped", 5), Part("removed", 0.1)])
    root = chart([Bar("a", [Part("kept", 1e9), Part("removed", 0), Part("around", -5)]), small])
    assert bars_of(root, "kept")[1][1] >= 0.4 and bars_of(root, "dropped")[0][1] >= 0.4
    assert bars_of(root, "removed") == [(0.8, 0)]  # a thousandth of little is not drawn as if it were a half
    assert not bars_of(root, "around")


def test_an_empty_plot_is_drawn():
    assert not bars_of(chart([]), "kept")
    assert not bars_of(chart([Bar("a", [Part("kept", 0)])]), "kept")
    assert not bars_of(draw(histogram([], identifier="x", title="T", description="D")), "kept")


def test_columns_are_as_high_as_their_values():
    columns = [Column("1", 100), Column("2", 50), Column("3", 0), Column("4", 0.0001)]
    root = draw(histogram(columns, identifier="x", title="T", description="D"))
    heights = [float(one.attrib["height"]) for one in root.iter("rect")]
    assert heights[0] == pytest.approx(2 * heights[1])
    assert heights[2] == 0
    assert heights[3] > 1  # not nothing
    feet = {float(one.attrib["y"]) + float(one.attrib["height"]) for one in root.iter("rect")}
    assert len(feet) == 1


def test_a_screen_reader_is_told_what_a_plot_shows():
    for svg in (
        bar_chart([], identifier="plot-1", title="By <size>", description="a: 1"),
        histogram([], identifier="plot-1", title="By <size>", description="a: 1"),
    ):
        root = draw(svg)
        assert root.attrib["role"] == "img"
        names = {one.attrib["id"]: one.text for one in root if "id" in one.attrib}
        assert [names[name] for name in root.attrib["aria-labelledby"].split()] == ["By <size>", "a: 1"]


def test_labels_are_escaped_and_cut():
    label = "</svg><script>" + "x" * 100
    root = chart([Bar(label, [Part("kept", 1, "<title>")], "<note>")])
    texts = [one.text or "" for one in root.iter("text")]
    assert texts[0].startswith("</svg><script>") and len(texts[0]) == LABEL_CHARACTERS
    assert texts[1] == "<note>"
    assert [one.text for one in root.iter("title")] == ["T", "<title>"]
    assert not list(root.iter("script"))


def test_every_second_label_can_be_hidden():
    root = draw(histogram([Column(str(n), n) for n in range(5)], identifier="x", title="T", description="D"))
    hidden = [one.text for one in root.iter("text") if "minor" in one.attrib["class"]]
    assert hidden == ["1", "3"]


def test_a_legend_names_each_colour():
    html = legend([("kept", "what stays"), ("dropped", "a & b")])
    assert re.findall(r'class="(kept|dropped)"', html) == ["kept", "dropped"]
    assert "what stays" in html and "a &amp; b" in html


def points_of(root: ElementTree.Element) -> list[list[tuple[float, float]]]:
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in one.attrib["points"].split())]
        for one in root.iter("polyline")
    ]


def lines(curves: list[Line], span: tuple[float, float] | None = None) -> ElementTree.Element:
    return draw(line_chart(curves, identifier="x", title="T", description="D", span=span))


def test_curves_share_their_axes():
    root = lines([Line("kept", [(0, 0), (50, 10)]), Line("around", [(100, 5)])])
    assert points_of(root) == [[(0, 190), (500, 20)], [(1000, 105)]]
    assert [one.text for one in root.iter("text")] == ["0", "100", "10", "0"]  # the heights' over the curves


def test_the_axis_can_be_longer_than_the_curve():
    assert points_of(lines([Line("kept", [(0, 1), (50, 2)])], span=(0, 200)))[0][-1][0] == 250


@given(st.lists(st.lists(st.tuples(values, values), max_size=4), max_size=3))
def test_no_curve_leaves_the_plot(curves: list[list[tuple[float, float]]]):
    for curve in points_of(lines([Line("kept", points) for points in curves if points])):
        assert all(-0.1 <= x <= 1000.1 and 19.9 <= y <= 190.1 for x, y in curve)
