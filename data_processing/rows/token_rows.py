"""Rows of token ids on disk, opened as views and served with labels and positions. Imports no tensor library.

Letters in shapes: T tokens a row, B rows of a batch.
"""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import CorruptArtifactError
from core.files import sha256_file
from core.progress import progress
from data_processing.rows.arrow_rows import REPAIR, Chunk, SplitMetadata, open_chunks, read_metadata
from data_processing.rows.packing import raw_text_labels, restarting_positions, shift_labels
from data_processing.rows.pair_packing import pair_columns

TOKENIZER_DIRECTORY = "tokenizer"


class TokenRows:
    """One split of a dataset: a sequence of rows, read where they lie, with the meaning of a PyTorch map dataset.

    Opening checks sizes, columns and counts and reads no row. It is pickled as its path, so a worker process maps
    the same files itself.

    >>> rows = TokenRows("runs/mine/dataset/train")  # doctest: +SKIP
    >>> rows[0]["labels"].shape  # doctest: +SKIP
    (256,)

    Raises:
        DataError: the directory is no split of a dataset, or has no rows.
        CorruptArtifactError: a shard is missing, cut off, not listed, or holds ids outside of the vocabulary.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).absolute()
        self.metadata: SplitMetadata = read_metadata(self.directory)
        self._chunks = open_chunks(self.directory, self.metadata)
        sizes = (len(chunk.input_ids) for chunk in self._chunks)
        self._ends = list(itertools.accumulate(sizes))
        self.owner: object = None
        """What keeps the files from being deleted, where they are temporary."""

    def __len__(self) -> int:
        return self.metadata.rows

    def __getitem__(self, index: int) -> dict[str, NDArray[Any]]:
        """Row `index` as `batch` gives it, without the batch dimension: (T,) each."""
        return {name: column[0] for name, column in self.batch([index]).items()}

    def batch(self, indices: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Rows, copied: three (B, T) int64 arrays in C order, and two more of pairs of answers.

        - `input_ids`;
        - `labels`: at t, the token to predict after reading tokens 0..t of the row, or -100 where nothing is learned:
          at the last position, before padding, before the first token of a document, in what repeats the row
          before, and in conversations wherever no answer of the assistant follows; of pairs of answers see
          `data_processing.rows.pair_packing.pair_columns`;
        - `position_ids`: from 0 at the head of the row and again at every document start.

        Raises:
            IndexError: an index outside of -len .. len - 1.
            DiskError: a file was cut off since it was opened.
        """
        B, T = len(indices), self.metadata.max_length
        input_ids = np.empty((B, T), dtype=np.int64)
        num_repeated = np.zeros(B, dtype=np.int32)
        raw_labels = np.empty((B, T), dtype=np.int64) if self.metadata.kind != "text" else None
        flat_starts, references = [], []
        places = [self._locate(index) for index in indices]
        for file in {chunk.file for chunk, _ in places}:
            file.refuse_if_cut_off()
        for b, (chunk, row) in enumerate(places):
            input_ids[b] = chunk.input_ids[row]
            flat_starts.append(_starts(chunk, row) + np.int64(b * T))
            if chunk.num_repeated is not None:
                num_repeated[b] = chunk.num_repeated[row]
            if raw_labels is not None and chunk.labels is not None:
                raw_labels[b] = chunk.labels[row]
            if chunk.references is not None:
                references.append(chunk.references[chunk.start_offsets[row] : chunk.start_offsets[row + 1]])
        starts_of_batch = np.concatenate(flat_starts) if flat_starts else np.empty(0, dtype=np.int64)
        if raw_labels is None:
            raw_labels = raw_text_labels(
                input_ids,
                flat_starts=starts_of_batch,
                num_repeated=num_repeated,
                pad_id=self.metadata.pad_id,
            )
        batch = {
            "input_ids": input_ids,
            "labels": shift_labels(raw_labels),
            "position_ids": restarting_positions((B, T), starts_of_batch),
        }
        if self.metadata.kind == "preferences":
            return pair_columns(batch, flat_starts=starts_of_batch, references=np.concatenate(references))
        return batch

    def tokens(self, index: int) -> NDArray[Any]:
        """The ids of row `index`, padding included: (T,) uint16 or uint32, a read-only view of the mapped file."""
        chunk, row = self._locate(index)
        ids: NDArray[Any] = chunk.input_ids[row]
        return ids

    def document_starts(self, index: int) -> NDArray[np.int32]:
        """Offsets in row `index` at which a document (or conversation) starts, rising: a read-only view."""
        chunk, row = self._locate(index)
        return _starts(chunk, row)

    def raw_labels(self, index: int) -> NDArray[np.int32] | None:
        """The stored, unshifted labels of row `index`, (T,) int32; None for text, whose labels are its tokens."""
        chunk, row = self._locate(index)
        return None if chunk.labels is None else chunk.labels[row]

    def verify(self) -> None:
        """Read every byte and compare with the recorded SHA-256 of each shard; finds what opening cannot.

        Raises:
            CorruptArtifactError: a shard has changed since it was written.
        """
        shards = self.metadata.shards
        with progress(
            total=sum(s.bytes for s in shards), description=f"verify {self.directory.name}", unit="B"
        ) as bar:
            for shard in shards:
                path = self.directory / shard.file
                found = sha256_file(path)
                if found != shard.sha256:
                    raise CorruptArtifactError(
                        f"{path}: its SHA-256 is {found[:12]}…, it was written as {shard.sha256[:12]}…; {REPAIR}"
                    )
                bar.update(shard.bytes)

    @property
    def tokenizer_directory(self) -> Path | None:
        """The tokenizer that the dataset brings along; None when the split stands alone."""
        path = self.directory.parent / TOKENIZER_DIRECTORY
        return path if path.is_dir() else None

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change with any byte of the rows."""
        return self.metadata.fingerprint

    def __reduce__(self) -> tuple[type["TokenRows"], tuple[str]]:
        return TokenRows, (str(self.directory),)

    def __repr__(self) -> str:
        m = self.metadata
        return f"TokenRows({str(self.directory)!r}: {m.rows} rows of {m.max_length} tokens, {m.kind})"

    def _locate(self, index: int) -> tuple[Chunk, int]:
        num_rows = self.metadata.rows
        if not -num_rows <= index < num_rows:
            raise IndexError(f"row {index} of a split of {num_rows} rows")
        index = int(index) % num_rows
        place = bisect.bisect_right(self._ends, index)
        return self._chunks[place], index - (self._ends[place - 1] if place else 0)


def _starts(chunk: Chunk, row: int) -> NDArray[np.int32]:
    return chunk.starts[chunk.start_offsets[row] : chunk.start_offsets[row + 1]]
