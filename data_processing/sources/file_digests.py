"""The SHA-256 of files, computed once: remembered as long as the file's time stamps say that it is the same.

As git's index does it. A file is taken for unchanged when its size, inode, modification time and status-change time are
those of the last time, and when it had been at rest then: one that is written twice within the clock's granularity may
keep its times. A program can set the modification time back, but not the status-change time.
"""

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from core.files import sha256_file

logger = logging.getLogger(__name__)

AT_REST_NS = 3 * 10**9
"""A file younger than this when it is read is read again next time; FAT's clock ticks every two seconds."""

LEARNED_ROWS = 10_000
"""So many digests are written at once, in half the time of one by one. Arbitrary: computing them anew takes 0.2 s."""

_TABLE = """
CREATE TABLE IF NOT EXISTS digests (
    path BLOB PRIMARY KEY, size INTEGER, inode INTEGER, modified INTEGER, changed INTEGER, sha256 TEXT
) WITHOUT ROWID
"""


class FileState(NamedTuple):
    """What changes when somebody writes to a file."""

    num_bytes: int
    inode: int
    modified_ns: int
    changed_ns: int


def state_of(status: os.stat_result) -> FileState:
    """The state that the operating system reports."""
    return FileState(status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)


class FileDigests:
    """Digests of files by path, remembered in a small database, or in memory alone.

    A context manager; what was learned is written now and then, and when it ends.
    """

    def __init__(self, database: Path | None = None, *, read_only: bool = False) -> None:
        """Digests that are remembered in the file `database`; None = nowhere.

        A database that is damaged, or cannot be written, costs only time: digests are computed again.

        Args:
            read_only: Use what is remembered and write nothing.
        """
        self._connection: sqlite3.Connection | None = None
        self._is_empty = False
        self._learned: list[tuple[bytes | int | str, ...]] = []
        self._read_only = read_only
        if database is not None and (database.exists() or not read_only):
            self._open(database)

    def __enter__(self) -> "FileDigests":
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is None:
            return
        self._write_learned()
        self._connection.close()
        self._connection = None

    def sha256(self, path: Path) -> str:
        """The SHA-256 of a file's content, as 64 hexadecimal digits.

        Raises:
            OSError: it cannot be read.
        """
        return self.look(path)[0]

    def look(self, path: Path) -> tuple[str, FileState]:
        """The SHA-256 and the state in which the file had it.

        Raises:
            OSError: it cannot be read.
        """
        status = path.stat()
        state = state_of(status)
        key = os.fsencode(os.path.abspath(path))  # noqa: PTH100 - Path.resolve asks the disk about every parent
        if (known := self._known(key, state)) is not None:
            return known, state
        now = time.time_ns()
        digest = sha256_file(path)
        if max(status.st_mtime_ns, status.st_ctime_ns) < now - AT_REST_NS:
            self._remember(key, state, digest)
        return digest, state

    def _open(self, database: Path) -> None:
        with _not_worth_stopping():
            database.parent.mkdir(parents=True, exist_ok=True)
            mode = "ro" if self._read_only else "rwc"
            connection = sqlite3.connect(f"{database.absolute().as_uri()}?mode={mode}", uri=True, timeout=1.0)
            try:
                if not self._read_only:
                    connection.execute(_TABLE)
                self._is_empty = connection.execute("SELECT 1 FROM digests LIMIT 1").fetchone() is None
            except sqlite3.DatabaseError:
                connection.close()
                raise
            self._connection = connection

    def _known(self, key: bytes, facts: FileState) -> str | None:
        if self._connection is None or self._is_empty:
            return None
        with _not_worth_stopping():
            found = self._connection.execute(
                "SELECT sha256 FROM digests WHERE path=? AND size=? AND inode=? AND modified=? AND changed=?",
                (key, *facts),
            ).fetchone()
            return None if found is None else str(found[0])
        return None

    def _remember(self, key: bytes, facts: FileState, digest: str) -> None:
        if self._connection is not None and not self._read_only:
            self._learned.append((key, *facts, digest))
            if len(self._learned) >= LEARNED_ROWS:
                self._write_learned()

    def _write_learned(self) -> None:
        if self._connection is not None and self._learned:
            with _not_worth_stopping():
                self._connection.executemany(
                    "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)", self._learned
                )
                # Now: files are looked at for as long as they are read, and a kill should not cost all of it.
                self._connection.commit()
        self._learned = []


@contextlib.contextmanager
def _not_worth_stopping() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        logger.debug("digests of raw files are not remembered: %s", error)
