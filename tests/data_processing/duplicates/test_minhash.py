"""Band hashes, compared with the similarity that they estimate and with one-permutation MinHash in plain Python."""

import numpy as np
import pytest

from data_processing.duplicates import minhash
from data_processing.duplicates.minhash import (
    MIN_SHINGLES,
    NUM_BANDS,
    NUM_BINS,
    ROWS_PER_BAND,
    band_hashes,
    bands_of_shingles,
    shingle_hashes,
)
from tests.growth import assert_grows_linearly
from tests.small_texts import make_documents


def random_sets(
    generator: np.random.Generator, size: int, similarity: float
) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of `size` random shingles with (as nearly as whole numbers allow) this Jaccard similarity."""
    shared = round(2 * size * similarity / (1 + similarity))
    numbers = generator.integers(0, 2**64, 2 * size - shared, dtype=np.uint64)
    return numbers[:size], numbers[size - shared :]


def bands_of(shingles: np.ndarray) -> np.ndarray:
    """The band hashes of one text with these shingles."""
    return bands_of_shingles(shingles, np.array([len(shingles)]))[:, 0]


def signature_of(shingles: np.ndarray) -> np.ndarray:
    return minhash._signatures(shingles, np.zeros(len(shingles), np.intp), 1)[0]


def test_a_text_has_a_hash_a_band_and_none_is_zero():
    bands = band_hashes(make_documents(1))
    assert bands.shape == (NUM_BANDS, 1)
    assert bands.dtype == np.uint64
    assert bands.all()


def test_neither_order_nor_repetition_of_shingles_counts():
    generator = np.random.default_rng(1)
    for size in (5, 60, 3000):
        shingles = generator.integers(0, 2**64, size, dtype=np.uint64)
        expected = bands_of(shingles)
        shuffled = generator.permutation(np.concatenate((shingles, shingles[: size // 2])))
        assert np.array_equal(bands_of(shuffled), expected)


def test_editions_of_one_text_have_equal_bands():
    plain = '"Well," said the smith, "the iron\'s hot; strike it, or it will not weld."'
    edition = "“Well,” said the _smith_,\n“the iron’s hot—strike it, or it will not weld.”"
    bands = band_hashes([plain, edition])
    assert np.array_equal(bands[:, 0], bands[:, 1])


@pytest.mark.parametrize("group_characters", [1, 500, 10**6])
def test_what_stands_beside_a_text_changes_nothing(monkeypatch: pytest.MonkeyPatch, group_characters: int):
    texts = [
        *make_documents(30, seed=5),
        *("", "a b c d e f g h", "\0 \0 one two three four \0 five six seven eight nine \0"),
        *("Élan vital " * 30, "雨は庭に降る" * 20, "one two three four five six seven eight nine"),
    ]
    alone = [band_hashes([text])[:, 0] for text in texts]
    monkeypatch.setattr(minhash, "GROUP_CHARACTERS", group_characters)
    assert np.array_equal(band_hashes(texts), np.stack(alone, axis=1))
    assert band_hashes([]).shape == (NUM_BANDS, 0)


@pytest.mark.parametrize("num_words", range(12))
def test_texts_of_too_few_words_take_no_part(num_words: int):
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]
    bands = band_hashes([" ".join(words[:num_words])])
    assert bands.all() == (num_words >= 9)
    assert bands.any() == (num_words >= 9)
    assert len(shingle_hashes(" ".join(words[:num_words]))) == max(0, num_words - 4)
    assert MIN_SHINGLES == 5


def signature_in_python(shingles: list[int]) -> list[int]:
    """Smallest shingle of each bin; empty bins take that of the first full one in their list."""
    bins: dict[int, int] = {}
    for shingle in shingles:
        number = shingle >> 56
        bins[number] = min(bins.get(number, shingle), shingle)
    lists = minhash._places_in_lists().argsort(axis=1)
    return [
        bins[number]
        if number in bins
        else next(bins[other] for other in lists[number].tolist() if other in bins)
        for number in range(NUM_BINS)
    ]


@pytest.mark.parametrize("size", [5, 17, 100, 400, 5000])
def test_the_signature_is_that_of_plain_python(size: int):
    shingles = np.random.default_rng(size).integers(0, 2**64, size, dtype=np.uint64)
    assert signature_of(shingles).tolist() == signature_in_python(shingles.tolist())


def test_each_bin_borrows_from_the_others_in_an_order_of_its_own():
    places = minhash._places_in_lists()
    assert (np.sort(places, axis=1) == np.arange(NUM_BINS)).all()
    assert (np.diag(places) == NUM_BINS - 1).all()
    assert len(np.unique(places, axis=0)) == NUM_BINS
    # The mean place of a lender, over all borrowers, is 127.5 with a standard error of 4.6.
    assert np.abs(places.mean(axis=0) - (NUM_BINS - 1) / 2).max() < 5 * 4.6


@pytest.mark.parametrize("size", [10, 60, 300, 3000])
@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8])
def test_bins_agree_as_often_as_the_sets_are_alike(size: int, similarity: float):
    generator = np.random.default_rng(size)
    estimates, truths = [], []
    for _ in range(150):
        first, second = random_sets(generator, size, similarity)
        estimates.append(np.mean(signature_of(first) == signature_of(second)))
        truths.append(len(np.intersect1d(first, second)) / len(np.union1d(first, second)))
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert abs(np.mean(estimates) - np.mean(truths)) < 4 * error


@pytest.mark.parametrize(
    ("similarity", "documented"), [(0.5, 0.118), (0.6, 0.418), (0.7, 0.851), (0.8, 0.9972), (0.9, 1.0)]
)
def test_a_band_is_shared_with_the_documented_probability(similarity: float, documented: float):
    assert 1 - (1 - similarity**ROWS_PER_BAND) ** NUM_BANDS == pytest.approx(documented, abs=6e-4)
    generator = np.random.default_rng(7)
    shared = 0
    for _ in range(300):
        first, second = random_sets(generator, 2000, similarity)
        shared += bool((bands_of(first) == bands_of(second)).any())
    standard_error = np.sqrt(max(documented * (1 - documented), 1 / 300) / 300)
    assert abs(shared / 300 - documented) < 4 * standard_error


def test_strangers_in_one_language_share_no_band():
    # Their words are the same forty; only runs of five tell them apart.
    bands = band_hashes(make_documents(200, seed=3))
    assert all(len(np.unique(band)) == 200 for band in bands)


def test_the_numbers_are_those_that_earlier_runs_have_stored():
    bands = band_hashes(
        ["The bloom holds iron and slag; the hammer strikes it while it is hot, and the slag runs out."]
    )
    assert bands[[0, 15, 31], 0].tolist() == [6742617417721563441, 7343377079609661492, 4424620968063974982]


def test_a_text_of_one_word_takes_time_in_proportion_to_its_length():
    assert band_hashes(["a " * 10_000]).all()
    assert_grows_linearly(band_hashes, lambda number: ["a " * number], 10_000)
