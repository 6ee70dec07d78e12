"""Rows that are being fetched, kept on this machine as they arrive: durable shards, and where to go on. Knows neither
where rows come from nor what a text is worth.

One directory a download: `shard-00000.jsonl` ..., each written as a whole, and last `state.json`, which says which
shards count and which position in the stream comes behind each. A shard ends where its rows say, not where a run ended,
so that a download that was interrupted has the same bytes as one that was not.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from core.config import Config
from core.errors import ConfigError, CorruptArtifactError
from core.files import atomic_writer, remove_leftovers, write_json
from core.json_files import read_json_object

STATE_NAME = "state.json"
FORMAT_VERSION = 1

SHARD_BYTES = 32 << 20
SHARD_ROWS = 100_000
"""A shard ends with the row that reaches one of these. Arbitrary: what a kill costs, some seconds of a fast line."""


class SpooledShard(Config):
    """One file of rows."""

    rows: int = Field(ge=1)
    text_bytes: int = Field(ge=0, description="UTF-8 bytes of the texts in it.")
    bytes: int = Field(ge=1)
    sha256: str
    position: dict[str, Any]
    """Behind its last row."""
    cut: bool
    """Whether it ends early because enough had been read."""


class SpoolState(Config):
    """What `state.json` says."""

    format_version: int = FORMAT_VERSION
    facts: dict[str, Any]
    """What whoever fetches the rows wants to remember about them."""
    library: str
    """What the positions mean something to."""
    shards: tuple[SpooledShard, ...] = ()
    finished: bool = False
    """Whether there are no more rows behind the last shard."""

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the texts in all shards."""
        return sum(shard.text_bytes for shard in self.shards)


class SpooledRow(NamedTuple):
    """A row as it is kept.

    Attributes:
        record: JSON values.
        text_bytes: UTF-8 bytes of its text; 0 where it has none.
        position: Of the stream behind it.
    """

    record: dict[str, Any]
    text_bytes: int
    position: dict[str, Any]


class Spool:
    """A download in a directory.

    Raises, in any method:
        DiskError: the disk is full, read-only or failing; shards that are complete stay.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.state = _read_state(directory)
        """None before `begin`."""

    def begin(self, facts: dict[str, Any], *, library: str) -> None:
        """Start from nothing, whatever is there."""
        self.state = SpoolState(facts=facts, library=library)
        self._save(self.state)

    @property
    def num_shards(self) -> int:
        """Shards that are there as a whole."""
        return len(self.state.shards) if self.state else 0

    @property
    def position(self) -> dict[str, Any] | None:
        """Of the stream behind the last shard; None at the beginning."""
        return self.state.shards[-1].position if self.state and self.state.shards else None

    def is_enough(self, text_bytes: int | None) -> bool:
        """Whether nothing needs to be fetched to have so many bytes of text; None = everything there is."""
        state = self.state
        return state is not None and (
            state.finished or (text_bytes is not None and state.text_bytes >= text_bytes)
        )

    def drop_cut_shard(self) -> None:
        """Forget a last shard that ended early: more is wanted now, and it is to end where it would have."""
        assert self.state is not None, "begin first"
        if self.state.shards and self.state.shards[-1].cut:
            self.state = self.state.model_copy(update={"shards": self.state.shards[:-1], "finished": False})

    def fetch_shard(self, next_row: Callable[[], SpooledRow | None], *, text_bytes: int | None) -> None:
        """Write one shard of the rows that come behind the last one, or find that there are none.

        Args:
            text_bytes: Bytes of text, of all shards together, that are enough; None = there is no such limit.
        """
        state = self.state
        assert state is not None, "begin first"
        assert not state.finished, "there are no more rows"
        path = self._path(len(state.shards))
        remove_leftovers(path)  # of a run that was killed
        writer = _ShardWriter()
        with atomic_writer(path) as file:
            while (row := next_row()) is not None:
                file.write(writer.line(row))
                if text_bytes is not None and state.text_bytes + writer.text_bytes >= text_bytes:
                    writer.cut = not writer.is_full
                    break
                if writer.is_full:
                    break
        if writer.rows:
            state = state.model_copy(update={"shards": (*state.shards, writer.shard())})
        else:
            path.unlink()
        self.state = state.model_copy(update={"finished": row is None})
        self._save(self.state)

    def records(self, number: int) -> Iterator[dict[str, Any]]:
        """The records of a shard, in order.

        Raises:
            CorruptArtifactError: it is not as it was written.
        """
        assert self.state is not None, "begin first"
        path, shard = self._path(number), self.state.shards[number]
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for line in file:
                digest.update(line)
                try:
                    record: dict[str, Any] = json.loads(line)
                except ValueError:
                    raise CorruptArtifactError(_damaged(path)) from None
                yield record
        if digest.hexdigest() != shard.sha256:
            raise CorruptArtifactError(_damaged(path))

    def _path(self, number: int) -> Path:
        return self._directory / _shard_name(number)

    def _save(self, state: SpoolState) -> None:
        write_json(self._directory / STATE_NAME, state.to_dict())


class _ShardWriter:
    """The lines of one shard, and its account."""

    def __init__(self) -> None:
        self.rows = self.text_bytes = self._bytes = 0
        self.cut = False
        self._digest = hashlib.sha256()
        self._position: dict[str, Any] = {}

    @property
    def is_full(self) -> bool:
        return self._bytes >= SHARD_BYTES or self.rows >= SHARD_ROWS

    def line(self, row: SpooledRow) -> bytes:
        line = json.dumps(row.record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        self.rows += 1
        self.text_bytes += row.text_bytes
        self._bytes += len(line)
        self._digest.update(line)
        self._position = row.position
        return line

    def shard(self) -> SpooledShard:
        return SpooledShard(
            rows=self.rows,
            text_bytes=self.text_bytes,
            bytes=self._bytes,
            sha256=self._digest.hexdigest(),
            position=self._position,
            cut=self.cut,
        )


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.jsonl"


def _read_state(directory: Path) -> SpoolState | None:
    """What is there and can be built on: the shards before the first that is missing or has another size."""
    path = directory / STATE_NAME
    if not path.is_file():
        return None
    try:
        state = SpoolState.from_dict(read_json_object(path), origin=str(path))
    except ConfigError as error:
        raise CorruptArtifactError(f"{error}; delete {directory}, it is fetched again then") from None
    if state.format_version != FORMAT_VERSION:
        raise CorruptArtifactError(
            f"{path}: format_version {state.format_version}, this version reads {FORMAT_VERSION}; delete {directory}, "
            "it is fetched again then"
        )
    intact = 0
    while intact < len(state.shards) and _has_size(
        directory / _shard_name(intact), state.shards[intact].bytes
    ):
        intact += 1
    if intact < len(state.shards):
        state = state.model_copy(update={"shards": state.shards[:intact], "finished": False})
    return state


def _has_size(path: Path, num_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == num_bytes


def _damaged(path: Path) -> str:
    return f"{path}: not as it was written; delete it, the same command fetches it again"
