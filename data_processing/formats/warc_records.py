"""The records of a web archive (WARC 1.1, ISO 28500:2017), one at a time. Knows no page.

Read here and not by fastwarc 2.0: that ends without a word after a page whose transfer was both chunked and compressed,
and at the first damaged record gives up the rest of the archive.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, cast

from core.data_config import ReadingConfig
from data_processing.formats.input_bytes import CHUNK_BYTES, MAX_WHOLE_BYTES
from data_processing.formats.not_readable import NotReadableError
from data_processing.formats.raw_input import RawInput
from data_processing.formats.unpacking import UnpackingBudget, UnpackingStopped

MAX_HEADER_BYTES = 64 << 10
"""Longest line, and longest header, of a record. Arbitrary; addresses of some kilobytes exist."""

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class WarcRecord:
    """A record, or what stands between two and is none.

    Attributes:
        offset: Where it begins, in bytes of the archive without compression.
        headers: Its named fields, names in lower case.
        block: Its content; empty when `reason` is given.
        num_bytes: What it takes in the input, with what is between it and the one before.
        reason: Why it is not read, as in `report.REASONS`; empty for a record that was read whole.
        detail: What exactly was found.
    """

    offset: int
    headers: Mapping[str, str]
    block: bytes
    num_bytes: int
    reason: str = ""
    detail: str = ""


def warc_records(raw: RawInput, limits: ReadingConfig) -> Iterator[WarcRecord]:
    """All records in order, the damaged ones too: after one, reading goes on at the next that begins properly.

    The archive may be compressed with gzip, as a whole or record by record.

    Raises:
        NotReadableError: it cannot be unpacked further.
    """
    stream = _Stream(raw, limits)
    num_counted = 0

    def num_bytes() -> int:
        nonlocal num_counted
        before, num_counted = num_counted, stream.num_taken
        return num_counted - before

    while line := stream.line():
        offset = stream.position - len(line)
        num_foreign = 0
        while line and not line.startswith(b"WARC/"):
            num_foreign += 0 if line.isspace() else len(line)
            line = stream.line()
        if num_foreign:
            detail = f"{num_foreign} bytes that are no record"
            yield WarcRecord(offset, {}, b"", num_bytes(), "malformed_document", detail)
        if line:
            offset = stream.position - len(line)
            headers = _headers(stream)
            block, reason, detail = _block(stream, headers.get("content-length", ""))
            yield WarcRecord(offset, headers, block, num_bytes(), reason, detail)


def _headers(stream: "_Stream") -> dict[str, str]:
    """The named fields up to the blank line; of several with one name, the first."""
    headers: dict[str, str] = {}
    size = 0
    while (line := stream.line()).strip() and size <= MAX_HEADER_BYTES:
        size += len(line)
        name, _, value = line.decode("utf-8", "replace").partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    return headers


def _block(stream: "_Stream", length: str) -> tuple[bytes, str, str]:
    """(content, reason, detail) of a record whose header gives this length."""
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        return b"", "malformed_document", f"a record without a length (Content-Length: {length[:40]!r})"
    missing = int(length)
    pieces: list[bytes] = []
    while missing and (piece := stream.read(min(missing, CHUNK_BYTES))):
        missing -= len(piece)
        if int(length) <= MAX_WHOLE_BYTES:
            pieces.append(piece)
    if missing:
        return b"", "malformed_document", f"cut off: {missing} of {length} bytes are missing"
    if int(length) > MAX_WHOLE_BYTES:
        return b"", "too_large", f"a record of {length} bytes, at most {MAX_WHOLE_BYTES} are read"
    return b"".join(pieces), "", ""


class _Stream:
    """The bytes of an archive, unpacked as they are read.

    Attributes:
        position: Bytes given so far.
    """

    def __init__(self, raw: RawInput, limits: ReadingConfig) -> None:
        raw.file.seek(0)
        self._is_packed = raw.file.read(2) == _GZIP
        raw.file.seek(0)
        self._file: BinaryIO = (
            cast(BinaryIO, gzip.GzipFile(fileobj=raw.file)) if self._is_packed else raw.file
        )
        self._raw = raw
        self._budget = UnpackingBudget(limits, packed_bytes=raw.num_bytes)
        self.position = 0

    @property
    def num_taken(self) -> int:
        """Bytes of the input that were needed so far; of a packed one, by blocks."""
        return min(self._raw.file.tell(), self._raw.num_bytes) if self._is_packed else self.position

    def line(self) -> bytes:
        """The next line, a long one in pieces; empty at the end."""
        return self._take(self._file.readline, MAX_HEADER_BYTES)

    def read(self, size: int) -> bytes:
        """At most `size` bytes; empty at the end."""
        return self._take(self._file.read, size)

    def _take(self, call: Callable[[int], bytes], size: int) -> bytes:
        if not self._is_packed:
            size = min(size, self._raw.num_bytes - self.position)
        try:
            data = call(size) if size > 0 else b""
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise NotReadableError("damaged_archive", f"cannot be unpacked: {error}") from None
        self.position += len(data)
        if self._is_packed:
            self._spend(len(data))
        return data

    def _spend(self, num_bytes: int) -> None:
        try:
            self._budget.spend(num_bytes)
        except UnpackingStopped as stop:
            raise NotReadableError(stop.reason, stop.detail) from None
