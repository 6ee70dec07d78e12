"""Files behind a URL (s3://, gs://, memory:// ...): which are raw data, and their bytes. Reads no format.

Paths without a scheme never come near fsspec.
"""

import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from core.errors import DataError
from data_processing.document import Dropped
from data_processing.sources.path_rules import Globs
from data_processing.sources.raw_files import (
    EXCLUDED_DIRECTORIES,
    SkippedDirectory,
    format_of,
    source_name,
)
from data_processing.sources.remote_store import file_system, kind_of, patiently
from data_processing.sources.retries import describe

T = TypeVar("T")

READ_BYTES = 4 << 20
"""Bytes of one request. Arbitrary: at 50 ms a request it makes 80 MB/s, and a reader that looks at the end of a file
first (zip, parquet) wastes little."""

# Two letters at least: C:/ is a drive. One slash is what pathlib leaves of two.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z0-9+.-]+)*):/{1,3}")
_ON_THIS_MACHINE = frozenset({"file", "local"})
# What says that an object was written anew, by the first of these that a store has: a digest, a number, a time.
_VERSION_KEYS = (
    *("ETag", "etag", "md5Hash", "content_md5", "blob_id", "checksum", "generation", "VersionId"),
    *("mtime", "LastModified", "last_modified", "updated", "modified", "created"),
)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file behind a URL, or a range of one, with what `raw_files.RawFile` says of one on this machine.

    Attributes:
        path: Its URL.
        source: Its name in reports, relative to the URL that was searched.
        num_bytes: Bytes to be read.
        version: Changes when it is written anew; what that is depends on the store.
        begin, end, first_line, read_as: As in `RawFile`.
    """

    path: str
    source: str
    num_bytes: int
    version: str
    begin: int = 0
    end: int | None = None
    first_line: int = 1
    read_as: str | None = None

    @property
    def format(self) -> str:
        """The extension in lower case, such as `.txt`."""
        return format_of(Path(self.path))


def url_of(place: str | Path) -> str | None:
    """The URL that `place` is, or None for a plain path; mends what pathlib makes of a URL.

    >>> url_of(Path("s3://bucket/raw"))
    's3://bucket/raw'
    >>> url_of("books/raw") is None
    True
    """
    text = str(place)
    match = _URL.match(text)
    if match is None:
        return None
    scheme = match["scheme"].lower()
    slashes = ":///" if scheme in _ON_THIS_MACHINE else "://"
    return scheme + slashes + text[match.end() :]


def is_url(place: str | Path) -> bool:
    """Whether `place` is a URL and no plain path."""
    return url_of(place) is not None


def find_remote_files(
    url: str,
    *,
    recursive: bool = True,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Iterator[RemoteFile | Dropped | SkippedDirectory]:
    """Every file below `url`, in the order of `raw_files.find_files`, and what is not raw data; none is opened.

    Args:
        url: A directory, or the beginning of names that an object store treats as one.
        recursive, include, exclude: As in `raw_files.find_files`.

    Raises:
        DataError: nothing is there, or it cannot be listed.
        ConfigError: the scheme is unknown.
        MissingDependencyError: the package for the scheme is not installed.
        UnreachableError: the store does not answer.
    """
    url = url_of(url) or url
    store, root = file_system(url)
    store.invalidate_cache()  # of an earlier search
    wanted, unwanted = Globs(include, setting="data.include"), Globs(exclude, setting="data.exclude")
    waiting = [iter(_first_entries(store, root, url=url))]
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
            continue
        relative = entry["name"].rstrip("/")[len(root.rstrip("/")) :].lstrip("/")
        source = source_name(Path(relative))
        if entry["type"] != "directory":
            item = _judge(entry, f"{url.rstrip('/')}/{relative}", source)
            if isinstance(item, RemoteFile) and (why := _reason_to_pass_over(relative, wanted, unwanted)):
                item = Dropped(source, *why, num_bytes=item.num_bytes, format=item.format)
            yield item
        elif reason := _reason_not_to_enter(relative, unwanted, recursive=recursive):
            yield SkippedDirectory(source, reason)
        else:
            try:
                waiting.append(iter(_entries(store, entry["name"])))
            except OSError:  # what does not pass: no rights, or deleted meanwhile
                yield SkippedDirectory(source, "unreadable")


def remote_version(url: str) -> tuple[int, str]:
    """(size in bytes, version) of a file now, to tell after reading whether it was written to meanwhile.

    Raises:
        OSError: it is not there or may not be read.
        UnreachableError: the store does not answer.
    """
    store, path = file_system(url)
    store.invalidate_cache()
    info = patiently(lambda: store.info(path), what=f"looking at {url}")
    return _size(info, url), _version(info)


def open_remote(url: str) -> BinaryIO:
    """A file behind a URL, open for reading at any place; what fails on the way is asked for again.

    Raises:
        OSError: it is not there or may not be read.
        UnreachableError: the store does not answer, now or while it is read.
    """
    store, path = file_system(url)
    info = patiently(lambda: store.info(path), what=f"opening {url}")
    if info["type"] == "directory":
        raise IsADirectoryError(f"{url}: is a directory")
    return io.BufferedReader(_RangeReader(store, path, url=url, size=_size(info, url)), READ_BYTES)


class _RangeReader(io.RawIOBase):
    """A file as requests for stretches of it.

    Not the file objects of fsspec: a stretch can be asked for again, holds no connection while a document is being
    worked on, and two readers of a `memory://` file would share one position.
    """

    def __init__(self, store: Any, path: str, *, url: str, size: int) -> None:
        self._store = store
        self._path = path
        self._url = url
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError(f"{self._url}: position {origin + offset} is before its beginning")
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        begin, end = self._position, min(self._position + len(buffer), self._size)
        if end <= begin:
            return 0
        data = patiently(
            lambda: self._store.cat_file(self._path, start=begin, end=end), what=f"reading {self._url}"
        )
        memoryview(buffer).cast("B")[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        # Python's own asks for a few kilobytes at a time.
        data = bytearray(max(0, self._size - self._position))
        return bytes(data[: self.readinto(data)])


def _entries(store: Any, directory: str) -> list[dict[str, Any]]:
    """What lies directly below `directory`, in byte order of the names."""
    entries = patiently(lambda: store.ls(directory, detail=True), what=f"listing {directory}")
    # Object stores list the directory itself where somebody made a marker of it.
    own = directory.rstrip("/")
    below = [entry for entry in entries if entry["name"].rstrip("/") != own]
    return sorted(below, key=lambda entry: os.fsencode(entry["name"].rstrip("/").rpartition("/")[2]))


def _first_entries(store: Any, root: str, *, url: str) -> list[dict[str, Any]]:
    try:
        if kind_of(store, root, url=url) == "file":
            raise DataError(f"{url}: is a file, expected a directory; set data.raw_dir to what holds it")
        return _entries(store, root)
    except FileNotFoundError:
        raise DataError(f"{url}: nothing is there; put raw files there, or correct data.raw_dir") from None
    except OSError as error:
        raise DataError(
            f"{url}: cannot be listed ({describe(error)}); check the address and your rights"
        ) from None


def _reason_to_pass_over(relative: str, wanted: Globs, unwanted: Globs) -> tuple[str, str] | None:
    """(reason, detail) when a file is not to be read."""
    if unwanted.match(relative):
        return "excluded", "a pattern of data.exclude names it"
    if wanted and not wanted.match(relative):
        return "not_included", "no pattern of data.include names it"
    return None


def _reason_not_to_enter(relative: str, unwanted: Globs, *, recursive: bool) -> str | None:
    name = relative.rpartition("/")[2]
    if name.startswith("."):
        return "hidden"
    if name in EXCLUDED_DIRECTORIES or unwanted.match(f"{relative}/"):
        return "excluded"
    return None if recursive else "not_recursive"


def _judge(entry: dict[str, Any], url: str, source: str) -> RemoteFile | Dropped:
    """The file, or why it is none."""
    extension = format_of(Path(url))
    num_bytes = (entry["size"] or 0) if entry["type"] == "file" else 0

    def dropped(reason: str, detail: str) -> Dropped:
        return Dropped(source, reason, detail, num_bytes=num_bytes, format=extension)

    if source.rpartition("/")[2].startswith("."):
        return dropped("hidden", "the name begins with a dot")
    if entry["type"] != "file":
        kind = "link; links are followed on plain paths only" if entry.get("islink") else "special file"
        return dropped("not_a_file", f"is a {kind}")
    if entry["size"] is None:
        return dropped("unreadable", "the server does not say how large it is")
    if num_bytes == 0:
        return dropped("empty", "0 bytes")
    return RemoteFile(url, source, num_bytes, _version(entry))


def _size(info: dict[str, Any], url: str) -> int:
    """Bytes of a file, which not every web server says."""
    if info["size"] is None:
        raise OSError(f"{url}: the server does not say how large it is")
    return int(info["size"])


def _version(info: dict[str, Any]) -> str:
    return next((f"{key}={info[key]}" for key in _VERSION_KEYS if info.get(key) is not None), "unknown")
