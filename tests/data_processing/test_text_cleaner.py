"""Cleaning, and the reasons to leave a text out."""

import importlib
import json
import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.errors import ConfigError
from data_processing.text_cleaner import TextCleaner
from tests.growth import assert_grows_linearly

CLEANER = TextCleaner(min_length=0)
NASTY = st.text(
    st.one_of(
        st.characters(codec=None, exclude_categories=()),
        st.sampled_from(
            "\r\n\t \x00\x0b\x0c\x1b\x1c\x85\xa0\xad\u200b\u200d\u2028\u202e\ufeff\ud800\udc00e\u0301\u0958"
        ),
    )
)
MOJIBAKE = st.text("áâÃÂƒ¡€™‘˜\x80\x91\x98\x9d\xad\x1b\u200b")


# What is removed here stood within a sequence that was decoded wrongly, and within one in it.
@example(text="\xe1\x1b\x91\x98", code=False)
@example(text="Ã\xadƒ\u200bÂ¡", code=False)
@given(NASTY | MOJIBAKE, st.booleans())
def test_cleaning_twice_changes_nothing_more_and_gives_valid_utf8(text: str, code: bool):
    once = CLEANER.clean(text, code=code)
    assert CLEANER.clean(once, code=code) == once
    assert json.loads(json.dumps(once, ensure_ascii=False).encode("utf-8")) == once


@given(NASTY)
def test_no_control_character_survives_in_prose(text: str):
    kept = {c for c in CLEANER.clean(text) if unicodedata.category(c) in ("Cc", "Cs")}
    assert kept <= {"\n", "\t"}


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("\n\t\f")))
def test_code_in_ascii_comes_out_as_it_went_in(text: str):
    assert CLEANER.clean(text, code=True) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\rc\n", "a\nb\nc"),
        ("a  \t\nb\u3000", "a\nb"),
        ("\n\n  a\n\n\n\n\n\nb\n\n", "  a\n\n\nb"),
        ("page\x0cnext\x0bline\u2028more\x0bend", "page\nnext\nline\nmore\nend"),
        ("e\u0301 \u212b", "é Å"),
        ("e\u200b\u0301", "é"),
        ("\ufeffa\ufeffb\u00adc\u2060d", "abcd"),
        ("\u202eevil\u2066x\u2069", "evilx"),
        ("a\ud800b\x00c\x1b[1m", "abc[1m"),
        ("👩\u200d💻 می\u200cخواهم", "👩\u200d💻 می\u200cخواهم"),
        ("\ufb01 ½ ①", "\ufb01 ½ ①"),
    ],
)
def test_prose_is_normalised_as_promised(text: str, expected: str):
    assert CLEANER.clean(text) == expected


def test_code_keeps_its_white_space_and_its_spelling():
    text = "def f():  \n\n\n\n\n\n\tx = 'e\u0301'\n\x0c\n    \n"
    assert CLEANER.clean(text, code=True) == text
    assert CLEANER.clean("\ufeffa\r\n\x00b\u202e\rc", code=True) == "a\nb\nc"


@pytest.mark.parametrize("code", [False, True])
@pytest.mark.parametrize("unit", [" ", "\n", "\u0301", " \n", "\r"])
def test_cleaning_takes_linear_time_on_hostile_text(unit: str, code: bool):
    # The space at the end of a line has every line looked at.
    assert_grows_linearly(
        lambda text: CLEANER.clean(text, code=code), lambda number: f"a{unit * number}b \n", 10_000
    )


def test_the_first_rule_that_objects_gives_the_reason_and_the_numbers():
    cleaner = TextCleaner(min_length=50, max_urls=1, max_length=100)
    texts = ["", "short", "x" * 101, "http://a.b " * 5, "y" * 60]
    reasons = [cleaner.reason_to_drop(text) for text in texts]
    assert reasons == ["empty", "too_short", "too_long", "too_many_urls", None]
    assert cleaner.explain("short", "too_short") == "5 characters, fewer than 50"
    assert cleaner.explain("short", "my_own_rule") == ""


def test_defaults_are_those_of_the_documents():
    assert (TextCleaner().limits.min_length, TextCleaner().limits.max_urls) == (50, 5)
    assert TextCleaner().reason_to_drop("word " * 10) is None
    assert TextCleaner().reason_to_drop("http://a.b/ccc " * 6) == "too_many_urls"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_length": -1}, "min_length is -1"),
        ({"max_urls": -2}, "max_urls is -2"),
        ({"min_length": 9, "max_length": 8}, "max_length 8 is below min_length 9"),
    ],
)
def test_impossible_limits_are_refused(arguments: dict[str, int], message: str):
    with pytest.raises(ConfigError, match=message):
        TextCleaner(**arguments)


def test_the_fingerprint_of_a_cleaner_of_ones_own_covers_all_that_its_files_say(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "own_cleaner.py"

    def fingerprint(word: str) -> str:
        module.write_text(
            f"from data_processing.text_cleaner import TextCleaner\nWORD = {word!r}\n"
            "class Base(TextCleaner):\n    def clean(self, text, *, code=False): return text.replace(WORD, '')\n"
            "class Own(Base): pass\n"
        )
        sys.modules.pop("own_cleaner", None)
        importlib.invalidate_caches()
        return importlib.import_module("own_cleaner").Own(min_length=1).fingerprint()

    assert fingerprint("foo") == fingerprint("foo") != fingerprint("bar")

    def made(word: str) -> TextCleaner:
        class Made(TextCleaner):
            def clean(self, text: str, *, code: bool = False) -> str:
                return text.replace(word, "")

        return Made()

    assert made("foo").fingerprint() != made("bar").fingerprint()
    vague = made("foo")
    vague.helper = object()
    with pytest.raises(ConfigError, match="what decides its results cannot be told"):
        vague.fingerprint()
