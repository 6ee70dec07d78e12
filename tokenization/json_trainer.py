"""A vocabulary from a sample of a corpus, by Hugging Face tokenizers. Knows neither how the sample was drawn nor where
it goes.

The library learns pieces; the ids are given here: special tokens and bytes where every vocabulary of this project has
them, then what was learned, in the order in which it was learned.
"""

import json
from collections.abc import Iterable
from typing import Any

from tokenization.byte_level import BYTE_CHARACTERS, GROUPED_DIGITS_PATTERN, SINGLE_DIGITS_PATTERN
from tokenization.json_encoder import JsonEncoder
from tokenization.json_parts import (
    BYTES_AS_CHARACTERS,
    Part,
    bpe_model,
    json_bytes,
    sequence,
    split_at,
    whole,
)
from tokenization.special_tokens import BOS_TOKEN, SPECIAL_TOKENS, UNK_TOKEN
from tokenization.vocabulary import TRAINED_IDS
from tokenization.vocabulary_settings import VocabularySettings

CONTINUES = " ##"
"""In front of a WordPiece token that continues a word. BERT has "##", which a text can have as well (a heading of
Markdown), so decoding could not tell; no word has a space here, where spaces are written as another character."""

NAME_START = r"<(?=/?s>|(?:unk|pad)>|\|(?:system|user|assistant|end|reserved_[0-7])\|>)"
"""The first character of the name of a special token in a text."""


def train_byte_bpe(sample: list[bytes], settings: VocabularySettings, _origin: str) -> JsonEncoder:
    """Byte-level BPE over words as GPT-4 cuts them; no text is lost, and none is unknown."""
    from tokenizers.trainers import BpeTrainer

    splits = [split_at(_pattern(settings)), BYTES_AS_CHARACTERS]
    trainer = BpeTrainer(
        vocab_size=settings.vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=list(BYTE_CHARACTERS),
        max_token_length=settings.max_piece_length + 1,  # tokenizers 0.23 keeps tokens shorter than this
        show_progress=False,
    )
    model = _learn(bpe_model({}, []), splits, trainer, sample)
    # Two merges can make the same token.
    learned = list(dict.fromkeys("".join(pair) for pair in model["merges"]))
    return _encoder(
        settings,
        model=bpe_model(_numbered(BYTE_CHARACTERS, learned), model["merges"]),
        splits=splits,
        decoder=BYTES_AS_CHARACTERS,
    )


def train_wordpiece(sample: list[bytes], settings: VocabularySettings, _origin: str) -> JsonEncoder:
    """WordPiece over bytes: a word is spelled by the longest piece that fits, then the longest for what is left.

    Every byte has a token at the beginning of a word and one within it, and words are cut at `max_piece_length`
    characters, so no text is lost and none is unknown, and no text makes it slow (the library's search takes the square
    of a word's length).
    """
    from tokenizers.trainers import WordPieceTrainer

    continuing = [CONTINUES + character for character in BYTE_CHARACTERS]
    fixed = [*BYTE_CHARACTERS, *continuing]
    longest_word = rf"[\s\S]{{1,{settings.max_piece_length}}}"
    splits = [split_at(_pattern(settings)), split_at(longest_word), BYTES_AS_CHARACTERS]
    trainer = WordPieceTrainer(
        vocab_size=settings.vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=list(BYTE_CHARACTERS),
        # Named beforehand, because the library would number them in the order of a hash table, which changes from
        # run to run and decides between equally frequent pairs.
        special_tokens=continuing,
        continuing_subword_prefix=CONTINUES,
        show_progress=False,
    )
    model = {
        "type": "WordPiece",
        "unk_token": UNK_TOKEN,
        "continuing_subword_prefix": CONTINUES,
        "max_input_chars_per_word": 4 * settings.max_piece_length,
    }
    trained = _learn({**model, "vocab": {}}, splits, trainer, sample)["vocab"]
    learned = [token for token in sorted(trained, key=trained.__getitem__) if token not in fixed]
    return _encoder(
        settings,
        model={**model, "vocab": _numbered(fixed, learned)},
        splits=splits,
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
    trained = _learn({**model, "vocab": {}}, splits, trainer, sample)["vocab"]
    learned = sorted(trained, key=trained.__getitem__)
    return _encoder(settings, model={**model, "vocab": _numbered((), learned)}, splits=splits, decoder=None)


def _pattern(settings: VocabularySettings) -> str:
    return SINGLE_DIGITS_PATTERN if settings.split_digits else GROUPED_DIGITS_PATTERN


def _learn(empty: Part, splits: list[Part], trainer: Any, sample: list[bytes]) -> Part:
    """The model as the library has trained it. The sample is emptied on the way."""
    import tokenizers

    start = whole(model=empty, special_tokens={}, pre_tokenizer=sequence(splits), decoder=None, bos=None)
    tokenizer = tokenizers.Tokenizer.from_str(json_bytes(start).decode())
    tokenizer.train_from_iterator((chunk.decode() for chunk in _consumed(sample)), trainer)
    model: Part = json.loads(tokenizer.to_str())["model"]
    return model


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
