"""Writes the rows of one split as Arrow files with their descriptions. Does not know where rows come from."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from core.files import explain_disk_errors, sha256_file
from data_processing.rows.arrow_rows import (
    FORMAT_VERSION,
    METADATA_NAME,
    RowKind,
    Shard,
    SplitMetadata,
    id_type,
    row_schema,
)
from data_processing.rows.packing import IGNORED, Rows, join_rows, slice_rows

SHARD_BYTES = 64_000_000
"""Size of the ids and labels in one Arrow file, at most (unless one row is larger). Arbitrary: small enough to hash
while the next is written, large enough that 10 billion tokens stay in a few hundred files."""

BATCH_BYTES = 4_000_000
"""Size of one record batch, the unit of writing, likewise. Arbitrary: 16 MB were not faster."""


class TokenizerFacts(NamedTuple):
    """What rows need to know of the tokenizer that made them."""

    vocab_size: int
    pad_id: int
    fingerprint: str


class RowWriter:
    """Writes the rows of one split to a new directory, at most a few record batches of them in memory.

    Where batches and files end depends on the rows alone, not on the pieces in which they arrive, so that equal
    rows give equal bytes. A context manager: leaving it without `finish` abandons what was written.

    Raises:
        DiskError: in any method: the disk is full, read-only or failing.
    """

    def __init__(
        self,
        directory: Path,
        *,
        kind: RowKind,
        max_length: int,
        stride: int,
        tokenizer: TokenizerFacts,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self._directory = directory
        self._kind: RowKind = kind
        self._max_length = max_length
        self._stride = stride
        self._tokenizer = tokenizer
        dtype = id_type(tokenizer.vocab_size)
        self._schema = row_schema(kind, max_length=max_length, stride=stride, dtype=dtype)
        row_bytes = max_length * (dtype.itemsize + (4 if kind != "text" else 0))
        rows_per_shard = max(1, shard_bytes // row_bytes)
        self._batch_rows = min(rows_per_shard, max(1, BATCH_BYTES // row_bytes))
        self._shard_rows = rows_per_shard // self._batch_rows * self._batch_rows
        self._waiting: list[Rows] = []
        self._num_waiting = 0
        self._sink: Any = None
        self._stream: Any = None
        self._rows_in_shard = 0
        self._max_id_in_shard = 0
        self._shards: list[Future[Shard]] = []
        self._totals = dict.fromkeys(("rows", "repeated", "padding", "targets"), 0)
        # Measured: SHA-256 takes as long as writing (800 million uint16 tokens a second), so they go side by side.
        self._hashing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="shard-sha256")
        with explain_disk_errors(directory):
            directory.mkdir(parents=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            with explain_disk_errors(self._directory):
                self._sink.close()
        self._hashing.shutdown()

    def write(self, rows: Rows) -> None:
        """Append rows."""
        self._waiting.append(rows)
        self._num_waiting += len(rows.input_ids)
        if self._num_waiting < self._batch_rows:
            return
        joined = join_rows(self._waiting)
        whole = self._num_waiting // self._batch_rows * self._batch_rows
        for begin in range(0, whole, self._batch_rows):
            self._write_batch(slice_rows(joined, begin, begin + self._batch_rows))
        self._waiting = [slice_rows(joined, whole, self._num_waiting)]
        self._num_waiting -= whole

    def finish(self, *, documents: int, text_bytes: int) -> SplitMetadata:
        """Write what waits, and the descriptions; the split can be opened then."""
        if self._num_waiting:
            self._write_batch(join_rows(self._waiting))
        self._end_shard()
        shards = tuple(shard.result() for shard in self._shards)
        totals = self._totals
        metadata = SplitMetadata(
            format_version=FORMAT_VERSION,
            kind=self._kind,
            split=self._directory.name,
            max_length=self._max_length,
            stride=self._stride,
            vocab_size=self._tokenizer.vocab_size,
            pad_id=self._tokenizer.pad_id,
            max_id=max((shard.max_id for shard in shards), default=0),
            tokenizer_fingerprint=self._tokenizer.fingerprint,
            rows=totals["rows"],
            documents=documents,
            text_bytes=text_bytes,
            tokens=totals["rows"] * self._max_length - totals["repeated"] - totals["padding"],
            repeated_tokens=totals["repeated"],
            padding_tokens=totals["padding"],
            targets=totals["targets"],
            shards=shards,
        )
        write_unsynced_json(self._directory / "dataset_info.json", _hugging_face_info(self._schema))
        write_unsynced_json(
            self._directory / "state.json",
            {
                "_data_files": [{"filename": shard.file} for shard in shards],
                "_fingerprint": metadata.fingerprint[:16],
                "_format_columns": None,
                "_format_kwargs": {},
                "_format_type": None,
                "_output_all_columns": False,
                "_split": self._directory.name,
            },
        )
        write_unsynced_json(self._directory / METADATA_NAME, metadata.to_dict())
        return metadata

    def _write_batch(self, rows: Rows) -> None:
        max_id = int(rows.input_ids.max())
        assert max_id < self._tokenizer.vocab_size, f"token id {max_id} is not in the vocabulary"
        with explain_disk_errors(self._directory):
            if self._stream is None:
                self._sink = pa.OSFile(str(self._directory / self._shard_name()), "wb")
                self._stream = pa.ipc.new_stream(self._sink, self._schema)
            self._stream.write_batch(_record_batch(rows, self._schema))
        self._rows_in_shard += len(rows.input_ids)
        self._max_id_in_shard = max(self._max_id_in_shard, max_id)
        self._totals["rows"] += len(rows.input_ids)
        self._totals["repeated"] += int(rows.num_repeated.sum())
        self._totals["padding"] += int(rows.num_padding.sum())
        self._totals["targets"] += _count_targets(rows)
        if self._rows_in_shard == self._shard_rows:
            self._end_shard()

    def _shard_name(self) -> str:
        return f"data-{len(self._shards):05d}.arrow"

    def _end_shard(self) -> None:
        if self._stream is None:
            return
        with explain_disk_errors(self._directory):
            self._stream.close()
            self._sink.close()
        path = self._directory / self._shard_name()
        num_rows, max_id = self._rows_in_shard, self._max_id_in_shard
        self._shards.append(self._hashing.submit(_describe_shard, path, num_rows=num_rows, max_id=max_id))
        self._stream = self._sink = None
        self._rows_in_shard = self._max_id_in_shard = 0


def write_unsynced_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, without waiting for the medium: that is done once, when a dataset is saved.
    An fsync here would wait for all the shards written before it."""
    with explain_disk_errors(path):
        path.write_text(
            json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
        )


