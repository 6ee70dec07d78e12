"""An HTTP response as a web archive keeps it: status, headers, and its content as the page's author wrote it."""

import io
import re
import zlib
from dataclasses import dataclass

from data_processing.formats.input_bytes import MAX_WHOLE_BYTES
from data_processing.formats.not_readable import NotReadableError

_HEADER_ENDS = (b"\r\n\r\n", b"\n\n")
_CHARSET = re.compile(r""";\s{0,20}charset\s{0,20}=\s{0,20}["']?([\w.:-]{1,40})""", re.IGNORECASE)
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response.

    Attributes:
        status: Such as 200; None when the first line is no status.
        media_type: Such as `text/html`, in lower case; empty when it is not given.
        charset: As declared; None when it is not.
        content: Without chunks and compression.
    """

    status: int | None
    media_type: str
    charset: str | None
    content: bytes


def parse_response(block: bytes) -> HttpResponse:
    """The response that `block` is.

    Raises:
        NotReadableError: its content is compressed in a way that is not read, or damaged.
    """
    head, content = _divided(block)
    first, *rest = head.decode("latin-1").splitlines() or [""]
    headers: dict[str, str] = {}
    for line in rest:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    media_type, charset = media_type_of(headers.get("content-type", ""))
    if "chunked" in headers.get("transfer-encoding", "").lower():
        content = _without_chunks(content)
    return HttpResponse(
        _status(first), media_type, charset, _unpacked(content, headers.get("content-encoding", ""))
    )


def media_type_of(content_type: str) -> tuple[str, str | None]:
    """(`text/html`, charset) out of a value such as `text/html; charset=utf-8`."""
    charset = _CHARSET.search(content_type)
    return content_type.partition(";")[0].strip().lower(), charset[1] if charset else None


def _divided(block: bytes) -> tuple[bytes, bytes]:
    ends = [(place, end) for end in _HEADER_ENDS if (place := block.find(end)) >= 0]
    if not ends:
        return block, b""
    place, end = min(ends)
    return block[:place], block[place + len(end) :]


def _status(line: str) -> int | None:
    words = line.split(None, 2)
    is_status = len(words) > 1 and words[0].startswith("HTTP/") and words[1].isascii() and words[1].isdigit()
    return int(words[1]) if is_status and len(words[1]) == 3 else None


def _without_chunks(content: bytes) -> bytes:
    """The content of chunks (RFC 9112, section 7.1); what is not in chunks stays, as archives often keep it so."""
    pieces: list[bytes] = []
    place = 0
    while (end := content.find(b"\n", place, place + 1000)) >= 0:
        size = content[place:end].partition(b";")[0].strip()
        if not size or len(size) > 8 or not all(digit in b"0123456789abcdefABCDEF" for digit in size):
            break
        length = int(size, 16)
        if length == 0:
            return b"".join(pieces)
        pieces.append(content[end + 1 : end + 1 + length])
        place = end + 1 + length
        place += 2 if content.startswith(b"\r\n", place) else 1
    return b"".join(pieces) if pieces else content


def _unpacked(content: bytes, encoding: str) -> bytes:
    """The content without compression; archives often keep it so, and the header that says otherwise."""
    encoding = encoding.strip().lower()
    if encoding in ("gzip", "x-gzip") and content.startswith(_GZIP):
        return _inflated(content, zlib.MAX_WBITS | 16)
    if encoding == "deflate" and content[:1] == b"\x78":
        return _inflated(content, zlib.MAX_WBITS)
    if encoding == "zstd" and content.startswith(_ZSTD):
        return _streamed(content, "zstd")
    # Brotli begins with no mark of its own; what begins as a page does was unpacked already.
    if encoding == "br" and not content.lstrip().startswith(b"<"):
        return _streamed(content, "brotli")
    if encoding in ("compress", "x-compress"):
        raise NotReadableError(
            "unsupported_format", f"content compressed with {encoding!r}, which is not read"
        )
    return content


def _inflated(content: bytes, window_bits: int) -> bytes:
    inflater = zlib.decompressobj(window_bits)
    try:
        data = inflater.decompress(content, MAX_WHOLE_BYTES + 1)
    except zlib.error as error:
        raise NotReadableError("damaged_archive", f"content cannot be unpacked: {error}") from None
    if len(data) > MAX_WHOLE_BYTES:
        raise NotReadableError("too_large", f"content unpacks to more than {MAX_WHOLE_BYTES} bytes")
    return data


def _streamed(content: bytes, codec: str) -> bytes:
    import pyarrow as pa

    data = io.BytesIO()
    try:
        with pa.CompressedInputStream(pa.BufferReader(content), codec) as stream:
            while data.tell() <= MAX_WHOLE_BYTES and (piece := stream.read(_PIECE_BYTES)):
                data.write(piece)
    except OSError as error:
        raise NotReadableError("damaged_archive", f"content cannot be unpacked: {error}") from None
    if data.tell() > MAX_WHOLE_BYTES:
        raise NotReadableError("too_large", f"content unpacks to more than {MAX_WHOLE_BYTES} bytes")
    return data.getvalue()
