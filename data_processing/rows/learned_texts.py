"""Which documents an earlier training has learned, as digests of texts and sources. Knows no split and no row."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from core.files import atomic_writer
from data_processing.rows.splits import text_key

LEARNED_NAME = "learned.npy"
"""In a dataset directory, where some of its documents were learned before."""

DIGEST_BYTES = 8
"""Of 10^8 learned documents and a million others two have the same digest by chance in one corpus of 200,000, and then
one document counts as learned that is not."""


class LearnedTexts:
    """A set of texts, and of their sources, that can be asked whether it holds one.

    Args:
        digests: uint64 (N,), in any order.
    """

    def __init__(self, digests: NDArray[np.uint64]) -> None:
        self._digests = np.unique(digests)

    @classmethod
    def of(cls, keys: Iterable[str]) -> "LearnedTexts":
        """The texts and sources that have these keys (`splits.text_key`, `source_key`); another one does no harm."""
        return cls(np.fromiter(map(_digest, keys), dtype=np.uint64))

    @classmethod
    def from_file(cls, path: Path) -> "LearnedTexts":
        """What `save` wrote.

        Raises:
            DataError: the file is missing, or is none of these.
        """
        try:
            digests = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{path}: cannot be read as the digests of learned documents ({error}); name a file that "
                "scripts/update.py wrote"
            ) from None
        if not isinstance(digests, np.ndarray) or digests.dtype != np.uint64 or digests.ndim != 1:
            raise DataError(
                f"{path}: holds no digests of learned documents; name one that scripts/update.py wrote"
            )
        return cls(digests)

    def save(self, path: Path) -> None:
        """Write it to a `.npy` file, the same bytes for the same texts.

        Raises:
            DiskError: the disk is full or failing.
        """
        with atomic_writer(path) as file:
            np.save(file, self._digests, allow_pickle=False)

    def __contains__(self, text: object) -> bool:
        assert isinstance(text, str)
        return self._holds(text_key(text))

    def knows_source(self, source: str) -> bool:
        """Whether some text of this source was learned."""
        return bool(source) and self._holds(source_key(source))

    def _holds(self, key: str) -> bool:
        digest = np.uint64(_digest(key))
        place = int(np.searchsorted(self._digests, digest))
        return place < len(self._digests) and bool(self._digests[place] == digest)

    def __len__(self) -> int:
        return len(self._digests)

    def __or__(self, other: "LearnedTexts") -> "LearnedTexts":
        return LearnedTexts(np.concatenate([self._digests, other._digests]))


def source_key(source: str) -> str:
    """The key of a source, which is that of no text."""
    return f"source {source}"


def _digest(key: str) -> int:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()
    return int.from_bytes(digest, "little")
