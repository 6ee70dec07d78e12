"""Text to token ids and back, losing nothing. Knows neither how a vocabulary is learned nor what a chat is.

The order of work: text, chunks that no piece crosses, ids of each chunk (remembered), ids of the text. U+2581,
which SentencePiece would turn into a space, is encoded as its bytes.
"""

import codecs
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import sentencepiece

from core.errors import ConfigError, CorruptArtifactError, DataError
from core.files import sha256_json
from tokenization.hf_export import recorded_sha256, write_tokenizer_files
from tokenization.model_file import SPACE_SYMBOL, ModelFile, Piece, PieceType, parse_model
from tokenization.special_tokens import (
    BOS_ID,
    BYTE_TOKENS,
    END_TOKEN,
    EOS_ID,
    PAD_ID,
    ROLE_TOKENS,
    SPECIAL_TOKENS,
    UNK_ID,
)

MODEL_FILE_NAME = "tokenizer.model"

CHUNK_PATTERN = re.compile(f"{SPACE_SYMBOL}| *+[^ {SPACE_SYMBOL}]++| ++")
"""Chunks that no piece crosses: a piece has spaces only in front (`_objections` checks it), so no merge and no
path of the unigram lattice reaches over the end of a word, and the ids of the chunks are the ids of the text.
Possessive, so that a megabyte of spaces takes linear time."""

WORD_PATTERN = re.compile(f" ?[^ \n{SPACE_SYMBOL}]++|[ \n{SPACE_SYMBOL}]")
"""The chunks of a word model, each a piece as a whole or spelled in bytes."""

SEPARATOR = "\0"
"""Where `split` cuts; see `_chunks`. Text that has it is cut by the pattern."""

BLOCK_BOUNDARY = re.compile("(?<=[^ ]) ")
BLOCK_CHARACTERS = 1 << 20
"""Text is worked on in blocks of about this many characters, which bounds the memory that its chunks take."""

REMEMBERED_CHUNKS = 1 << 19
REMEMBERED_CHARACTERS = 1 << 23
"""Chunks are remembered with their ids, because words repeat and looking one up is several times faster than
encoding it again; beyond these bounds (some 150 MB) all are forgotten."""

THREADING_CHARACTERS = 20_000
"""New chunks with less text than this are encoded one by one: starting threads costs 0.1 ms (two cores, 2026)."""


