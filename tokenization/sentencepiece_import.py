"""A SentencePiece model from elsewhere made fit for this project: its ids as they are, our special tokens behind them.

What such a model does to a text (normalises it, puts a space in front, loses rare characters) stays as it is, because
its ids mean that; what is lost is said. Knows the model file, not where files lie.
"""

import base64
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from core.errors import ConfigError, DataError
from core.files import sha256_json
from tokenization.hf_export import merges_of, write_model_and_twin
from tokenization.json_encoder import IMPORTED
from tokenization.json_parts import Part, added_token, bos_in_front, bpe_model
from tokenization.model_file import (
    SPACE_SYMBOL,
    ModelFile,
    Piece,
    PieceType,
    parse_model,
    with_control_pieces,
)
from tokenization.special_tokens import BYTE_TOKENS
from tokenization.tokenizer_import import choose_special_ids
from tokenization.vocabulary import SpecialIds, Vocabulary

logger = logging.getLogger(__name__)

SPECIAL_TYPES = (PieceType.CONTROL, PieceType.UNKNOWN)

THREADING_BYTES = 20_000
"""As in `sentencepiece_encoder`."""


class ForeignSentencePieceEncoder:
    """A SentencePiece model of any kind; see `vocabulary.Encoder` for its parts."""

    # The model looks at a text as a whole: at its beginning, at its end, at spaces in a row.
    cuts = None
    fixed: Mapping[bytes, list[int]] = {}

    def __init__(self, model: bytes, config: Mapping[str, Any]) -> None:
        """From the bytes of a model; the special tokens that it lacks are added behind its own.

        Args:
            config: The tokenizer_config.json beside it, which may name its special tokens.

        Raises:
            DataError: the bytes are no SentencePiece model.
            ConfigError: it cannot be used here; the message says why.
        """
        parsed = parse_model(model)
        if objections := list(_objections_to(parsed)):
            raise ConfigError(
                f"a SentencePiece model that cannot be used here: {'; '.join(objections)}. Name the tokenizer.json of "
                "the same tokenizer instead if there is one"
            )
        special_ids, added = choose_special_ids(
            {piece.text: token for token, piece in enumerate(parsed.pieces)},
            {piece.text: token for token, piece in enumerate(parsed.pieces) if piece.type in SPECIAL_TYPES},
            {**_names_of_its_own(model, parsed), **config},
        )
        self.model = with_control_pieces(model, added)
        self.parsed = parse_model(self.model)
        self._processor = _processor(self.model)
        if added:
            logger.info("%d special tokens are added: %s", len(added), ", ".join(added))
        pieces = self.parsed.pieces
        texts, opening = tuple(map(_text_bytes, pieces)), _opening_texts(self.parsed)
        self.vocabulary = Vocabulary(
            model_type=IMPORTED,
            pieces=pieces,
            texts=texts,
            names=_with_names(pieces, texts),
            special_ids=special_ids,
            # What is unknown is <unk>, and rightly so.
            control_ids=frozenset(
                token for token, piece in enumerate(pieces) if piece.type == PieceType.CONTROL
            ),
            fingerprint=sha256_json(
                {"model": hashlib.sha256(self.model).hexdigest(), "special_ids": special_ids._asdict()}
            ),
            losses=tuple(_losses_of(parsed)),
            opening_texts=opening,
            opening_names=None if opening is None else _with_names(pieces, opening),
        )

    def encode_chunks(self, chunks: Sequence[bytes], num_threads: int) -> list[list[int]]:
        """The ids of each chunk."""
        threads = num_threads if sum(map(len, chunks)) >= THREADING_BYTES else 1
        ids: list[list[int]] = self._processor.encode(list(chunks), out_type=int, num_threads=threads)
        return ids

    def write_files(self, directory: Path, *, name: str, model_max_length: int | None) -> Path:
        """Write `<name>.model` and, where it can be, its twin in the format of Hugging Face tokenizers."""
        special_ids = self.vocabulary.special_ids
        write_model_and_twin(
            directory,
            model=self.model,
            model_file_name=f"{name}.model",
            twin=None if any(_obstacles_to_twin(self.parsed)) else twin_of(self.parsed, special_ids),
            special_ids=special_ids,
            special_tokens={
                token: piece.text
                for token, piece in enumerate(self.parsed.pieces)
                if piece.type in SPECIAL_TYPES
            },
            model_max_length=model_max_length,
        )
        return directory / f"{name}.model"


