"""Gopher's rules object exactly beyond their thresholds, and say by how much."""

import pytest

from core.data_config import QualityConfig
from data_processing.rules.gopher_rules import REASONS, STOP_WORDS, gopher_quality, gopher_repetition
from data_processing.rules.prose import Prose

QUALITY_OFF = {
    name: None for name in QualityConfig.model_fields if name.startswith(("gopher_min", "gopher_max"))
} | {"gopher_max_top_ngrams": {}, "gopher_max_duplicate_ngrams": {}}


def only(**setting: object) -> QualityConfig:
    """Thresholds that are all off but one."""
    return QualityConfig.from_dict({**QUALITY_OFF, **setting})


@pytest.mark.parametrize(
    ("reason", "config", "kept", "dropped", "detail"),
    [
        ("gopher_too_few_words", only(gopher_min_words=3), "a b c", "a b --", "2 words, less than 3"),
        ("gopher_too_many_words", only(gopher_max_words=2), "a b -- …", "a b c", "3 words, more than 2"),
        (
            "gopher_short_words",
            only(gopher_min_mean_word_length=3.0),
            "abcd ab",
            "abc ab .......",
            "2.5 characters a word, less than 3.0",
        ),
        (
            "gopher_long_words",
            only(gopher_max_mean_word_length=3.0),
            "abcd ab",
            "abcd abc -",
            "3.5 characters a word, more than 3.0",
        ),
        (
            "gopher_symbol_ratio",
            only(gopher_max_symbol_ratio=0.5),
            "# a ... b",
            "## # a b",
            "0.75 hash signs a word, more than 0.5",
        ),
        (
            "gopher_symbol_ratio",
            only(gopher_max_symbol_ratio=0.5),
            "#… a... b c",
            "a… b... c",
            "0.666667 ellipses a word, more than 0.5",
        ),
        (
            "gopher_bullet_lines",
            only(gopher_max_bullet_lines=0.5),
            "- a\nb - c - d\n• e\nf",
            "- a\n  • b\nc",
            "0.666667 of the lines begin with a bullet, more than 0.5",
        ),
        (
            "gopher_ellipsis_lines",
            only(gopher_max_ellipsis_lines=0.5),
            "a...\nb ... c ... d\ne …\nf",
            "a... \nb…\nc",
            "0.666667 of the lines end with an ellipsis, more than 0.5",
        ),
        (
            "gopher_few_alphabetic_words",
            only(gopher_min_alphabetic_words=0.5),
            "1a 2",
            "a 2 --",
            "0.333333 of the words with a letter, less than 0.5",
        ),
        (
            "gopher_few_stop_words",
            only(gopher_min_stop_words=2),
            "the ore\nof iron",
            "the ore the, of-iron The",
            "1 different stop words, less than 2",
        ),
    ],
)
def test_each_rule_of_quality_objects_exactly_beyond_its_threshold(
    reason: str, config: QualityConfig, kept: str, dropped: str, detail: str
):
    assert gopher_quality(Prose(kept), config) is None
    assert gopher_quality(Prose(dropped), config) == (reason, detail)


@pytest.mark.parametrize(
    ("reason", "config", "kept", "dropped", "detail"),
    [
        (
            "gopher_duplicate_paragraphs",
            only(gopher_max_duplicate_paragraphs=0.5),
            "a\n\nb\n\na\n\na",
            "a\n\na\n\n\na",
            "0.666667 of the paragraphs stand earlier in the text, more than 0.5",
        ),
        (
            "gopher_duplicate_paragraphs",
            only(gopher_max_duplicate_paragraphs=0.3),
            " a\n\nb",
            " a\n\na",  # equal without the white space around the text, though no line is
            "0.5 of the paragraphs stand earlier in the text, more than 0.3",
        ),
        (
            "gopher_duplicate_paragraph_characters",
            only(gopher_max_duplicate_paragraph_characters=0.3),
            "a\n\na\n\nbcdefg",
            "abcd\n\nabcd\n\nb",
            "0.307692 of the characters in paragraphs that stand earlier, more than 0.3",
        ),
        (
            "gopher_duplicate_lines",
            only(gopher_max_duplicate_lines=0.5),
            "a\n\n\nb\na\na",
            "a\na\na",
            "0.666667 of the lines stand earlier in the text, more than 0.5",
        ),
        (
            "gopher_duplicate_line_characters",
            only(gopher_max_duplicate_line_characters=0.43),
            "abc\nabc",
            "abcd\nabcd",
            "0.444444 of the characters in lines that stand earlier, more than 0.43",
        ),
        (
            "gopher_top_2gram",
            only(gopher_max_top_ngrams={"2": 0.5}),
            "a b x y a b z w",
            "a b a b a b",
            "0.818182 of the characters in one 2-gram, more than 0.5",
        ),
        (
            "gopher_duplicate_5grams",
            only(gopher_max_duplicate_ngrams={"5": 0.25}),
            "a b c d e x a b c d e y z",
            "a b c d e a b c d e",
            "0.263158 of the characters in 5-grams that stand earlier, more than 0.25",
        ),
    ],
)
def test_each_rule_of_repetition_objects_exactly_beyond_its_threshold(
    reason: str, config: QualityConfig, kept: str, dropped: str, detail: str
):
    assert gopher_repetition(Prose(kept), config) is None
    assert gopher_repetition(Prose(dropped), config) == (reason, detail)


@pytest.mark.parametrize("text", ["", " \n ", "x", "—", "the of\n\n\nthe of\n\nthe of"])
def test_thresholds_of_none_switch_every_rule_off(text: str):
    assert gopher_quality(Prose(text), only()) is None
    assert gopher_repetition(Prose(text), only()) is None


@pytest.mark.parametrize(
    ("language", "reason"), [("en", "gopher_few_stop_words"), (None, "gopher_few_stop_words"), ("de", None)]
)
def test_english_stop_words_are_not_asked_of_other_languages(language: str | None, reason: str | None):
    objection = gopher_quality(Prose("Das Eisen ist heiß.", language), only(gopher_min_stop_words=2))
    assert (objection.reason if objection else None) == reason


def test_there_are_the_eight_stop_words_of_the_paper():
    text = "the be to of and that have with"
    assert text.split() == list(STOP_WORDS)
    assert gopher_quality(Prose(text), only(gopher_min_stop_words=8)) is None
    assert gopher_quality(Prose(text), only(gopher_min_stop_words=9)) is not None


def test_a_text_without_words_is_dropped_and_divides_nothing():
    assert gopher_quality(Prose(""), QualityConfig()) == ("gopher_too_few_words", "0 words, less than 50")
    assert gopher_repetition(Prose(""), QualityConfig()) is None


def test_each_reason_names_a_setting():
    for reason, meaning in REASONS.items():
        setting = meaning.partition("data.quality.")[2].split()[0]
        assert setting in QualityConfig.model_fields, reason