class Tokenizer:
    """A vocabulary: `decode(encode(text)) == text` for every text that can be written in UTF-8.

    Attributes:
        vocab_size: Number of tokens.
        bos_id, eos_id, pad_id, unk_id: The ids 1, 2, 3 and 0. `unk_id` is never produced.
        end_id: The id that closes a turn of a chat.
        role_ids: Name of a role ("system", "user", "assistant") to the id that opens its turn.
        byte_lengths: int32 (V,): the number of UTF-8 bytes that a token stands for, 0 for special tokens. Summed
            over the ids of a text it is exactly the length of that text in UTF-8.
        fingerprint: SHA-256 over everything that decides ids: pieces, types, scores, settings, special tokens.
        pieces: Text, score and type of each token, as SentencePiece has them (U+2581 for a space).
        model_type: "bpe", "unigram", "char" or "word".
    """

    bos_id = BOS_ID
    eos_id = EOS_ID
    pad_id = PAD_ID
    unk_id = UNK_ID
    end_id = SPECIAL_TOKENS.index(END_TOKEN)
    role_ids = {role: SPECIAL_TOKENS.index(token) for role, token in ROLE_TOKENS.items()}  # noqa: RUF012

    def __init__(self, model: bytes) -> None:
        """A tokenizer from the bytes of a `tokenizer.model`.

        Raises:
            DataError: the bytes are no SentencePiece model.
            ConfigError: they are one that this project cannot use without losing text.
        """
        parsed = parse_model(model)
        if objections := _objections(parsed):
            raise ConfigError(
                f"a SentencePiece model that cannot be used here: {'; '.join(objections)}. "
                "Train one with TokenizerTrainer (set tokenizer.path to null)"
            )
        self._model = model
        self._parsed = parsed
        self.pieces: tuple[Piece, ...] = parsed.pieces
        self.model_type: str = parsed.model_type
        self.vocab_size: int = len(parsed.pieces)
        self.fingerprint: str = _fingerprint(parsed)
        self._bytes = tuple(_text_bytes(piece) for piece in parsed.pieces)
        self._bytes_with_specials = tuple(
            piece.text.encode() if piece.type in (PieceType.CONTROL, PieceType.UNKNOWN) else text
            for piece, text in zip(parsed.pieces, self._bytes, strict=True)
        )
        self.byte_lengths = np.array([len(text) for text in self._bytes], dtype=np.int32)
        self.byte_lengths.flags.writeable = False
        self._byte_ids = range(len(SPECIAL_TOKENS), len(SPECIAL_TOKENS) + len(BYTE_TOKENS))
        self._words: dict[str, list[int]] | None = None
        self._pattern = CHUNK_PATTERN
        if self.model_type == "word":
            self._pattern = WORD_PATTERN
            self._words = {
                text.decode(): [token]
                for token, (piece, text) in enumerate(zip(parsed.pieces, self._bytes, strict=True))
                if piece.type == PieceType.NORMAL
            }
        self._forget()
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise DataError(f"not a SentencePiece model ({error})") from None

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """The tokenizer in a `tokenizer.model` file, or in a directory that holds one.

        Raises:
            ConfigError: nothing is there, or it is a SentencePiece model that would lose text.
            CorruptArtifactError: the file differs from the one that was written.
            DataError: the file is no SentencePiece model.
        """
        path = _model_path(Path(path))
        try:
            model = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        expected, found = recorded_sha256(path), hashlib.sha256(model).hexdigest()
        if expected not in (None, found):
            raise CorruptArtifactError(
                f"{path}: its SHA-256 is {found}, but {expected} was recorded when it was written; "
                "restore the file or train the tokenizer again"
            )
        try:
            return cls(model)
        except (ConfigError, DataError) as error:
            raise type(error)(f"{path}: {error}") from None

    def encode(self, text: str, *, add_bos: bool = False, add_eos: bool = False) -> list[int]:
        """The ids of `text`, with `<s>` in front and `</s>` behind if asked for.

        Text that spells a special token, such as "<|end|>", is text: its ids are those of its characters.

        Raises:
            DataError: the text has a lone surrogate, which no UTF-8 file can hold.
        """
        return self.encode_batch([text], num_threads=1, add_bos=add_bos, add_eos=add_eos)[0]

    def encode_batch(
        self,
        texts: Sequence[str],
        *,
        num_threads: int | None = None,
        add_bos: bool = False,
        add_eos: bool = False,
    ) -> list[list[int]]:
        """The ids of each text, the same as `encode` gives.

        Args:
            num_threads: Threads for what has not been seen before; None = one a core.

        Raises:
            DataError: a text has a lone surrogate; the message says which.
        """
        results: list[list[int]] = [[BOS_ID] if add_bos else [] for _ in texts]
        for group in _groups(texts):
            chunk_lists = [self._chunks(block) for _, block in group]
            ids_of = self._ids_of_chunks(set(chain.from_iterable(chunk_lists)), num_threads)
            for (number, _), chunks in zip(group, chunk_lists, strict=True):
                results[number].extend(chain.from_iterable(map(ids_of.__getitem__, chunks)))
        if add_eos:
            for ids in results:
                ids.append(EOS_ID)
        return results

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text that `ids` stand for. Bytes that are no UTF-8 become U+FFFD.

        Args:
            skip_special_tokens: Leave special tokens out; otherwise they are written by their names.

        Raises:
            DataError: an id is outside the vocabulary.
        """
        return self._joined_bytes(ids, skip_special_tokens).decode("utf-8", errors="replace")

    def save(self, directory: str | Path, *, model_max_length: int | None = None) -> None:
        """Write `tokenizer.model` and what transformers needs to load the same tokenizer from `directory`.

        Args:
            model_max_length: Longest input of the model it goes with, in tokens; None = not stated.
        """
        write_tokenizer_files(
            Path(directory),
            model=self._model,
            parsed=self._parsed,
            model_file_name=MODEL_FILE_NAME,
            model_max_length=model_max_length,
        )

    def _joined_bytes(self, ids: Iterable[int], skip_special_tokens: bool) -> bytes:
        table = self._bytes if skip_special_tokens else self._bytes_with_specials
        ids = list(ids)
        # Checked, because a negative index would silently read from the end of the table.
        if ids and (min(ids) < 0 or max(ids) >= self.vocab_size):
            wrong = next(token for token in ids if not 0 <= token < self.vocab_size)
            raise DataError(f"token id {wrong} is outside the vocabulary of {self.vocab_size} tokens")
        return b"".join(map(table.__getitem__, ids))

    def _chunks(self, text: str) -> list[str]:
        """The chunks of `text`, in order; there may be empty ones."""
        if self._words is not None or SPACE_SYMBOL in text or SEPARATOR in text:
            return self._pattern.findall(text)
        # What CHUNK_PATTERN finds, five times faster: a separator in front of each space, but not within a run.
        return text.replace(" ", SEPARATOR + " ").replace(" " + SEPARATOR, " ").split(SEPARATOR)

    def _ids_of_chunks(self, chunks: set[str], num_threads: int | None) -> dict[str, list[int]]:
        """A mapping that has the ids of every chunk, and of others. Another thread may add to it meanwhile."""
        ids_of = self._remembered
        if new := list(chunks.difference(ids_of)):
            ids_of.update(zip(new, self._encode_chunks(new, num_threads), strict=True))
            self._remembered_characters += sum(map(len, new))
        if len(ids_of) > REMEMBERED_CHUNKS or self._remembered_characters > REMEMBERED_CHARACTERS:
            self._forget()
        return ids_of

    def _forget(self) -> None:
        # A new mapping: another thread may still read the old one. The patterns make U+2581 a chunk of its own,
        # which is always remembered, because SentencePiece would take it for a space.
        self._remembered: dict[str, list[int]] = {SPACE_SYMBOL: self._spelled(SPACE_SYMBOL)}
        self._remembered_characters = 0

    def _encode_chunks(self, chunks: list[str], num_threads: int | None) -> Iterable[list[int]]:
        if self._words is not None:
            return [self._words.get(chunk) or self._spelled(chunk) for chunk in chunks]
        if num_threads is None:
            num_threads = os.cpu_count() or 1
        encode = self._processor.encode
        if num_threads == 1 or sum(map(len, chunks)) < THREADING_CHARACTERS:
            return [encode(chunk, out_type=int) for chunk in chunks]
        encoded: list[list[int]] = encode(chunks, out_type=int, num_threads=num_threads)
        return encoded

    def _spelled(self, chunk: str) -> list[int]:
        return [self._byte_ids[byte] for byte in chunk.encode()]


class StreamDecoder:
    """Text from ids that come one at a time. All that it returns, joined, is `decode` of all ids.

    >>> decoder = StreamDecoder(tokenizer)                                      # doctest: +SKIP
    >>> "".join(map(decoder.push, ids)) + decoder.flush() == tokenizer.decode(ids)    # doctest: +SKIP
    True
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character lacks bytes.

        Raises:
            DataError: the id is outside the vocabulary.
        """
        return self._decoder.decode(self._tokenizer._joined_bytes([token], self._skip_special_tokens))

    def flush(self) -> str:
        """What was held back: U+FFFD for a character that never became whole. The next push starts anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


