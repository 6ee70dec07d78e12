"""Whether n-grams of words that recur take more of a text than they may, as Gopher counts them.

The answers are exact and mostly cheap: a bound from sorted codes (`Prose.ngram_codes`) settles nearly every text. Where
it does not, the words themselves are looked at, though only where a code recurs. Counting Gopher's nine n-grams plainly
takes 0.8 ms a page of 3,000 characters; this takes 0.025 ms.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from data_processing.rules.prose import Codes, Flags, Positions, Prose

_SEED_WORDS = 5
"""Repetitions of n words are looked for among those of this many: Gopher's shortest n. Longer seeds are rarer."""


class TooMuch(NamedTuple):
    """n-grams of `n` words take `characters` of the text, a larger share of it than `most`."""

    n: int
    most: float
    characters: int


def top_ngram_above(prose: Prose, most_by_n: Mapping[int, float]) -> TooMuch | None:
    """The first n whose most frequent n-gram takes a larger share of the characters of the text than it may.

    Rae et al. 2021, appendix A1.1, "top n-gram character fraction": its length with single spaces, times how often it
    occurs, overlaps included. Of several equally frequent ones, the first in the text counts.
    """
    most_by_n = _possible(most_by_n, prose.num_words)
    if not most_by_n:
        return None
    # An n-gram is no more frequent than the pair (or the word) that it begins with, and no longer than the longest:
    # mostly the pairs settle it for every n.
    beginning = min(2, *most_by_n)
    if _all_are_rare(prose, beginning, max(most_by_n), min(most_by_n.values())):
        return None
    for n, most in most_by_n.items():
        if _all_are_rare(prose, beginning, n, most) or _all_are_rare(prose, n, n, most):
            continue
        ngram, count = _most_frequent(prose, n)
        if count * len(ngram) / len(prose.text) > most:
            return TooMuch(n, most, count * len(ngram))
    return None


def duplicate_ngrams_above(prose: Prose, most_by_n: Mapping[int, float]) -> TooMuch | None:
    """The first n for which n-grams that stand earlier take a larger share of the characters than they may.

    Rae et al. 2021, appendix A1.1, "duplicate n-gram character fraction", in the reading of datatrove 0.10.1: the text
    is gone through from the left, no character counts twice, and spaces do not count. Behind a duplicate the search
    goes on n words later, and what begins within one is not remembered. One difference: there two n-grams are equal
    when their words run together are ("the rapist" and "therapist"), here when their words are.
    """
    most_by_n = _possible(most_by_n, prose.num_words)
    if not most_by_n:
        return None
    # An n-gram that stands earlier consists of seeds that do, so what they cover is an upper bound for every n.
    seed_words, least, num_characters = min(_SEED_WORDS, *most_by_n), min(most_by_n.values()), len(prose.text)
    codes = prose.sorted_ngram_codes(seed_words)
    num_earlier = int(np.count_nonzero(codes[1:] == codes[:-1]))
    if num_earlier * prose.longest_ngram(seed_words) / num_characters <= least:
        return None
    stands_earlier, stands_elsewhere = _repeated(prose.ngram_codes(seed_words))
    if _covered_characters(prose, stands_earlier) / num_characters <= least:
        return None
    for n, most in most_by_n.items():
        characters = _duplicate_characters(prose, n, _starts_of_runs(stands_elsewhere, n - seed_words + 1))
        if characters / num_characters > most:
            return TooMuch(n, most, characters)
    return None


def _possible(most_by_n: Mapping[int, float], num_words: int) -> Mapping[int, float]:
    """Those for which there is an n-gram."""
    if num_words >= max(most_by_n, default=0):
        return most_by_n
    return {n: most for n, most in most_by_n.items() if n <= num_words}


def _all_are_rare(prose: Prose, m: int, n: int, most: float) -> bool:
    """Whether no m words occur so often that n words, each time they did, would take a larger share than `most`."""
    longest = prose.longest_ngram(n)
    times = int(most * len(prose.text) / longest)
    if times * longest / len(prose.text) > most:  # the product was rounded up
        times -= 1
    codes = prose.sorted_ngram_codes(m)
    return times >= len(codes) or not (codes[times:] == codes[: len(codes) - times]).any()


def _most_frequent(prose: Prose, n: int) -> tuple[str, int]:
    """The most frequent n-gram, the first of equally frequent ones, and how often it occurs."""
    _, inverse, counts = np.unique(prose.ngram_codes(n), return_inverse=True, return_counts=True)
    most = int(counts.max())
    ngrams = Counter(prose.ngrams(n, np.flatnonzero(counts[inverse] == most)))
    if max(ngrams.values()) < most:  # different n-grams share the code, so a third may be as frequent
        ngrams = Counter(prose.ngrams(n, np.arange(len(inverse))))
    return ngrams.most_common(1)[0]


def _repeated(codes: Codes) -> tuple[Flags, Flags]:
    """Whether each code stands earlier among them, and whether it stands elsewhere at all."""
    order = codes.argsort(kind="stable")  # equal codes stay in the order of the text
    is_same = codes[order[1:]] == codes[order[:-1]]
    stands_earlier = np.zeros(len(codes), np.bool_)
    stands_earlier[order[1:][is_same]] = True
    stands_elsewhere = stands_earlier.copy()
    stands_elsewhere[order[:-1][is_same]] = True
    return stands_earlier, stands_elsewhere


def _covered_characters(prose: Prose, starts: Flags) -> int:
    """Characters of the words that belong to n-grams at `starts`, one flag for every n-gram of the text."""
    covered = np.zeros(prose.num_words, np.bool_)
    for offset in range(prose.num_words - len(starts) + 1):
        covered[offset : offset + len(starts)] |= starts
    return int(prose.word_lengths.dot(covered))


def _starts_of_runs(flags: Flags, length: int) -> Positions:
    """Where `length` flags in a row are set."""
    runs = flags[: len(flags) - length + 1]
    for offset in range(1, length):
        runs = runs & flags[offset : len(flags) - length + 1 + offset]
    return np.flatnonzero(runs)


def _duplicate_characters(prose: Prose, n: int, perhaps_repeated: Positions) -> int:
    """Characters in duplicate n-grams; they and what they repeat begin at some of `perhaps_repeated` (ascending)."""
    seen: set[str] = set()
    characters, free_from = 0, 0
    for position, ngram in zip(perhaps_repeated.tolist(), prose.ngrams(n, perhaps_repeated), strict=True):
        if position < free_from:
            continue
        if ngram in seen:
            characters += len(ngram) - (n - 1)
            free_from = position + n
        else:
            seen.add(ngram)
    return characters
