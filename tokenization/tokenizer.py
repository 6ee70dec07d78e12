"""Text to token ids and back. Knows neither how a vocabulary is learned nor what a chat is.

The order of work: texts, chunks that no token crosses, ids of each chunk (remembered), ids of the texts. What a kind of
vocabulary does differently is in its encoder (`vocabulary.Encoder`).
"""

import codecs
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from core.errors import DataError, MismatchError
from tokenization.chunks import ChunkMemory, Counts, Ids, next_cut
from tokenization.model_file import Piece
from tokenization.special_tokens import ROLE_TOKENS
from tokenization.tokenizer_files import holds_tokenizer as holds_tokenizer
from tokenization.tokenizer_files import load_encoder
from tokenization.vocabulary import TRAINED_IDS, Encoder

BLOCK_BYTES = 1 << 20
"""Text is worked on in blocks of about this many bytes of UTF-8, which bounds the memory that its chunks take (some 20
times as much) and keeps it in the processor's cache."""


class Tokenizer:
    """A vocabulary. Unless `losses` says otherwise, `decode(encode(text)) == text` for every text of UTF-8.

    Attributes:
        vocab_size: Number of tokens.
        bos_id, eos_id, pad_id, unk_id: Ids of special tokens: 1, 2, 3 and 0 in vocabularies trained here. A tokenizer
            that is lossless never gives `unk_id`.
        end_id: The id that closes a turn of a chat.
        role_ids: Name of a role ("system", "user", "assistant") to the id that opens its turn.
        byte_lengths: int32 (V,): the number of UTF-8 bytes that a token stands for, 0 for special tokens. Summed
            over the ids of a text it is exactly the length of that text in UTF-8. Of a lossy tokenizer it is the length
            of the text that comes back (with one space more, where decoding puts spaces between tokens): bits per byte
            then need the size of the original text, which the dataset's manifest has.
        fingerprint: SHA-256 over everything that decides ids: pieces, types, scores, settings, special tokens.
        pieces: Text, score and type of each token, as its file has them (SentencePiece writes U+2581 for a space,
            byte-level tokenizers a printable character for each byte).
        model_type: The algorithm: "bpe", "unigram", "char" or "word" of SentencePiece; "byte_bpe", "wordpiece" or
            "word_level" of Hugging Face tokenizers; "imported" for one from elsewhere.
        lossless: Whether every text comes back byte for byte.
        losses: What does not come back, a sentence each.
    """

    # Of the class they are those of every vocabulary trained here; of one from elsewhere its own.
    unk_id, bos_id, eos_id, pad_id = TRAINED_IDS[:4]
    end_id = TRAINED_IDS.end

    def __init__(self, encoder: Encoder) -> None:
        """A tokenizer around a finished encoder; `from_file` makes one from a file."""
        vocabulary = encoder.vocabulary
        special = vocabulary.special_ids
        self.unk_id, self.bos_id, self.eos_id, self.pad_id = special[:4]
        self.end_id = special.end
        self.role_ids = {role: int(getattr(special, role)) for role in ROLE_TOKENS}
        self.pieces: tuple[Piece, ...] = vocabulary.pieces
        self.model_type: str = vocabulary.model_type
        self.vocab_size: int = len(vocabulary.pieces)
        self.fingerprint: str = vocabulary.fingerprint
        self.losses: tuple[str, ...] = vocabulary.losses
        self.lossless: bool = not vocabulary.losses
        self.byte_lengths = np.array([len(text) for text in vocabulary.texts], dtype=np.int32)
        self.byte_lengths.flags.writeable = False
        self._encoder = encoder
        self._vocabulary = vocabulary
        self._memory = (
            None if encoder.cuts is None else ChunkMemory(encoder.encode_chunks, encoder.cuts, encoder.fixed)
        )

    @classmethod
    def from_file(cls, path: str | Path, *, tiktoken_pattern: str | None = None) -> "Tokenizer":
        """The tokenizer in a `tokenizer.model`, a `tokenizer.json`, a tiktoken file or a directory that holds one.

        Args:
            tiktoken_pattern: How a tiktoken file's encoding cuts text into words: "gpt2", "cl100k", "o200k" or a
                regular expression; None = known for the files that OpenAI published.

        Raises:
            ConfigError: nothing is there, or it is a tokenizer that cannot be used here.
            CorruptArtifactError: the file differs from the one that was written.
            DataError: the file is no tokenizer.
        """
        return cls(load_encoder(Path(path), tiktoken_pattern=tiktoken_pattern))

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
        ids, counts = self.encode_to_array(texts, num_threads=num_threads, add_bos=add_bos, add_eos=add_eos)
        flat, ends = ids.tolist(), np.cumsum(counts).tolist()
        return [flat[start:end] for start, end in pairwise([0, *ends])]

    def encode_to_array(
        self,
        texts: Sequence[str],
        *,
        num_threads: int | None = None,
        add_bos: bool = False,
        add_eos: bool = False,
    ) -> tuple[Ids, Counts]:
        """The ids of `encode_batch` in arrays, which is faster where many are stored.

        Returns:
            int32 (N,): the ids of all texts, one after the other; int64 (len(texts),): how many each text has.

        Raises:
            DataError: a text has a lone surrogate; the message says which.
        """
        threads = num_threads or os.cpu_count() or 1
        parts: list[Ids] = [np.empty(0, dtype=np.int32)]
        counts = np.zeros(len(texts), dtype=np.int64)
        for numbers, blocks in self._groups(texts):
            ids, block_counts = self._encode_blocks(blocks, threads)
            parts.append(ids)
            np.add.at(counts, numbers, block_counts)
        ids = np.concatenate(parts)
        if add_bos or add_eos:
            ids = self._with_ends(ids, counts, add_bos=add_bos, add_eos=add_eos)
            counts += int(add_bos) + int(add_eos)
        return ids, counts

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """The text that `ids` stand for. Bytes that are no UTF-8 become U+FFFD.

        Args:
            skip_special_tokens: Leave special tokens out; otherwise they are written by their names.

        Raises:
            DataError: an id is outside the vocabulary.
        """
        return self._joined_bytes(ids, skip_special_tokens).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of UTF-8 that a token adds to a text: part of a character for some, none for special tokens.

        Raises:
            DataError: the id is outside the vocabulary.
        """
        return self._joined_bytes([token], skip_special_tokens=True, opening=False)

    def save(self, directory: str | Path, *, model_max_length: int | None = None) -> None:
        """Write all that `from_file` and transformers need to load the same tokenizer from `directory`.

        Args:
            model_max_length: Longest input of the model it goes with, in tokens; None = not stated.
        """
        self._encoder.write_files(Path(directory), name="tokenizer", model_max_length=model_max_length)

    def _joined_bytes(self, ids: Iterable[int], skip_special_tokens: bool, *, opening: bool = True) -> bytes:
        """The bytes of `ids`, the first of which opens a text or not."""
        ids = list(ids)
        # Checked, because a negative index would silently read from the end of the table.
        if ids and (min(ids) < 0 or max(ids) >= self.vocab_size):
            wrong = next(token for token in ids if not 0 <= token < self.vocab_size)
            raise DataError(f"token id {wrong} is outside the vocabulary of {self.vocab_size} tokens")
        vocabulary = self._vocabulary
        texts = vocabulary.texts if skip_special_tokens else vocabulary.names
        joined = b"".join(map(texts.__getitem__, ids))
        first_texts = vocabulary.opening_texts if skip_special_tokens else vocabulary.opening_names
        if opening and first_texts is not None:
            first = next((token for token in ids if texts[token]), None)
            if first is not None:
                return first_texts[first] + joined[len(texts[first]) :]
        return joined

    def _encode_blocks(self, blocks: list[bytes], num_threads: int) -> tuple[Ids, Counts]:
        if self._memory is not None:
            return self._memory.encode(blocks, num_threads)
        lists = self._encoder.encode_chunks(blocks, num_threads)
        counts = np.fromiter(map(len, lists), np.int64, len(lists))
        return np.fromiter((token for ids in lists for token in ids), np.int32, int(counts.sum())), counts

    def _with_ends(self, ids: Ids, counts: Counts, *, add_bos: bool, add_eos: bool) -> Ids:
        ends = np.cumsum(counts)
        chosen = [(ends - counts, self.bos_id)] * add_bos + [(ends, self.eos_id)] * add_eos
        # Text by text, so that at one place the end of a text goes in front of the beginning of the next.
        places = np.stack([place for place, _ in chosen], axis=1).ravel()
        return np.insert(ids, places, np.tile([token for _, token in chosen], len(counts)))

    def _groups(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[bytes]]]:
        """Blocks of the texts with the number of the text of each, in groups of about `BLOCK_BYTES`, in order."""
        numbers: list[int] = []
        blocks: list[bytes] = []
        size = 0
        for number, text in enumerate(texts):
            data = utf8(text, f"text {number} of the batch" if len(texts) > 1 else "the text")
            for block in self._blocks(data):
                numbers.append(number)
                blocks.append(block)
                size += len(block)
                if size >= BLOCK_BYTES:
                    yield numbers, blocks
                    numbers, blocks, size = [], [], 0
        if blocks:
            yield numbers, blocks

    def _blocks(self, data: bytes) -> Iterator[bytes]:
        start = 0
        while self._encoder.cuts is not None and len(data) - start > BLOCK_BYTES:
            end = next_cut(data, start + BLOCK_BYTES, self._encoder.cuts)
            yield data[start:end]
            start = end
        yield data[start:] if start else data


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
        self._opening = True

    def push(self, token: int) -> str:
        """The text that `token` completes; empty while a character lacks bytes.

        Raises:
            DataError: the id is outside the vocabulary.
        """
        data = self._tokenizer._joined_bytes([token], self._skip_special_tokens, opening=self._opening)
        if self._opening:
            self._opening = not self._tokenizer._joined_bytes(
                [token], self._skip_special_tokens, opening=False
            )
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What was held back: U+FFFD for a character that never became whole. The next push starts anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._opening = True
        return rest


@dataclass(frozen=True)
class TokenizerSpec:
    """Where a tokenizer is and which one it is; small, picklable, for worker processes."""

    path: Path
    fingerprint: str

    def load(self) -> Tokenizer:
        """The tokenizer, loaded once a process.

        Raises:
            MismatchError: another one is there by now.
        """
        return _load_once(self)


@functools.lru_cache(maxsize=2)
def _load_once(spec: TokenizerSpec) -> Tokenizer:
    tokenizer = Tokenizer.from_file(spec.path)
    if tokenizer.fingerprint != spec.fingerprint:
        raise MismatchError(
            f"{spec.path}: the tokenizer was {spec.fingerprint[:12]} when the work began, now it is "
            f"{tokenizer.fingerprint[:12]}; put the first one back, or begin again"
        )
    return tokenizer


def refuse_surrogates(text: str, place: str) -> None:
    """Raise DataError, naming `place`, if `text` cannot be written in UTF-8."""
    utf8(text, place)


def utf8(text: str, place: str) -> bytes:
    """`text` in UTF-8.

    Raises:
        DataError: it has a lone surrogate; the message names `place`.
    """
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{place}: a lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, which is half of "
            "a character and cannot be written in UTF-8; remove it, or replace it by U+FFFD"
        ) from None
