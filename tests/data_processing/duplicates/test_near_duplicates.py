"""Clusters of near duplicates, compared with every pair of texts compared by sets of words in plain Python."""

import doctest
import random
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.duplicates import near_duplicates as module
from data_processing.duplicates.candidate_pairs import NEIGHBOURS
from data_processing.duplicates.minhash import NUM_BANDS, band_hashes
from data_processing.duplicates.near_duplicates import (
    Clusters,
    PairSimilarities,
    find_near_duplicates,
    jaccard,
    shingle_set,
)
from data_processing.rules.boilerplate import strip_wrapper
from tests.growth import assert_grows_linearly
from tests.small_texts import make_documents, make_text

PLENTY = 10**9


def provider(texts: Sequence[str]) -> Callable[[Sequence[int]], Iterator[tuple[int, str]]]:
    """Gives texts, and insists on being asked in order and for each once."""

    def give(indices: Sequence[int]) -> Iterator[tuple[int, str]]:
        assert list(indices) == sorted(set(indices))
        return ((index, texts[index]) for index in indices)

    return give


def nothing(indices: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Gives no text, because none may be asked for."""
    raise AssertionError(f"asked for {indices}")


def all_candidates(texts: Sequence[str]) -> list[np.ndarray]:
    """Bands of one bucket, in which each pair of up to 16 texts is a candidate."""
    return [np.ones((1, len(texts)), dtype=np.uint64)]


def lengths_of(texts: Sequence[str]) -> np.ndarray:
    return np.array([len(text) for text in texts], dtype=np.int64)


def clusters_of(
    texts: Sequence[str],
    bands: Sequence[np.ndarray] | None = None,
    *,
    min_similarity: float = 0.8,
    memory_bytes: int = PLENTY,
    known: PairSimilarities | None = None,
) -> Clusters:
    return find_near_duplicates(
        [band_hashes(texts)] if bands is None else bands,
        lengths_of(texts),
        provider(texts),
        min_similarity=min_similarity,
        memory_bytes=memory_bytes,
        known=known,
    )


def similarity_in_python(first: str, second: str) -> float:
    """Jaccard similarity of the 5-word shingles of texts of plain lower-case words."""
    sets = []
    for text in (first, second):
        words = text.split()
        sets.append({tuple(words[place : place + 5]) for place in range(len(words) - 4)})
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))


def roots_in_python(texts: Sequence[str], min_similarity: float) -> list[int]:
    """For each text the longest, of several the first, that it is linked with."""
    linked = [{number} for number in range(len(texts))]
    for first, second in combinations(range(len(texts)), 2):
        if similarity_in_python(texts[first], texts[second]) >= min_similarity:
            together = linked[first] | linked[second]
            for member in together:
                linked[member] = together
    return [min(together, key=lambda member: (-len(texts[member]), member)) for together in linked]


def edited(text: str, generator: random.Random, num_changes: int) -> str:
    """`text` with this many words replaced by words that stand nowhere else."""
    words = text.split()
    for place in generator.sample(range(len(words)), num_changes):
        words[place] = f"new{generator.randrange(10**9)}"
    return " ".join(words)


# Runs of a few sentences, so that texts share shingles to every degree.
SENTENCES = ["a b c d e f", "g h i j k", "c d e f g h", "x y z x y z", "a b c d e g"]
TEXTS = st.lists(st.lists(st.sampled_from(SENTENCES), max_size=5).map(" ".join), max_size=14)
SIMILARITIES = st.sampled_from([0.3, 0.5, 2 / 3, 0.75, 0.8, 1.0])


@given(TEXTS, SIMILARITIES)
def test_where_all_pairs_are_candidates_clusters_are_those_of_brute_force(
    texts: list[str], min_similarity: float
):
    clusters = clusters_of(texts, all_candidates(texts), min_similarity=min_similarity)
    assert clusters.root.tolist() == roots_in_python(texts, min_similarity)
    assert clusters.root.dtype == np.int64
    for number, root in enumerate(clusters.root):
        expected = 1.0 if number == root else similarity_in_python(texts[number], texts[root])
        assert clusters.similarity[number] == np.float32(expected)
    duplicates = [number for number, root in enumerate(clusters.root) if number != root]
    assert clusters.statistics["num_duplicates"] == len(duplicates)
    assert clusters.statistics["num_clusters"] == len({int(clusters.root[number]) for number in duplicates})


@given(TEXTS, SIMILARITIES, st.lists(st.integers(0, 14), max_size=3), st.sampled_from([500, 5_000, 50_000]))
def test_neither_shards_nor_memory_change_the_clusters(
    texts: list[str], min_similarity: float, cuts: list[int], memory_bytes: int
):
    bands = all_candidates(texts)[0]
    whole = clusters_of(texts, [bands], min_similarity=min_similarity)
    shards = np.split(bands, sorted(min(cut, len(texts)) for cut in cuts), axis=1)
    divided = clusters_of(texts, shards, min_similarity=min_similarity, memory_bytes=memory_bytes)
    assert divided.root.tolist() == whole.root.tolist()
    assert divided.similarity.tolist() == whole.similarity.tolist()
    assert divided.statistics == whole.statistics


def corpus(num_originals: int = 60, seed: int = 5) -> tuple[list[str], list[int]]:
    """(texts, number of the original of each): originals of 600 words, each with up to three edited copies."""
    generator = random.Random(seed)
    texts, originals = [], []
    for number in range(num_originals):
        text = make_text(generator, 75)
        for _ in range(generator.randrange(4)):
            texts.append(edited(text, generator, generator.randrange(1, 8)))
            originals.append(number)
        texts.append(text)
        originals.append(number)
    order = generator.sample(range(len(texts)), len(texts))
    return [texts[place] for place in order], [originals[place] for place in order]


def test_edited_copies_are_found_and_strangers_are_not():
    texts, originals = corpus()
    clusters = clusters_of(texts)
    assert len(texts) > 130
    for first, second in combinations(range(len(texts)), 2):
        assert (clusters.root[first] == clusters.root[second]) == (originals[first] == originals[second])


def test_many_small_parts_and_rounds_give_the_clusters_of_one():
    texts, _ = corpus()
    bands = band_hashes(texts)
    whole = clusters_of(texts, [bands])
    for memory_bytes in (len(texts) * 50, 20_000, 400_000):
        parts = clusters_of(texts, np.split(bands, [1, 2, 50], axis=1), memory_bytes=memory_bytes)
        assert np.array_equal(parts.root, whole.root)
        assert np.array_equal(parts.similarity, whole.similarity)
        assert parts.statistics == whole.statistics
    # With so little memory that every text is read again and again, the above was no accident.
    little = clusters_of(texts, [bands], memory_bytes=20_000)
    assert little.work["num_texts_read"] > whole.work["num_texts_read"] <= len(texts)


def test_each_text_is_read_once_when_memory_allows():
    texts, originals = corpus()
    clusters = clusters_of(texts)
    in_company = sum(originals.count(number) > 1 for number in originals)
    assert clusters.work["num_texts_read"] == in_company


def test_the_longest_member_stands_for_its_cluster_and_of_several_the_first():
    text = " ".join(f"word{number}" for number in range(200))
    texts = [text, text + " ", text + "!", text.upper(), "another text of nine words that is no copy"]
    clusters = clusters_of(texts)
    assert clusters.root.tolist() == [1, 1, 1, 1, 4]
    assert clusters.similarity.tolist() == [1, 1, 1, 1, 1]


def test_a_member_linked_through_others_has_its_own_similarity_to_the_representative():
    words = [f"w{number}" for number in range(134)]
    # Windows of 104 words, 100 shingles: neighbours share 90 of 110, the outer ones 80 of 120.
    texts = [" ".join(words[start : start + 104]) for start in (20, 10, 0)]
    clusters = clusters_of(texts, all_candidates(texts))
    assert clusters.root.tolist() == [0, 0, 0]
    assert clusters.similarity.tolist() == [1, np.float32(90 / 110), np.float32(80 / 120)]


def test_similarity_at_the_threshold_is_enough():
    words = [f"w{number}" for number in range(54)]
    texts = [" ".join(words), " ".join(words[:44])]  # 40 of 50 shingles
    assert clusters_of(texts, all_candidates(texts), min_similarity=0.8).root.tolist() == [0, 0]
    assert clusters_of(texts, all_candidates(texts), min_similarity=0.8000001).root.tolist() == [0, 1]


def test_documents_with_zeros_for_bands_take_no_part():
    texts = ["one two three four"] * 3
    bands = band_hashes(texts)
    assert not bands.any()
    clusters = find_near_duplicates(
        [bands], lengths_of(texts), nothing, min_similarity=0.8, memory_bytes=PLENTY
    )
    assert clusters.root.tolist() == [0, 1, 2]


def test_a_corpus_without_documents_has_no_clusters():
    for bands in ([], [np.empty((NUM_BANDS, 0), dtype=np.uint64)]):
        clusters = find_near_duplicates(
            bands, np.empty(0, dtype=np.int64), nothing, min_similarity=0.8, memory_bytes=PLENTY
        )
        assert len(clusters.root) == len(clusters.similarity) == len(clusters.verified.first) == 0


class OneRowAtATime:
    """Bands that are made when they are asked for."""

    def __init__(self, bands: np.ndarray) -> None:
        self._bands = bands
        self.shape = bands.shape

    def __getitem__(self, band: int) -> np.ndarray:
        return self._bands[band].copy()


def test_bands_may_come_from_files_or_be_made_when_they_are_asked_for(tmp_path: Path):
    texts, _ = corpus(20)
    bands = band_hashes(texts)
    np.save(tmp_path / "bands.npy", bands[:, :10])
    shards = [np.load(tmp_path / "bands.npy", mmap_mode="r"), OneRowAtATime(bands[:, 10:])]
    assert clusters_of(texts, shards).root.tolist() == clusters_of(texts, [bands]).root.tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32, np.uint64, np.int64])
def test_lengths_may_have_any_integer_type(dtype: type):
    texts, _ = corpus(10)
    texts = [text[:250] for text in texts]
    bands = band_hashes(texts)
    roots = [
        find_near_duplicates(
            [bands], lengths_of(texts).astype(kind), provider(texts), min_similarity=0.5, memory_bytes=PLENTY
        ).root.tolist()
        for kind in (dtype, np.int64)
    ]
    assert roots[0] == roots[1]


def test_many_near_copies_take_time_in_proportion_to_their_number_and_few_comparisons():
    generator = random.Random(3)
    text = make_text(generator, 30)
    copies = [edited(text, generator, 1) for _ in range(4100)]
    bands = band_hashes(copies)
    clusters = clusters_of(copies, [bands])
    assert len(set(clusters.root.tolist())) == 1
    assert clusters.statistics["num_capped_buckets"] > 0
    assert clusters.work["num_texts_read"] == len(copies)
    # Of a bucket of up to 16, every pair is looked at: fewer than 8 for each member, and fewer in larger ones.
    assert clusters.statistics["num_bucket_pairs"] < 8 * NUM_BANDS * len(copies)
    # One comparison links each, and one more gives its similarity to the representative.
    assert clusters.work["num_computed_pairs"] < 2 * len(copies)
    assert_grows_linearly(
        lambda number: clusters_of(copies[:number], [bands[:, :number]]), lambda number: number, 250
    )


def test_strangers_in_one_bucket_are_compared_a_fixed_number_of_times():
    texts = [f"{number} " * 9 for number in range(3000)]
    clusters = clusters_of(texts, [np.ones((2, len(texts)), dtype=np.uint64)])
    assert clusters.root.tolist() == list(range(3000))
    assert clusters.work["num_computed_pairs"] <= (NEIGHBOURS + 1) * 3000
    assert clusters.statistics["num_capped_buckets"] == 2
    assert clusters.statistics["largest_bucket"] == 3000


def test_what_was_verified_need_not_be_read_again():
    texts, _ = corpus()
    bands = band_hashes(texts)
    first = clusters_of(texts, [bands])
    again = find_near_duplicates(
        [bands], lengths_of(texts), nothing, min_similarity=0.8, memory_bytes=PLENTY, known=first.verified
    )
    assert np.array_equal(again.root, first.root)
    assert np.array_equal(again.similarity, first.similarity)
    assert again.work == {"num_computed_pairs": 0, "num_texts_read": 0}


def test_a_document_more_costs_its_own_comparisons_alone():
    texts, _ = corpus()
    old = clusters_of(texts)
    # The new document comes first, so every index grows by one.
    new_texts = [edited(texts[0], random.Random(1), 2), *texts]
    known = PairSimilarities.of(old.verified.second + 1, old.verified.first + 1, old.verified.similarity)
    new = clusters_of(new_texts, known=known)
    fresh = clusters_of(new_texts)
    assert np.array_equal(new.root, fresh.root)
    assert np.array_equal(new.similarity, fresh.similarity)
    assert new.work["num_texts_read"] < 15 < fresh.work["num_texts_read"]


def test_verified_similarities_are_exact_and_in_order():
    texts, _ = corpus(20)
    verified = clusters_of([text.lower().replace(".", "") for text in texts]).verified
    plain = [text.lower().replace(".", "") for text in texts]
    pairs = list(zip(verified.first.tolist(), verified.second.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    assert all(first < second for first, second in pairs)
    for (first, second), value in zip(pairs, verified.similarity, strict=True):
        assert value == similarity_in_python(plain[first], plain[second])


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_jaccard_is_the_share_of_common_elements(first: set[int], second: set[int]):
    expected = len(first & second) / len(first | second) if first | second else 0
    assert jaccard(*(np.array(sorted(both), dtype=np.uint64) for both in (first, second))) == expected


def test_shingles_are_a_set():
    assert len(shingle_set("a b c d e " * 50)) == 5
    assert shingle_set("a b c d").tolist() == []


def test_memory_stays_within_what_is_allowed():
    """Texts that are all in clusters, with sets of shingles of 10 MB, in 3 MB."""
    generator = random.Random(1)
    texts = [edited(make_text(random.Random(number // 2), 400), generator, 3) for number in range(400)]
    bands, lengths = band_hashes(texts), lengths_of(texts)
    give = provider(texts)
    tracemalloc.start()
    find_near_duplicates([bands], lengths, give, min_similarity=0.8, memory_bytes=3_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(8 * text.count(" ") for text in texts) > 10_000_000
    assert peak < 3_000_000, peak


def test_of_several_editions_of_a_book_one_survives_and_books_do_not_merge(real_data: Path):
    names, texts = [], []
    for path in sorted((real_data / "books").glob("*.txt")):
        encoding = "latin-1" if path.name.endswith("-8.txt") else "utf-8"
        texts.append(strip_wrapper(path.read_text(encoding=encoding, errors="replace"))[0])
        names.append(path.name.split("__")[0])
    clusters = clusters_of(texts)
    for first, second in combinations(range(len(texts)), 2):
        assert (clusters.root[first] == clusters.root[second]) == (names[first] == names[second])
    assert len(set(clusters.root.tolist())) == len(set(names)) == 4


def test_short_documents_of_few_words_in_common_stay_apart():
    texts = make_documents(300)
    assert clusters_of(texts).root.tolist() == list(range(300))


def test_the_example_is_true():
    result = doctest.testmod(module)
    assert result.attempted and not result.failed
