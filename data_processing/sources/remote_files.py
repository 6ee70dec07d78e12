"""Files and shards behind a URL (s3://, gs://, memory:// ...), read and written by way of fsspec. Reads no format.

Paths without a scheme never come near fsspec, which takes 0.1 s to load. Longer than other files because searching,
reading and writing share how a store is reached, and how its failures are borne.
"""

import contextlib
import hashlib
import io
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from core.errors import ConfigError, DataError, DiskError, MissingDependencyError
from core.files import TEMPORARY_MARK, atomic_write, sha256_json
from data_processing.document import Dropped
from data_processing.sources.path_rules import Globs
from data_processing.sources.raw_files import (
    EXCLUDED_DIRECTORIES,
    MAX_NAMED_FILES,
    SkippedDirectory,
    format_of,
    source_name,
)
from data_processing.sources.retries import describe, with_retries

T = TypeVar("T")

MAX_RETRIES = 5
"""How often a request is repeated after an error that may pass: half a minute in all; arbitrary."""

READ_BYTES = 4 << 20
"""Bytes of one request. Arbitrary: at 50 ms a request it makes 80 MB/s, and a reader that looks at the end of a file
first (zip, parquet) wastes little."""

_ADVICE = "check the network, the address and who may read it, then run the same command again: what is done stays done"

# Two letters at least: C:/ is a drive. One slash is what pathlib leaves of two.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z0-9+.-]+)*):/{1,3}")
_ON_THIS_MACHINE = frozenset({"file", "local"})
_PUTS_WHOLE = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "r2", "memory"}
)
"""Stores where an object appears when all of it has arrived, and not before. Elsewhere a file is renamed into place."""

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
    store, root = _file_system(url)
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


