"""The rules by which texts are left out."""

import pytest

from data_processing.reports.report import REASONS
from data_processing.rules.filters import FILTERS, Limits, count_urls
from tests.growth import assert_grows_linearly

OFF = Limits(min_length=0, max_length=None, max_urls=None)


@pytest.mark.parametrize(
    ("reason", "limits", "kept", "dropped"),
    [
        ("empty", OFF, "x", " \n\t\u3000"),
        ("too_short", Limits(min_length=5), "12345", "1234"),
        ("too_long", Limits(max_length=5), "12345", "123456"),
        ("too_many_urls", Limits(max_urls=1), "http://a.b", "http://a.b www.c.d"),
        ("garbled", OFF, "\ufffd" + 99 * "x", "\ufffd" + 98 * "x"),
    ],
)
def test_each_rule_objects_exactly_beyond_its_limit(reason: str, limits: Limits, kept: str, dropped: str):
    assert FILTERS[reason](kept, limits) is None
    assert FILTERS[reason](dropped, limits)


def test_limits_of_none_switch_rules_off():
    assert FILTERS["too_long"]("x" * 10**6, OFF) is None
    assert FILTERS["too_many_urls"]("http://a " * 1000, OFF) is None


def test_every_rule_is_explained_in_the_report():
    assert set(FILTERS) <= set(REASONS)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("see http://www.a.b/c and HTTPS://d.e", 2),
        ("(www.a.b) ftp://x.y/www.z", 2),
        ("awww.x and me@www.example www. x", 0),
        ("http://a/?u=http://b", 2),
    ],
)
def test_web_addresses_are_counted_once_each(text: str, number: int):
    assert count_urls(text) == number


@pytest.mark.parametrize(("unit", "end"), [("a", "!"), ("www.", ""), ("http:", ""), (" ", "x")])
def test_rules_take_linear_time_on_hostile_text(unit: str, end: str):
    limits = Limits(min_length=1, max_length=None, max_urls=10**9)
    for rule in FILTERS.values():
        assert_grows_linearly(lambda text, rule=rule: rule(text, limits), lambda n: unit * n + end, 25_000)
