"""A vocabulary for Hugging Face tokenizers from a sample of a corpus. Knows neither how the sample was drawn nor where
it goes.

The library says what a word is; the ids are given here: special tokens and bytes where every vocabulary of this project
has them, then what was learned, in the order in which it was learned.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tokenization.byte_level import (
    BYTE_CHARACTERS,
    GROUPED_DIGITS_PATTERN,
    SINGLE_DIGITS_PATTERN,
    cuts_of_pattern,
    to_characters,
)
from tokenization.byte_pieces import LONGEST_PIECE, learn_pieces
from tokenization.json_encoder import JsonEncoder
from tokenization.json_parts import (
    BYTES_AS_CHARACTERS,
    Part,
    bpe_model,
    every_merge,
    json_bytes,
    sequence,
    split_at,
    whole,
)
from tokenization.special_tokens import BOS_TOKEN, SPECIAL_TOKENS, UNK_TOKEN
from tokenization.vocabulary import TRAINED_IDS
from tokenization.vocabulary_settings import VocabularySettings
from tokenization.word_counts import count_words

CONTINUES = " ##"
"""In front of a WordPiece token that continues a word. BERT has "##", which a text can have as well (a heading of
Markdown), so decoding could not tell; no word has a space here, where spaces are written as another character."""

PRIVATE = 0xE000
TO_PRIVATE = {ord(character): PRIVATE + byte for byte, character in enumerate(BYTE_CHARACTERS)}
FROM_PRIVATE = {private: character for character, private in TO_PRIVATE.items()}
"""While the pieces of WordPiece are learned, a byte within a word is one of Unicode's private characters, because it is
another symbol than the same byte at the beginning."""

NAME_START = r"<(?=/?s>|(?:unk|pad)>|\|(?:system|user|assistant|end|reserved_[0-7])\|>)"
"""The first character of the name of a special token in a text."""


def train_byte_bpe(sample: list[bytes], settings: VocabularySettings, _origin: str) -> JsonEncoder:
    """Byte-level BPE over words as GPT-4 cuts them; no text is lost, and none is unknown."""
    splits = [split_at(_pattern(settings))]
    learned = learn_pieces(
        _count_words(sample, splits, settings),
        num_pieces=settings.vocab_size - len(SPECIAL_TOKENS) - len(BYTE_CHARACTERS),
        max_length=settings.max_piece_length,
        num_threads=settings.num_threads,
    )
    return _encoder(
        settings,
        model=bpe_model(
            _numbered(BYTE_CHARACTERS, learned), every_merge(learned, {*BYTE_CHARACTERS, *learned})
        ),
        splits=[*splits, BYTES_AS_CHARACTERS],
        decoder=BYTES_AS_CHARACTERS,
    )


def train_wordpiece(sample: list[bytes], settings: VocabularySettings, _origin: str) -> JsonEncoder:
    """WordPiece over bytes: a word is spelled by the longest piece that fits, then the longest for what is left.

    Every byte has a token at the beginning of a word and one within it, and words are cut at `max_piece_length`
    characters, so no text is lost and none is unknown, and no text makes it slow (the library's search takes the square
    of a word's length).
    """
    continuing = [CONTINUES + character for character in BYTE_CHARACTERS]
    fixed = [*BYTE_CHARACTERS, *continuing]
    longest_word = rf"[\s\S]{{1,{settings.max_piece_length}}}"
    splits = [split_at(_pattern(settings)), split_at(longest_word)]
    counts = _count_words(sample, splits, settings)
    pieces = learn_pieces(
        {word[0] + word[1:].translate(TO_PRIVATE): count for word, count in counts.items()},
        num_pieces=settings.vocab_size - len(SPECIAL_TOKENS) - len(fixed),
        max_length=min(4 * settings.max_piece_length, LONGEST_PIECE),
        num_threads=settings.num_threads,
    )
    learned = [
        (CONTINUES if ord(piece[0]) in FROM_PRIVATE else "") + piece.translate(FROM_PRIVATE)
        for piece in pieces
    ]
    return _encoder(
        settings,
        model={
            "type": "WordPiece",
            "unk_token": UNK_TOKEN,
            "continuing_subword_prefix": CONTINUES,
            "max_input_chars_per_word": 4 * settings.max_piece_length,
            "vocab": _numbered(fixed, learned),
        },
        splits=[*splits, BYTES_AS_CHARACTERS],
        decoder={
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": CONTINUES}, "content": ""},
                BYTES_AS_CHARACTERS,
            ],
        },
    )


def train_word_level(sample: list[bytes], settings: VocabularySettings, _origin: str) -> JsonEncoder:
    """The most frequent words between white space. Every other word is lost, and so is how wide the space was."""
    from tokenizers.trainers import WordLevelTrainer

    # A word that is the name of a special token would become that token; without its first character it is none.
    splits = [split_at(NAME_START, "MergedWithPrevious"), {"type": "WhitespaceSplit"}]
    trainer = WordLevelTrainer(vocab_size=settings.vocab_size - len(SPECIAL_TOKENS), show_progress=False)
    model = {"type": "WordLevel", "unk_token": UNK_TOKEN}
    library = _library({**model, "vocab": {}}, splits)
    library.train_from_iterator((chunk.decode() for chunk in _consumed(sample)), trainer)
    trained = json.loads(library.to_str())["model"]["vocab"]
    learned = sorted(trained, key=trained.__getitem__)
    return _encoder(settings, model={**model, "vocab": _numbered((), learned)}, splits=splits, decoder=None)


def _pattern(settings: VocabularySettings) -> str:
    return SINGLE_DIGITS_PATTERN if settings.split_digits else GROUPED_DIGITS_PATTERN


def _count_words(sample: list[bytes], splits: list[Part], settings: VocabularySettings) -> Mapping[str, int]:
    """How often each word occurs, with a character for each byte. The sample is emptied on the way.

    The library cuts some 6 MB a second, so it gets every different chunk once: of 100 MB of code and prose 11 MB.
    """
    cuts = cuts_of_pattern(_pattern(settings))
    assert cuts is not None
    cut = _library(bpe_model({}, []), splits).pre_tokenizer.pre_tokenize_str
    counts: Counter[str] = Counter()
    for chunk, count in count_words(_consumed(sample), cuts):
        for word, _ in cut(chunk.decode()):
            counts[word] += count
    return {to_characters(word.encode()): count for word, count in counts.items()}


def _library(model: Part, splits: list[Part]) -> Any:
    """A tokenizers.Tokenizer without special tokens."""
    import tokenizers

    start = whole(model=model, special_tokens={}, pre_tokenizer=sequence(splits), decoder=None, bos=None)
    return tokenizers.Tokenizer.from_str(json_bytes(start).decode())


def _consumed(sample: list[bytes]) -> Iterable[bytes]:
    sample.reverse()
    while sample:
        yield sample.pop()


def _numbered(fixed: Iterable[str], learned: Iterable[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate([*SPECIAL_TOKENS, *fixed, *learned])}


def _encoder(
    settings: VocabularySettings, *, model: Part, splits: list[Part], decoder: Part | None
) -> JsonEncoder:
    content = whole(
        model=model,
        special_tokens={name: token for token, name in enumerate(SPECIAL_TOKENS)},
        pre_tokenizer=sequence(splits),
        decoder=decoder,
        bos=BOS_TOKEN,
    )
    return JsonEncoder(json_bytes(content), special_ids=TRAINED_IDS, model_type=settings.model_type)
