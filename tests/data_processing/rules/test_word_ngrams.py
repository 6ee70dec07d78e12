"""Shares of recurring n-grams, compared with a count of every n-gram."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.rules.prose import Prose
from data_processing.rules.word_ngrams import TooMuch, duplicate_ngrams_above, top_ngram_above

WORDS = st.lists(st.sampled_from(["a", "bc", "cb", "def", "ghij", "klmno"]), min_size=1, max_size=60)
LIMITS = st.dictionaries(st.integers(1, 8), st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.5, 1.0]), max_size=4)


def top_characters(words: list[str], n: int) -> int:
    ngrams = [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]
    top = Counter(ngrams).most_common(1)  # of equal counts, the one met first
    return len(top[0][0]) * top[0][1] if top else 0


def duplicate_characters(words: list[str], n: int) -> int:
    seen, characters, start = set(), 0, 0
    while start + n <= len(words):
        ngram = tuple(words[start : start + n])
        if ngram in seen:
            characters += sum(map(len, ngram))
            start += n
        else:
            seen.add(ngram)
            start += 1
    return characters


def first_above(count, words: list[str], length: int, limits: dict[int, float]) -> TooMuch | None:
    found = ((n, most, count(words, n)) for n, most in limits.items())
    return next((TooMuch(*row) for row in found if row[2] / length > row[1]), None)


@given(WORDS, LIMITS)
def test_the_most_frequent_ngram_is_the_one_that_counting_all_finds(
    words: list[str], limits: dict[int, float]
):
    text = " ".join(words)
    assert top_ngram_above(Prose(text), limits) == first_above(top_characters, words, len(text), limits)


@given(WORDS, LIMITS, st.integers(0, 20))
def test_duplicate_ngrams_are_those_that_going_through_all_finds(
    words: list[str], limits: dict[int, float], start: int
):
    words = words + words[start : start + 12]  # a passage that stands twice
    text = " ".join(words)
    assert duplicate_ngrams_above(Prose(text), limits) == first_above(
        duplicate_characters, words, len(text), limits
    )


def test_anagrams_are_different_words_although_they_share_a_code():
    # "on no" and "no on" have one code, and together occur more often than "iron ore", which stands more often.
    prose = Prose("on no x1 iron ore x2 no on x3 iron ore x4 on no x5 iron ore x6 no on")
    assert prose.ngram_codes(2)[0] == prose.ngram_codes(2)[6]
    assert top_ngram_above(prose, {2: 0.3}) == TooMuch(2, 0.3, 3 * len("iron ore"))
    assert duplicate_ngrams_above(Prose("on no a b no on"), {2: 0.0}) is None


def test_of_equally_frequent_ngrams_the_first_counts():
    assert top_ngram_above(Prose("a b a b long words long words"), {2: 0.2}) == TooMuch(2, 0.2, 6)


@pytest.mark.parametrize("limits", [{}, {5: 0.0}])
def test_texts_without_such_ngrams_are_left_alone(limits: dict[int, float]):
    for text in ("", "a b a b"):
        assert top_ngram_above(Prose(text), limits) is None
        assert duplicate_ngrams_above(Prose(text), limits) is None
