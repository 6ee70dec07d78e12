import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tokenization.hostile_text import HAND_PICKED, corpus, texts
from tests.tokenization.test_tokenizer_trainer import train
from tokenization.byte_level import (
    BYTE_CHARACTERS,
    GROUPED_DIGITS_PATTERN,
    SINGLE_DIGITS_PATTERN,
    from_characters,
)
from tokenization.json_parts import split_at
from tokenization.json_trainer import CONTINUES, _count_words, train_wordpiece
from tokenization.special_tokens import SPECIAL_TOKENS
from tokenization.tokenizer import StreamDecoder, Tokenizer
from tokenization.vocabulary_settings import VocabularySettings

NUM_SPECIAL = len(SPECIAL_TOKENS)


@pytest.fixture(scope="session")
def word_level(tokenizer_directory: Callable[[str], Path]) -> Tokenizer:
    return Tokenizer.from_file(tokenizer_directory("word_level"))


@pytest.fixture(scope="session")
def wordpiece(tokenizer_directory: Callable[[str], Path]) -> Tokenizer:
    return Tokenizer.from_file(tokenizer_directory("wordpiece"))


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece"])
def test_special_tokens_and_bytes_have_the_ids_of_every_vocabulary(
    tokenizer_directory: Callable[[str], Path], kind: str
) -> None:
    tokenizer = Tokenizer.from_file(tokenizer_directory(kind))
    names = [piece.text for piece in tokenizer.pieces]
    assert names[:NUM_SPECIAL] == list(SPECIAL_TOKENS)
    assert names[NUM_SPECIAL : NUM_SPECIAL + 256] == list(BYTE_CHARACTERS)
    assert len(set(names)) == len(names)
    rare = "\u0378"
    assert tokenizer.encode(rare)[0] == NUM_SPECIAL + rare.encode()[0]


def test_byte_bpe_learns_frequent_words_with_their_space(tokenizer_directory: Callable[[str], Path]) -> None:
    tokenizer = Tokenizer.from_file(tokenizer_directory("byte_bpe"))
    assert len(tokenizer.encode(" furnace")) == 1
    assert tokenizer.decode([tokenizer.vocab_size - 1]) != ""


def settings(model_type: str, *, split_digits: bool = True) -> VocabularySettings:
    return VocabularySettings(
        model_type=model_type,
        vocab_size=600,
        character_coverage=1.0,
        split_digits=split_digits,
        split_by_unicode_script=True,
        max_piece_length=32,
        num_threads=2,
    )


@pytest.mark.parametrize("split_digits", [True, False])
def test_what_is_counted_is_the_words_of_the_whole_text(split_digits: bool) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    chosen = settings("byte_bpe", split_digits=split_digits)
    pattern = SINGLE_DIGITS_PATTERN if split_digits else GROUPED_DIGITS_PATTERN
    library = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    texts = [*corpus(num_texts=80), *HAND_PICKED]
    expected = Counter(word for text in texts for word, _ in library.pre_tokenize_str(text))
    sample = [text.encode() for text in texts]
    assert _count_words(sample, [split_at(pattern)], chosen) == expected
    assert sample == []  # handed over, to free its memory


def test_byte_bpe_gives_the_ids_of_tiktoken_with_the_same_tokens(
    tokenizer_directory: Callable[[str], Path],
) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    tokenizer = Tokenizer.from_file(tokenizer_directory("byte_bpe"))
    texts = {piece.text: token for token, piece in enumerate(tokenizer.pieces) if token >= NUM_SPECIAL}
    ranks = {from_characters(text): token for text, token in texts.items()}
    theirs = tiktoken.Encoding(
        "ours", pat_str=SINGLE_DIGITS_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )
    for text in [*corpus(seed=5, num_texts=60), *HAND_PICKED]:
        assert tokenizer.encode(text) == theirs.encode_ordinary(text), ascii(text)


def test_pieces_of_wordpiece_are_learned_as_by_the_library() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    draw = random.Random(0)
    words = {
        "".join(draw.choices("abcd", k=draw.randrange(1, 8))): draw.randrange(1, 900) for _ in range(400)
    }
    sample = [f"{word}\n" * count for word, count in words.items()]
    library = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="<unk>"))
    library.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    first = [*"abcd", *(f"##{letter}" for letter in "abcd")]
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=len(first) + 40, special_tokens=first, show_progress=False
    )
    library.train_from_iterator(sample, trainer)
    vocab = library.get_vocab()
    theirs = sorted(vocab, key=vocab.__getitem__)[len(first) :]
    # The end of the line is a word of one character and adds no piece.
    found = train_wordpiece([text.encode() for text in sample], settings("wordpiece"), "the corpus")
    ours = [piece.text.replace(CONTINUES, "##") for piece in found.vocabulary.pieces]
    assert ours[NUM_SPECIAL + 512 :][: len(theirs)] == theirs


