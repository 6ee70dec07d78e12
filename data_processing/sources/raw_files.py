"""Which files below a directory are raw data, in which order, and whether they changed. Never opens a file to
judge it, and knows no format: what a file holds is seen when it is read."""

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import DataError
from core.files import TEMPORARY_MARK
from data_processing.document import Dropped, escape_unprintable
from data_processing.sources.file_digests import FileState
from data_processing.sources.path_rules import (
    Globs,
    IgnoreFile,
    ignore_files_above,
    ignored,
    read_ignore_file,
)

EXCLUDED_DIRECTORIES = frozenset({"__pycache__", "node_modules", "__MACOSX"})
"""What tools leave beside people's files. Names that begin with a dot (.git, .venv, .cache) are left out too."""


@dataclass(frozen=True, slots=True)
class RawFile:
    """A regular file, or a range of one: what a worker needs to read it.

    Attributes:
        path: Where it is.
        source: Its name in reports.
        num_bytes: Bytes to be read, as they were when the directory was listed.
        begin: Where in the file reading begins, in bytes; other than 0 only in files of lines (`split_points`).
        end: Where reading ends, in bytes; None = where the file ends.
        first_line: Number of the line at `begin`, from 1.
        state: What it was when its content was looked at; reading something else counts as `changed`.
        read_as: The format to read it as, such as `.jsonl`, whatever its name and content say; None = as they say.
    """

    path: Path
    source: str
    num_bytes: int
    begin: int = 0
    end: int | None = None
    first_line: int = 1
    read_as: str | None = None
    state: FileState | None = field(default=None, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # In half the time that a `Path` and a list of fields take.
        rest = (self.source, self.num_bytes, self.begin, self.end, self.first_line, self.read_as, self.state)
        return _unpacked, (os.fspath(self.path), *rest)

    @property
    def format(self) -> str:
        """The extension in lower case, such as `.txt`."""
        return format_of(self.path)


def _unpacked(path: str, *rest: Any) -> RawFile:
    return RawFile(Path(path), *rest)


@dataclass(frozen=True, slots=True)
class SkippedDirectory:
    """A directory that was not entered: hidden, excluded, symlink, unreadable, own_output or not_recursive."""

    source: str
    reason: str


def format_of(path: Path) -> str:
    """The extension of a file in lower case, such as `.txt`; empty when there is none."""
    return escape_unprintable(path.suffix.lower())


def find_files(
    root: str | Path,
    *,
    recursive: bool = True,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    respect_gitignore: bool = False,
    ignore: Collection[Path] = (),
) -> Iterator[RawFile | Dropped | SkippedDirectory]:
    """Every file below `root`, ordered by path (component by component, in byte order), and what is not raw data.

    A file is judged by `stat` before anybody opens it, so a pipe, socket or device is never waited for. A link to
    a file is followed when it leads to a place below `root`; a link to a directory never is: what lies below
    `root` is found at its own place, so loops end by themselves. `root` itself may be a link.

    Args:
        recursive: Whether sub-directories are entered.
        include: Globs (`path_rules.Globs`) of the files to take; empty = all.
        exclude: Globs of files and directories to pass over.
        respect_gitignore: Whether what .gitignore files name is passed over, those of the directories above `root`
            included, up to the top of the repository.
        ignore: Files (absolute, without links) that the program itself writes. They and what it is about to rename
            to them are passed over in silence.

    Raises:
        DataError: `root` is missing, is not a directory or cannot be listed; or a .gitignore file cannot be read.
        ConfigError: a glob cannot be understood.
    """
    root = existing_directory(root)
    resolved_root = root.resolve()
    selection = _Selection(
        Globs(include, setting="data.include"),
        Globs(exclude, setting="data.exclude"),
        recursive=recursive,
        respect_gitignore=respect_gitignore,
    )
    try:
        waiting = [_Level(iter(_sorted_entries(root)), "", resolved_root, selection.ignore_files_of(root))]
    except OSError as error:
        raise DataError(f"{root}: cannot be listed ({error.strerror}); change its permissions") from None
    own_names = {path.name for path in ignore}
    # A stack instead of recursion: depth is limited by the file system, not by Python.
    while waiting:
        level = waiting[-1]
        entry = next(level.entries, None)
        if entry is None:
            waiting.pop()
            continue
        path = Path(entry.path)
        # Names are put together as strings: asking `Path` for each took two thirds of the time.
        relative = level.relative + entry.name
        source = escape_name(relative)
        may_be_own = entry.name in own_names or TEMPORARY_MARK in entry.name
        is_own = may_be_own and _is_own(level.resolved / entry.name, ignore)
        if not _is_directory(entry):
            if is_own:
                continue
            item = _judge(path, source, root=resolved_root)
            if isinstance(item, RawFile) and (why := selection.reason_to_pass_over(relative, level)):
                item = Dropped(source, *why, num_bytes=item.num_bytes, format=item.format)
            yield item
        elif is_own:
            yield SkippedDirectory(source, "own_output")
        elif reason := selection.reason_not_to_enter(entry, f"{relative}/", level):
            yield SkippedDirectory(source, reason)
        else:
            try:
                entries = iter(_sorted_entries(path))
            except OSError:
                yield SkippedDirectory(source, "unreadable")
            else:
                inner = selection.ignore_files_of(path, f"{relative}/", level)
                waiting.append(_Level(entries, f"{relative}/", level.resolved / entry.name, inner))


def named_files(paths: Iterable[str | Path]) -> Iterator[RawFile | Dropped]:
    """The files that a user named, in the order given; links are followed wherever they lead.

    Raises:
        DataError: one of them is missing or is a directory.
    """
    checked = [Path(path) for path in paths]
    for path in checked:
        if not os.path.lexists(path):
            raise DataError(f"{path}: no such file; correct the name or leave it out")
        if path.is_dir():
            raise DataError(f"{path}: is a directory, expected a file; use collect_from_directory")
    return (_judge(path, source_name(path), root=None) for path in checked)


def existing_directory(path: str | Path) -> Path:
    """`path`, which is a directory.

    Raises:
        DataError: it is missing or is something else.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(
            f"{path}: no such directory (seen from {Path.cwd()}); create it and put raw files into it, or set "
            "data.raw_dir to where they are"
        )
    if not path.is_dir():
        raise DataError(
            f"{path}: is a file, expected a directory; set data.raw_dir to the directory that holds it, "
            "list it in a file that data.file_list names, or use collect_from_files"
        )
    return path


def source_name(path: Path, *, root: Path | None = None) -> str:
    """The name of a file in reports: relative to `root`, with `/`, as `escape_name` writes it."""
    return escape_name(path.relative_to(root).as_posix() if root is not None else path.as_posix())


def escape_name(name: str) -> str:
    r"""A name from a file system or an archive, always valid UTF-8 on one line.

    Bytes that are not UTF-8 and control characters are escaped as `\xNN`, and so are line ends; a backslash is
    doubled where it is part of a name, so two files never get the same name.
    """
    if name.isascii() and name.isprintable() and "\\" not in name:  # as nearly all names are
        return name
    readable = os.fsencode(name.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")
    return escape_unprintable(readable).replace("\n", "\\n").replace("\t", "\\t")


def numbered_name(source: str, number: int) -> str:
    """The name of the second, third … file that would be called `source` in one corpus.

    In front, so that its ending stays what it is.

    >>> numbered_name("letters/1998.txt", 2)
    '(2)/letters/1998.txt'
    """
    return f"({number})/{source.lstrip('/')}"


def shared_name(source: str) -> str:
    """What `numbered_name` was given, without a slash in front: the same for all files that it keeps apart."""
    return _NUMBER_IN_FRONT.sub("", source).lstrip("/")


_NUMBER_IN_FRONT = re.compile(r"^\(\d+\)/")


def changed_while_read(source: str, extension: str, num_bytes: int) -> Dropped:
    """The record of a file, or the rest of one, that cannot be trusted because somebody is writing it."""
    detail = "was written to while it was being read; collect again when it is complete"
    return Dropped(source, "changed", detail, num_bytes=num_bytes, format=extension)


def _sorted_entries(directory: Path) -> list["os.DirEntry[str]"]:
    with os.scandir(directory) as entries:
        return sorted(entries, key=lambda entry: os.fsencode(entry.name))


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()  # follows links, so that a link to a directory is named as such
    except OSError:  # a loop of links
        return False


@dataclass(frozen=True, slots=True)
class _Level:
    """A directory that is being gone through."""

    entries: Iterator["os.DirEntry[str]"]
    relative: str
    """The way down to it from the directory that is searched, with a slash at the end; empty for that one."""
    resolved: Path
    """Its path without links; links to directories are not entered, so names are appended."""
    ignore_files: tuple[IgnoreFile, ...]
    """Those that apply within it, the outermost first."""


@dataclass(frozen=True, slots=True)
class _Selection:
    """Which names the user wants."""

    include: Globs
    exclude: Globs
    recursive: bool = field(kw_only=True)
    respect_gitignore: bool = field(kw_only=True)

    def reason_to_pass_over(self, name: str, level: _Level) -> tuple[str, str] | None:
        """(reason, detail) when a file is not wanted; `name` is its path from the directory that is searched."""
        if self.exclude.match(name):
            return "excluded", "a pattern of data.exclude names it"
        if self.include and not self.include.match(name):
            return "not_included", "no pattern of data.include names it"
        if ignored(name, level.ignore_files):
            return "ignored_by_git", "a .gitignore file names it"
        return None

    def reason_not_to_enter(self, entry: "os.DirEntry[str]", name: str, level: _Level) -> str | None:
        """Why a directory is passed over, or None; `name` is as for a file, with a slash at the end."""
        if entry.name.startswith("."):
            return "hidden"
        if entry.name in EXCLUDED_DIRECTORIES or self.exclude.match(name):
            return "excluded"
        if entry.is_symlink():
            return "symlink"
        if ignored(name, level.ignore_files):
            return "ignored_by_git"
        return None if self.recursive else "not_recursive"

    def ignore_files_of(
        self, directory: Path, name: str = "", above: _Level | None = None
    ) -> tuple[IgnoreFile, ...]:
        """The .gitignore files that apply within a directory; `above` is None for the one that is searched."""
        if not self.respect_gitignore:
            return ()
        outer = tuple(ignore_files_above(directory)) if above is None else above.ignore_files
        own = read_ignore_file(directory, below=name)
        return outer if own is None else (*outer, own)


def _is_own(path: Path, ignore: Collection[Path]) -> bool:
    """Whether the program itself writes `path`, which is absolute and without links."""
    name, mark, _ = path.name.removeprefix(".").rpartition(TEMPORARY_MARK)
    return path in ignore or (bool(mark) and path.with_name(name) in ignore)


def _judge(path: Path, source: str, *, root: Path | None) -> RawFile | Dropped:
    """The file, or why it is none. `root` is None for a file that the user named."""

    def dropped(reason: str, detail: str, num_bytes: int = 0) -> Dropped:
        return Dropped(source, reason, detail, num_bytes=num_bytes, format=format_of(path))

    if root is not None and path.name.startswith("."):
        return dropped("hidden", "the name begins with a dot", _size(path))
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            real = path.resolve(
                strict=True
            )  # not of every file: it asks the disk about each part of the path
            status = real.stat()
            if root is not None and not real.is_relative_to(root):
                return dropped("link_outside", f"points to {_target(path)!r}, outside the directory")
    except (OSError, RuntimeError) as error:
        # RuntimeError is how Python before 3.13 reports a loop of links.
        if path.is_symlink():
            return dropped("broken_link", f"points to {_target(path)!r}, which is not there or points back")
        return dropped("vanished", str(error))
    if not stat.S_ISREG(status.st_mode):
        return dropped("not_a_file", f"is a {_kind(status.st_mode)}")
    if status.st_size == 0:
        # Not opened: the files of /proc say 0 too, and reading some of them never ends.
        return dropped("empty", "0 bytes")
    return RawFile(path, source, status.st_size)


def _size(path: Path) -> int:
    try:
        status = path.lstat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _target(path: Path) -> str:
    try:
        return escape_unprintable(os.fsencode(path.readlink()).decode("utf-8", "backslashreplace"))
    except OSError:
        return "?"


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
        stat.S_IFDIR: "directory",
    }
    return kinds.get(stat.S_IFMT(mode), "special file")
