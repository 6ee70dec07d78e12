"""The bytes within gz, bz2, xz and zst, as a stream that cannot be made to hold much at once. Knows no archive.

Python's own file objects hide what matters here: that a stream is cut off (zstandard), and whether an error came from
the data or from the disk (bz2 and gzip raise OSError for both).
"""

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

INPUT_BYTES = 64 << 10
"""Compressed bytes that are read at once; arbitrary."""

ZSTD_INPUT_BYTES = 512
"""zstandard's decompressor cannot be told where to stop; of so much input it makes 16 MB at most. A call takes 1 µs."""

MEMORY_BYTES = 256 << 20
"""A stream that needs more memory than this to be unpacked is refused; xz -9 needs 65 MB, zstd --ultra -22 128 MB."""


class DamagedError(Exception):
    """The compressed data is cut off, or is not what it should be.

    Attributes:
        cut_off: Whether it ends too early, so that what came before is right; otherwise nobody knows what is.
    """

    def __init__(self, detail: str, *, cut_off: bool) -> None:
        super().__init__(detail)
        self.cut_off = cut_off


class _Decoder(Protocol):
    """What `bz2` and `lzma` have."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _GzipDecoder:
    """zlib with the interface of the others."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._more = False

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._more

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        made = self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)
        self._more = len(made) == max_length or bool(self._decoder.unconsumed_tail)
        return made


class _ZstdDecoder:
    """zstandard with the interface of the others; `max_length` is exceeded by what `ZSTD_INPUT_BYTES` can make."""

    def __init__(self) -> None:
        import zstandard

        self._decoder = zstandard.ZstdDecompressor(max_window_size=MEMORY_BYTES // 2).decompressobj()
        self._waiting = memoryview(b"")

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._waiting

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data + bytes(self._waiting)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        if data:
            self._waiting = memoryview(data)
        made: list[bytes] = []
        num_made = 0
        while self._waiting and num_made < max_length and not self._decoder.eof:
            part, self._waiting = self._waiting[:ZSTD_INPUT_BYTES], self._waiting[ZSTD_INPUT_BYTES:]
            made.append(self._decoder.decompress(part))
            num_made += len(made[-1])
        return b"".join(made)


def _xz_decoder() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY_BYTES)


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    ".gz": _GzipDecoder,
    ".bz2": bz2.BZ2Decompressor,
    ".xz": _xz_decoder,
    ".zst": _ZstdDecoder,
}

COMPRESSIONS = frozenset(_DECODERS)
"""The extensions of what can be unpacked here."""


def compression_of(head: bytes) -> str | None:
    """The extension of the compression that data beginning with `head` has, or None.

    >>> compression_of(b"BZh91AY&SY")
    '.bz2'
    """
    if head.startswith(b"\x1f\x8b\x08"):
        return ".gz"
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return ".bz2"
    if head.startswith(b"\xfd7zXZ\x00"):
        return ".xz"
    # A frame, or one to be skipped in front of it.
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return ".zst"
    return None


class Unpacked:
    """What a compressed file holds, read from its beginning to its end; several streams in a row are one.

    Attributes:
        trailing: Whether something follows the last stream that is none.

    Args:
        file: Open at the beginning of the compressed data.
        compression: One of `COMPRESSIONS`.
        spend: Called with the number of bytes whenever some are unpacked.
    """

    def __init__(self, file: BinaryIO, compression: str, spend: Callable[[int], None]) -> None:
        self.trailing = False
        self._file = file
        self._compression = compression
        self._spend = spend
        self._decoder: _Decoder | None = _DECODERS[compression]()
        self._input = b""
        self._made = memoryview(b"")

    def read(self, size: int) -> bytes:
        """At most `size` bytes; empty at the end.

        Raises:
            DamagedError: the data is cut off or damaged; what was read before is all there is.
            OSError: the file cannot be read.
        """
        while not self._made and self._decoder is not None:
            self._advance(size)
        made, self._made = self._made[:size], self._made[size:]
        return bytes(made)

    def peek(self, size: int) -> bytes:
        """What `read(size)` will begin with: `size` bytes, or all that there are.

        Raises:
            DamagedError, OSError: as `read`, where nothing could be read at all.
        """
        parts: list[bytes] = []
        num_bytes = 0
        try:
            while num_bytes < size and (part := self.read(size - num_bytes)):
                parts.append(part)
                num_bytes += len(part)
        except DamagedError:
            if not parts:
                raise
        head = b"".join(parts)
        self._made = memoryview(head + self._made)
        return head

    def _advance(self, size: int) -> None:
        assert self._decoder is not None
        if self._decoder.eof:
            self._next_stream(self._decoder.unused_data + self._input)
            return
        if self._decoder.needs_input and not self._input:
            self._input = self._file.read(INPUT_BYTES)
            if not self._input:
                raise DamagedError("ends in the middle of its data", cut_off=True)
        data, self._input = (self._input, b"") if self._decoder.needs_input else (b"", self._input)
        made = _decompress(self._decoder, data, size)
        self._spend(len(made))
        self._made = memoryview(made)

    def _next_stream(self, rest: bytes) -> None:
        """Go on behind the end of a stream; zeros there are padding."""
        while not (rest := rest.lstrip(b"\0")) or len(rest) < 10:
            more = self._file.read(INPUT_BYTES)
            if not more:
                break
            rest += more
        if not rest or compression_of(rest) != self._compression:
            self.trailing = bool(rest)
            self._decoder = None
            return
        self._decoder = _DECODERS[self._compression]()
        self._input = rest


def _decompress(decoder: _Decoder, data: bytes, size: int) -> bytes:
    from zstandard import ZstdError

    try:
        return decoder.decompress(data, size)
    except (
        zlib.error,
        lzma.LZMAError,
        ZstdError,
        OSError,
        ValueError,
    ) as error:  # OSError and ValueError: bz2
        raise DamagedError(f"its data is damaged ({error})", cut_off=False) from None