def test_digits_and_piece_lengths_follow_the_settings(tmp_path: Path) -> None:
    numbers = ["year 2026 and 2027, extraordinarily"] * 50
    for kind in ("byte_bpe", "wordpiece"):
        split = train(numbers, tmp_path / kind / "split", 700, kind, split_digits=True, max_piece_length=4)
        joined = train(numbers, tmp_path / kind / "joined", 700, kind, split_digits=False)
        assert len(split.encode("2026")) == 4 > len(joined.encode("2026"))
        assert max(split.byte_lengths) == 4 < max(joined.byte_lengths)


def greedy(word: str, vocab: set[str]) -> list[str]:
    """WordPiece as its paper says: the longest piece that fits, again and again."""
    pieces: list[str] = []
    start = 0
    while start < len(word):
        lead = CONTINUES if start else ""
        end = next(end for end in range(len(word), start, -1) if lead + word[start:end] in vocab)
        pieces.append(lead + word[start:end])
        start = end
    return pieces


def test_wordpiece_takes_the_longest_piece_that_fits(wordpiece: Tokenizer) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    split = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(SINGLE_DIGITS_PATTERN), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    names = [piece.text for piece in wordpiece.pieces]
    known = set(names[NUM_SPECIAL:])
    for text in corpus(seed=7, num_texts=20):
        expected = [
            piece
            for word, _ in split.pre_tokenize_str(text)
            for part in re.findall(".{1,32}", word, re.DOTALL)
            for piece in greedy(part, known)
        ]
        if text.isascii():  # words are cut by characters, which are several letters here otherwise
            assert [names[token] for token in wordpiece.encode(text)] == expected
    assert "##" not in CONTINUES.strip("#") and wordpiece.decode(wordpiece.encode("## ##a")) == "## ##a"


def test_a_long_word_takes_time_in_proportion(wordpiece: Tokenizer) -> None:
    word = "q" * 300_000  # the square of it would take hours
    assert wordpiece.decode(wordpiece.encode(word)) == word


@given(text=texts)
def test_words_come_back_with_one_space_between_or_as_unknown(word_level: Tokenizer, text: str) -> None:
    ids = word_level.encode(text)
    assert set(ids).isdisjoint(range(1, NUM_SPECIAL))
    names = [piece.text for piece in word_level.pieces]
    known = [names[token] for token in ids if token != word_level.unk_id]
    assert word_level.decode(ids) == " ".join(known)
    assert int(word_level.byte_lengths[ids].sum()) == sum(len(name.encode()) + 1 for name in known)
    decoder = StreamDecoder(word_level)
    assert "".join(map(decoder.push, ids)) + decoder.flush() == " ".join(known)


def test_a_word_level_tokenizer_knows_whole_words_alone(word_level: Tokenizer) -> None:
    assert len(word_level.encode("  furnace\n\n furnace\t")) == 2
    assert word_level.decode(word_level.encode("  furnace\n\n furnace\t")) == "furnace furnace"
    assert word_level.encode("xyzzy furnaces?!") == [word_level.unk_id] * 2


@pytest.mark.parametrize("text", [*HAND_PICKED, *SPECIAL_TOKENS, "x<s>y </s>", "<unk> <pad>"], ids=ascii)
def test_the_name_of_a_special_token_is_no_special_token_even_as_a_word(tmp_path: Path, text: str) -> None:
    names = train(["<s> </s> <pad> <|end|> <|user|> iron" * 20], tmp_path, 40, "word_level")
    assert set(names.encode(text)).isdisjoint(range(1, NUM_SPECIAL))


def test_a_lossy_kind_says_what_it_loses_when_it_is_trained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = train(["the iron is hot"], tmp_path, 20, "word_level")
    assert not tokenizer.lossless
    assert tokenizer.losses == (
        "white space is not kept as it is (WhitespaceSplit)",
        "characters or words that are not in the vocabulary become the token for unknown text",
    )
    assert "a word_level tokenizer does not keep every text: white space is not kept" in caplog.text
    assert "set tokenizer.model_type to bpe or byte_bpe" in caplog.text
    caplog.clear()
    assert train(["the iron is hot"], tmp_path / "kept", 300, "byte_bpe").lossless
    assert "does not keep every text" not in caplog.text


@given(text=st.sampled_from(["<s>", "a</s>", "x <|end|>y", "<|reserved_7|><pad>"]))
def test_transformers_agrees_on_names_when_it_is_told_to_split_them(word_level: Tokenizer, text: str) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_str(word_level._encoder.content.decode())
    theirs.encode_special_tokens = True
    assert theirs.encode(text, add_special_tokens=False).ids == word_level.encode(text)
    assert json.loads(theirs.to_str())["model"]["type"] == "WordLevel"
