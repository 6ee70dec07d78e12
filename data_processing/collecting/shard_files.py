"""How a shard of a corpus lies on disk between two steps: a table of items and arrays beside it. Judges nothing.

A shard is a stretch of the corpus that is worked on as a whole. Its items stand in the order of the corpus, those that
were left out among the others, so that the account of all shards in order is the account of the corpus.
"""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from core.errors import DataError
from data_processing.collecting.shard_store import ShardStore
from data_processing.document import Document, Dropped, escape_unprintable

_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("file_bytes", pa.int64()),
        ("source", pa.string()),
        ("format", pa.string()),
        ("num_bytes", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("text", pa.large_string()),
        ("id", pa.string()),
        ("metadata", pa.string()),
        ("read_bytes", pa.int64()),
        ("removed", pa.string()),
        ("counts", pa.string()),
    ]
)

COMPRESSION = "zstd"
COMPRESSION_LEVEL = 1
"""Measured in the field at 365 MB/s and 2.8x; level 3 halves the speed for 3.2x."""

COMPRESSED_COLUMNS = ("text", "metadata")
"""The columns that may be large. Of documents of 6 kB, compressing the others too takes 3 % off a table, and a third of
the time that reading it takes."""

ROW_GROUP_BYTES = 512 << 10
"""Text that is unpacked to get at one document. Comparing near duplicates asks for single documents from all over the
corpus: with whole tables unpacked for each, 10 GB of documents were read twenty times."""


@dataclass(slots=True)
class Item:
    """One document, or one thing that was left out, on its way through the shards.

    Attributes:
        file: The raw file, as in reports; "" where the text did not come from a file.
        file_bytes: Size of that file on disk.
        source, format, num_bytes: As in `Document` and `Dropped`.
        reason, detail: Why it was left out; "" for a document that is still in.
        text: The text, or the sample of what was left out.
        id, metadata: As in `Document`.
        read_bytes: Size of the text as it was read, in UTF-8.
        removed: Step -> bytes of UTF-8 that it took from the text.
        counts: What steps did, by name.
    """

    file: str
    file_bytes: int
    source: str
    format: str
    num_bytes: int
    reason: str = ""
    detail: str = ""
    text: str = ""
    id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    read_bytes: int = 0
    removed: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def dropped(self, reason: str, detail: str, sample: str) -> None:
        """Make it one that is left out."""
        self.reason, self.detail, self.text = reason, detail, sample

    def as_dropped(self) -> Dropped:
        """The record of something that was left out."""
        return Dropped(self.source, self.reason, self.detail, self.text, self.num_bytes, self.format)


def item_of_dropped(dropped: Dropped, *, file: str, file_bytes: int) -> Item:
    """The item of something that was left out while reading."""
    return Item(
        file,
        file_bytes,
        dropped.source,
        dropped.format,
        dropped.num_bytes,
        dropped.reason,
        dropped.detail,
        dropped.sample,
    )


def item_of_document(document: Document, *, file: str, file_bytes: int) -> Item:
    """The item of a document as it was read."""
    return Item(
        file,
        file_bytes,
        escape_unprintable(document.source),  # a caller's own may hold anything
        document.format,
        document.input_bytes,
        text=document.text,
        id=document.id,
        metadata=dict(document.metadata),
    )


class DamagedShardError(Exception):
    """What lies under a name is not what was written there, or is gone; the argument is the name."""

    @property
    def name(self) -> str:
        """The name in the store."""
        return str(self.args[0])


def write_bytes(store: ShardStore, name: str, data: bytes) -> None:
    """Write `data` under `name` with a digest behind it, entirely or not at all."""
    store.write(name, b"".join((data, xxhash.xxh3_128_digest(data))))


def read_bytes(store: ShardStore, name: str) -> bytes:
    """What `write_bytes` wrote.

    Raises:
        DamagedShardError: it is missing, cut off or changed. Not told by the digest: who changes both.
    """
    try:
        with store.open(name) as file:
            whole = file.read()
    except FileNotFoundError:
        raise DamagedShardError(name) from None
    data, digest = whole[:-DIGEST_BYTES], whole[-DIGEST_BYTES:]
    if xxhash.xxh3_128_digest(data) != digest:
        raise DamagedShardError(name)
    return data


