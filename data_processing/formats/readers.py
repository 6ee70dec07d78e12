"""From a file to documents, and to what in it is not one: which reader, and what happens when reading fails.

A reader is a generator `(raw, reading)`, as `raw_input.Reader` says. A new format is one such function and one entry in
`READERS`; what its files begin with, or look like, is said in `content_type`.
"""

import dataclasses
import io
import math
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from core.data_config import ReadingConfig
from core.errors import DataError
from data_processing.document import Document, Dropped
from data_processing.formats.archives import CONTAINERS, unpack
from data_processing.formats.content_type import NotReadable, recognise
from data_processing.formats.csv_reader import read_csv
from data_processing.formats.json_readers import read_json, read_json_lines
from data_processing.formats.mail_readers import read_eml, read_mbox
from data_processing.formats.markup_readers import (
    read_epub,
    read_html,
    read_notebook,
    read_subtitles,
    read_tex,
    read_xml,
)
from data_processing.formats.office_readers import read_docx, read_odt, read_pdf
from data_processing.formats.raw_input import RawInput, Reader, Reading
from data_processing.formats.records import RecordCounts
from data_processing.formats.table_readers import read_arrow, read_parquet
from data_processing.formats.text_readers import read_code, read_prose
from data_processing.formats.time_limit import TooSlow, time_limit
from data_processing.formats.unpacking import UnpackingBudget
from data_processing.formats.web_archive_readers import read_warc
from data_processing.sources.file_digests import state_of
from data_processing.sources.raw_files import RawFile, changed_while_read
from data_processing.sources.remote_files import RemoteFile, open_remote, remote_version

FILE_BUFFER_BYTES = 256 << 10
"""Bytes that are asked of the operating system at once, at most. For disks on a network; on one in the machine 8 kB,
Python's default, and 1 MB read lines of JSON in the same time. A file of no more is read whole when it is opened, which
saves a quarter of the 31 µs that one of 6 kB takes."""

CHECK_BYTES = 1 << 20
"""After so much of a file it is looked whether somebody has written to it meanwhile; arbitrary."""

STRICT_REASONS = frozenset({"unreadable", "vanished", "changed"})
"""What ends the run with `data.reading.strict`: the file may be read another time."""

_PROSE = (".txt", ".text", ".md", ".markdown", ".mdx", ".rst")
_CODE = (
    *(".py", ".pyi", ".js", ".mjs", ".cjs", ".ts", ".tsx", ".jsx", ".java", ".kt", ".kts", ".scala", ".clj"),
    *(".c", ".h", ".cpp", ".cc", ".cxx", ".hpp", ".hh", ".cs", ".go", ".rs", ".swift", ".zig", ".dart", ".m"),
    *(".rb", ".php", ".pl", ".pm", ".lua", ".r", ".jl", ".hs", ".ml", ".ex", ".exs", ".erl", ".f90"),
    *(".sh", ".bash", ".zsh", ".vim", ".sql", ".css", ".scss", ".proto", ".cmake", ".bib", ".ps1", ".bat"),
    *(".lisp", ".el", ".scm", ".groovy", ".gradle", ".tf", ".nim", ".vue", ".svelte", ".asm", ".s", ".cu"),
    *(".toml", ".yaml", ".yml", ".ini", ".cfg", ".mk", ".dockerfile"),
)

READERS: dict[str, Reader] = {
    **dict.fromkeys(_PROSE, read_prose),
    **dict.fromkeys(_CODE, read_code),
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".tab": read_csv,
    ".html": read_html,
    ".htm": read_html,
    ".xhtml": read_html,
    ".xml": read_xml,
    ".epub": read_epub,
    ".tex": read_tex,
    ".ipynb": read_notebook,
    ".srt": read_subtitles,
    ".vtt": read_subtitles,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".odt": read_odt,
    ".eml": read_eml,
    ".mbox": read_mbox,
    ".warc": read_warc,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
    ".arrows": read_arrow,
    ".feather": read_arrow,
    ".ipc": read_arrow,
}
"""Format (extension in lower case) -> reader. Files of other or no extension are read as what they look like."""

LAID_OUT = frozenset(
    (".html", ".htm", ".xhtml", ".xml", ".epub", ".pdf", ".docx", ".odt", ".tex", ".eml", ".mbox", ".warc")
)
"""Formats whose documents have a time limit: what is laid out can be laid out to take for ever."""

Items = Iterator[Document | Dropped]


