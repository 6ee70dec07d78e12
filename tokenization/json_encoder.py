"""The vocabulary in a tokenizer.json, and text to its ids by Hugging Face tokenizers. Knows not where it came from.

The library is told to take the names of special tokens in a text for text. Where a model finds them all the same (a
unigram model has them among its pieces), the text is cut within the name.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from core.files import sha256_json
from tokenization.hf_export import JSON_FILE_NAME, write_json_tokenizer
from tokenization.json_structure import Structure, cuts_of, losses_of, token_texts
from tokenization.model_file import Piece, PieceType
from tokenization.vocabulary import SpecialIds, Vocabulary

IMPORTED = "imported"
"""`model_type` of a tokenizer that was not trained here."""

THREADING_BYTES = 50_000
"""New chunks with less text than this are encoded one by one: a batch wakes the library's pool of threads, and a
process that was forked after that is warned about on standard error."""


class JsonEncoder:
    """A tokenizer.json; see `vocabulary.Encoder` for its parts."""

    fixed: Mapping[bytes, list[int]] = {}

    def __init__(self, content: bytes, *, special_ids: SpecialIds, model_type: str) -> None:
        """From the bytes of a tokenizer.json in which every special token is there.

        Raises:
            DataError: the library cannot load it.
            ConfigError: its tokens cannot be turned into text one by one.
        """
        structure = Structure.from_json(content)
        self.content = content
        self._library = structure.library
        self._library.encode_special_tokens = True
        pieces = _pieces(structure, special_ids.unk)
        names, opening = token_texts(structure, [piece.text for piece in pieces])
        special = structure.special.values()
        losses = tuple(losses_of(structure))
        self.vocabulary = Vocabulary(
            model_type=model_type,
            pieces=pieces,
            texts=_silenced(names, special),
            names=names,
            special_ids=special_ids,
            # An unknown word of a lossy tokenizer is <unk>, and rightly so.
            control_ids=frozenset(special) - ({special_ids.unk} if losses else set()),
            fingerprint=sha256_json(
                {
                    "tokenizer.json": hashlib.sha256(content).hexdigest(),
                    "special_ids": special_ids._asdict(),
                }
            ),
            losses=losses,
            opening_texts=None if opening is None else _silenced(opening, special),
            opening_names=opening,
        )
        self.cuts = cuts_of(structure)
        cuttable = (re.escape(name) for name in structure.special if len(name) > 1)
        self._special_name = re.compile("|".join(cuttable) or "(?!)")

    def encode_chunks(self, chunks: Sequence[bytes], num_threads: int) -> list[list[int]]:
        """The ids of each chunk."""
        texts = [chunk.decode("utf-8") for chunk in chunks]
        if num_threads == 1 or sum(map(len, chunks)) < THREADING_BYTES:
            lists = [self._encode(text) for text in texts]
        else:
            encoded = self._library.encode_batch_fast(texts, add_special_tokens=False)
            lists = [one.ids for one in encoded]
        is_clean = self.vocabulary.control_ids.isdisjoint
        return [
            ids if is_clean(ids) else self._encode_in_parts(text)
            for text, ids in zip(texts, lists, strict=True)
        ]

    def write_files(self, directory: Path, *, name: str, model_max_length: int | None) -> Path:
        """Write `tokenizer.json`, whatever the name, and what is read beside it."""
        vocabulary = self.vocabulary
        write_json_tokenizer(
            directory,
            content=self.content,
            special_ids=vocabulary.special_ids,
            model_type=vocabulary.model_type,
            special_tokens={
                token: vocabulary.pieces[token].text
                for token in sorted({*vocabulary.control_ids, *vocabulary.special_ids})
            },
            model_max_length=model_max_length,
        )
        return directory / JSON_FILE_NAME

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._library.encode(text, add_special_tokens=False).ids
        return ids

    def _encode_in_parts(self, text: str) -> list[int]:
        """The ids of a text that has control ids when encoded as a whole: those of its parts, cut within the names of
        special tokens, or in the middle where a normaliser made a name of something else."""
        if len(text) < 2:
            return [self.vocabulary.special_ids.unk]
        cuts = [match.start() + 1 for match in self._special_name.finditer(text)] or [len(text) // 2]
        ids: list[int] = []
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            found = self._encode(text[start:end])
            is_clean = self.vocabulary.control_ids.isdisjoint(found)
            ids += found if is_clean else self._encode_in_parts(text[start:end])
        return ids


def _pieces(structure: Structure, unk_id: int) -> tuple[Piece, ...]:
    """The tokens by id. The library does not tell the scores of a unigram model; each token has minus its id."""
    special, byte_ids = set(structure.special.values()), structure.byte_ids

    def kind(token: int) -> PieceType:
        if token in special:
            return PieceType.UNKNOWN if token == unk_id else PieceType.CONTROL
        return PieceType.BYTE if token in byte_ids else PieceType.NORMAL

    pieces = [Piece("", 0.0, PieceType.UNUSED)] * (max(structure.tokens.values(), default=-1) + 1)
    for text, token in structure.tokens.items():
        pieces[token] = Piece(text, 0.0 if token in special else -float(token), kind(token))
    return tuple(pieces)


def _silenced(texts: tuple[bytes, ...], special: Iterable[int]) -> tuple[bytes, ...]:
    quiet = set(special)
    return tuple(b"" if token in quiet else text for token, text in enumerate(texts))