def refuse_surrogates(text: str, place: str) -> None:
    """Raise DataError, naming `place`, if `text` cannot be written in UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{place}: a lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, which is half of "
            "a character and cannot be written in UTF-8; remove it, or replace it by U+FFFD"
        ) from None


def _model_path(path: Path) -> Path:
    if path.is_dir():
        default = path / MODEL_FILE_NAME
        models = [default] if default.exists() else sorted(path.glob("*.model"))
        if len(models) != 1:
            found = f"{len(models)} .model files" if models else "no .model file"
            raise ConfigError(f"{path}: holds {found}; expected {MODEL_FILE_NAME}, or name the file itself")
        return models[0]
    if not path.exists():
        raise ConfigError(
            f"{path}: no such tokenizer; expected a {MODEL_FILE_NAME} or a directory that holds one"
        )
    return path


def _objections(parsed: ModelFile) -> list[str]:
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
    return objections + wrong[:3]


def _expected_type(token: int) -> PieceType:
    if token == UNK_ID:
        return PieceType.UNKNOWN
    if token < len(SPECIAL_TOKENS):
        return PieceType.CONTROL
    return PieceType.BYTE if token < len(SPECIAL_TOKENS) + len(BYTE_TOKENS) else PieceType.NORMAL


def _text_bytes(piece: Piece) -> bytes:
    if piece.type == PieceType.BYTE:
        return bytes([BYTE_TOKENS.index(piece.text)])
    if piece.type == PieceType.NORMAL:
        return piece.text.replace(SPACE_SYMBOL, " ").encode()
    return b""


def _fingerprint(parsed: ModelFile) -> str:
    return sha256_json(
        {
            "pieces": [[piece.text, piece.score, int(piece.type)] for piece in parsed.pieces],
            "settings": parsed.settings,
            "special_tokens": SPECIAL_TOKENS,
        }
    )


def _groups(texts: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """Numbered blocks of the texts, in groups of about `BLOCK_CHARACTERS`, in order."""
    group: list[tuple[int, str]] = []
    size = 0
    for number, text in enumerate(texts):
        refuse_surrogates(text, f"text {number} of the batch" if len(texts) > 1 else "the text")
        for block in _blocks(text):
            group.append((number, block))
            size += len(block)
            if size >= BLOCK_CHARACTERS:
                yield group
                group, size = [], 0
    if group:
        yield group


def _blocks(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > BLOCK_CHARACTERS:
        boundary = BLOCK_BOUNDARY.search(text, start + BLOCK_CHARACTERS)
        if boundary is None:
            break
        yield text[start : boundary.start()]
        start = boundary.start()
    yield text[start:]
