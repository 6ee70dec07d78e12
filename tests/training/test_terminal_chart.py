import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.terminal_chart import chart, side_by_side

curves = st.lists(st.tuples(st.integers(0, 10**9), st.floats(-1e30, 1e30)), max_size=30)


def dots(lines: list[str], *, width: int) -> set[tuple[int, int]]:
    """(x, y) of every dot, read back from the characters."""
    bits = {
        0x01: (0, 0),
        0x02: (0, 1),
        0x04: (0, 2),
        0x40: (0, 3),
        0x08: (1, 0),
        0x10: (1, 1),
        0x20: (1, 2),
        0x80: (1, 3),
    }
    found = set()
    for row, line in enumerate(lines[1:-1]):
        for column, character in enumerate(line[10:]):
            for bit, (x, y) in bits.items():
                if 0x2800 <= ord(character) < 0x2900 and (ord(character) - 0x2800) & bit:
                    found.add((2 * column + x, 4 * row + y))
    return found


def test_a_falling_line_is_a_diagonal_of_dots() -> None:
    lines = chart("loss", [[(0, 10.0), (19, 0.0)]], width=20, height=5)
    found = dots(lines, width=20)
    assert {(0, 0), (19, 19)} <= found
    assert all(abs(x - y) <= 1 for x, y in found)
    assert [line[:10].strip() for line in (lines[1], lines[5])] == ["10.00┤", "0┤"]
    assert lines[-1].split() == ["0", "19"]


@given(st.lists(curves, max_size=3), st.integers(24, 120), st.integers(2, 20))
def test_no_drawing_is_wider_or_higher_than_its_place(many, width: int, height: int) -> None:
    lines = chart("title", [sorted(curve) for curve in many], width=width, height=height)
    assert max(map(len, lines)) <= width
    assert len(lines) in (1, height + 2)


def test_a_single_point_and_a_constant_are_drawn() -> None:
    assert dots(chart("x", [[(5, 1.0)]], width=30, height=4), width=30)
    level = dots(chart("x", [[(0, 2.0), (10, 2.0)]], width=30, height=4), width=30)
    assert len({y for _, y in level}) == 1


def test_nothing_to_draw_is_the_title_alone() -> None:
    assert chart("loss", [[], []], width=30, height=4) == ["loss"]


def test_several_curves_end_with_their_letters_and_have_their_colours() -> None:
    two = [[(0, 1.0), (10, 0.0)], [(0, 0.0), (10, 1.0)]]
    plain = "\n".join(chart("x", two, width=40, height=6))
    assert plain.count("a") == plain.count("b") == 1
    assert "\x1b" not in plain
    coloured = "\n".join(chart("x", two, width=40, height=6, colour=True))
    assert {"\x1b[36m", "\x1b[33m"} <= set(re.findall(r"\x1b\[\d\dm", coloured))
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


@pytest.mark.parametrize("colour", [False, True])
def test_blocks_side_by_side_keep_their_columns(colour: bool) -> None:
    block = chart("left", [[(0, 1.0), (5, 2.0)]], width=30, height=4, colour=colour)
    rows = [re.sub(r"\x1b\[\d+m", "", row) for row in side_by_side([block, ["right"] * 6], width=30)]
    assert all(row[32:] == "right" for row in rows)


def test_a_span_places_a_short_curve_on_the_axis_of_a_long_one() -> None:
    lines = chart("loss", [[(0, 3.0), (5, 1.0)]], width=30, height=4, span=(0, 10))
    assert max(x for x, _ in dots(lines, width=20)) == 20  # of 0 to 39
    assert lines[-1].split() == ["0", "10"]


def test_a_single_value_is_written_where_it_is_drawn_and_no_other_value_is() -> None:
    lines = chart("loss", [[(0, 8.371)]], width=30, height=5, span=(0, 40))
    labels = [line[:9].strip() for line in lines[1:-1]]
    assert labels.count("8.371") == 1 and labels.count("") == 4
    row = labels.index("8.371")
    assert {y // 4 for _, y in dots(lines, width=20)} == {row}