def read_file(file: RawFile | RemoteFile, reading: Reading, counts: RecordCounts | None = None) -> Items:
    """The documents in a file, and what in it is none; never an exception for what is wrong with the file.

    What the file is, its content says together with its name (`content_type.recognise`); compressed files and archives
    are opened, archives within archives too, each member read as a file of its own. The format in the metadata is what
    a thing was read as.

    The bytes of the items add up to the size of the file. Of a compressed file or an archive they add up to what was
    unpacked (`archives.unpack`), which has no fixed relation to the size.

    A file that cannot be read further is `unreadable` or `vanished` from there, one that somebody writes to is
    `changed` from the place where that was noticed, within `CHECK_BYTES`; small files are judged as a whole. Hostile
    content is `too_deep`, `too_large` or `too_slow`, an `archive_bomb`, or beyond an `archive_limit`.

    Args:
        counts: Where `file` is a range of a file of lines, what takes their numbers: the file is judged as a whole.

    Raises:
        DataError: records that are malformed to more than a share; or, with `reading.limits.strict`, a file that is
            unreadable, vanished or changed.
        DiskError: there is no room to unpack an archive.
        UnreachableError: the store of a remote file does not answer.
    """
    for item in _read_opened(file, reading, counts):
        if isinstance(item, Dropped):
            refuse_if_strict(item, reading.limits)
        yield item


def refuse_if_strict(dropped: Dropped, limits: ReadingConfig) -> None:
    """Make an error of what could be read another time, where the user wants that.

    Raises:
        DataError: `limits.strict`, and the reason is one of `STRICT_REASONS`.
    """
    if limits.strict and dropped.reason in STRICT_REASONS:
        raise DataError(
            f"{dropped.source}: {dropped.reason} ({dropped.detail or 'no details'}); make it readable and let nobody "
            "write to it, exclude it, or set data.reading.strict=false to leave it out"
        )


def open_raw(file: RawFile | RemoteFile) -> BinaryIO:
    """A raw file open for reading; never waits for anything, such as the other end of a pipe.

    Raises:
        OSError: it is not there or may not be read.
        UnreachableError: the store of a remote file does not answer.
    """
    if isinstance(file, RemoteFile):
        return open_remote(file.path)
    # Without waiting: since the directory was listed, a pipe may have taken the place of the file.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    # Without a buffer where the file is read whole.
    buffering = 0 if file.num_bytes <= FILE_BUFFER_BYTES else FILE_BUFFER_BYTES
    return os.fdopen(os.open(file.path, flags), "rb", buffering)


def _read_opened(file: RawFile | RemoteFile, reading: Reading, counts: RecordCounts | None) -> Items:
    try:
        opened = open_raw(file)
    except OSError as error:
        yield _refused(file.source, file.format, error, file.num_bytes)
        return
    with opened:
        try:
            source = _Source(file, opened)
        except OSError as error:  # a remote file that is deleted at this moment
            yield _refused(file.source, file.format, error, file.num_bytes)
            return
        raw = source.raw_input()
        if raw is None:
            yield Dropped(file.source, "not_a_file", "is no regular file any more", format=file.format)
            return
        budget = UnpackingBudget(reading.limits, packed_bytes=raw.num_bytes)
        items = _read_input(
            raw, reading, budget, read_as=file.read_as, first_line=file.first_line, counts=counts
        )
        yield from _watched(items, raw, budget, source)


def _refused(source: str, format_: str, error: OSError, num_bytes: int) -> Dropped:
    """The record of what the operating system does not let us read."""
    reason = "vanished" if isinstance(error, FileNotFoundError) else "unreadable"
    return Dropped(source, reason, error.strerror or str(error), num_bytes=num_bytes, format=format_)


class _Source:
    """An open raw file, which somebody may write to while it is read.

    Attributes:
        check_bytes: After how many bytes it is worth while to look whether somebody did.
    """

    def __init__(self, file: RawFile | RemoteFile, opened: BinaryIO) -> None:
        self._file = file
        self._opened = opened
        # Each look at a remote file is a request: once at the first document, and once at the end.
        self.check_bytes = math.inf if isinstance(file, RemoteFile) else CHECK_BYTES
        self._before = self._state()

    def raw_input(self) -> RawInput | None:
        """What is to be read of it; None when it is no regular file."""
        file, opened, size = self._file, self._opened, self._before[0]
        if isinstance(file, RawFile) and not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            return None
        end = size if file.end is None else min(file.end, size)
        if file.begin:
            opened = cast(BinaryIO, io.BufferedReader(_Window(opened, file.begin), FILE_BUFFER_BYTES))
        elif isinstance(file, RawFile) and end <= FILE_BUFFER_BYTES:
            data = opened.read(end)
            if len(data) == end:
                opened = io.BytesIO(data)
            else:  # it was cut off meanwhile, or the disk fails there: whoever reads on will see
                opened.seek(0)
        return RawInput(opened, file.source, file.format, max(0, end - file.begin))

    def has_changed(self) -> bool:
        """Whether it was written to, as far as size and time stamps (or what the store says) tell; also before it was
        opened, where somebody had looked at its content then."""
        expected = self._file.state if isinstance(self._file, RawFile) else None
        return self._state() != self._before or (expected is not None and self._before[1] != expected)

    def _state(self) -> tuple[int, object]:
        if isinstance(self._file, RemoteFile):
            return remote_version(self._file.path)
        status = os.fstat(self._opened.fileno())
        return status.st_size, state_of(status)


