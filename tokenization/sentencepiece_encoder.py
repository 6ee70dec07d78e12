"""The vocabulary in a SentencePiece model, and text to its ids. Knows no files besides those that it writes.

SentencePiece would turn U+2581 into a space; here it is always a chunk of its own, spelled in its bytes.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from core.errors import ConfigError, DataError
from core.files import sha256_json
from tokenization.chunks import NUM_PAIRS, Cuts, cuts_outside
from tokenization.hf_export import write_tokenizer_files
from tokenization.model_file import SPACE_SYMBOL, ModelFile, Piece, PieceType, parse_model
from tokenization.special_tokens import BYTE_TOKENS, SPECIAL_TOKENS, UNK_ID
from tokenization.vocabulary import TRAINED_IDS, Vocabulary

FIRST_BYTE_ID = len(SPECIAL_TOKENS)

THREADING_BYTES = 20_000
"""New chunks with less text than this are encoded on one thread: starting others costs 0.1 ms (two cores, 2026)."""


class SentencePieceEncoder:
    """A SentencePiece model that loses no text; see `vocabulary.Encoder` for its parts."""

    def __init__(self, model: bytes) -> None:
        """From the bytes of a `tokenizer.model`.

        Raises:
            DataError: the bytes are no SentencePiece model.
            ConfigError: they are one that this project cannot use without losing text.
        """
        parsed = parse_model(model)
        if objections := objections_to(parsed):
            raise ConfigError(
                f"a SentencePiece model that cannot be used here: {'; '.join(objections)}. Name the tokenizer.json of "
                "the same tokenizer instead if there is one, or train one with TokenizerTrainer (set tokenizer.path "
                "to null)"
            )
        self.model = model
        self.parsed = parsed
        texts = tuple(_text_bytes(piece) for piece in parsed.pieces)
        names = tuple(
            piece.text.encode() if piece.type in (PieceType.CONTROL, PieceType.UNKNOWN) else text
            for piece, text in zip(parsed.pieces, texts, strict=True)
        )
        self.vocabulary = Vocabulary(
            model_type=parsed.model_type,
            pieces=parsed.pieces,
            texts=texts,
            names=names,
            special_ids=TRAINED_IDS,
            control_ids=frozenset(range(len(SPECIAL_TOKENS))),
            fingerprint=_fingerprint(parsed),
        )
        normal = {
            text: token
            for token, (piece, text) in enumerate(zip(parsed.pieces, texts, strict=True))
            if piece.type == PieceType.NORMAL
        }
        self._words = normal if parsed.model_type == "word" else None
        self.cuts = cuts_of_words() if parsed.model_type == "word" else cuts_outside(normal)
        self.fixed = {SPACE_SYMBOL.encode(): _spelled(SPACE_SYMBOL.encode())}
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise DataError(f"not a SentencePiece model ({error})") from None

    def encode_chunks(self, chunks: Sequence[bytes], num_threads: int) -> list[list[int]]:
        """The ids of each chunk."""
        if self._words is not None:
            return [[self._words[chunk]] if chunk in self._words else _spelled(chunk) for chunk in chunks]
        threads = num_threads if sum(map(len, chunks)) >= THREADING_BYTES else 1
        ids: list[list[int]] = self._processor.encode(list(chunks), out_type=int, num_threads=threads)
        return ids

    def write_files(self, directory: Path, *, name: str, model_max_length: int | None) -> Path:
        """Write `<name>.model` and its twin in the format of Hugging Face tokenizers."""
        write_tokenizer_files(
            directory,
            model=self.model,
            parsed=self.parsed,
            model_file_name=f"{name}.model",
            model_max_length=model_max_length,
        )
        return directory / f"{name}.model"


def cuts_of_words() -> Cuts:
    """Around line ends and in front of spaces: what is left between is a piece of a word model or none at all."""
    cuts = np.zeros((256, 256), dtype=np.bool_)
    cuts[:, [ord("\n"), ord(" ")]] = True
    cuts[ord("\n"), :] = True
    return cuts.reshape(NUM_PAIRS)


def objections_to(parsed: ModelFile) -> list[str]:
    """Why text would be lost, or ids would differ between programs, with this model; empty if it is fit."""
    expected = {
        "byte_fallback": True,
        "treat_whitespace_as_suffix": False,
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "escape_whitespaces": True,
        "normalizes": False,
    }
    objections = [
        f"{name} is {parsed.settings[name]} (expected {value})"
        for name, value in expected.items()
        if parsed.settings[name] != value
    ]
    first = [piece.text for piece in parsed.pieces[: len(SPECIAL_TOKENS) + len(BYTE_TOKENS)]]
    if first != [*SPECIAL_TOKENS, *BYTE_TOKENS]:
        objections.append(f"its first tokens are {first[:8]} ... (expected {list(SPECIAL_TOKENS[:8])} ...)")
    return objections + _unfit_pieces(parsed)[:3]


def _unfit_pieces(parsed: ModelFile) -> list[str]:
    wrong = [
        f"{piece.text!r} is of type {piece.type.name} (expected {_expected_type(token).name})"
        for token, piece in enumerate(parsed.pieces)
        if piece.type != _expected_type(token)
    ]
    inner = re.compile(f"[^{SPACE_SYMBOL}]{SPACE_SYMBOL}")
    wrong += [
        f"{piece.text!r} has a space after a letter (expected split_by_whitespace)"
        for piece in parsed.pieces
        if inner.search(piece.text)
    ]
    # Without such a piece a space would be spelled in the bytes of U+2581. Word models are spelled here.
    if parsed.model_type != "word" and SPACE_SYMBOL not in {piece.text for piece in parsed.pieces}:
        wrong.append("it has no piece for the space")
    return wrong


def _expected_type(token: int) -> PieceType:
    if token == UNK_ID:
        return PieceType.UNKNOWN
    if token < FIRST_BYTE_ID:
        return PieceType.CONTROL
    return PieceType.BYTE if token < FIRST_BYTE_ID + len(BYTE_TOKENS) else PieceType.NORMAL


def _text_bytes(piece: Piece) -> bytes:
    if piece.type == PieceType.BYTE:
        return bytes([BYTE_TOKENS.index(piece.text)])
    if piece.type == PieceType.NORMAL:
        return piece.text.replace(SPACE_SYMBOL, " ").encode()
    return b""


def _spelled(text: Iterable[int]) -> list[int]:
    return [FIRST_BYTE_ID + byte for byte in text]


def _fingerprint(parsed: ModelFile) -> str:
    return sha256_json(
        {
            "pieces": [[piece.text, piece.score, int(piece.type)] for piece in parsed.pieces],
            "settings": parsed.settings,
            "special_tokens": SPECIAL_TOKENS,
        }
    )
