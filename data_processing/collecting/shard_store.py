"""A directory of named shards, on this machine or behind a URL. Knows nothing of what is in them."""

import contextlib
import io
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from core.errors import DiskError
from core.files import TEMPORARY_MARK, atomic_write
from data_processing.sources.remote_files import is_url, url_of
from data_processing.sources.remote_store import file_system, kind_of, patiently, protocols
from data_processing.sources.retries import describe

_PUTS_WHOLE = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "r2", "memory"}
)
"""Stores where an object appears when all of it has arrived, and not before. Elsewhere a file is renamed into place."""


@dataclass(frozen=True)
class ShardStore:
    """A directory of named shards, on this machine or behind a URL; can be sent to other processes.

    A name is a path of plain words such as `read/00012.items`. A shard is there as a whole or not at all; of several
    writers of one name one wins.

    Attributes:
        root: A path, or a URL for fsspec. It need not exist.
    """

    root: str

    def exists(self, name: str) -> bool:
        """Whether a shard is there."""
        if (path := self.local_path(name)) is not None:
            return path.is_file()
        store, place = self._place(name)
        store.invalidate_cache()  # another process may have written it since
        return kind_of(store, place, url=f"{self.root}/{name}") == "file"

    def num_bytes(self, name: str) -> int:
        """The size of a shard.

        Raises:
            FileNotFoundError: there is none.
            UnreachableError: the store does not answer.
        """
        if (path := self.local_path(name)) is not None:
            return path.stat().st_size
        store, place = self._place(name)
        return int(patiently(lambda: store.size(place), what=f"looking at {self.root}/{name}"))

    def write(self, name: str, data: bytes) -> None:
        """Make `data` the content of a shard.

        Raises:
            DiskError: the disk is full, read-only or failing, or the store refuses.
            UnreachableError: the store does not answer.
        """
        if (path := self.local_path(name)) is not None:
            atomic_write(path, data)
            return
        store, place = self._place(name)
        try:
            patiently(lambda: _put(store, place, data), what=f"writing {self.root}/{name}")
        except OSError as error:
            raise DiskError(
                f"{self.root}/{name}: cannot be written ({describe(error)}); check your rights and the space there, "
                "or set data.cache_dir to another place"
            ) from error

    def open(self, name: str) -> BinaryIO:
        """A shard open for reading at any place.

        Raises:
            FileNotFoundError: there is none.
            UnreachableError: the store does not answer.
        """
        if (path := self.local_path(name)) is not None:
            return path.open("rb")
        store, place = self._place(name)
        # At once: the stretches of a shard that is being replaced would come from both. It fits into memory, as it did
        # when it was written.
        return io.BytesIO(patiently(lambda: store.cat_file(place), what=f"reading {self.root}/{name}"))

    def local_path(self, name: str) -> Path | None:
        """Where a shard lies or would lie as a file, for mapping it; None behind a URL, be it file://."""
        _check_name(name)
        return None if is_url(self.root) else Path(self.root, name)

    def list(self) -> list[str]:
        """The names of all shards, in byte order; none when the directory is missing."""
        if not is_url(self.root):
            root = Path(self.root)
            names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
        else:
            store, root_there = self._file_system()
            store.invalidate_cache()
            begin = len(root_there.rstrip("/")) + 1
            found = patiently(lambda: store.find(root_there), what=f"listing {self.root}")
            names = [path[begin:] for path in found]
        return sorted((name for name in names if TEMPORARY_MARK not in name), key=os.fsencode)

    def delete(self, name: str) -> None:
        """Remove a shard if it is there."""
        if (path := self.local_path(name)) is not None:
            path.unlink(missing_ok=True)
            return
        store, place = self._place(name)
        try:
            patiently(lambda: store.rm_file(place), what=f"deleting {self.root}/{name}")
        except FileNotFoundError:
            return

    def _place(self, name: str) -> tuple[Any, str]:
        store, root = self._file_system()
        return store, f"{root.rstrip('/')}/{name}"

    def _file_system(self) -> tuple[Any, str]:
        url = url_of(self.root)
        assert url is not None, f"{self.root} is no URL"
        return file_system(url)


def _check_name(name: str) -> None:
    parts = name.split("/")
    assert all(parts), f"{name!r} is no name of a shard"
    assert not any(part.startswith(".") for part in parts), f"{name!r} is no name of a shard"


def _put(store: Any, path: str, data: bytes) -> None:
    """Make `data` the content of `path`, entirely or not at all."""
    if protocols(store) & _PUTS_WHOLE:
        store.pipe_file(path, data)
        return
    directory, _, name = path.rpartition("/")
    store.makedirs(directory, exist_ok=True)
    temporary = f"{directory}/.{name}{TEMPORARY_MARK}{secrets.token_hex(6)}"
    try:
        store.pipe_file(temporary, data)
        store.mv(temporary, path)
    except BaseException:  # Ctrl-C too must leave nothing half-written
        with contextlib.suppress(
            OSError
        ):  # it is not there, or the connection is gone: what counts is the first error
            store.rm_file(temporary)
        raise
