"""Rows on disk: Arrow IPC stream files that `datasets.load_from_disk` opens too. Does not know where rows come from.

One directory a split: `data-00000.arrow` …, Hugging Face's `dataset_info.json` and `state.json`, and our
`bloomery_dataset.json` with everything that is checked when the split is opened.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from core.config import Config
from core.errors import ConfigError, CorruptArtifactError, DataError, DiskError
from core.files import sha256_json
from core.json_files import read_json_object

METADATA_NAME = "bloomery_dataset.json"
FORMAT_VERSION = 1

RowKind = Literal["text", "conversations", "preferences"]

REPAIR = (
    "repair the rows of a run with `python scripts/inspect_data.py RUN verify --repair`; build other ones again, or "
    "restore them from a copy"
)

END_MARK = b"\xff\xff\xff\xff\0\0\0\0"
"""How an Arrow stream ends. The reader does not ask for it: of a file whose last pages were lost with the power, which
keeps its size and has zeros there, it would give the rows."""


class Shard(Config):
    """One Arrow file."""

    file: str
    rows: int = Field(ge=1)
    bytes: int = Field(ge=1)
    max_id: int = Field(ge=0)
    sha256: str


class SplitMetadata(Config):
    """What `bloomery_dataset.json` says of one split. All counts are of the split as a whole."""

    format_version: int
    kind: RowKind
    split: str
    max_length: int = Field(ge=2, description="Tokens a row.")
    stride: int = Field(ge=0)
    vocab_size: int = Field(ge=1)
    pad_id: int = Field(ge=0)
    max_id: int = Field(ge=0, description="Largest token id in the rows.")
    tokenizer_fingerprint: str
    rows: int = Field(ge=0)
    documents: int = Field(ge=0, description="Documents, or conversations.")
    text_bytes: int = Field(ge=0, description="UTF-8 bytes of their text, before encoding.")
    tokens: int = Field(ge=0, description="Their tokens, each counted once, <s> and </s> included.")
    repeated_tokens: int = Field(ge=0, description="Tokens that rows repeat from the row before (stride).")
    padding_tokens: int = Field(ge=0)
    targets: int = Field(ge=0, description="Positions whose label is learned.")
    shards: tuple[Shard, ...]

    @property
    def fingerprint(self) -> str:
        """Changes with every byte of the rows and with everything that says how they are read."""
        return sha256_json(self.to_dict())

    def summary(self) -> dict[str, Any]:
        """The counts for a report, with the bytes of text that one token (boundary tokens included) stands for."""
        counts = self.to_dict()
        wanted = ("documents", "text_bytes", "tokens", "repeated_tokens", "rows", "padding_tokens", "targets")
        return {name: counts[name] for name in wanted} | {
            "bytes_per_token": round(self.text_bytes / self.tokens, 4),
        }


def id_type(vocab_size: int) -> np.dtype[Any]:
    """The type of the column `input_ids`: the smaller one that holds every id of the vocabulary."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


def read_metadata(directory: Path) -> SplitMetadata:
    """What `directory` says of itself.

    Raises:
        DataError: it is not the directory of a split, or the split has no rows.
        CorruptArtifactError: its description does not make sense.
    """
    path = directory / METADATA_NAME
    if not path.is_file():
        below = sorted(found.parent.name for found in directory.glob(f"*/{METADATA_NAME}"))
        hint = f"; name one of its splits: {', '.join(below)}" if below else ""
        raise DataError(f"{directory}: not a split of a dataset, {METADATA_NAME} is missing{hint}")
    try:
        metadata = SplitMetadata.from_dict(read_json_object(path), origin=str(path))
    except ConfigError as error:
        raise CorruptArtifactError(f"{error}; {REPAIR}") from None
    if metadata.format_version != FORMAT_VERSION:
        raise CorruptArtifactError(
            f"{path}: format_version {metadata.format_version}, this version reads {FORMAT_VERSION}; "
            "build the dataset again"
        )
    if metadata.rows == 0:
        raise DataError(f"{directory}: the split has no rows; build the dataset from more text")
    for shard in metadata.shards:
        if shard.max_id >= metadata.vocab_size:
            raise CorruptArtifactError(
                f"{directory / shard.file}: holds token id {shard.max_id}, the vocabulary has "
                f"{metadata.vocab_size} tokens (ids 0 to {metadata.vocab_size - 1}); {REPAIR}"
            )
    found = metadata.tokens + metadata.repeated_tokens + metadata.padding_tokens
    shard_rows = sum(shard.rows for shard in metadata.shards)
    if found != metadata.rows * metadata.max_length or shard_rows != metadata.rows:
        raise CorruptArtifactError(
            f"{path}: {metadata.rows} rows of {metadata.max_length} tokens do not agree with {found} tokens in "
            f"shards of {shard_rows} rows; {REPAIR}"
        )
    return metadata


