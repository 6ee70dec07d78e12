"""What C4 removes from a text, what it keeps, and when too little is left."""

import pytest

from core.data_config import QualityConfig
from data_processing.document import Outcome
from data_processing.rules.c4_rules import c4, count_sentences
from data_processing.rules.objections import Objection
from data_processing.rules.prose import Prose

ANY_NUMBER = QualityConfig(c4_min_sentences=None)
FIVE = "One is here. Two is there. Three is gone. Four is lost. Five is left."


def left_of(text: str, config: QualityConfig = ANY_NUMBER) -> str:
    """The text that C4 leaves."""
    outcome = c4(Prose(text), config)
    assert isinstance(outcome, Outcome), outcome
    return outcome.text


@pytest.mark.parametrize(
    "line",
    [
        "no punctuation at the end",
        "an ellipsis ends it...",
        "a curly quotation mark ends it”",
        "Too short.",
        "",
        "Enable JavaScript, please, to go on.",
        "Read the Terms of Use before you go.",
        "Read our Privacy Policy before you go.",
        "There is a cookie policy, of course.",
        "This page uses cookies, of course.",
        "They use cookies here, of course.",
        "The use of cookies is quite common.",
        "a b " + "x" * 1001 + ".",
        "The citation stands after a space. [1]",  # as in datatrove: what is left ends with a space
    ],
)
def test_lines_that_are_no_sentences_for_the_reader_are_removed(line: str):
    assert left_of(f"{FIVE}\n{line}\nSix is the last.") == f"{FIVE}\nSix is the last."


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("  Three words stand.\t", "Three words stand."),
        ("Is it a question?", "Is it a question?"),
        ('"He said so himself"', '"He said so himself"'),
        ("A citation[12] in[edit] between[citation needed].", "A citation in between."),
        ("It ends with one.[3]", "It ends with one."),
        ("a b " + "x" * 999 + ".", "a b " + "x" * 999 + "."),
        ("[1] [2] stands.", "  stands."),
    ],
)
def test_other_lines_stay_without_their_citations(line: str, kept: str):
    assert left_of(f"{FIVE}\n{line}\nSix is last.") == f"{FIVE}\n{kept}\nSix is last."


def test_removed_lines_are_counted_blank_ones_included():
    assert c4(Prose(f"{FIVE}\n\nno end\nSix is it."), QualityConfig()) == Outcome(
        f"{FIVE}\nSix is it.", counts={"c4_line": 2}
    )
    assert c4(Prose(FIVE), QualityConfig()) == Outcome(FIVE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Lorem Ipsum dolor sit amet.", "c4_lorem_ipsum"),
        ("The set {a, b} is small.", "c4_curly_bracket"),
        ("Use { in javascript and nowhere.\nLorem ipsum dolor sit amet.", "c4_lorem_ipsum"),
        ("Read the terms of use {here}.", "c4_curly_bracket"),
        ("One. Two. Three. Four is last.", "c4_too_few_sentences"),
        ("no end {", "c4_too_few_sentences"),
    ],
)
def test_texts_are_dropped_for_the_first_line_that_gives_a_reason(text: str, reason: str):
    objection = c4(Prose(text), QualityConfig())
    assert isinstance(objection, Objection)
    assert objection.reason == reason


@pytest.mark.parametrize("text", ["Lorem ipsum dolor", "a { without an end"])
def test_a_line_that_is_removed_gives_no_reason(text: str):
    assert left_of(f"{FIVE}\n{text}", QualityConfig()) == FIVE


def test_thresholds_of_none_and_false_switch_the_removal_off():
    config = QualityConfig(
        c4_min_sentences=None,
        c4_min_words_a_line=None,
        c4_max_word_length=None,
        c4_terminal_punctuation=False,
    )
    text = "x" * 2000 + "\n\none"
    assert left_of(text, config) == text


def test_a_text_of_which_nothing_is_left_goes_nowhere_whatever_the_threshold():
    assert c4(Prose("nothing stays"), ANY_NUMBER) == Objection(
        "c4_too_few_sentences", "0 sentences are left, less than 1"
    )


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("", 0),
        ("one", 1),
        ("One. Two? Three! Four", 4),
        ('He said "Go." (And left.) She stayed.', 3),
        ("3.14 is pi. www.example.com is no end.", 2),
        ("Mr. Finn slept.", 2),  # the price of a rule without a list of abbreviations
        ("So... what? ! now", 4),
    ],
)
def test_sentences_end_with_a_mark_that_white_space_follows(line: str, number: int):
    assert count_sentences([line], enough=100) == number


def test_no_more_sentences_are_counted_than_are_needed():
    assert count_sentences(["a. b. c. d."] * 2, enough=5) == 5
    assert count_sentences(["a. b."] * 10, enough=5) >= 5
