"""What raw data is made of, in a small record that changes when the data does. Opens files for their digests alone."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from core.files import sha256_json
from core.packed_list import PackedList
from core.progress import progress
from data_processing.document import Dropped
from data_processing.sources.file_digests import FileDigests
from data_processing.sources.raw_files import RawFile, SkippedDirectory, find_files, named_files
from data_processing.sources.remote_files import RemoteFile, find_remote_files

MAX_NAMED_FILES = 10_000
"""A fingerprint of more files than this does not list them (about 1 MB of JSON); arbitrary."""


def source_fingerprint(
    source: str | Path | Iterable[str | Path],
    *,
    recursive: bool = True,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    respect_gitignore: bool = False,
    ignore: Collection[Path] = (),
    digests: FileDigests | None = None,
) -> dict[str, Any]:
    """What the raw data is made of, to tell later whether it changed.

    All files that would be opened take part, also one in which nothing is found to read.

    Args:
        source: A directory, or the files to take.
        recursive, include, exclude, respect_gitignore, ignore: As in `find_files`, for a directory.
        digests: What knows the digests of files that have not changed; None = each is read.

    Returns:
        A JSON object: `sha256` over (name, size, SHA-256 of the content) of every file in order of path;
        `num_files`; `num_bytes`; `files`: name -> the first 16 digits of a file's own SHA-256, or null when there
        are more than `MAX_NAMED_FILES`. A file that cannot be read has `unreadable` in place of its digest.

    Raises:
        DataError: as `find_files` and `named_files`.
    """
    found: Iterable[RawFile | Dropped | SkippedDirectory]
    if isinstance(source, str | Path):
        found = find_files(
            source,
            recursive=recursive,
            include=include,
            exclude=exclude,
            respect_gitignore=respect_gitignore,
            ignore=ignore,
        )
    else:
        found = named_files(source)
    digests = digests or FileDigests()
    fingerprint = _Fingerprint()
    # All found first, so that the time left can be told.
    raw_files = PackedList(
        file
        for file in progress(found, description="finding raw files", unit="files")
        if isinstance(file, RawFile)
    )
    total = sum(file.num_bytes for file in raw_files)
    with progress(total=total, description="checking raw files", unit="B") as bar:
        for file in raw_files:
            try:
                digest = digests.sha256(file.path)
            except OSError:
                digest = "unreadable"
            whole = sha256_json([file.source, file.num_bytes, digest])
            fingerprint.enter(file.source, file.num_bytes, whole, shown=digest)
            bar.update(file.num_bytes)
    return fingerprint.finish()


def remote_fingerprint(
    url: str,
    *,
    recursive: bool = True,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> dict[str, Any]:
    """What `source_fingerprint` says of a directory, from name, size and version: no content is read.

    Raises:
        as `find_remote_files`.
    """
    fingerprint = _Fingerprint()
    for file in find_remote_files(url, recursive=recursive, include=include, exclude=exclude):
        if isinstance(file, RemoteFile):
            digest = sha256_json([file.source, file.num_bytes, file.version])
            fingerprint.enter(file.source, file.num_bytes, digest, shown=digest)
    return fingerprint.finish()


class _Fingerprint:
    """Takes files in order and says what they are together."""

    def __init__(self) -> None:
        self._whole = hashlib.sha256()
        self._files: dict[str, str] | None = {}
        self._num_files = self._num_bytes = 0

    def enter(self, source: str, num_bytes: int, digest: str, *, shown: str) -> None:
        """Take a file.

        Args:
            digest: What is hashed together with the others'.
            shown: What stands for it in the list of files.
        """
        self._whole.update(digest.encode())
        self._num_files += 1
        self._num_bytes += num_bytes
        if self._files is not None:
            self._files[source] = shown[:16]
        if self._num_files > MAX_NAMED_FILES:
            self._files = None

    def finish(self) -> dict[str, Any]:
        """The record."""
        return {
            "sha256": self._whole.hexdigest(),
            "num_files": self._num_files,
            "num_bytes": self._num_bytes,
            "files": self._files,
        }