class _Window(io.RawIOBase):
    """A file from some place on, as a file of its own."""

    def __init__(self, file: BinaryIO, begin: int) -> None:
        self._file = file
        self._begin = begin
        file.seek(begin)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        assert whence == os.SEEK_SET, "readers of lines know no other way"
        return self._file.seek(self._begin + offset) - self._begin

    def readinto(self, buffer: Any, /) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _watched(items: Items, raw: RawInput, budget: UnpackingBudget, source: _Source) -> Items:
    """The items as long as the file can be read and nobody writes to it; then what became of the rest."""
    counted = 0
    unchecked = source.check_bytes  # so that a file that is one document is judged before it is handed out
    while True:
        size = 0
        # Only reading stands in this block: an error while something is made of the items is not the file's fault.
        try:
            item = next(items, None)
            if item is not None:
                size = size_of(item)
                unchecked += size
            has_changed = False
            if unchecked >= source.check_bytes or (item is None and unchecked):
                has_changed = source.has_changed()
                unchecked = 0
        except OSError as error:
            yield _refused(raw.source, raw.format, error, _missing(raw, budget, counted, size))
            return
        if has_changed:
            yield changed_while_read(raw.source, raw.format, _missing(raw, budget, counted, size))
            return
        if item is None:
            return
        yield item
        counted += size


def _missing(raw: RawInput, budget: UnpackingBudget, counted: int, size: int) -> int:
    """Bytes that nobody will read; of an archive those of the last member, for the rest is unknown."""
    return size if budget.num_unpacked_bytes else raw.num_bytes - counted


def _read_input(
    raw: RawInput,
    reading: Reading,
    budget: UnpackingBudget,
    *,
    depth: int = 0,
    read_as: str | None = None,
    first_line: int = 1,
    counts: RecordCounts | None = None,
) -> Items:
    """The items of one input, whatever it is; `raw.format` is what its name says.

    Args:
        depth: How many archives it lies within.
        read_as: The format to read it as, once it is unpacked.
        first_line, counts: As in `read_json_lines`, if it is a part of a file of lines.
    """
    if raw.num_bytes == 0:
        yield raw.dropped("empty", "0 bytes")
        return
    name = re.split(r"[/!]", raw.source)[-1]
    found = recognise(raw.file, name=name, extension=raw.format, readable=READERS.keys())
    if isinstance(found, str) and found in CONTAINERS:
        raw = dataclasses.replace(raw, format=found)
        yield from _read_members(raw, reading, budget, depth=depth, read_as=read_as)
        return
    found = read_as or found
    if isinstance(found, NotReadable):
        yield raw.dropped(found.reason, found.detail)
        return
    if raw.format != found:
        raw = dataclasses.replace(raw, format=found)
    reader: Reader = READERS[found]
    if reader is read_json_lines:
        items = read_json_lines(raw, reading, first_line=first_line, counts=counts)
    else:
        items = reader(raw, reading)
    yield from _guarded(items, raw, reading.limits)


def _read_members(
    raw: RawInput, reading: Reading, budget: UnpackingBudget, *, depth: int, read_as: str | None
) -> Items:
    """The items of what an archive or a compressed file holds."""
    allowed = reading.limits.max_archive_depth
    if depth > allowed:
        detail = f"lies within {depth} archives, at most {allowed} are opened; raise data.reading.max_archive_depth"
        yield raw.dropped("too_deep", detail)
        return
    is_empty = True
    for member in unpack(raw, budget):
        is_empty = False
        if isinstance(member, Dropped):
            yield member
        else:
            yield from _read_input(member, reading, budget, depth=depth + 1, read_as=read_as)
    if is_empty:
        yield raw.dropped("empty", "holds no files")


def _guarded(items: Items, raw: RawInput, limits: ReadingConfig) -> Items:
    """The items, up to the one that is too deep, too large or too slow to be made."""
    seconds = limits.max_file_seconds if raw.format in LAID_OUT else None
    counted = 0
    while True:
        try:
            if seconds is None:
                item = next(items, None)
            else:
                with time_limit(seconds):
                    item = next(items, None)
        except RecursionError:
            problem = "too_deep", "nested too deeply to be read"
        except MemoryError:
            problem = "too_large", "does not fit into the memory that is left"
        except TooSlow:
            problem = (
                "too_slow",
                f"took more than {seconds:g} seconds of processor time; raise data.reading.max_file_seconds",
            )
        else:
            if item is None:
                return
            yield item
            counted += size_of(item)
            continue
        yield raw.dropped(*problem, num_bytes=raw.num_bytes - counted)
        return


def size_of(item: Document | Dropped) -> int:
    """Bytes of input that an item stands for."""
    return item.input_bytes if isinstance(item, Document) else item.num_bytes
