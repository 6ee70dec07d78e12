"""The kinds of tokenizers that are trained here, for several tests."""

from tokenization.tokenizer import Tokenizer

SIZES = {
    "bpe": 900,
    "unigram": 700,
    "char": 460,
    "word": 500,
    "byte_bpe": 700,
    "wordpiece": 900,
    "word_level": 400,
}
"""Kind to the size of its vocabulary in tests."""

SENTENCEPIECE = ["bpe", "unigram", "char", "word"]
HUGGING_FACE = ["byte_bpe", "wordpiece", "word_level"]
LOSSLESS = [kind for kind in SIZES if kind != "word_level"]


def fresh_copy(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer, having seen nothing yet."""
    return Tokenizer(tokenizer._encoder)
