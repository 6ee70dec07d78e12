"""Pages put together as running text."""

from collections.abc import Callable

import pytest

from data_processing.formats.pdf_text import running_text
from tests.growth import assert_grows_linearly

BODY = "The smith heats the iron until it glows"


def pages_with(top, bottom, number: int = 6) -> list[list[str]]:
    return [[*top(n), f"{BODY} {'abcdef'[n]}.", f"Line {'abcdef'[n]}.", *bottom(n)] for n in range(number)]


EXPECTED = "\n\n".join(f"{BODY} {letter}.\nLine {letter}." for letter in "abcdef")


@pytest.mark.parametrize(
    ("top", "bottom"),
    [
        (lambda n: [], lambda n: [str(n + 1)]),
        (lambda n: [], lambda n: [f"- {n + 17} -"]),
        (lambda n: [], lambda n: [f"Page {n + 1} of 6"]),
        (lambda n: [], lambda n: [("i", "ii", "iii", "iv", "v", "vi")[n]]),
        (lambda n: [f"{n + 12} THE BLOOMERY"], lambda n: []),
        (lambda n: ["The Bloomery", "Part One"], lambda n: ["printed in 2024", str(n + 2)]),
        (lambda n: ["Ann Smith" if n % 2 else "The Bloomery"], lambda n: [f"{n + 101}"]),
        (lambda n: [f"Chapter {1 + n // 3}: Ore {n + 5}"], lambda n: []),
    ],
)
def test_headers_footers_and_page_numbers_go(top, bottom):
    assert running_text(pages_with(top, bottom)) == EXPECTED


@pytest.mark.parametrize(
    "line",
    [
        lambda n: f"Chapter {1 + n * n}",  # numbers that do not count with the pages
        lambda n: "}",
        lambda n: ("Ore", "Coal", "Fire", "Air", "Bloom", "Slag")[n],
    ],
)
def test_lines_that_only_look_alike_stay(line):
    text = running_text(pages_with(lambda n: [line(n)], lambda n: []))
    assert [part.split("\n")[0] for part in text.split("\n\n")][:6] == [line(n) for n in range(6)]


def test_one_page_has_no_header():
    assert running_text([["1", "text"]]) == "1\ntext"
    assert running_text([["text one", "1"], ["text two", "2"]]) == "text one\ntext two"
    assert running_text([]) == ""
    assert running_text([[], ["a"]]) == "a"


def test_words_divided_at_line_ends_are_joined_where_that_is_certain():
    assert running_text(
        [["the charac-", "ters of a", "Smith-", "Jones and 3-", "d, self-"], ["made, done."]]
    ) == ("the characters of a\nSmith-\nJones and 3-\nd, selfmade, done.")
    assert running_text([["a well-known word", "is well-", "known."]]) == "a well-known word\nis well-known."


def test_a_page_that_ends_within_a_sentence_goes_on_in_the_next_line():
    assert running_text([["one two"], ["three. (four.)"], ["five"]]) == "one two\nthree. (four.)\n\nfive"


@pytest.mark.parametrize(
    ("make_pages", "size"),
    [
        (lambda number: [["x" * number]], 2500),
        (lambda number: [["a-" * number]], 5000),
        (lambda number: [["1 " * 20] * 4] * number, 50),
        (lambda number: [["a" * 50 + "-", "b"] * number], 250),
    ],
    ids=["one word", "one line", "many pages", "one page"],
)
def test_hostile_pages_take_time_in_proportion_to_their_length(
    make_pages: Callable[[int], list[list[str]]], size: int
):
    assert_grows_linearly(running_text, make_pages, size)
