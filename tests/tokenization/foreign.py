"""Small tokenizers of the kinds that are found elsewhere, made with the libraries that make those."""

import base64
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.tokenization.hostile_text import corpus
from tokenization.byte_level import BYTE_CHARACTERS, GROUPED_DIGITS_PATTERN, from_characters


def gpt2_like() -> tokenizers.Tokenizer:
    """Byte-level BPE whose one special token is the end of a text."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    _train(
        made, trainers.BpeTrainer(vocab_size=500, initial_alphabet=list(BYTE_CHARACTERS), show_progress=False)
    )
    made.add_special_tokens(["<|endoftext|>"])
    return made


def llama3_like() -> tokenizers.Tokenizer:
    """Byte-level BPE with GPT-4's words that looks whole words up first, with many special tokens."""
    made = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(GROUPED_DIGITS_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    _train(
        made, trainers.BpeTrainer(vocab_size=500, initial_alphabet=list(BYTE_CHARACTERS), show_progress=False)
    )
    made.add_special_tokens(
        ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>"]
    )
    made.enable_truncation(8)
    return made


def qwen2_like() -> tokenizers.Tokenizer:
    """Byte-level BPE that normalises to NFC and has tokens of a tool's protocol that are not special."""
    made = gpt2_like()
    made.normalizer = normalizers.NFC()
    made.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    made.add_tokens([AddedToken("<tool_call>", normalized=False)])
    return made


def llama2_like() -> tokenizers.Tokenizer:
    """What transformers makes of Llama 2's SentencePiece model: a space in front, bytes for unknown characters."""
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    _train(
        made,
        trainers.BpeTrainer(vocab_size=700, special_tokens=names, limit_alphabet=60, show_progress=False),
    )
    content = json.loads(made.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    return tokenizers.Tokenizer.from_str(json.dumps(content))


def t5_like() -> tokenizers.Tokenizer:
    """A unigram model over words with a space in front, without bytes; the names of its special tokens are pieces."""
    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    _train(
        made,
        trainers.UnigramTrainer(
            vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
        ),
    )
    return made


def bert_like() -> tokenizers.Tokenizer:
    """WordPiece in lower case."""
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    _train(made, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False))
    return made


def words() -> tokenizers.Tokenizer:
    """Whole words, the names of special tokens among them, without a decoder."""
    made = tokenizers.Tokenizer(models.WordLevel(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    _train(made, trainers.WordLevelTrainer(special_tokens=["[UNK]", "EOS"], show_progress=False))
    return made


FOREIGN: Mapping[str, Callable[[], tokenizers.Tokenizer]] = {
    "gpt2": gpt2_like,
    "llama3": llama3_like,
    "qwen2": qwen2_like,
    "llama2": llama2_like,
    "t5": t5_like,
    "bert": bert_like,
    "words": words,
}


KEEPING = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
SENTENCEPIECE: Mapping[str, Mapping[str, Any]] = {
    "llama2": {"model_type": "bpe", "vocab_size": 700, "byte_fallback": True, **KEEPING},
    "bare": {
        "model_type": "bpe",
        "vocab_size": 700,
        "byte_fallback": True,
        "add_dummy_prefix": False,
        **KEEPING,
    },
    "spaces": {"model_type": "bpe", "vocab_size": 400, "normalization_rule_name": "identity"},
    "nfkc": {"model_type": "bpe", "vocab_size": 400, "normalization_rule_name": "nfkc"},
    "t5": {"model_type": "unigram", "vocab_size": 300, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "xglm": {"model_type": "unigram", "vocab_size": 300, "normalization_rule_name": "nfkc"},
    "unigram": {"model_type": "unigram", "vocab_size": 600, "byte_fallback": True, **KEEPING},
    "char": {"model_type": "char", "vocab_size": 300},
    "word": {"model_type": "word", "vocab_size": 300},
    "gemma": {
        "model_type": "bpe",
        "vocab_size": 700,
        "byte_fallback": True,
        "user_defined_symbols": ["<mask>", "the "],
        **KEEPING,
    },
}
"""Name of a kind of SentencePiece model to how it is trained; what is not said is SentencePiece's default."""


def sentencepiece_model(kind: str, **changes: Any) -> bytes:
    """A model of a kind, trained by SentencePiece itself."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_writer=model,
        hard_vocab_limit=False,
        minloglevel=2,
        **{**SENTENCEPIECE[kind], **changes},
    )
    return model.getvalue()


def tiktoken_ranks() -> dict[bytes, int]:
    """Ranks as in a tiktoken file, with a gap as p50k has one."""
    model = json.loads(llama3_like().to_str())["model"]
    tokens: dict[bytes, int] = {}
    for token, rank in sorted(model["vocab"].items(), key=lambda entry: entry[1]):
        data = from_characters(token)
        assert data is not None
        tokens[data] = rank if rank < 400 else rank + 1
    return tokens


def tiktoken_file(ranks: Mapping[bytes, int]) -> bytes:
    """The lines of a tiktoken file."""
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())


def _train(tokenizer: tokenizers.Tokenizer, trainer: Any) -> None:
    tokenizer.train_from_iterator(corpus(), trainer)