DIGEST_BYTES = 16


def size_of_shard(store: ShardStore, name: str) -> int:
    """The bytes that `write_bytes` wrote, with the digest.

    Raises:
        DamagedShardError: it is missing.
    """
    try:
        return store.num_bytes(name)
    except FileNotFoundError:
        raise DamagedShardError(name) from None


def write_items(store: ShardStore, name: str, items: Sequence[Item]) -> None:
    """Write a table of items under `name`, entirely or not at all."""
    write_bytes(store, name, table_of_items(items))


def table_of_items(items: Sequence[Item]) -> bytes:
    """The content of the file that `read_items` reads.

    Raises:
        DataError: the metadata of a document are not JSON.
    """
    columns = [_column(field, _cells(field.name, items)) for field in _SCHEMA]
    table = pa.Table.from_arrays(columns, schema=_SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression={name: COMPRESSION if name in COMPRESSED_COLUMNS else "none" for name in _SCHEMA.names},
        compression_level=dict.fromkeys(COMPRESSED_COLUMNS, COMPRESSION_LEVEL),
        row_group_size=max(1, len(items) * ROW_GROUP_BYTES // max(1, sum(len(item.text) for item in items))),
        use_dictionary=["file", "format", "reason", "metadata", "removed", "counts"],
        write_statistics=False,
    )
    return buffer.getvalue()


def read_items(store: ShardStore, name: str) -> Iterator[Item]:
    """The items of a table, in order, a part of it unpacked at a time."""
    table = _table(store, name)
    # Group by group: an iterator over batches reads ahead, which for long documents is most of the table.
    for group in range(table.num_row_groups):
        cells = table.read_row_group(group, use_threads=False)
        columns = [_from_cells(field.name, cells.column(field.name).to_pylist()) for field in _SCHEMA]
        yield from map(Item, *columns)


def read_texts(store: ShardStore, name: str, rows: "np.ndarray[Any, Any]") -> Iterator[tuple[int, str]]:
    """(row, text) of some rows of a table, in order."""
    return _read_cells(store, name, "text", rows)


def read_sources(store: ShardStore, name: str, rows: "np.ndarray[Any, Any]") -> Iterator[tuple[int, str]]:
    """(row, source) of some rows of a table, in order."""
    return _read_cells(store, name, "source", rows)


def _table(store: ShardStore, name: str) -> "pq.ParquetFile":
    """The table under `name`, of which only what is asked for is unpacked."""
    path = store.local_path(name)
    if path is None:
        return pq.ParquetFile(pa.BufferReader(read_bytes(store, name)))
    _check_file(path, name)
    with pa.memory_map(str(path)) as file:
        return pq.ParquetFile(pa.BufferReader(file.read_buffer(file.size() - DIGEST_BYTES)))


def _read_cells(
    store: ShardStore, name: str, column: str, rows: "np.ndarray[Any, Any]"
) -> Iterator[tuple[int, str]]:
    table = _table(store, name)
    first = 0
    for group in range(table.num_row_groups):
        size = table.metadata.row_group(group).num_rows
        here = rows[(rows >= first) & (rows < first + size)]
        if len(here):
            cells = table.read_row_group(group, columns=[column]).column(column)
            taken = cells.take(_numbers(here - first)).to_pylist()
            yield from zip(here.tolist(), taken, strict=True)
        first += size


def write_array(store: ShardStore, name: str, array: "np.ndarray[Any, Any]") -> None:
    """Write an array as `.npy` under `name`, entirely or not at all."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(store, name, buffer.getvalue())


def read_array(store: ShardStore, name: str) -> "np.ndarray[Any, Any]":
    """An array that `write_array` wrote: a view of the mapped file where it lies on this machine.

    Raises:
        DamagedShardError: as `read_bytes`.
    """
    path = store.local_path(name)
    array: np.ndarray[Any, Any]
    if path is None:
        array = np.load(io.BytesIO(read_bytes(store, name)), allow_pickle=False)
        return array
    _check_file(path, name)
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _check_file(path: Path, name: str) -> None:
    """As `read_bytes`, a piece at a time: all the arrays of a corpus together need not fit into memory.

    A process looks at each state of a file once.
    """
    try:
        status = path.stat()
        state = (str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if state in _CHECKED:
            return
        digest = xxhash.xxh3_128()
        with path.open("rb") as file:
            missing = status.st_size - DIGEST_BYTES
            while missing > 0 and (piece := file.read(min(missing, PIECE_BYTES))):
                digest.update(piece)
                missing -= len(piece)
            recorded = file.read()
    except FileNotFoundError:
        raise DamagedShardError(name) from None
    if missing or recorded != digest.digest():
        raise DamagedShardError(name)
    _CHECKED.add(state)


_CHECKED: set[tuple[str, int, int, int]] = set()


def write_packed(store: ShardStore, name: str, data: bytes) -> None:
    """Write bytes under `name`, compressed, entirely or not at all."""
    write_bytes(store, name, _codec().compress(data, asbytes=True) if data else b"")


def read_packed(store: ShardStore, name: str) -> Iterator[bytes]:
    """What `write_packed` wrote, piece by piece.

    Raises:
        DamagedShardError: as `read_bytes`, before the first piece.
    """
    if data := read_bytes(store, name):
        with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
            while piece := stream.read(PIECE_BYTES):
                yield piece


PIECE_BYTES = 4 << 20
"""How much is unpacked at a time; arbitrary."""


@lru_cache(maxsize=1)
def _codec() -> "pa.Codec":
    return pa.Codec(COMPRESSION, compression_level=COMPRESSION_LEVEL)


def write_record(store: ShardStore, name: str, record: Any) -> None:
    """Write a JSON value under `name`, entirely or not at all."""
    write_bytes(store, name, json.dumps(record, ensure_ascii=False, allow_nan=False).encode())


def read_record(store: ShardStore, name: str) -> Any:
    """The JSON value under `name`.

    Raises:
        DamagedShardError: as `read_bytes`.
    """
    return json.loads(read_bytes(store, name))


def _column(field: "pa.Field", values: list[Any]) -> "pa.Array":
    """The values as an array, from buffers: `pa.array` would import pandas where that is installed, for 0.4 s."""
    if field.type == pa.int64():
        return _numbers(np.array(values, dtype=np.int64))
    encoded = [value.encode("utf-8") for value in values]
    offsets = np.zeros(len(values) + 1, dtype=np.int64 if field.type == pa.large_string() else np.int32)
    np.cumsum([len(value) for value in encoded], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(field.type, len(values), buffers)


def _numbers(values: "np.ndarray[Any, Any]") -> "pa.Array":
    whole = np.ascontiguousarray(values, dtype=np.int64)
    return pa.Array.from_buffers(pa.int64(), len(whole), [None, pa.py_buffer(whole)])


_JSON_COLUMNS = {"metadata", "removed", "counts"}
_JSON = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def _cells(name: str, items: Sequence[Item]) -> list[Any]:
    """What stands in a column of the table."""
    values = list(map(attrgetter(name), items))
    if name not in _JSON_COLUMNS:
        return values
    return [_to_json(value, item) if value else "{}" for value, item in zip(values, items, strict=True)]


def _to_json(value: dict[str, Any], item: Item) -> str:
    try:
        return _JSON.encode(value)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{item.source}: metadata is not JSON ({error}); expected text, finite numbers, lists, objects"
        ) from None


def _from_cells(name: str, cells: list[Any]) -> Iterable[Any]:
    if name in _JSON_COLUMNS:
        # A dictionary of its own for each: steps add to it.
        return [{} if cell == "{}" else dict(_parsed(cell)) for cell in cells]
    return cells


@lru_cache(maxsize=4096)
def _parsed(cell: str) -> dict[str, Any]:
    """The value of a JSON cell. Remembered, because most documents of a corpus have the same few metadata."""
    value: dict[str, Any] = json.loads(cell)
    return value
