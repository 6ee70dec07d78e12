"""What unpacking archives has in common: limits, temporary files, names of members. Knows no kind of archive.

A member's name is only a name: nothing is ever written under it. What is unpacked goes to memory, and to an unnamed
temporary file from `SPOOL_BYTES` on. Where it ends, `UnpackingBudget` says.
"""

import errno
import io
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple, Protocol

from core.data_config import ReadingConfig
from core.files import explain_temporary_errors
from data_processing.document import Dropped
from data_processing.formats.raw_input import RawInput
from data_processing.sources.raw_files import EXCLUDED_DIRECTORIES, escape_name

SPOOL_BYTES = 32 << 20
"""Unpacked data up to this stays in memory; arbitrary."""

HARMLESS_BYTES = 16 << 20
"""What unpacks to less is no bomb, whatever its ratio: a few kilobytes of spaces compress a thousandfold. Arbitrary."""

BLOCK_BYTES = 1 << 20


class UnpackingStopped(Exception):  # noqa: N818 - a limit was reached; nothing is wrong with the program
    """A limit was reached; `reason` is `archive_bomb` or `archive_limit`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class UnpackingBudget:
    """How much one file of the user's may unpack to, all layers of archives in it together.

    Attributes:
        stopped: Whether a limit was reached; what is left of the file is not unpacked then.
        num_unpacked_bytes: What was unpacked so far.

    Args:
        limits: What is allowed.
        packed_bytes: Size of the file.
    """

    def __init__(self, limits: ReadingConfig, *, packed_bytes: int) -> None:
        self.stopped = False
        self._limits = limits
        self._packed_bytes = packed_bytes
        self.num_unpacked_bytes = 0
        self._num_members = 0

    def spend(self, num_bytes: int) -> None:
        """Note bytes that were unpacked.

        Raises:
            UnpackingStopped: they were too many.
        """
        self.num_unpacked_bytes += num_bytes
        if self.num_unpacked_bytes > self._limits.max_unpacked_bytes:
            self._stop(
                "archive_limit",
                f"unpacks to more than {self._limits.max_unpacked_bytes} bytes; members before that are kept; raise "
                "data.reading.max_unpacked_bytes, or divide it",
            )
        ratio = self._limits.max_unpacking_ratio
        if self.num_unpacked_bytes > max(HARMLESS_BYTES, ratio * self._packed_bytes):
            self._stop(
                "archive_bomb",
                f"{self._packed_bytes} bytes unpack to more than {ratio:g} times as many; if you trust it, raise "
                "data.reading.max_unpacking_ratio",
            )

    @property
    def max_members(self) -> int:
        """How many more members there may be."""
        return self._limits.max_archive_members - self._num_members

    def enter(self) -> None:
        """Note a member.

        Raises:
            UnpackingStopped: there are too many.
        """
        self.foresee(1)
        self._num_members += 1

    def foresee(self, num_members: int) -> None:
        """Say that there will be at least so many members.

        Raises:
            UnpackingStopped: these are too many.
        """
        if num_members > self.max_members:
            self._stop(
                "archive_limit",
                f"has more than {self._limits.max_archive_members} members; those are kept; raise "
                "data.reading.max_archive_members, or divide it",
            )

    def _stop(self, reason: str, detail: str) -> None:
        self.stopped = True
        raise UnpackingStopped(reason, detail)


class ByteSource(Protocol):
    """What can be read once, from the beginning."""

    def read(self, size: int, /) -> bytes: ...


class Spooled(NamedTuple):
    """What was unpacked, at its beginning, how long it is, and why it ends too early (None = it does not)."""

    file: BinaryIO
    num_bytes: int
    problem: Exception | None


def spool(source: ByteSource, spend: Callable[[int], None], errors: tuple[type[Exception], ...]) -> Spooled:
    """All that `source` gives until one of `errors`, as a seekable file that goes to disk when it is large."""
    file: BinaryIO = io.BytesIO()
    size = 0
    problem: Exception | None = None
    try:
        while block := source.read(BLOCK_BYTES):
            size += len(block)
            if isinstance(file, io.BytesIO) and size > SPOOL_BYTES:
                file = _moved_to_disk(file)
            _write(file, block)
            spend(len(block))
    except UnpackingStopped as stop:
        problem = stop
    except errors as error:
        problem = error
    except OSError as error:
        if not is_about_data(error):
            file.close()
            raise
        problem = error
    file.seek(0)
    return Spooled(file, size, problem)


def is_about_data(error: OSError) -> bool:
    """Whether damaged data is the cause, and not the disk: bz2 gives no number, and a place before the beginning of a
    file, which only a damaged header can name, is an invalid argument."""
    return error.errno in (None, errno.EINVAL)


def _moved_to_disk(file: io.BytesIO) -> BinaryIO:
    with explain_temporary_errors("to unpack an archive"):
        disk = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the next member is asked for
    _write(disk, file.getbuffer())
    return disk


def _write(file: BinaryIO, data: bytes | memoryview) -> None:
    with explain_temporary_errors("to unpack an archive"):
        file.write(data)


def free(num_bytes: int) -> None:
    """Bytes that were paid for already, when the stream around them was unpacked."""


def member_of(raw: RawInput, source: str, name: str, spooled: Spooled) -> RawInput:
    """What was unpacked, as an input whose format is what the extension of `name` says."""
    extension = PurePosixPath(name.replace("\\", "/")).suffix.lower()
    return RawInput(spooled.file, source, escape_name(extension), spooled.num_bytes)


def lost(raw: RawInput, source: str, spooled: Spooled) -> Dropped:
    """The record of a member of which nothing is kept, although part of it was unpacked."""
    problem = spooled.problem
    if isinstance(problem, UnpackingStopped):
        return Dropped(source, problem.reason, problem.detail, num_bytes=spooled.num_bytes, format=raw.format)
    detail = f"{problem}; fetch or pack it again"
    return Dropped(source, "damaged_archive", detail, num_bytes=spooled.num_bytes, format=raw.format)


def names_seen(raw: RawInput) -> Callable[[str], str]:
    """From a member's name to its source; the second of a name has `#2` at its end, and so on."""
    seen: Counter[str] = Counter()

    def source_of(name: str) -> str:
        source = f"{raw.source}!{escape_name(name)}"
        seen[source] += 1
        return source if seen[source] == 1 else f"{source}#{seen[source]}"

    return source_of


def reason_to_skip(name: str) -> tuple[str, str] | None:
    """(reason, detail) of a member that is no data, as `raw_files` judges files."""
    *directories, last = [
        part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")
    ] or [""]
    if any(part.startswith(".") for part in (*directories, last)):
        return "hidden", "a name that begins with a dot"
    if not EXCLUDED_DIRECTORIES.isdisjoint(directories):
        return "excluded", "in a directory that tools leave behind"
    return None
