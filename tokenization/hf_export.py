"""The same vocabulary as Hugging Face writes it, giving the same ids. Knows no text and encodes nothing.

How the two are made to agree: the pieces are written with real spaces and without a normaliser, so U+2581 in a
text is unknown to both and falls to its bytes; `merges_of` and `_unigram_model` say the rest. One difference is meant:
a name like "<|end|>" in a text is text to us; transformers takes it for the special token unless it is
called with `split_special_tokens=True` (it must by default, because its chat template makes text).
"""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.files import atomic_write, write_json
from tokenization.chat_template import CHAT_TEMPLATE
from tokenization.json_parts import bpe_model, every_merge, json_bytes, whole
from tokenization.model_file import SPACE_SYMBOL, ModelFile, Piece, PieceType
from tokenization.special_tokens import BOS_TOKEN, SPECIAL_TOKENS, UNK_ID, UNK_TOKEN
from tokenization.vocabulary import TRAINED_IDS, SpecialIds

logger = logging.getLogger(__name__)

MODEL_FILE_NAME = "tokenizer.model"
JSON_FILE_NAME = "tokenizer.json"
CONFIG_FILE_NAME = "tokenizer_config.json"
SHA256_KEY = "sentencepiece_sha256"
"""Our own key of tokenizer_config.json: name of a model file in this directory to its SHA-256. SentencePiece
loads a model with a flipped bit without a word."""

OWN_KEY = "bloomery_tokenizer"
"""Our own key of tokenizer_config.json for a tokenizer that is a tokenizer.json: its kind, which of its tokens take the
parts of our special tokens, and the SHA-256 of the file."""

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
    content = tokenizer_json(parsed)
    if content is None:
        logger.warning(
            "%s: no tokenizer.json is written, because Hugging Face tokenizers cannot express a %s model exactly; "
            "use tokenizer.model_type bpe, unigram or char to load the tokenizer in transformers",
            directory,
            parsed.model_type,
        )
    write_model_and_twin(
        directory,
        model=model,
        model_file_name=model_file_name,
        twin=content,
        special_ids=TRAINED_IDS,
        special_tokens=dict(enumerate(SPECIAL_TOKENS)),
        model_max_length=model_max_length,
    )


def write_model_and_twin(
    directory: Path,
    *,
    model: bytes,
    model_file_name: str,
    twin: Mapping[str, Any] | None,
    special_ids: SpecialIds,
    special_tokens: Mapping[int, str],
    model_max_length: int | None = None,
) -> None:
    """Write a SentencePiece model with the files that go beside it into `directory`.

    Args:
        twin: The content of `tokenizer.json`; None = there is none.
        special_tokens: Id and name of every special token.
    """
    _write_directory(
        directory,
        json_content=None if twin is None else json_bytes(twin),
        model=(model_file_name, model),
        settings={
            **_settings(special_ids, special_tokens, model_max_length),
            SHA256_KEY: {model_file_name: hashlib.sha256(model).hexdigest()},
        },
    )


def write_json_tokenizer(
    directory: Path,
    *,
    content: bytes,
    special_ids: SpecialIds,
    special_tokens: Mapping[int, str],
    model_type: str,
    model_max_length: int | None = None,
) -> None:
    """Write a tokenizer that is a tokenizer.json, with the two files that go beside it, into `directory`.

    Args:
        special_tokens: Id and name of every special token.
    """
    _write_directory(
        directory,
        json_content=content,
        model=None,
        settings={
            **_settings(special_ids, special_tokens, model_max_length),
            OWN_KEY: {
                "model_type": model_type,
                "special_ids": special_ids._asdict(),
                "sha256": {JSON_FILE_NAME: hashlib.sha256(content).hexdigest()},
            },
        },
    )


def _settings(
    special_ids: SpecialIds, special_tokens: Mapping[int, str], model_max_length: int | None
) -> dict[str, Any]:
    first = special_ids[:4]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special_tokens[special_ids.bos],
        "eos_token": special_tokens[special_ids.eos],
        "unk_token": special_tokens[special_ids.unk],
        "pad_token": special_tokens[special_ids.pad],
        "additional_special_tokens": [name for token, name in special_tokens.items() if token not in first],
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **({} if model_max_length is None else {"model_max_length": model_max_length}),
        "chat_template": CHAT_TEMPLATE,
    }


def _write_directory(
    directory: Path,
    *,
    json_content: bytes | None,
    model: tuple[str, bytes] | None,
    settings: dict[str, Any],
) -> None:
    # The recorded hash goes first and comes last: a kill in between leaves files that are not called corrupt.
    (directory / CONFIG_FILE_NAME).unlink(missing_ok=True)
    if json_content is None:
        (directory / JSON_FILE_NAME).unlink(missing_ok=True)
    else:
        atomic_write(directory / JSON_FILE_NAME, json_content)
    atomic_write(directory / "chat_template.jinja", CHAT_TEMPLATE)
    if model is None:
        # Of another tokenizer: whoever loads the directory would take it for this one.
        (directory / MODEL_FILE_NAME).unlink(missing_ok=True)
    else:
        atomic_write(directory / model[0], model[1])
    write_json(directory / CONFIG_FILE_NAME, settings)


def tokenizer_json(parsed: ModelFile) -> dict[str, Any] | None:
    """The content of `tokenizer.json`; None for a word model, which it cannot express."""
    if parsed.model_type == "word":
        return None
    model = _unigram_model(parsed.pieces) if parsed.model_type == "unigram" else _bpe_model(parsed)
    return whole(
        model=model,
        special_tokens={name: token for token, name in enumerate(SPECIAL_TOKENS)},
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        bos=BOS_TOKEN,
    )


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
    known = {_with_spaces(piece.text) for piece in normal}
    return every_merge([_with_spaces(piece.text) for piece in merged], known)


def _bpe_model(parsed: ModelFile) -> dict[str, Any]:
    """BPE, or a character model: BPE without merges."""
    return bpe_model(
        {_with_spaces(piece.text): token for token, piece in enumerate(parsed.pieces)},
        merges_of(parsed.pieces) if parsed.model_type == "bpe" else [],
        unk_token=UNK_TOKEN,
        fuse_unk=True,
        byte_fallback=True,
    )


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
