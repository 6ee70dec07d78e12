"""What the ids of a tokenizer stand for, and what an encoder owes to `Tokenizer`. Knows no algorithm and no file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tokenization.model_file import Piece
from tokenization.special_tokens import (
    ASSISTANT_TOKEN,
    BOS_TOKEN,
    END_TOKEN,
    EOS_TOKEN,
    PAD_TOKEN,
    SPECIAL_TOKENS,
    SYSTEM_TOKEN,
    UNK_TOKEN,
    USER_TOKEN,
)


class SpecialIds(NamedTuple):
    """The ids of the tokens that stand for no text. They differ from each other in every vocabulary."""

    unk: int
    bos: int
    eos: int
    pad: int
    system: int
    user: int
    assistant: int
    end: int


OWN_NAMES = (
    SpecialIds._fields,
    (
        UNK_TOKEN,
        BOS_TOKEN,
        EOS_TOKEN,
        PAD_TOKEN,
        SYSTEM_TOKEN,
        USER_TOKEN,
        ASSISTANT_TOKEN,
        END_TOKEN,
    ),
)
NAME_OF_ROLE: Mapping[str, str] = dict(zip(*OWN_NAMES, strict=True))
"""Field of `SpecialIds` to the name that the token has in every vocabulary trained here."""

TRAINED_IDS = SpecialIds(*(SPECIAL_TOKENS.index(name) for name in NAME_OF_ROLE.values()))
"""The ids in every vocabulary trained here."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens, by id.

    Attributes:
        model_type: The algorithm; "imported" for a tokenizer from elsewhere.
        pieces: Text, score and type of each token as its file has them.
        texts: The bytes that a token adds to a text; none for special tokens.
        names: The same with the special tokens written by their names.
        opening_texts, opening_names: The same for the first token of a text, where that differs (a tokenizer that
            puts spaces between words puts none in front of the first); None = the same.
        special_ids: Where the special tokens are.
        control_ids: Every id that no text may encode to.
        losses: What of a text does not come back, a sentence each; empty if all of it does.
        fingerprint: SHA-256 over everything that decides ids.
    """

    model_type: str
    pieces: tuple[Piece, ...]
    texts: tuple[bytes, ...]
    names: tuple[bytes, ...]
    special_ids: SpecialIds
    control_ids: frozenset[int]
    fingerprint: str
    losses: tuple[str, ...] = ()
    opening_texts: tuple[bytes, ...] | None = None
    opening_names: tuple[bytes, ...] | None = None


class Encoder(Protocol):
    """Text to ids by one kind of vocabulary; `Tokenizer` does the rest."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What its ids stand for."""

    @property
    def cuts(self) -> NDArray[np.bool_] | None:
        """(65536,) bool: whether a text may be cut between two bytes (index 256 * first + second) without changing
        its ids, wherever the two stand; None = texts must be encoded whole."""

    @property
    def fixed(self) -> Mapping[bytes, list[int]]:
        """Character sequences that are chunks of their own wherever they stand, with their ids."""

    def encode_chunks(self, chunks: Sequence[bytes], num_threads: int) -> list[list[int]]:
        """The ids of each chunk, none of which is in `fixed`; the chunks are UTF-8."""

    def write_files(self, directory: Path, *, name: str, model_max_length: int | None) -> Path:
        """Write all that `Tokenizer.from_file` and transformers need to load it from `directory`.

        Args:
            name: What the file that decides ids is called, without extension, where that is free to choose.
            model_max_length: Longest input of the model it goes with, in tokens; None = not stated.

        Returns:
            The file that decides ids.
        """
