"""The step of quality: which rules it asks of what, in which order, with datatrove's decisions, in linear time."""

import hashlib
import json
import random
import typing
from typing import Any

import pytest

from core.data_config import QualityConfig, QualityRule
from core.errors import ConfigError
from data_processing.document import Outcome
from data_processing.rules.quality import CODE_RULES, PROSE_RULES, QUALITY_REASONS, quality_step
from tests.data_processing.quality_pages import DECISIONS, make_pages
from tests.growth import assert_grows_linearly

PAGES = make_pages()
PEER: list[dict[str, Any]] = [json.loads(line) for line in DECISIONS.read_text().splitlines()]
ALL_PROSE: tuple[QualityRule, ...] = ("gopher_quality", "gopher_repetition", "c4", "fineweb")


ORDINARY = """A bloomery is a furnace for smelting iron, and for more than two thousand years it was the only one.
Charcoal and ore are laid into it by turns, and bellows drive the air that keeps the fire hot enough.
The iron never melts; it gathers at the bottom as a spongy mass, full of slag, that smiths called the bloom.
Hammering the bloom while it glows presses out the slag, and what remains can be drawn into bars.
None of this needs a tall chimney, which is why so many villages could afford to have a furnace of their own."""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def judge(
    text: str, *rules: QualityRule, metadata: dict[str, Any] | None = None, **settings: object
) -> Outcome:
    return quality_step(QualityConfig.from_dict({"rules": rules, **settings}))(text, metadata or {})


def test_the_pages_are_those_that_datatrove_decided_on():
    assert [digest(page) for page in PAGES] == [theirs["text"] for theirs in PEER]


@pytest.mark.parametrize("name", ALL_PROSE)
def test_decisions_and_reasons_are_those_of_datatrove(name: QualityRule):
    ours = [judge(page, name).reason for page in PAGES]
    assert ours == [theirs[name] for theirs in PEER]
    # The pages are of use only if both outcomes are among them, and several reasons.
    assert 0.1 < sum(reason is None for reason in ours) / len(ours) < 0.9
    assert len(set(ours)) >= 4


def test_what_c4_leaves_of_a_text_is_what_datatrove_leaves():
    for page, theirs in zip(PAGES, PEER, strict=True):
        assert theirs["c4"] is not None or digest(judge(page, "c4").text) == theirs["c4_text"]


def test_every_reason_is_explained():
    given = {judge(page, name).reason for page in PAGES for name in ALL_PROSE} - {None}
    assert given <= QUALITY_REASONS.keys()
    assert {*PROSE_RULES, *CODE_RULES} == set(typing.get_args(QualityRule))


def test_rules_are_asked_in_the_order_of_the_setting_and_the_first_objection_counts():
    text = "Few words {here}."
    assert judge(text, "gopher_quality", "c4").reason == "gopher_too_few_words"
    assert judge(text, "c4", "gopher_quality").reason == "c4_curly_bracket"
    assert judge(text) == Outcome(text)


def test_a_dropped_text_is_handed_on_as_it_came():
    text = "One line goes\nfor it has no end."
    outcome = judge(text, "c4", "gopher_quality", c4_min_sentences=1)
    assert (outcome.reason, outcome.text, outcome.counts) == ("gopher_too_few_words", text, {})


def test_later_rules_see_what_c4_leaves():
    kept = "\n".join(f"Line number {number} of this text ends with a full stop." for number in range(5))
    short = "\n".join(["menu"] * 20)
    assert judge(f"{short}\n{kept}", "fineweb").reason == "fineweb_short_lines"
    assert judge(f"{short}\n{kept}", "c4", "fineweb") == Outcome(kept, counts={"c4_line": 20})


def test_code_is_asked_by_rules_for_code_and_prose_by_rules_for_prose():
    code = {"code": True}
    assert judge("x" * 2000, "code", metadata=code).reason == "code_minified"
    assert judge("x" * 2000, "code") == Outcome("x" * 2000)
    assert judge("Few words {here}.", *ALL_PROSE, metadata=code) == Outcome("Few words {here}.")


def test_the_language_that_was_told_before_reaches_the_rules():
    text = "Der Schmied hat das Eisen im Feuer und schlägt es mit dem Hammer. " * 2
    assert judge(text, "gopher_quality", gopher_min_words=5).reason == "gopher_few_stop_words"
    assert judge(text, "gopher_quality", gopher_min_words=5, metadata={"language": "de"}).reason is None


def test_ordinary_prose_stays():
    assert judge(ORDINARY, *ALL_PROSE) == Outcome(ORDINARY)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rules": ["gopher"]}, "rules"),
        ({"gopher_max_top_ngrams": {"0": 0.2}}, "gopher_max_top_ngrams"),
        ({"gopher_max_duplicate_ngrams": {"5": 1.5}}, "gopher_max_duplicate_ngrams"),
        ({"gopher_min_words": 10, "gopher_max_words": 5}, "gopher_min_words 10 is above gopher_max_words 5"),
        (
            {"gopher_min_mean_word_length": 11.0},
            r"mean_word_length 11.0 is above .* 10.0: no text could be kept",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=message):
        QualityConfig.from_dict(settings)


VOCABULARY = [f"{word}{number}" for word in ("ore", "iron", "coal", "of", "the") for number in range(200)]
HOSTILE = {
    "one word": lambda n: "a" * n + "!",
    "newlines": lambda n: "\n" * n,
    "equal words": lambda n: "word " * n,
    "one line": lambda n: " ".join(random.Random(0).choices(VOCABULARY, k=n)),
    "anagrams": lambda n: "on no " * n,
    "closing marks": lambda n: "!'\"" * n + " x.",
    "opening brackets": lambda n: "[" * n,
    "a long number": lambda n: "1" * n + "x",
    "numbers that do not go on": lambda n: "0x1,2 x" * n,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_rules_take_linear_time_on_hostile_text(name: str):
    for rule in (*PROSE_RULES, *CODE_RULES):

        def work(text: str, rule: QualityRule = rule) -> None:
            judge(
                text,
                rule,
                metadata={"code": rule in CODE_RULES},
                code_max_line_length=None,
                code_max_mean_line_length=None,
            )

        assert_grows_linearly(work, HOSTILE[name], 5000)
