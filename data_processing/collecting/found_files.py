"""What a source gives before anything is read: files under names of their own, in ranges, and what is left out unread.

Opens files for their digests and line ends alone, and knows no format but that lines can be divided.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.data_config import DataConfig, ReadingConfig
from core.errors import ConfigError
from data_processing.document import Document, Dropped
from data_processing.formats.readers import refuse_if_strict
from data_processing.formats.text_lines import split_points
from data_processing.reports.report import Ledger
from data_processing.sources.file_digests import FileDigests
from data_processing.sources.raw_files import (
    RawFile,
    SkippedDirectory,
    existing_directory,
    find_files,
    numbered_name,
)
from data_processing.sources.remote_files import RemoteFile, find_remote_files, is_url

Found = RawFile | RemoteFile | Dropped | SkippedDirectory


def find_below(
    place: str | Path, config: DataConfig, *, recursive: bool, own: Iterable[Path]
) -> Iterator[Found]:
    """What lies in a directory or behind an address, and which of it the configuration wants.

    Args:
        own: What the program itself writes; not looked for behind addresses.

    Raises:
        DataError: nothing is there, or it cannot be listed.
        ConfigError: a setting cannot be kept there.
    """
    chosen = {"include": config.include, "exclude": config.exclude}
    if is_url(place):
        if config.respect_gitignore:
            raise ConfigError(
                f"data.respect_gitignore has no effect behind an address ({place}); set it to false, and "
                "data.exclude to what is to be left out"
            )
        return find_remote_files(str(place), recursive=recursive, **chosen)
    existing_directory(place)
    return find_files(
        place,
        recursive=recursive,
        **chosen,
        respect_gitignore=config.respect_gitignore,
        ignore=[path.parent.resolve() / path.name for path in own],
    )


def distinct_names(found: Iterable[Found], taken: set[str]) -> Iterator[Found]:
    """What was found, each file under a name that is not in `taken`, to which it is added.

    Files of two directories may be called the same, and one file may be named twice. All that is said of a file later,
    and what is to be forgotten of it, goes by its name.
    """
    for thing in found:
        if not isinstance(thing, SkippedDirectory):
            name, number = thing.source, 1
            while name in taken:
                number += 1
                name = numbered_name(thing.source, number)
            taken.add(name)
            if number > 1:
                thing = dataclasses.replace(thing, source=name)
        yield thing


class FoundThings:
    """What was found beside files to read: what is left out unread, and directories that were not entered.

    Attributes:
        num_bytes: Size of the files to read that `files_of` has handed on.
    """

    def __init__(self, dropped: Iterable[Dropped] = (), directories: Iterable[SkippedDirectory] = ()) -> None:
        self.dropped = list(dropped)
        self.directories = list(directories)
        self.num_bytes = 0

    def files_of(
        self, found: Iterable[Found], forgotten: frozenset[str], limits: ReadingConfig
    ) -> Iterator[RawFile | RemoteFile]:
        """The files among `found`; the rest is kept here."""
        for thing in found:
            if isinstance(thing, Dropped):
                refuse_if_strict(thing, limits)
                self.dropped.append(thing)
            elif isinstance(thing, SkippedDirectory):
                self.directories.append(thing)
            elif thing.source in forgotten:
                self.dropped.append(
                    Dropped(thing.source, "forgotten", num_bytes=thing.num_bytes, format=thing.format)
                )
            else:
                self.num_bytes += thing.num_bytes
                yield thing

    def without_directories(
        self, items: Iterable[Document | Dropped | SkippedDirectory]
    ) -> Iterator[Document | Dropped]:
        """The documents and drops among `items`; directories are kept here."""
        for item in items:
            if isinstance(item, SkippedDirectory):
                self.directories.append(item)
            else:
                yield item

    def followed_by(self, other: "FoundThings") -> "FoundThings":
        """Both."""
        return FoundThings([*self.dropped, *other.dropped], [*self.directories, *other.directories])

    def ledger(self) -> Ledger:
        """An account that begins with all of it."""
        ledger = Ledger()
        for dropped in self.dropped:
            ledger.drop(dropped)
        for directory in self.directories:
            ledger.skip_directory(directory.source, directory.reason)
        return ledger


@dataclass(frozen=True, slots=True)
class FingerprintedFile:
    """A raw file and a digest that changes with its content."""

    file: RawFile | RemoteFile
    digest: str

    @property
    def name(self) -> str:
        """What tells it from other files and ranges."""
        return f"{self.file.source}:{self.file.begin}" if isinstance(self.file, RawFile) else self.file.source

    @property
    def content(self) -> list[str | int]:
        """What decides its documents."""
        return [self.name, self.file.num_bytes, self.digest, self.file.read_as or ""]


def fingerprinted(
    files: Iterable[RawFile | RemoteFile], *, database: Path | None
) -> Iterator[FingerprintedFile]:
    """The files, large ones in ranges, with digests of what they hold.

    Args:
        database: What remembers the digests of files that have not changed; None = nothing does.
    """
    with FileDigests(database) as digests:
        for file in files:
            seen, digest = _looked_at(file, digests)
            for part in _ranges_of(seen):
                yield FingerprintedFile(part, digest)


def _looked_at(file: RawFile | RemoteFile, digests: FileDigests) -> tuple[RawFile | RemoteFile, str]:
    """The file with its state, and a digest of its content in that state."""
    if isinstance(file, RemoteFile):
        return file, file.version
    try:
        digest, state = digests.look(file.path)
    except OSError:
        return file, "unreadable"  # the reader will say why
    # `dataclasses.replace` takes twice as long.
    return RawFile(file.path, file.source, state.num_bytes, read_as=file.read_as, state=state), digest


RANGE_BYTES = 32 << 20
"""Larger files of records are read in ranges of about this size, so that one file keeps all workers busy. Arbitrary."""


def _ranges_of(file: RawFile | RemoteFile) -> list[RawFile | RemoteFile]:
    """The file, or the ranges of it that can be read apart."""
    lines = (file.read_as or file.format) in (".jsonl", ".ndjson")
    if not isinstance(file, RawFile) or not lines or file.num_bytes < 2 * RANGE_BYTES:
        return [file]
    try:
        points = split_points(file.path, RANGE_BYTES)
    except OSError:
        return [file]  # the reader will say why
    return [
        dataclasses.replace(file, num_bytes=end - begin, begin=begin, end=end, first_line=line)
        for begin, end, line in points
    ]
