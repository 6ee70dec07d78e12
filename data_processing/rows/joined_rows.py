"""The rows of several splits as those of one. Knows neither their order in a training nor what they are for."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.files import sha256_json
from data_processing.rows.arrow_rows import SplitMetadata
from data_processing.rows.token_rows import TokenRows


class JoinedRows:
    """The rows of the first split, then those of the next.

    Args:
        parts: At least one; rows of one length and one tokenizer.
    """

    def __init__(self, parts: Sequence[TokenRows]) -> None:
        assert parts, "nothing to join"
        self.parts = tuple(parts)
        self._ends = np.array(list(accumulate(map(len, self.parts))))

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def metadata(self) -> SplitMetadata:
        """That of the first split."""
        return self.parts[0].metadata

    @property
    def directory(self) -> Path:
        """That of the first split."""
        return self.parts[0].directory

    @property
    def fingerprint(self) -> str:
        """Changes with any byte of the rows; of a single split its own."""
        fingerprints = [part.fingerprint for part in self.parts]
        return fingerprints[0] if len(fingerprints) == 1 else sha256_json(fingerprints)

    def batch(self, indices: Sequence[int]) -> dict[str, NDArray[Any]]:
        """As `TokenRows.batch`, of rows by their number among all."""
        numbers = np.asarray(indices, dtype=np.int64)
        owners = np.searchsorted(self._ends, numbers, side="right")
        columns: dict[str, NDArray[Any]] = {}
        for owner, part in enumerate(self.parts):
            mine = np.flatnonzero(owners == owner)
            first = int(self._ends[owner]) - len(part)
            for key, values in part.batch((numbers[mine] - first).tolist()).items():
                if key not in columns:
                    columns[key] = np.empty((len(numbers), *values.shape[1:]), dtype=values.dtype)
                columns[key][mine] = values
        return columns