def what_transformers_does_otherwise(parsed: ModelFile) -> str | None:
    """How far the tokenizer.json that is written beside the model falls short of it; None if it does not."""
    if obstacles := "; ".join(_obstacles_to_twin(parsed)):
        return f"transformers cannot load it, because no tokenizer.json does the same: {obstacles}"
    if doubts := "; ".join(_doubts_about_twin(parsed)):
        return f"transformers gives the same ids, but {doubts}"
    return None


def _obstacles_to_twin(parsed: ModelFile) -> Iterator[str]:
    types = {piece.type for piece in parsed.pieces}
    if parsed.model_type == "word":
        yield "it is a word model"
    if PieceType.USER_DEFINED in types:
        yield "it has user-defined symbols, which are taken out of a text before the rest is looked at"
    if PieceType.UNUSED in types:
        yield "it has pieces that are marked as unused"
    merged = [
        piece.score for piece in parsed.pieces if piece.type == PieceType.NORMAL and len(piece.text) > 1
    ]
    if parsed.model_type == "bpe" and len(set(merged)) < len(merged):
        yield "two of its pieces have one score, so their order is not known"


def _doubts_about_twin(parsed: ModelFile) -> Iterator[str]:
    if parsed.charsmap:
        yield (
            f"its normalisation ({parsed.normalizer}) is done character by character there, which differs for some "
            "sequences of combining characters"
        )
    if parsed.model_type == "unigram":
        # It adds 64-bit scores, SentencePiece 32-bit ones: of 308,434 tokens of real Markdown 3 differed, of hostile
        # texts one in ten, most of which repeat a character.
        yield "of segmentations that are equally good to six digits another one may be chosen"
        known = {piece.text for piece in parsed.pieces if piece.type == PieceType.NORMAL}
        if parsed.settings["byte_fallback"] and not set("".join(BYTE_TOKENS)) <= known:
            yield "a text that spells the name of a byte token, such as <0x41>, becomes that token"


def twin_of(parsed: ModelFile, special_ids: SpecialIds) -> Part:
    """The content of the tokenizer.json that does what the model does."""
    pieces = parsed.pieces
    bos = pieces[special_ids.bos].text
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            added_token(piece.text, token)
            for token, piece in enumerate(pieces)
            if piece.type in SPECIAL_TYPES
        ],
        "normalizer": {"type": "Sequence", "normalizers": list(_normalizers(parsed))},
        "pre_tokenizer": None,
        "post_processor": bos_in_front(bos, special_ids.bos),
        "decoder": {"type": "Sequence", "decoders": list(_decoders(parsed))},
        "model": _unigram(parsed, special_ids.unk)
        if parsed.model_type == "unigram"
        else _bpe(parsed, special_ids.unk),
    }


def _normalizers(parsed: ModelFile) -> Iterator[Part]:
    """What SentencePiece's Normalizer::Normalize does, step by step."""
    if parsed.charsmap:
        yield {
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(parsed.charsmap).decode("ascii"),
        }
    if parsed.settings["remove_extra_whitespaces"]:
        yield _replace({"Regex": " {2,}"}, " ")
        yield _replace({"Regex": r"\A +"}, "")
    if parsed.settings["add_dummy_prefix"]:
        yield {"type": "Prepend", "prepend": SPACE_SYMBOL}
    yield _replace({"String": " "}, SPACE_SYMBOL)
    if parsed.settings["remove_extra_whitespaces"]:
        # Behind the others, because it takes a U+2581 of the text for a space.
        yield _replace({"Regex": rf"{SPACE_SYMBOL}+\z"}, "")


