"""Lines, paragraphs and words of a text, compared with what Python's own string methods and expressions find."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.rules import prose as module
from data_processing.rules.prose import SENTENCE_ENDS, Prose, repeated

TEXTS = st.text(st.sampled_from("ab1.-\n \t—é\u3000\u00a0日😀\x1c"), max_size=60)
PUNCTUATION = SENTENCE_ENDS | set(".-—")


@given(TEXTS)
def test_words_are_what_split_gives(text: str):
    words, prose = text.split(), Prose(text)
    assert prose.num_words == len(words)
    assert prose.word_lengths.tolist() == [len(word) for word in words]
    assert prose.longest_word == max(map(len, words), default=0)
    assert prose.has_letter().tolist() == [any(map(str.isalpha, word)) for word in words]
    assert prose.is_more_than_punctuation().tolist() == [not set(word) <= PUNCTUATION for word in words]


@given(TEXTS)
def test_words_do_not_depend_on_the_blocks_in_which_a_text_is_weighed(text: str):
    whole = Prose(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_CHARACTERS", 3)
        in_blocks = Prose(text)
        assert in_blocks.word_lengths.tolist() == whole.word_lengths.tolist()
        assert in_blocks.ngram_codes(2).tolist() == whole.ngram_codes(2).tolist()


@pytest.mark.parametrize("length", [4095, 4096, 70_000])
def test_the_kind_of_a_word_does_not_depend_on_its_length(length: int):
    prose = Prose(" ".join(("." * length, "1" * length, "." * length + "a", "x")))
    assert prose.has_letter().tolist() == [False, False, True, True]
    assert prose.is_more_than_punctuation().tolist() == [False, True, True, True]


@pytest.mark.parametrize("code", [*range(0x250), 0x2028, 0x3000, 0x1F600, 0xD800, 0x10FFFF])
def test_every_character_is_white_space_or_a_letter_as_python_has_it(code: int):
    words, prose = f"x {chr(code)} x".split(), Prose(f"x {chr(code)} x")
    assert prose.num_words == len(words)
    assert prose.has_letter().tolist() == [any(map(str.isalpha, word)) for word in words]


@given(TEXTS)
def test_paragraphs_are_what_two_newlines_or_more_separate(text: str):
    assert Prose(text).paragraphs == re.split("\n{2,}", text.strip())


@given(st.lists(st.sampled_from(["ab", "ba", "abc", "é", "日本", "x"]), max_size=30), st.integers(1, 6))
def test_equal_ngrams_have_equal_codes_and_others_mostly_do_not(words: list[str], n: int):
    prose = Prose("  \n".join(words))
    ngrams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    codes = prose.ngram_codes(n).tolist()
    assert list(prose.ngrams(n, np.arange(len(ngrams)))) == ngrams
    assert prose.sorted_ngram_codes(n).tolist() == sorted(codes)
    code_of = dict(zip(ngrams, codes, strict=True))
    assert [code_of[ngram] for ngram in ngrams] == codes
    # Anagrams are the one exception.
    assert len(set(codes)) == len({ngram.replace("ba", "ab") for ngram in ngrams})


def test_the_longest_ngram_is_an_upper_bound_and_sharp_with_single_spaces():
    assert Prose("a bbb cc dddd").longest_ngram(2) == len("cc dddd")
    assert Prose("a bbb  \n cc").longest_ngram(2) >= len("bbb cc")
    assert Prose("a bbb").longest_ngram(3) == 0


def test_repetition_counts_what_stands_earlier_and_its_characters():
    assert repeated(["ab", "c", "ab", "ab", "c"]) == (3, 5)
    assert repeated(["ab", "c"]) == (0, 0)
    assert repeated([]) == (0, 0)
