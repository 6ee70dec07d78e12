"""The same vocabulary as Hugging Face writes it, giving the same ids. Knows no text and encodes nothing.

How the two are made to agree: the pieces are written with real spaces and without a normaliser, so U+2581 in a
text is unknown to both and falls to its bytes; `merges_of` and `_unigram_model` say the rest.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.files import atomic_write, write_json
from tokenization.chat_template import CHAT_TEMPLATE
from tokenization.model_file import SPACE_SYMBOL, ModelFile, Piece, PieceType
from tokenization.special_tokens import (
    BOS_ID,
    BOS_TOKEN,
    EOS_TOKEN,
    PAD_TOKEN,
    SPECIAL_TOKENS,
    UNK_ID,
    UNK_TOKEN,
)

logger = logging.getLogger(__name__)

CONFIG_FILE_NAME = "tokenizer_config.json"
SHA256_KEY = "sentencepiece_sha256"
"""Our own key of tokenizer_config.json: name of a model file in this directory to its SHA-256. SentencePiece
loads a model with a flipped bit without a word."""

SCORE_QUANTUM = 2.0**-6
"""Scores of a unigram model are whole multiples of this. SentencePiece adds them up in 32-bit floats and
tokenizers in 64-bit ones; with multiples of 1/64 both sums are exact up to 2^18 nats (some 10,000 tokens between
two spaces; SentencePiece 0.2.3 and later subtract before that), so both choose the same of two equally good
segmentations. 1/64 nat is below the noise of the estimate."""


def write_tokenizer_files(
    directory: Path,
    *,
    model: bytes,
    parsed: ModelFile,
    model_file_name: str,
    model_max_length: int | None = None,
) -> None:
    """Write the model, `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` into `directory`.

    Each file is written entirely or not at all. A word model gets no `tokenizer.json`: no model of tokenizers
    spells an unknown word in bytes but leaves known characters in it alone.
    """
    # The recorded hash goes first and comes last: a kill in between leaves files that are not called corrupt.
    (directory / CONFIG_FILE_NAME).unlink(missing_ok=True)
    content = tokenizer_json(parsed)
    if content is None:
        (directory / "tokenizer.json").unlink(missing_ok=True)
        logger.warning(
            "%s: no tokenizer.json is written, because Hugging Face tokenizers cannot express a %s model exactly; "
            "use tokenizer.model_type bpe, unigram or char to load the tokenizer in transformers",
            directory,
            parsed.model_type,
        )
    else:
        text = json.dumps(content, ensure_ascii=False, indent=None, separators=(",", ":"))
        atomic_write(directory / "tokenizer.json", text + "\n")
    atomic_write(directory / "chat_template.jinja", CHAT_TEMPLATE)
    atomic_write(directory / model_file_name, model)
    write_json(
        directory / CONFIG_FILE_NAME,
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS_TOKEN,
            "eos_token": EOS_TOKEN,
            "unk_token": UNK_TOKEN,
            "pad_token": PAD_TOKEN,
            "additional_special_tokens": list(SPECIAL_TOKENS[4:]),
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
            **({} if model_max_length is None else {"model_max_length": model_max_length}),
            "chat_template": CHAT_TEMPLATE,
            SHA256_KEY: {model_file_name: hashlib.sha256(model).hexdigest()},
        },
    )


def recorded_sha256(model_path: Path) -> str | None:
    """The SHA-256 that was recorded for a model file when it was written; None if none was."""
    config_path = model_path.with_name(CONFIG_FILE_NAME)
    try:
        config = json.loads(config_path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ConfigError(f"{config_path}: not valid JSON ({error}); restore it or delete it") from None
    recorded = config.get(SHA256_KEY) if isinstance(config, dict) else None
    value = recorded.get(model_path.name) if isinstance(recorded, dict) else None
    return value if isinstance(value, str) else None


def tokenizer_json(parsed: ModelFile) -> dict[str, Any] | None:
    """The content of `tokenizer.json`; None for a word model, which it cannot express."""
    if parsed.model_type == "word":
        return None
    model = _unigram_model(parsed.pieces) if parsed.model_type == "unigram" else _bpe_model(parsed)
    bos = {"SpecialToken": {"id": BOS_TOKEN, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token, content in enumerate(SPECIAL_TOKENS)
        ],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, first],
            "pair": [bos, first, {"SpecialToken": {"id": BOS_TOKEN, "type_id": 1}}, second],
            "special_tokens": {BOS_TOKEN: {"id": BOS_TOKEN, "ids": [BOS_ID], "tokens": [BOS_TOKEN]}},
        },
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": model,
    }


def merges_of(pieces: tuple[Piece, ...]) -> list[tuple[str, str]]:
    """The merges, best first, by which tokenizers' BPE does what SentencePiece does with scores.

    SentencePiece joins two neighbours if the result is a piece: the best score first, the leftmost of equal ones.
    tokenizers wants the pairs themselves, ranked, so every pair of pieces that makes a piece is listed. Pairs that
    make the same piece have one score there but two ranks here; that could matter only if they overlapped in a
    text, and they do not: no such place came up in 1.3 million texts under random vocabularies of a and b.
    """
    normal = [piece for piece in pieces if piece.type == PieceType.NORMAL]
    merged = sorted((piece for piece in normal if len(piece.text) > 1), key=lambda piece: -piece.score)
    assert len({piece.score for piece in merged}) == len(merged), "two pieces have one score"
    known = {piece.text for piece in normal}
    return [
        (_with_spaces(piece.text[:cut]), _with_spaces(piece.text[cut:]))
        for piece in merged
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in known and piece.text[cut:] in known
    ]


def _bpe_model(parsed: ModelFile) -> dict[str, Any]:
    """BPE, or a character model: BPE without merges."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": UNK_TOKEN,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {_with_spaces(piece.text): token for token, piece in enumerate(parsed.pieces)},
        "merges": [list(pair) for pair in merges_of(parsed.pieces)] if parsed.model_type == "bpe" else [],
    }


def _unigram_model(pieces: tuple[Piece, ...]) -> dict[str, Any]:
    """The scored pieces. tokenizers also finds special and byte tokens in text, by their names, and SentencePiece
    does not; they get a score that is worse than spelling the name in characters, all of which are pieces
    (`TokenizerTrainer` requires them)."""
    scores = [piece.score for piece in pieces if piece.type == PieceType.NORMAL]
    assert all(score % SCORE_QUANTUM == 0 for score in scores), "scores that are not multiples of the quantum"
    longest = max(len(piece.text) for piece in pieces if piece.type != PieceType.NORMAL)
    unreachable = (longest + 1) * (min(scores) - 1)
    return {
        "type": "Unigram",
        "unk_id": UNK_ID,
        "vocab": [
            [_with_spaces(piece.text), piece.score if piece.type == PieceType.NORMAL else unreachable]
            for piece in pieces
        ],
        "byte_fallback": True,
    }


def _with_spaces(text: str) -> str:
    return text.replace(SPACE_SYMBOL, " ")
