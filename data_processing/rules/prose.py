"""A text cut into lines, paragraphs and words once for all rules of quality. Knows no rule and no threshold.

Words are what stands between white space, as `str.split` cuts them. Mostly only their number, length and kind matter,
and which of them are equal. That is read off arrays: finding the words of a page of 3,000 characters, with a number to
compare each by, takes 17 µs; splitting and counting them as strings 47; all four sets of rules together 100.
"""

import functools
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from core.data_config import NGRAM_WORDS

Positions = npt.NDArray[np.intp]
Codes = npt.NDArray[np.uint64]
CodePoints = npt.NDArray[np.uint8 | np.uint32]
Flags = npt.NDArray[np.bool_]

# Sentence_Terminal of Unicode 15, with three Khmer signs more, and what else CCNet (Wenzek et al. 2020) took for
# punctuation: the two lists by which datatrove 0.10.1 decides, a full-width digit one among them.
_TERMINAL_RANGES = """
    21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D6
    17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 203C-203D 2047-2049 2E2E
    2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1 ABEB FE52
    FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 11141-11143 111C5-111C6
    111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11944
    11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38 16B44 16E98 1BC9F
    1DA88"""
_OTHER_PUNCTUATION_RANGES = """
    0-8 B-1F 21-2F 3A-40 5B-60 7B-9F AB B4 BB 2013-2014 2019 201C-201E 2026 2236 2501 25BA 3001 3008-300D 3010-3011 FF05
    FF08-FF09 FF0C FF11 FF1A-FF1B FF5E"""


def _characters(ranges: str) -> frozenset[str]:
    """The characters in a list of code points and ranges of them, in hexadecimal."""
    bounds = [part.partition("-") for part in ranges.split()]
    return frozenset(
        chr(code) for first, _, last in bounds for code in range(int(first, 16), int(last or first, 16) + 1)
    )


SENTENCE_ENDS = _characters(_TERMINAL_RANGES)
"""The characters that end a sentence, in any script."""

# A character weighs a random number, and one unit higher up if it is a letter or another character but punctuation; the
# space between words weighs nothing. The weights of a word's characters added up are its signature: a number to
# compare words by, and two counts, which overflow in longer words than this.
_OTHER_UNIT, _LETTER_UNIT = 40, 52
_LONGEST_COUNTED = (1 << (64 - _LETTER_UNIT)) - 1

_BLOCK_CHARACTERS = 1 << 18
"""Characters that are weighed at once: 16 bytes of memory each. Arbitrary: fits a processor's cache."""

# Powers of 2^64 divided by the golden ratio and made odd, which spreads bits well (Knuth, volume 3, section 6.4).
_NGRAM_FACTORS = [
    np.uint64(pow(0x9E3779B97F4A7C15, exponent, 1 << 64)) for exponent in range(NGRAM_WORDS.stop)
]


class Prose:
    """A text, with what the rules ask of it; each part is worked out when it is first asked for.

    Arrays have one element a word. All together take up to 25 bytes a character of the text.

    Attributes:
        text: The text, as the steps before left it.
        language: ISO 639-1 code, or None where it is not known.
    """

    def __init__(self, text: str, language: str | None = None) -> None:
        self.text = text
        self.language = language
        self._codes: dict[int, Codes] = {}
        self._sorted_codes: dict[int, Codes] = {}

    @cached_property
    def lines(self) -> list[str]:
        r"""What stands between newlines (`\n` and no other), empty lines included."""
        return self.text.split("\n")

    @cached_property
    def paragraphs(self) -> list[str]:
        """What stands between runs of two newlines or more, white space at both ends of the text left out."""
        # As re.split("\n{2,}") gives them, in a quarter of its 17 µs a page: of an odd number of newlines, one is left
        # at the beginning of the paragraph; of four and more, empty strings.
        parts = self.text.strip().split("\n\n")
        return [part.lstrip("\n") for part in parts if part] or [""]

    @property
    def num_words(self) -> int:
        """How many words there are."""
        return len(self._words.lengths)

    @property
    def word_lengths(self) -> Positions:
        """Number of characters of each word."""
        return self._words.lengths

    @cached_property
    def longest_word(self) -> int:
        """Number of characters of the longest word; 0 if there is none."""
        return int(self._words.lengths.max(initial=0))

    def has_letter(self) -> Flags:
        """Whether there is a letter in each word."""
        return self._weighs_at_least(1 << _LETTER_UNIT)

    def is_more_than_punctuation(self) -> Flags:
        """Whether there is anything but punctuation in each word."""
        return self._weighs_at_least(1 << _OTHER_UNIT)

    def longest_ngram(self, n: int) -> int:
        """An upper bound to the characters of n words in a row with single spaces between them; 0 if there are none."""
        if self.num_words < n:
            return 0
        starts, ends = self._words.edges[::2], self._words.edges[1::2]
        return int((ends[n - 1 :] - starts[: len(starts) - n + 1]).max())

    def ngrams(self, n: int, positions: Positions) -> Iterator[str]:
        """The n words from each of `positions` on, with single spaces between them."""
        starts = self._words.edges[2 * positions].tolist()
        ends = self._words.edges[2 * positions + 2 * n - 1].tolist()
        return (" ".join(self.text[start:end].split()) for start, end in zip(starts, ends, strict=True))

    def ngram_codes(self, n: int) -> Codes:
        """A number for each n words in a row, the same for the same words; seldom the same for others."""
        if n == 1:
            return self._words.signatures
        if n not in self._codes:
            left, right = n // 2, n - n // 2
            codes = self.ngram_codes(left)[: max(0, self.num_words - n + 1)] * _NGRAM_FACTORS[right]
            self._codes[n] = codes + self.ngram_codes(right)[left:]
        return self._codes[n]

    def sorted_ngram_codes(self, n: int) -> Codes:
        """`ngram_codes(n)` in ascending order."""
        if n not in self._sorted_codes:
            codes = self.ngram_codes(n).copy()
            codes.sort()  # np.sort, which does both, costs 1 µs more
            self._sorted_codes[n] = codes
        return self._sorted_codes[n]

    @cached_property
    def _words(self) -> "_Words":
        return _find_words(self.text)

    def _weighs_at_least(self, unit: int) -> Flags:
        """Whether there is a character of the kind that weighs `unit`, or more, in each word."""
        flags = self._words.signatures >= unit
        if self.longest_word > _LONGEST_COUNTED:
            for index in np.flatnonzero(self.word_lengths > _LONGEST_COUNTED).tolist():
                start, end = self._words.edges[2 * index : 2 * index + 2].tolist()
                flags[index] = _weights().take(_code_points(self.text[start:end])).max() >= unit
        return flags