def _record_batch(rows: Rows, schema: Any) -> Any:
    T = schema.field("input_ids").type.list_size
    ids = pa.array(np.ascontiguousarray(rows.input_ids).reshape(-1))
    offsets = np.concatenate([[0], np.cumsum(rows.start_counts)]).astype(np.int32)
    columns = {
        "input_ids": pa.FixedSizeListArray.from_arrays(ids, T),
        "document_starts": pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.starts)),
        "num_repeated": pa.array(rows.num_repeated),
    }
    if rows.labels is not None:
        columns["labels"] = pa.FixedSizeListArray.from_arrays(pa.array(rows.labels.reshape(-1)), T)
    if rows.references is not None:
        columns["references"] = pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.references))
    return pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _count_targets(rows: Rows) -> int:
    if rows.labels is not None:
        return int((rows.labels[:, 1:] != IGNORED).sum())
    # The first position of a row is nobody's successor; what else `raw_text_labels` ignores is counted apart, and
    # overlaps nowhere but there.
    R, T = rows.input_ids.shape
    repeated = np.maximum(rows.num_repeated - 1, 0).sum()
    return int(R * (T - 1) - (rows.starts > 0).sum() - repeated - rows.num_padding.sum())


def _describe_shard(path: Path, *, num_rows: int, max_id: int) -> Shard:
    return Shard(
        file=path.name, rows=num_rows, bytes=path.stat().st_size, max_id=max_id, sha256=sha256_file(path)
    )


def _hugging_face_info(schema: Any) -> dict[str, Any]:
    """`dataset_info.json` as `datasets.Dataset.save_to_disk` writes it, without importing that library."""
    return {
        "citation": "",
        "description": "",
        "features": {field.name: _hugging_face_feature(field.type) for field in schema},
        "homepage": "",
        "license": "",
    }


def _hugging_face_feature(kind: Any) -> dict[str, Any]:
    if pa.types.is_fixed_size_list(kind):
        return {"feature": _hugging_face_feature(kind.value_type), "length": kind.list_size, "_type": "List"}
    if pa.types.is_list(kind):
        return {"feature": _hugging_face_feature(kind.value_type), "_type": "List"}
    return {"dtype": str(kind), "_type": "Value"}