class MappedFile(NamedTuple):
    """A shard that is mapped, and what it was when that was done."""

    path: Path
    inode: int
    num_bytes: int

    def refuse_if_cut_off(self) -> None:
        """Raise instead of reading behind the end of the file, for which the system kills a process (SIGBUS).

        A file that was deleted or replaced is no matter: the mapped one lives on.

        Raises:
            DiskError: somebody has made it shorter.
        """
        try:
            now = self.path.stat()
        except FileNotFoundError:
            return
        if now.st_ino == self.inode and now.st_size < self.num_bytes:
            raise DiskError(
                f"{self.path}: cut off from {self.num_bytes} to {now.st_size} bytes while it was in use; {REPAIR}"
            )


class Chunk(NamedTuple):
    """One record batch of a shard, as views of the mapped file."""

    file: MappedFile
    input_ids: NDArray[Any]
    """(R, T) unsigned."""
    start_offsets: NDArray[np.int32]
    """(R + 1,) where the starts of a row begin and end in `starts`."""
    starts: NDArray[np.int32]
    num_repeated: NDArray[np.int32] | None
    labels: NDArray[np.int32] | None
    references: NDArray[np.float32] | None
    """As `starts`: of each document."""


def open_chunks(directory: Path, metadata: SplitMetadata) -> list[Chunk]:
    """All record batches of a split, in order, as read-only views: nothing is read before it is used.

    The files are mapped and closed again, so that a large split needs no file descriptors, and a file that is
    deleted under a running training stays readable to it.

    Raises:
        CorruptArtifactError: a shard is missing, not listed, or has not the size, end, columns or rows it should have.
    """
    listed = {shard.file for shard in metadata.shards}
    for found in sorted(directory.glob("data-*.arrow")):
        if found.name not in listed:
            raise CorruptArtifactError(
                f"{found}: no shard of this split ({METADATA_NAME} does not list it); remove it"
            )
    schema = row_schema(
        metadata.kind,
        max_length=metadata.max_length,
        stride=metadata.stride,
        dtype=id_type(metadata.vocab_size),
    )
    return [
        chunk for shard in metadata.shards for chunk in _open_shard(directory / shard.file, shard, schema)
    ]


def _open_shard(path: Path, shard: Shard, schema: Any) -> list[Chunk]:
    if not path.is_file():
        raise CorruptArtifactError(f"{path}: the shard is missing; {REPAIR}")
    status = path.stat()
    size = status.st_size
    if size != shard.bytes:
        raise CorruptArtifactError(f"{path}: has {size} bytes, {shard.bytes} were written; {REPAIR}")
    try:
        with pa.memory_map(str(path)) as source:
            batches = list(pa.ipc.open_stream(source))
            source.seek(size - len(END_MARK))
            end = source.read()
        for batch in batches:
            batch.validate()  # without it one bit of a header is enough to read past the end of the mapped file
    except (pa.ArrowException, OSError) as error:
        raise CorruptArtifactError(f"{path}: not a readable Arrow stream ({error}); {REPAIR}") from None
    if end != END_MARK:
        raise CorruptArtifactError(f"{path}: does not end as an Arrow stream does; {REPAIR}")
    num_rows = sum(batch.num_rows for batch in batches)
    if num_rows != shard.rows or not all(batch.schema.equals(schema) for batch in batches):
        found = str(batches[0].schema).replace("\n", ", ") if batches else "no columns"
        raise CorruptArtifactError(
            f"{path}: expected {shard.rows} rows of {', '.join(map(str, schema))}, "
            f"found {num_rows} rows of {found}; {REPAIR}"
        )
    file = MappedFile(path, status.st_ino, size)
    try:
        return [_chunk(file, batch, schema) for batch in batches]
    except ValueError as error:  # what Arrow and NumPy say of nulls and of lengths that do not divide
        raise CorruptArtifactError(f"{path}: its columns do not fit together ({error}); {REPAIR}") from None


def _chunk(file: MappedFile, batch: Any, schema: Any) -> Chunk:
    T = schema.field("input_ids").type.list_size
    starts = batch.column("document_starts")

    def optional(name: str) -> Any:
        return batch.column(name) if name in schema.names else None

    num_repeated, labels, references = map(optional, ("num_repeated", "labels", "references"))
    if references is not None and not references.offsets.equals(starts.offsets):
        raise ValueError("there are not as many references as documents")
    return Chunk(
        file=file,
        input_ids=_view(batch.column("input_ids").values).reshape(-1, T),
        start_offsets=_view(starts.offsets),
        starts=_view(starts.values),
        num_repeated=None if num_repeated is None else _view(num_repeated),
        labels=None if labels is None else _view(labels.values).reshape(-1, T),
        references=None if references is None else _view(references.values),
    )


def _view(column: Any) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy(zero_copy_only=True)
    return values


def row_schema(kind: RowKind, *, max_length: int, stride: int, dtype: np.dtype[Any]) -> Any:
    """The columns; one that could only say "nothing" is left out."""
    fields = [
        pa.field("input_ids", pa.list_(pa.from_numpy_dtype(dtype), max_length)),
        pa.field("document_starts", pa.list_(pa.int32())),
    ]
    if stride:
        fields.append(pa.field("num_repeated", pa.int32()))
    if kind != "text":
        fields.append(pa.field("labels", pa.list_(pa.int32(), max_length)))
    if kind == "preferences":
        fields.append(pa.field("references", pa.list_(pa.float32())))
    return pa.schema(fields)
