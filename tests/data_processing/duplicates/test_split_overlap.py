"""Overlap between splits, compared with sets of words in plain Python."""

import doctest
import json
import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.duplicates import split_overlap as module
from data_processing.duplicates.split_overlap import NGRAM_WORDS, SplitOverlap
from tests.small_texts import make_text


def ngrams_in_python(text: str) -> set[tuple[str, ...]]:
    """The 8-grams of a text of plain lower-case words."""
    words = text.split()
    return {tuple(words[place : place + 8]) for place in range(len(words) - 7)}


def overlap_of(held_out: list[str], train: list[str], **options: int) -> SplitOverlap:
    overlap = SplitOverlap(**options)
    for number, text in enumerate(held_out):
        overlap.add_held_out("test", f"{number}.txt", text)
    overlap.freeze()
    for text in train:
        overlap.add_train(text)
    return overlap


# Runs of words that share 8-grams to every degree.
PHRASES = ["a b c d", "e f g h i", "j k l m n o p q", "a b c d e f g h", "x"]
TEXTS = st.lists(st.lists(st.sampled_from(PHRASES), max_size=6).map(" ".join), max_size=8)


@given(TEXTS, TEXTS)
def test_shares_are_those_of_plain_sets(held_out: list[str], train: list[str]):
    result = overlap_of(held_out, train).result()
    trained = set().union(*map(ngrams_in_python, train))
    sets = {f"{number}.txt": ngrams_in_python(text) for number, text in enumerate(held_out)}
    shares = {source: len(ngrams & trained) / len(ngrams) for source, ngrams in sets.items() if ngrams}
    assert (result["ngram_words"], result["sampled_one_in"]) == (8, 1) == (NGRAM_WORDS, 1)
    if not held_out:
        assert "test" not in result
        return
    found = result["test"]
    assert found["num_documents"] == len(held_out)
    assert found["num_documents_measured"] == len(shares)
    assert found["num_ngrams"] == sum(map(len, sets.values()))
    if shares:
        total = sum(len(ngrams & trained) for ngrams in sets.values())
        assert found["ngrams_in_train_share"] == total / found["num_ngrams"]
        mostly = sum(share > 0.5 for share in shares.values())
        assert found["documents_mostly_in_train_share"] == mostly / len(shares)
    else:
        assert found["ngrams_in_train_share"] is found["documents_mostly_in_train_share"] is None
    worst = sorted((-share, source) for source, share in shares.items() if share)
    assert found["worst"] == [{"source": source, "share": -share} for share, source in worst]
    assert json.loads(json.dumps(result)) == result


@given(TEXTS, TEXTS, st.randoms())
def test_neither_order_nor_repetition_of_training_text_changes_anything(
    held_out: list[str], train: list[str], order: random.Random
):
    again = [*train, *train]
    order.shuffle(again)
    assert overlap_of(held_out, train).result() == overlap_of(held_out, again).result()


def test_n_grams_wait_to_be_looked_up_together_and_none_is_lost(monkeypatch: pytest.MonkeyPatch):
    generator = random.Random(1)
    texts = [make_text(generator, 20) for _ in range(30)]
    expected = overlap_of(texts[:15], texts[10:]).result()
    for number in (1, 50, 1000):
        monkeypatch.setattr(module, "_MAX_PENDING", number)
        assert overlap_of(texts[:15], texts[10:]).result() == expected
    assert [worst["source"] for worst in expected["test"]["worst"][:5]] == [f"{n}.txt" for n in range(10, 15)]


def test_a_change_of_quotes_case_and_lines_does_not_hide_a_copy():
    copy = "“The iron’s hot,” SAID the smith — “strike it\nor it will not weld.”"
    plain = '"The iron\'s hot," said the smith -- "strike it or it will not weld."'
    assert overlap_of([copy], [plain]).result()["test"]["ngrams_in_train_share"] == 1.0


def test_each_split_has_its_own_share():
    one, two, three = (" ".join(f"{name}{number}" for number in range(20)) for name in "abc")
    overlap = SplitOverlap()
    overlap.add_held_out("validation", "one", one)
    overlap.add_held_out("test", "two", two)
    overlap.add_held_out("test", "three", three)
    overlap.freeze()
    overlap.add_train(one + " " + two)
    result = overlap.result()
    assert result["validation"]["ngrams_in_train_share"] == 1.0
    assert result["test"]["ngrams_in_train_share"] == 0.5
    assert result["test"]["documents_mostly_in_train_share"] == 0.5
    assert result["test"]["worst"] == [{"source": "two", "share": 1.0}]


def test_of_many_bad_documents_ten_are_named_and_of_equally_bad_ones_the_first_by_name():
    text = " ".join(map(str, range(30)))
    overlap = SplitOverlap()
    for number in reversed(range(26)):
        overlap.add_held_out("test", chr(97 + number), text)
    overlap.freeze()
    overlap.add_train(text)
    assert [worst["source"] for worst in overlap.result()["test"]["worst"]] == list("abcdefghij")


def test_a_sample_estimates_the_share_in_a_fraction_of_the_memory():
    generator = random.Random(2)
    texts = [" ".join(f"w{generator.randrange(10**6)}" for _ in range(400)) for _ in range(300)]
    # A third of each held-out text is in the training text.
    train = [" ".join(text.split()[:138]) for text in texts]
    whole = overlap_of(texts, train).result()
    sample = overlap_of(texts, train, memory_bytes=1_000_000).result()
    assert whole["sampled_one_in"] == 1
    assert whole["test"]["ngrams_in_train_share"] == pytest.approx(131 / 393)
    assert sample["sampled_one_in"] == 8
    error = (1 / 3 * 2 / 3 / sample["test"]["num_ngrams"]) ** 0.5
    assert abs(sample["test"]["ngrams_in_train_share"] - 1 / 3) < 4 * error
    # The sample is a matter of what is held out, not of its order.
    assert (
        overlap_of(texts[::-1], train, memory_bytes=1_000_000).result()["test"]["num_ngrams"]
        == (sample["test"]["num_ngrams"])
    )


def test_memory_stays_within_what_is_allowed():
    generator = random.Random(2)
    words = [f"w{number}" for number in range(30_000)]
    texts = [" ".join(generator.choices(words, k=60 + 1000 * (number % 20 == 0))) for number in range(3000)]
    tracemalloc.start()
    overlap_of(texts, texts, memory_bytes=2_000_000).result()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The n-grams that wait for their look-up come on top, as the class says.
    assert peak < 2_000_000 + 2_000_000, peak
    assert sum(8 * text.count(" ") for text in texts) > 2_500_000


def test_what_is_done_out_of_order_is_refused():
    overlap = SplitOverlap()
    with pytest.raises(AssertionError, match="after freeze"):
        overlap.add_train("a")
    with pytest.raises(AssertionError, match="after freeze"):
        overlap.result()
    overlap.freeze()
    with pytest.raises(AssertionError, match="before freeze"):
        overlap.add_held_out("test", "a", "a")
    with pytest.raises(AssertionError, match="once"):
        overlap.freeze()
    overlap.add_train("one two three four five six seven eight nine")
    assert overlap.result() == {"ngram_words": 8, "sampled_one_in": 1}


def test_the_example_is_true():
    result = doctest.testmod(module)
    assert result.attempted and not result.failed