def remote_fingerprint(
    url: str,
    *,
    recursive: bool = True,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> dict[str, Any]:
    """What `raw_files.source_fingerprint` says of a directory, from name, size and version: no content is read.

    Raises:
        As `find_remote_files`.
    """
    whole = hashlib.sha256()
    files: dict[str, str] | None = {}
    num_files = num_bytes = 0
    found = find_remote_files(url, recursive=recursive, include=include, exclude=exclude)
    for file in found:
        if not isinstance(file, RemoteFile):
            continue
        digest = sha256_json([file.source, file.num_bytes, file.version])
        whole.update(digest.encode())
        num_files += 1
        num_bytes += file.num_bytes
        if files is not None:
            files[file.source] = digest[:16]
        if num_files > MAX_NAMED_FILES:
            files = None
    return {"sha256": whole.hexdigest(), "num_files": num_files, "num_bytes": num_bytes, "files": files}


def remote_version(url: str) -> tuple[int, str]:
    """(size in bytes, version) of a file now, to tell after reading whether it was written to meanwhile.

    Raises:
        OSError: it is not there or may not be read.
        UnreachableError: the store does not answer.
    """
    store, path = _file_system(url)
    store.invalidate_cache()
    info = _patiently(lambda: store.info(path), what=f"looking at {url}")
    return _size(info, url), _version(info)


def open_remote(url: str) -> BinaryIO:
    """A file behind a URL, open for reading at any place; what fails on the way is asked for again.

    Raises:
        OSError: it is not there or may not be read.
        UnreachableError: the store does not answer, now or while it is read.
    """
    store, path = _file_system(url)
    info = _patiently(lambda: store.info(path), what=f"opening {url}")
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
        data = _patiently(
            lambda: self._store.cat_file(self._path, start=begin, end=end), what=f"reading {self._url}"
        )
        memoryview(buffer).cast("B")[: len(data)] = data
        self._position += len(data)
        return len(data)

    def readall(self) -> bytes:
        # Python's own asks for a few kilobytes at a time.
        data = bytearray(max(0, self._size - self._position))
        return bytes(data[: self.readinto(data)])


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
        return _kind(store, place, url=f"{self.root}/{name}") == "file"

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
            _patiently(lambda: _put(store, place, data), what=f"writing {self.root}/{name}")
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
        return io.BytesIO(_patiently(lambda: store.cat_file(place), what=f"reading {self.root}/{name}"))

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
            store, root_there = _file_system(self.root)
            store.invalidate_cache()
            begin = len(root_there.rstrip("/")) + 1
            found = _patiently(lambda: store.find(root_there), what=f"listing {self.root}")
            names = [path[begin:] for path in found]
        return sorted((name for name in names if TEMPORARY_MARK not in name), key=os.fsencode)

    def delete(self, name: str) -> None:
        """Remove a shard if it is there."""
        if (path := self.local_path(name)) is not None:
            path.unlink(missing_ok=True)
            return
        store, place = self._place(name)
        try:
            _patiently(lambda: store.rm_file(place), what=f"deleting {self.root}/{name}")
        except FileNotFoundError:
            return

    def _place(self, name: str) -> tuple[Any, str]:
        store, root = _file_system(self.root)
        return store, f"{root.rstrip('/')}/{name}"


def _check_name(name: str) -> None:
    parts = name.split("/")
    assert all(parts), f"{name!r} is no name of a shard"
    assert not any(part.startswith(".") for part in parts), f"{name!r} is no name of a shard"


def _put(store: Any, path: str, data: bytes) -> None:
    """Make `data` the content of `path`, entirely or not at all."""
    if _protocols(store) & _PUTS_WHOLE:
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


def _patiently(action: Callable[[], T], *, what: str) -> T:
    return with_retries(action, max_retries=MAX_RETRIES, what=what, advice=_ADVICE)


def _file_system(place: str) -> tuple[Any, str]:
    """The file system of fsspec for a URL, and the path in it."""
    import fsspec
    from fsspec.registry import known_implementations

    url = url_of(place)
    assert url is not None, f"{place} is no URL"
    scheme = url.partition("://")[0].partition("::")[0]
    try:
        store, path = fsspec.url_to_fs(url)
    except ImportError as error:
        wanted = known_implementations.get(scheme, {}).get("err") or str(error)
        raise MissingDependencyError(
            f"{url}: the package that reads {scheme}:// is not installed ({wanted}); "
            f"install it with pip ({_PACKAGES.get(scheme, 'see the message')}), or copy the files to this machine"
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"{url}: fsspec cannot read this address ({error}); expected a path or an address such as "
            "s3://bucket/directory, gs://bucket/directory or file:///directory"
        ) from None
    return store, str(path)


_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "pip install s3fs"),
    **dict.fromkeys(("gs", "gcs"), "pip install gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "pip install adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "pip install paramiko"),
    **dict.fromkeys(("http", "https"), "pip install aiohttp requests"),
}


def _kind(store: Any, path: str, *, url: str) -> str | None:
    """`file`, `directory` or another kind of thing; None when nothing is there.

    Not `store.isfile` and `store.exists`, which take an answer that does not come for "no".
    """
    try:
        return str(_patiently(lambda: store.info(path), what=f"looking at {url}")["type"])
    except FileNotFoundError:
        return None


def _protocols(store: Any) -> set[str]:
    return {store.protocol} if isinstance(store.protocol, str) else set(store.protocol)


def _entries(store: Any, directory: str) -> list[dict[str, Any]]:
    """What lies directly below `directory`, in byte order of the names."""
    entries = _patiently(lambda: store.ls(directory, detail=True), what=f"listing {directory}")
    # Object stores list the directory itself where somebody made a marker of it.
    own = directory.rstrip("/")
    below = [entry for entry in entries if entry["name"].rstrip("/") != own]
    return sorted(below, key=lambda entry: os.fsencode(entry["name"].rstrip("/").rpartition("/")[2]))


def _first_entries(store: Any, root: str, *, url: str) -> list[dict[str, Any]]:
    try:
        if _kind(store, root, url=url) == "file":
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
