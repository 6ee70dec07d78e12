"""Hashes of words, compared with words split one by one in plain Python."""

import doctest
import random
import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.duplicates import word_hashes as module
from data_processing.duplicates.word_hashes import ngram_hashes, word_hashes
from tests.growth import assert_grows_linearly


def hashes(text: str) -> list[int]:
    return word_hashes(text).tolist()


def one_by_one(words: list[str]) -> list[int]:
    """The hash of each word when it is a text of its own."""
    return [value for word in words for value in hashes(word)]


def ascii_words(text: str) -> list[str]:
    """The definition for ASCII, written down independently."""
    return re.findall("[a-z0-9]+", text.lower().replace("'", "").replace("_", ""))


ASCII_TEXT = st.text(st.sampled_from("abcXYZ019 ..,-'_\n\t\x00\"()") | st.characters(max_codepoint=127))


@given(ASCII_TEXT)
def test_a_word_of_ascii_has_the_same_hash_wherever_it_stands(text: str):
    assert hashes(text) == one_by_one(ascii_words(text))


@given(st.lists(st.text(st.sampled_from("ab é-'中"), max_size=90), max_size=6))
def test_block_borders_change_nothing(parts: list[str]):
    text = " ".join(parts)
    expected = hashes(text)
    with pytest.MonkeyPatch.context() as patch:
        for size in (1, 7, 16):
            patch.setattr(module, "BLOCK_BYTES", size)
            assert hashes(text) == expected


@given(st.text(st.characters(max_codepoint=0x24F)))
def test_accents_and_case_of_latin_letters_do_not_count(text: str):
    apostrophe_free = text.replace("\u00b4", "").replace("\u00ad", "")
    decomposed = unicodedata.normalize("NFKD", apostrophe_free.casefold())
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    assert hashes(text) == hashes(plain.casefold()) == hashes(unicodedata.normalize("NFD", text))


@given(st.text())
def test_every_text_has_hashes_and_so_has_each_of_its_halves(text: str):
    half = len(text) // 2
    assert hashes(text[:half] + "\n" + text[half:]) == hashes(text[:half]) + hashes(text[half:])


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("“Don’t!” she said—quietly…", "'Don't' she said -- quietly..."),
        ("_Alice_ in ‘Wonderland’", "ALICE IN WONDERLAND"),
        ("ﬁnd the o\ufb03ce", "find the office"),
        ("Straße in Ångström", "STRASSE IN ANGSTROM"),
        ("so\u00adft hy\u200bphen\ufeff", "soft hyphen"),
        ("Ａ１ ㎏ Ⅳ x²", "a1 kg iv x2"),
        ("ｶﾞﾗｽ", "ガラス"),
        ("שָׁלוֹם", "שלום"),
        ("snake_case __init__", "snakecase init"),
        ("\U0001f44d\ufe0f good", "\U0001f44d good"),
        ("a\ud800b", "a b"),
        ("\u4f60a\u597d", "\u4f60 a \u597d"),
    ],
)
def test_spellings_of_one_text_have_the_same_hashes(text: str, same: str):
    assert hashes(text) == hashes(same) != []


@pytest.mark.parametrize(
    ("text", "num_words"),
    [
        ("", 0),
        (" .,;—\n", 0),
        ("one-two three", 3),
        ("你好，世界", 4),
        ("\U00020000\U0002a6d6", 2),
        ("カタカナ", 4),
        ("สวัสดี", 6),
        ("안녕하세요 세계", 2),
        ("हिन्दी में", 2),
        ("мир и война", 3),
        ("\U0001f600\U0001f601 ok", 3),
        ("x\U0010ffffy", 2),
    ],
)
def test_words_are_counted_as_the_module_says(text: str, num_words: int):
    assert len(word_hashes(text)) == num_words


def test_vowel_signs_of_indian_scripts_tell_words_apart():
    assert hashes("कि") != hashes("की") != hashes("क")


def test_different_words_have_different_hashes():
    generator = random.Random(1)
    lengths = [*range(1, 20), 63, 64, 65, 66, 128, 1000]
    words = {
        "".join(generator.choices("abcdefghij0123456789", k=length))
        for length in lengths
        for _ in range(4000)
    }
    assert len(set(hashes(" ".join(sorted(words))))) == len(words)
    # Words that agree in all but one character, at every place of it.
    for length in (8, 9, 16, 17, 64, 65):
        twins = ["a" * place + "b" + "a" * (length - place - 1) for place in range(length)]
        assert len(set(hashes(" ".join(twins)))) == length


def in_python(word: str) -> int:
    """The hash of a word of up to 64 bytes, with Python's integers."""
    encoded = word.encode()
    value, *lanes = (
        int.from_bytes(encoded[place : place + 8], "little") for place in range(0, len(encoded), 8)
    )
    for lane in lanes:
        value = value * 0x9E3779B97F4A7C15 % 2**64
        value ^= value >> 33 ^ lane
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD % 2**64
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 % 2**64
    return value ^ value >> 33


def test_the_numbers_are_the_same_on_every_machine():
    short = ["a", "bloom", "12345678", "123456789", "antidisestablishmentarianism", "é" * 3, "鐵", "a" * 64]
    assert hashes(" ".join(short)) == [in_python(word.replace("é", "e")) for word in short]
    # Of what earlier runs have stored: a word beyond 64 bytes, and an n-gram.
    assert hashes("0123456789abcdef" * 5) == [1412612936358108611]
    assert ngram_hashes(word_hashes("The bloom holds iron über"), 5).tolist() == [1289631578354596565]


def test_no_letter_needs_to_be_folded_twice():
    table, expansions = module._folding()
    for letters in expansions.values():
        assert all(int(table[ord(letter)]) < module._SEVERAL for letter in letters)
    targets = table[table < module._ALONE]
    folded_again = table[targets[targets != 0]] & (module._ALONE - 1)
    assert (folded_again == targets[targets != 0]).all()


@pytest.mark.parametrize(
    "unit",
    ["a", "ab ", "ﬁ ", "_", "Ab3" * 25 + "\n"],
    ids=["one word", "short words", "ligatures", "nothing", "base64"],
)
@pytest.mark.parametrize("block_bytes", [1 << 10, module.BLOCK_BYTES], ids=["small blocks", "blocks"])
def test_any_text_takes_time_in_proportion_to_its_length(
    monkeypatch: pytest.MonkeyPatch, unit: str, block_bytes: int
):
    monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
    assert_grows_linearly(word_hashes, lambda size: unit * (size // len(unit)), 10_000)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=12), st.integers(1, 6))
def test_an_ngram_is_hashed_by_its_words_alone_wherever_it_stands(values: list[int], n: int):
    words = np.array(values, dtype=np.uint64)
    ngrams = ngram_hashes(words, n)
    assert len(ngrams) == max(0, len(words) - n + 1)
    for place, ngram in enumerate(ngrams):
        assert ngram_hashes(words[place : place + n], n).tolist() == [ngram]
    assert words.tolist() == values


def test_the_order_of_the_words_of_an_ngram_counts():
    assert ngram_hashes(word_hashes("a b"), 2) != ngram_hashes(word_hashes("b a"), 2)
    assert len(set(ngram_hashes(word_hashes(" ".join(map(str, range(50_000)))), 3).tolist())) == 49_998


def test_the_example_is_true():
    result = doctest.testmod(module)
    assert result.attempted and not result.failed