def _decoders(parsed: ModelFile) -> Iterator[Part]:
    yield _replace({"String": SPACE_SYMBOL}, " ")
    yield {"type": "ByteFallback"}
    yield {"type": "Fuse"}
    if _takes_first_space(parsed):
        yield {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def _replace(pattern: Part, content: str) -> Part:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _bpe(parsed: ModelFile, unk_id: int) -> Part:
    """BPE, or a character model: BPE without merges."""
    merges = merges_of(parsed.pieces) if parsed.model_type == "bpe" else []
    return bpe_model(
        {piece.text: token for token, piece in enumerate(parsed.pieces)},
        [[part.replace(" ", SPACE_SYMBOL) for part in pair] for pair in merges],
        unk_token=parsed.pieces[unk_id].text,
        fuse_unk=True,
        byte_fallback=bool(parsed.settings["byte_fallback"]),
    )


def _unigram(parsed: ModelFile, unk_id: int) -> Part:
    """The scored pieces; those that stand for no text of their own are scored below every way to spell their names."""
    scores = [piece.score for piece in parsed.pieces if piece.type == PieceType.NORMAL]
    longest = max(len(piece.text) for piece in parsed.pieces if piece.type != PieceType.NORMAL)
    unreachable = (longest + 1) * (min(scores) - 1)
    return {
        "type": "Unigram",
        "unk_id": unk_id,
        "vocab": [
            [piece.text, piece.score if piece.type == PieceType.NORMAL else unreachable]
            for piece in parsed.pieces
        ],
        "byte_fallback": bool(parsed.settings["byte_fallback"]),
    }


def _objections_to(parsed: ModelFile) -> Iterator[str]:
    if parsed.settings["treat_whitespace_as_suffix"]:
        yield "it puts spaces behind words (treat_whitespace_as_suffix), so text could not be streamed"
    if not parsed.settings["escape_whitespaces"]:
        yield f"it does not write spaces as {SPACE_SYMBOL} (escape_whitespaces)"
    # Without one SentencePiece makes ids of what is unknown that stand for something else.
    if (times := sum(piece.type == PieceType.UNKNOWN for piece in parsed.pieces)) != 1:
        yield f"it has {times} tokens for unknown text (expected 1)"
    if parsed.denormalizes:
        yield "it rewrites text after decoding (denormalizer), so text could not be streamed"


def _losses_of(parsed: ModelFile) -> Iterator[str]:
    if parsed.normalizer:
        yield f"text is normalised ({parsed.normalizer})"
    if parsed.settings["remove_extra_whitespaces"]:
        yield "of spaces in a row one is kept, and none at the ends of a text"
    if not parsed.settings["byte_fallback"]:
        yield "characters that are not in the vocabulary become the token for unknown text"
    yield f"the character {SPACE_SYMBOL} (U+2581) becomes a space"


def _names_of_its_own(model: bytes, parsed: ModelFile) -> dict[str, str]:
    """The special tokens that the model itself says it has, as tokenizer_config.json would name them."""
    processor = _processor(model)
    ids = {
        "unk_token": processor.unk_id(),
        "bos_token": processor.bos_id(),
        "eos_token": processor.eos_id(),
        "pad_token": processor.pad_id(),
    }
    return {name: parsed.pieces[token].text for name, token in ids.items() if token >= 0}


def _processor(model: bytes) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise DataError(f"not a SentencePiece model ({error})") from None


def _text_bytes(piece: Piece) -> bytes:
    if piece.type in SPECIAL_TYPES:
        return b""
    if piece.type == PieceType.BYTE:
        return bytes([BYTE_TOKENS.index(piece.text)])
    return piece.text.replace(SPACE_SYMBOL, " ").encode()


def _opening_texts(parsed: ModelFile) -> tuple[bytes, ...] | None:
    """The texts at the beginning, where the space that was put there is taken away again."""
    if not _takes_first_space(parsed):
        return None
    return tuple(
        _text_bytes(piece._replace(text=piece.text.removeprefix(SPACE_SYMBOL))) for piece in parsed.pieces
    )


def _takes_first_space(parsed: ModelFile) -> bool:
    return bool(parsed.settings["add_dummy_prefix"] or parsed.settings["remove_extra_whitespaces"])


def _with_names(pieces: Sequence[Piece], texts: Sequence[bytes]) -> tuple[bytes, ...]:
    """The texts, with special tokens written by their names."""
    return tuple(
        piece.text.encode() if piece.type in SPECIAL_TYPES else text
        for piece, text in zip(pieces, texts, strict=True)
    )
