"""A text's 32 band hashes, of which similar texts share at least one. Knows no other text and no threshold.

One-permutation MinHash (Li, Owen & Zhang 2012, "One Permutation Hashing", section 2): every shingle is hashed once, the
top bits of the hash choose one of 256 bins, and the signature is the smallest hash of each bin. Empty bins borrow
from full ones by optimal densification (Shrivastava 2017, "Optimal Densification for Fast and Accurate Minwise
Hashing", section 4). Bins are then grouped into bands (Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets",
section 3.4).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from data_processing.duplicates.word_hashes import (
    Hashes,
    mix,
    ngram_hashes,
    ngrams_of_texts,
    word_hashes,
)

SHINGLE_WORDS: Final = 5
"""Words of a shingle. Single words make strangers alike, because all of English shares them; five are what C4 and
GPT-3's deduplication took (n-grams of 5 to 13 are usual)."""

NUM_BANDS: Final = 32
ROWS_PER_BAND: Final = 8
NUM_BINS: Final = NUM_BANDS * ROWS_PER_BAND

MIN_SHINGLES: Final = 5
"""Texts with fewer shingles (below 9 words, some 45 characters) take no part: of so few a single one decides, and what
is equal to the letter is found as an exact duplicate anyway. Also keeps out texts that are nearly all symbols, of
which the few words would say nothing."""

_EMPTY: Final = np.uint64(2**64 - 1)
_BIN_SHIFT: Final = np.uint64(64 - (NUM_BINS - 1).bit_length())


GROUP_CHARACTERS: Final = 1 << 18
"""So much text is gone through at once: 45 µs a text of 5.6 kB; 53 at 2^14 characters, 55 at 2^23, 118 one by one (Xeon
with 2 MB of L2)."""


def band_hashes(texts: Sequence[str]) -> Hashes:
    """One hash for each band of each text, uint64 (32, T); zeros for a text that takes no part (`MIN_SHINGLES`).

    Two texts whose sets of 5-word shingles have Jaccard similarity s agree in at least one band with probability
    1 - (1 - s^8)^32:

        s            0.2     0.3     0.4    0.5    0.6    0.7    0.8     0.9       1
        probability  0.0001  0.0021  0.021  0.118  0.418  0.851  0.9972  1 - 2e-8  1

    The chances are those of independent bins. In texts of fewer than a few hundred shingles bins borrow from each
    other, which keeps the expected similarity exact and makes it vary more: `benchmarks/near_duplicates.py` measures
    the curve.

    Takes time linear in the texts: 130 MB/cpu-s of English prose in documents of 20 kB and more, 110 in documents of
    5 kB, 57 in documents of 2 kB (Xeon, beside other work).
    """
    bands = np.zeros((NUM_BANDS, len(texts)), dtype=np.uint64)
    begin = num_characters = 0
    for end, text in enumerate(texts, start=1):
        num_characters += len(text)
        if num_characters >= GROUP_CHARACTERS or end == len(texts):
            bands[:, begin:end] = bands_of_shingles(*ngrams_of_texts(texts[begin:end], SHINGLE_WORDS))
            begin, num_characters = end, 0
    return bands


def shingle_hashes(text: str) -> Hashes:
    """One hash for each run of `SHINGLE_WORDS` words in `text`, in its order and repeated as in it, uint64 (S,)."""
    return ngram_hashes(word_hashes(text), SHINGLE_WORDS)


def bands_of_shingles(shingles: Hashes, num_shingles: npt.NDArray[np.intp]) -> Hashes:
    """`band_hashes` of texts with these shingles, of which neither order nor repetition matters.

    Args:
        shingles: Those of the first text, then those of the second, and so on.
        num_shingles: How many each text has, (T,).
    """
    bands = np.zeros((NUM_BANDS, len(num_shingles)), dtype=np.uint64)
    takes_part = num_shingles >= MIN_SHINGLES
    owners = np.repeat(np.arange(len(num_shingles)), num_shingles)
    hashes = _signatures(shingles, owners, len(num_shingles))[takes_part]
    hashes = hashes.reshape(-1, NUM_BANDS, ROWS_PER_BAND) @ _row_weights()
    mix(hashes)
    hashes[hashes == 0] = 1
    bands[:, takes_part] = hashes.T
    return bands


def _signatures(shingles: Hashes, owners: npt.NDArray[np.intp], num_texts: int) -> Hashes:
    """The smallest shingle of each bin of each text, uint64 (T, 256); what an empty bin borrowed otherwise."""
    smallest = np.full((num_texts, NUM_BINS), _EMPTY, dtype=np.uint64)
    bins = (shingles >> _BIN_SHIFT).astype(np.intp)
    np.minimum.at(smallest.reshape(-1), owners * NUM_BINS + bins, shingles)
    empty = smallest == _EMPTY
    texts, borrowers = np.nonzero(empty)
    # An empty bin, whose mask is 255, is last in every list.
    out_of_question = empty.astype(np.uint8) * np.uint8(NUM_BINS - 1)
    lenders = (_places_in_lists()[borrowers] | out_of_question[texts]).argmin(axis=1)
    smallest[texts, borrowers] = smallest[texts, lenders]
    return smallest


@lru_cache(maxsize=1)
def _places_in_lists() -> npt.NDArray[np.uint8]:
    """How far down each bin's list of lenders each bin stands, uint8 (256 borrowers, 256 lenders), itself last.

    The paper probes bins by hashing (bin, attempt) until one is full. A random order of all bins for each borrower
    has the same distribution of the first full one, and finds it for all borrowers at once.
    """
    lots = mix(np.arange(1, NUM_BINS * NUM_BINS + 1, dtype=np.uint64)).reshape(NUM_BINS, NUM_BINS)
    np.fill_diagonal(lots, _EMPTY)
    return lots.argsort(axis=1).argsort(axis=1).astype(np.uint8)


@lru_cache(maxsize=1)
def _row_weights() -> Hashes:
    """Odd numbers, uint64 (8,): two different rows of random hashes have the same weighted sum with odds of 2^-64."""
    return mix(np.arange(1, ROWS_PER_BAND + 1, dtype=np.uint64) << np.uint64(32)) | np.uint64(1)
