"""FineWeb's rules of lines object exactly beyond their thresholds."""

import pytest

from core.data_config import QualityConfig
from data_processing.rules.fineweb_rules import REASONS, fineweb
from data_processing.rules.prose import Prose

OFF: dict[str, object] = {
    "fineweb_min_punctuated_lines": None,
    "fineweb_max_short_lines": None,
    "fineweb_max_duplicate_line_characters": None,
    "fineweb_max_lines_a_word": None,
}


@pytest.mark.parametrize(
    ("reason", "setting", "kept", "dropped", "detail"),
    [
        (
            "fineweb_few_punctuated_lines",
            {"fineweb_min_punctuated_lines": 0.5},
            "a.\n\nb,\n \nc。\nd",
            'a.\nb"\nc',
            "0.333333 of the lines end with punctuation, less than 0.5",
        ),
        (
            "fineweb_short_lines",
            {"fineweb_max_short_lines": 0.5, "fineweb_short_line": 3},
            "abc\n\nabcd\nab\nabcde",
            "abc\nabcd\nab",
            "0.666667 of the lines have at most 3 characters, more than 0.5",
        ),
        (
            "fineweb_duplicate_line_characters",
            {"fineweb_max_duplicate_line_characters": 0.25},
            "ab\nab\ncdef",
            "ab\nab\ncd",
            "0.333333 of the characters in lines that stand earlier, more than 0.25",
        ),
        (
            "fineweb_many_lines",
            {"fineweb_max_lines_a_word": 0.5},
            "a b\nc\nd e f",
            "a\nb\nc",
            "0.666667 line ends a word, more than 0.5",
        ),
        (
            "fineweb_many_lines",
            {"fineweb_max_lines_a_word": 0.0},
            "a b",
            "a\nb",
            "1 line ends, more than 0.0",
        ),
    ],
)
def test_each_rule_objects_exactly_beyond_its_threshold(
    reason: str, setting: dict[str, object], kept: str, dropped: str, detail: str
):
    config = QualityConfig.from_dict({**OFF, **setting})
    assert fineweb(Prose(kept), config) is None
    assert fineweb(Prose(dropped), config) == (reason, detail)


@pytest.mark.parametrize("text", ["", "\n\n", "x\nx\nx"])
def test_thresholds_of_none_switch_every_rule_off(text: str):
    assert fineweb(Prose(text), QualityConfig.from_dict(OFF)) is None


def test_each_reason_names_a_setting():
    for reason, meaning in REASONS.items():
        setting = meaning.partition("data.quality.")[2].split()[0]
        assert setting in QualityConfig.model_fields, reason
