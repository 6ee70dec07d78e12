"""Readers of plain text, prose and source code. Know no rule of quality."""

import codecs
from collections.abc import Iterator
from typing import Any

from data_processing.document import Document, Dropped
from data_processing.formats.raw_input import RawInput, Reading
from data_processing.formats.text_encoding import Encoding, Undecodable, detect_encoding
from data_processing.sources.raw_files import changed_while_read

PART_BYTES = 16 << 20
"""A longer text becomes several documents, so that a corpus in one file streams; arbitrary: ten long novels, and
small beside the memory of a laptop."""


def read_prose(raw: RawInput, reading: Reading) -> Iterator[Document | Dropped]:
    """A text file as one document, or as parts of about `PART_BYTES` cut at a blank line where there is one."""
    return _read_text(raw, code=False)


def read_code(raw: RawInput, reading: Reading) -> Iterator[Document | Dropped]:
    """As `read_prose`, marked so that cleaning keeps its white space."""
    return _read_text(raw, code=True)


def _read_text(raw: RawInput, *, code: bool) -> Iterator[Document | Dropped]:
    encoding = detect_encoding(_chunks(raw))
    if isinstance(encoding, Undecodable):
        yield raw.dropped(encoding.reason, encoding.detail)
        return
    metadata: dict[str, Any] = {"format": raw.format, "encoding": encoding.name}
    if code:
        metadata["code"] = True
    in_parts = raw.num_bytes > PART_BYTES
    counted = 0
    try:
        for number, (text, num_bytes) in enumerate(_parts(raw, encoding), start=1):
            counted += num_bytes
            if in_parts:
                part = {**metadata, "part": number}
                yield Document.of(
                    text, source=f"{raw.source}#part={number}", metadata=part, num_bytes=num_bytes
                )
            else:
                yield Document.of(text, source=raw.source, metadata=metadata, num_bytes=num_bytes)
    except UnicodeDecodeError:
        pass  # it decoded a moment ago, so it was rewritten since
    if counted < raw.num_bytes:
        yield changed_while_read(raw.source, raw.format, raw.num_bytes - counted)


def _chunks(raw: RawInput) -> Iterator[bytes]:
    """The input from its beginning: what is appended while we read is not ours."""
    raw.file.seek(0)
    missing = raw.num_bytes
    while missing > 0 and (chunk := raw.file.read(min(missing, PART_BYTES))):
        missing -= len(chunk)
        yield chunk


def _parts(raw: RawInput, encoding: Encoding) -> Iterator[tuple[str, int]]:
    """(text, bytes read for it) of each part. What is carried over to the next part was counted in this one."""
    decoder = codecs.getincrementaldecoder(encoding.codec)(encoding.errors)
    carried = ""
    done = 0
    for chunk in _chunks(raw):
        done += len(chunk)
        last = done == raw.num_bytes
        text = carried + decoder.decode(chunk, final=last)
        end = len(text) if last else _end_of_part(text)
        carried = text[end:]
        yield text[:end], len(chunk)


def _end_of_part(text: str) -> int:
    """Where a part ends that is followed by more: behind its last blank line, else its last line."""
    for separator in ("\n\n", "\r\n\r\n", "\n"):
        # In the second half only: a part of a few characters helps nobody.
        if (place := text.rfind(separator, len(text) // 2)) >= 0:
            return place + len(separator)
    return len(text)
