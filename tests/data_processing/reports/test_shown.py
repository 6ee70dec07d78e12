"""How names and numbers stand where people read them."""

import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.reports.shown import (
    Html,
    by_size,
    markdown,
    markup,
    number,
    one_line,
    share,
    size,
    visible,
    words,
)

any_text = st.text(st.characters(), max_size=60)


class Reader(HTMLParser):
    """What a browser would read out of markup."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.attributes: dict[str, str | None] = {}

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(attrs)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


@given(any_text)
def test_no_text_becomes_markup_and_none_is_lost(text: str):
    reader = read(f"<p>{markup(text)}</p>")
    assert reader.tags == ["p"]
    assert reader.text == visible(text)


@given(any_text)
def test_no_text_leaves_its_attribute(text: str):
    reader = read(f'<p title="{markup(text)}">x</p>')
    assert reader.attributes == {"title": visible(text)}
    assert read(f"<p title='{markup(text)}'>x</p>").attributes == {"title": visible(text)}


@given(any_text)
def test_nothing_that_reorders_or_hides_is_left(text: str):
    for character in visible(text):
        assert unicodedata.bidirectional(character) not in {
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        }
        assert unicodedata.category(character) not in {"Cs", "Zl", "Zp"}
        assert character in "\t\n" or unicodedata.category(character) != "Cc"


def test_letters_that_need_joiners_keep_them():
    persian, family = "می\u200cخواهم", "\U0001f469\u200d\U0001f467"
    assert visible(persian + family) == persian + family


def test_our_own_markup_is_not_escaped_twice():
    assert markup(markup("a & b")) == "a &amp; b"
    assert markup(Html("<b>x</b>")) == "<b>x</b>"
    assert markup(7) == "7"


@given(any_text)
def test_markdown_has_nothing_of_its_own_in_a_name(text: str):
    shown = markdown(text)
    assert "\n" not in shown
    bare = shown.replace("\\\\", "")
    for sign in "|`<>[]*_":
        assert bare.count(sign) == bare.count(f"\\{sign}")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (1234567, "1,234,567"),
        (-1234, "-1,234"),
        (2089.5, "2,090"),
        (3.25, "3.25"),
        (0.00012, "0.00012"),
    ],
)
def test_numbers_have_separators(value: float, shown: str):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("num_bytes", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (99_960, "100 kB"),
        (999_499, "999 kB"),
        (999_600, "1.00 MB"),
        (-45_200_000, "-45.2 MB"),
        (3 * 10**15, "3,000 TB"),
    ],
)
def test_sizes_have_three_digits_and_a_unit(num_bytes: int, shown: str):
    assert size(num_bytes) == shown


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_share_says_nothing_and_all_only_of_nothing_and_all(part: int, more: int):
    whole = part + more
    assert share(part, whole) != "100 %" and share(whole, whole) == "100 %"
    assert (share(part, whole) == "0 %") == (part == 0)
    assert share(-part, whole) != "-0.0 %"


def test_a_long_line_is_cut_in_the_middle():
    line = one_line("beginning of a name\n" + "x" * 300 + " and its end", 40)
    assert len(line) == 40
    assert line.startswith("beginning of a name xxx") and line.endswith(" and its end") and "…" in line
    assert one_line("short\n name") == "short name"


def test_names_of_reports_in_words():
    assert words("num_capped_buckets") == "capped buckets"


def test_the_largest_comes_first_and_names_settle_ties():
    assert by_size({"b": 1, "a": 1, "c": 2}) == [("c", 2), ("a", 1), ("b", 1)]