class _Words(NamedTuple):
    """The words of a text.

    Attributes:
        edges: Where each word starts and ends in the text, in turn.
        lengths: Number of characters of each.
        signatures: A number for each, the weights of its characters added up. The same word has the same number.
            Different words seldom have, except for anagrams; whoever counts by these numbers counts too much and
            never too little, and looks at the words themselves where it matters.
    """

    edges: Positions
    lengths: Positions
    signatures: Codes


def _find_words(text: str) -> _Words:
    code_points = _code_points(f" {text} ")  # white space at both ends makes the edges come in pairs
    edges, sums, total = _weigh(code_points[: _BLOCK_CHARACTERS + 1])
    if len(code_points) > _BLOCK_CHARACTERS + 1:
        all_edges, all_sums = [edges], [sums]
        for start in range(_BLOCK_CHARACTERS, len(code_points) - 1, _BLOCK_CHARACTERS):
            edges, sums, weight = _weigh(code_points[start : start + _BLOCK_CHARACTERS + 1])
            all_edges.append(edges + start)
            all_sums.append(sums + np.uint64(total))
            total = (total + weight) % (1 << 64)
        edges, sums = np.concatenate(all_edges), np.concatenate(all_sums)
    return _Words(edges, edges[1::2] - edges[::2], sums[1::2] - sums[::2])


def _weigh(code_points: CodePoints) -> tuple[Positions, Codes, int]:
    """Of all characters but the last: where a word starts or ends behind one, the weight up to there, and of all."""
    weights = _weights().take(code_points)
    is_inside = weights != 0
    edges = (is_inside[1:] != is_inside[:-1]).nonzero()[0]
    sums = np.add.accumulate(weights[:-1])
    return edges, sums[edges], int(sums[-1])


def _code_points(text: str) -> CodePoints:
    """The characters of a text, one byte each if all are ASCII."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def repeated(parts: Sequence[str]) -> tuple[int, int]:
    """How many of `parts` stand earlier among them, and how many characters those have."""
    distinct = set(parts)
    if len(distinct) == len(parts):
        return 0, 0
    return len(parts) - len(distinct), sum(map(len, parts)) - sum(map(len, distinct))


@functools.cache
def _weights() -> Codes:
    """The weight of every code point of Unicode (9 MB, made in 0.1 s); white space weighs nothing."""
    every = np.arange(0x110000, dtype="<u4").view("<U1")
    # 28 bits, so that as many characters as are counted add up to less than a unit. Any numbers that look random do.
    weights = np.random.Generator(np.random.PCG64(0)).integers(1, 1 << 28, len(every), np.uint64)
    is_letter = np.strings.isalpha(every)
    is_punctuation = np.zeros(len(every), np.bool_)
    is_punctuation[
        [ord(character) for character in SENTENCE_ENDS | _characters(_OTHER_PUNCTUATION_RANGES)]
    ] = True
    weights[is_letter] += np.uint64(1 << _LETTER_UNIT)
    weights[~is_letter & ~is_punctuation] += np.uint64(1 << _OTHER_UNIT)
    weights[np.strings.isspace(every)] = 0
    return weights
