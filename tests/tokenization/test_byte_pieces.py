"""What is learned from counts of words, against pair merging by brute force and the trainers of Hugging Face."""

import itertools
import random
from collections import Counter
from collections.abc import Mapping

import pytest

from tests.tokenization.hostile_text import corpus
from tokenization.byte_pieces import learn_pieces


def brute_force(word_counts: Mapping[str, int], num_pieces: int, max_length: int) -> list[str]:
    """The most frequent pair again and again, counted anew each time; of equally frequent ones the shortest, then the
    first in the alphabet."""
    words = [(list(word), count) for word, count in word_counts.items()]
    pieces: list[str] = []
    while len(pieces) < num_pieces:
        counts: Counter[tuple[str, str]] = Counter()
        for symbols, count in words:
            for pair in itertools.pairwise(symbols):
                counts[pair] += count
        possible = {pair: count for pair, count in counts.items() if len("".join(pair)) <= max_length}
        if not possible:
            break
        best = min(possible, key=lambda pair: (-possible[pair], len("".join(pair)), "".join(pair)))
        for symbols, _ in words:
            for place in range(len(symbols) - 1):
                if tuple(symbols[place : place + 2]) == best:
                    symbols[place : place + 2] = ["".join(best)]
        if "".join(best) not in pieces:
            pieces.append("".join(best))
    return pieces


def counted(seed: int) -> Counter[str]:
    return Counter(word for text in corpus(seed=seed, num_texts=15) for word in text.split())


@pytest.mark.parametrize("max_length", [512, 5])
@pytest.mark.parametrize("seed", range(3))
def test_pieces_are_those_of_brute_force(seed: int, max_length: int) -> None:
    words = counted(seed)
    found = learn_pieces(words, num_pieces=150, max_length=max_length, num_threads=2)
    assert found == brute_force(words, 150, max_length)
    assert len(found) == 150


def test_pieces_are_those_of_hugging_face_where_no_two_pairs_are_equally_frequent() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    draw = random.Random(0)
    words = {
        "".join(draw.choices("abcd", k=draw.randrange(1, 8))): draw.randrange(1, 900) for _ in range(400)
    }
    library = tokenizers.Tokenizer(tokenizers.models.BPE())
    library.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=4 + 50, show_progress=False)
    library.train_from_iterator([f"{word} " * count for word, count in words.items()], trainer)
    vocab = library.get_vocab()
    theirs = [token for token in sorted(vocab, key=vocab.__getitem__) if len(token) > 1]
    assert learn_pieces(words, num_pieces=50, max_length=512, num_threads=1) == theirs


def test_a_count_may_be_larger_than_32_bits_hold() -> None:
    words = {"ab": 5_000_000_000, "bc": 4_999_999_999, "cd": 3_000_000_000}
    assert learn_pieces(words, num_pieces=3, max_length=512, num_threads=1) == ["ab", "bc", "cd"]


@pytest.mark.parametrize(
    ("words", "max_length", "expected"),
    [
        ({"abc": 1}, 512, ["ab", "abc", "bc"]),  # the last one is nowhere left to be joined
        ({"abc": 9}, 2, ["ab", "bc"]),
        ({"abc": 9}, 1, []),
        ({"a": 9}, 512, []),
        ({}, 512, []),
    ],
)
def test_no_more_pieces_than_the_words_feed(
    words: dict[str, int], max_length: int, expected: list[str]
) -> None:
    assert learn_pieces(words, num_pieces=100, max_length=max_length, num_threads=1) == expected


def test_no_piece_is_learned_where_none_is_asked_for() -> None:
    assert learn_pieces({"abc": 9}, num_pieces=0, max_length=512, num_threads=1) == []
