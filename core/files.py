"""The one module that writes durably: beside, fsync, rename, fsync the parent. Knows nothing of what it writes.

POSIX promises that a renamed file is whole after a power cut only if its content was synced before the rename
and its directory after it (Pillai et al. 2014, "All File Systems Are Not Created Equal").
"""

import contextlib
import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from core.errors import DiskError, LockedError, NotWritableError

HASH_BLOCK_BYTES = 1 << 20
TEMPORARY_MARK = ".tmp-"

LONGEST_NAME_BYTES = 255
"""Of one file or directory (NAME_MAX of ext4, XFS, btrfs and APFS)."""


class Disk:
    """The operations that make writing durable. Tests replace it by one that fails or loses unsynced data."""

    def open_new(self, path: Path, mode: str, **options: Any) -> IO[Any]:
        """A new file, open for writing; `mode` and `options` are those of `open`.

        Raises:
            FileExistsError: there is something under this name already, be it a link.
        """
        return path.open(mode.replace("w", "x"), **options)

    def sync_file(self, file: IO[Any]) -> None:
        """Bring what was written to an open file onto the medium."""
        file.flush()
        os.fsync(file.fileno())

    def sync_directory(self, path: Path) -> None:
        """Bring a directory's entries (creations, renames) onto the medium."""
        if os.name == "nt":  # Windows cannot open directories; NTFS journals its metadata
            return
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`; a file already there is replaced."""
        source.replace(target)


LOCAL_DISK = Disk()


@contextlib.contextmanager
def atomic_writer(path: str | Path, mode: str = "wb", *, disk: Disk = LOCAL_DISK) -> Iterator[IO[Any]]:
    """A file open for writing that appears under `path` only when all of it is on the medium.

    Args:
        mode: "wb" for bytes or "w" for UTF-8 text with "\\n" line ends.

    Raises:
        NotWritableError: it is read-only or not ours.
        DiskError: the disk is full or failing; in both cases nothing is left under `path` or beside it.
    """
    path = Path(path)
    temporary = _temporary_name(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    with explain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # O_EXCL and an unpredictable name: a link planted at this place is never followed.
            with disk.open_new(temporary, mode, **text) as file:
                yield file
                disk.sync_file(file)
            disk.rename(temporary, path)
        except BaseException:  # Ctrl-C too must leave nothing half-written
            temporary.unlink(missing_ok=True)
            raise
        disk.sync_directory(path.parent)


def atomic_write(path: str | Path, data: bytes | str, *, disk: Disk = LOCAL_DISK) -> None:
    """Replace the content of `path`, entirely or not at all."""
    with atomic_writer(path, "wb" if isinstance(data, bytes) else "w", disk=disk) as file:
        file.write(data)


def open_append(path: Path, *, readable: bool = False) -> IO[str]:
    """A text file open for writing whole lines at its end, and for reading where asked; created where it is not there.

    Raises:
        OSError: among others, a link stands in its place: it could lead to any file of whoever runs this.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

    return open(path, "a+" if readable else "a", encoding="utf-8", buffering=1, opener=opener)


def check_writable(directory: Path, *, disk: Disk = LOCAL_DISK) -> None:
    """Do once what durable writing takes (create, sync, rename, delete), in `directory` or where it would come to be.

    Raises:
        NotWritableError: it is read-only or not ours.
        DiskError: the disk is full or failing.
    """
    with explain_disk_errors(directory):
        existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise NotWritableError(f"{existing}: expected a directory, found a file; choose another place")
        first, second = (_temporary_name(existing / "probe") for _ in range(2))
        try:
            with disk.open_new(first, "wb") as file:
                file.write(b"room for a block")
                disk.sync_file(file)
            disk.rename(first, second)
            disk.sync_directory(existing)
        except FileNotFoundError:  # such as /proc
            raise NotWritableError(
                f"{existing}: no file can be made there; choose a directory that you may write to"
            ) from None
        finally:
            first.unlink(missing_ok=True)
            second.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any, *, disk: Disk = LOCAL_DISK) -> None:
    """Write `value` as indented JSON, entirely or not at all. NaN and infinity are refused: they are not JSON."""
    atomic_write(path, json_bytes(value), disk=disk)


def json_bytes(value: Any) -> bytes:
    """What `write_json` writes."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


@contextlib.contextmanager
def new_directory(
    final: str | Path, *, aside: Callable[[Path], None] | None = None, disk: Disk = LOCAL_DISK
) -> Iterator[Path]:
    """A temporary directory that becomes `final` when the block ends without an exception.

    Args:
        aside: What moves an earlier `final` out of the way, called when the new one is complete; None = there is none.

    Raises:
        DiskError: the disk is full, read-only or failing; `final` is as it was then.
    """
    final = Path(final)
    assert aside is not None or not final.exists(), f"{final} is already there; move it aside first"
    temporary = _temporary_name(final)
    with explain_disk_errors(final):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            sync_tree(temporary, disk=disk)
            if aside is not None and final.exists():
                aside(final)
            disk.rename(temporary, final)
        except BaseException:  # Ctrl-C too must leave nothing half-written
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        disk.sync_directory(final.parent)


def sync_tree(directory: Path, *, disk: Disk = LOCAL_DISK) -> None:
    """Bring every file and directory below `directory` onto the medium."""
    for root, _, names in os.walk(directory):
        for name in names:
            with (Path(root) / name).open("rb") as file:
                disk.sync_file(file)
        disk.sync_directory(Path(root))


def remove_leftovers(final: Path) -> None:
    """Delete what a killed process left of its attempts to write `final`.

    Only under a lock that keeps others from writing it: what another process is writing looks the same.
    """
    name = glob.escape(final.name)
    # Two dots: a directory that was written within another that was under way.
    for pattern in (f".{name}{TEMPORARY_MARK}*", f"..{name}{TEMPORARY_MARK}*"):
        for leftover in final.parent.glob(pattern):
            remove(leftover)


def remove(path: Path, *, disk: Disk = LOCAL_DISK) -> None:
    """Delete a file, a link (never what it points to) or a directory tree."""
    if path.is_dir() and not path.is_symlink():
        doomed = path
        if TEMPORARY_MARK not in path.name:
            # Renamed first, and that made durable, so that neither a kill nor a power cut half-way leaves a directory
            # that looks whole.
            doomed = _temporary_name(path)
            disk.rename(path, doomed)
            disk.sync_directory(path.parent)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def move_aside(path: Path, label: str) -> Path:
    """Rename `path` to the first free `<name>.<label>-<number>` beside it and return the new place."""
    number = 1
    while os.path.lexists(target := path.with_name(f"{path.name}.{label}-{number}")):
        number += 1
    path.rename(target)
    return target


def sha256_file(path: str | Path, *, seen: Callable[[int], object] | None = None) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits.

    Args:
        seen: Is told the bytes of each block when it was read.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - `Path(path)` alone takes as long as reading 6 kB
        # No more than there is: so does making room for a whole block.
        block_bytes = min(HASH_BLOCK_BYTES, max(4096, os.fstat(file.fileno()).st_size + 1))
        while block := file.read(block_bytes):
            digest.update(block)
            if seen is not None:
                seen(len(block))
    return digest.hexdigest()


def sha256_text(text: str) -> str:
    """The SHA-256 of a text's UTF-8 bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_json(value: Any) -> str:
    """The SHA-256 of a JSON value, independent of the order of its keys."""
    return sha256_text(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False))


@contextlib.contextmanager
def lock(path: Path, *, held: Path, leave: bool = True) -> Iterator[None]:
    """Hold the file `path`, which stands for the directory `held`, for this process alone.

    The kernel lets go of it when the process dies, however it dies.

    Args:
        leave: Let the file stay for `lock_holder`; otherwise it is removed at the end, also by an exception.

    Raises:
        LockedError: another process holds it; the message names that process.
        NotWritableError: the file cannot be created, or a link stands in its place.
    """
    with explain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open_append(path, readable=True)
    with file:
        try:
            lock_open_file(file, path)
        except OSError:
            file.seek(0)
            raise LockedError(
                f"{held} is in use by {file.read().strip() or 'another process'}; wait for it to end, "
                "or choose another directory"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {_host_name()}")
        file.flush()
        try:
            yield
        finally:
            if not leave:
                # While it is held: who opened it meanwhile finds out that it is no longer the one at this place.
                with contextlib.suppress(PermissionError):  # Windows removes no open file
                    path.unlink(missing_ok=True)


def lock_open_file(file: IO[Any], path: Path) -> None:
    """Hold an open file, which is the one at `path`, for this process alone, until it is closed.

    Raises:
        OSError: another process holds it, or has removed it since it was opened.
    """
    _lock(file)
    if not os.path.samestat(path.stat(), os.fstat(file.fileno())):
        raise FileExistsError(errno.EEXIST, "another file has taken its place", path)


def lock_holder(path: Path) -> str | None:
    """Who holds the lock file `path`, as it names itself; None where nobody does.

    To find out, it is held for some microseconds together with whoever else only asks.

    Raises:
        OSError: there is no such file, or it may not be read.
    """
    with path.open(encoding="utf-8") as file:
        try:
            _lock(file, shared=True)
        except OSError:
            file.seek(0)
            return file.read().strip() or "another process"
    return None


@contextlib.contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Turn an operating system error of the block into one line that says what to do about the disk."""
    try:
        yield
    except shutil.Error as error:  # what copytree makes of several errors, without their numbers
        if f"[Errno {errno.ENOSPC}]" in str(error) or f"[Errno {errno.EFBIG}]" in str(error):
            raise DiskError(_disk_message(path, OSError(errno.ENOSPC, "full"))) from error
        raise
    except OSError as error:
        if error.errno not in _DISK_IS_FULL | _NOT_WRITABLE | _DISK_FAILS:
            raise
        named = Path(os.fsdecode(error.filename)) if error.filename else path
        kind = NotWritableError if error.errno in _NOT_WRITABLE else DiskError
        raise kind(_disk_message(named, error)) from error


@contextlib.contextmanager
def explain_temporary_errors(what: str) -> Iterator[None]:
    """Say of an operating system error of the block that there is no room for temporary files.

    Args:
        what: What there is no room for, such as `to unpack an archive`, and how to do without it, if one can.
    """
    try:
        yield
    except OSError as error:
        place = tempfile.tempdir or "the directory for temporary files"
        raise DiskError(
            f"{place}: no room {what} ({error.strerror or error}); free some space there, or set the environment "
            "variable TMPDIR to another place"
        ) from error


_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ELOOP}
_DISK_FAILS = {errno.EIO, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}


def _disk_message(path: Path, error: OSError) -> str:
    if error.errno in _DISK_IS_FULL:
        existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        return (
            f"{path}: the disk is full ({free / 1e6:,.0f} MB free); make room and run the same command again, "
            "nothing that was finished is lost"
        )
    if error.errno == errno.ELOOP:
        return f"{path}: is a link, which is not followed here because it may lead anywhere; delete it"
    if error.errno in _NOT_WRITABLE:
        return f"{path}: not writable ({error.strerror}); choose a directory that you may write to"
    return f"{path}: {error.strerror or error}"


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}{TEMPORARY_MARK}{secrets.token_hex(6)}")


def _host_name() -> str:
    import platform

    return platform.node()


def _lock(file: IO[Any], *, shared: bool = False) -> None:
    if os.name == "nt":
        import msvcrt

        # A byte far past the text, so that others can still read who holds the lock.
        file.seek(1 << 20)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
