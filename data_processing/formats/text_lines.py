"""The lines of an input, and where it can be divided between lines. Knows no format."""

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from data_processing.formats.raw_input import RawInput
from data_processing.formats.text_encoding import Encoding

MAX_LINE_BYTES = 64 << 20
"""A longer line is not held in memory; arbitrary."""

BLOCK_BYTES = 1 << 20


def byte_lines(raw: RawInput, *, first_line: int = 1) -> Iterator[tuple[int, bytes | None, int]]:
    """(number, line with its end, bytes since the end of the line before) of every line that is not blank.

    None stands for a line that is too long to be held in memory. Numbers count blank lines too. For text in which a
    line feed is one byte.
    """
    raw.file.seek(0)
    missing = raw.num_bytes
    number = first_line - 1
    num_bytes = 0
    limit = MAX_LINE_BYTES + 1
    while missing > 0 and (line := raw.file.readline(limit if limit < missing else missing)):
        number += 1
        missing -= len(line)
        num_bytes += len(line)
        if line.isspace():
            continue
        end = line
        while missing > 0 and not end.endswith(b"\n") and (end := raw.file.readline(min(missing, limit))):
            missing -= len(end)
            num_bytes += len(end)
        yield number, line if end is line else None, num_bytes
        num_bytes = 0


def text_lines(raw: RawInput, encoding: Encoding) -> Iterator[tuple[str, int]]:
    """(line, bytes that it was read from) of every line, with its end, blank ones too.

    One that is longer than `MAX_LINE_BYTES` comes in pieces.
    """
    if encoding.codec.startswith(("utf-16", "utf-32")):
        return _lines_of_wide_text(raw, encoding)
    return _lines_of_bytes(raw, encoding)


def _lines_of_bytes(raw: RawInput, encoding: Encoding) -> Iterator[tuple[str, int]]:
    raw.file.seek(0)
    missing = raw.num_bytes
    # One decoder for all of it: a piece of a long line may end within a character.
    decoder = codecs.getincrementaldecoder(encoding.codec)(encoding.errors)
    while missing > 0 and (line := raw.file.readline(min(missing, MAX_LINE_BYTES))):
        missing -= len(line)
        yield decoder.decode(line, final=missing == 0), len(line)


def _lines_of_wide_text(raw: RawInput, encoding: Encoding) -> Iterator[tuple[str, int]]:
    raw.file.seek(0)
    decoder = codecs.getincrementaldecoder(encoding.codec)(encoding.errors)
    # Its bytes without a mark: that of the whole input is counted with the first line.
    codec = encoding.codec if encoding.codec.endswith(("le", "be")) else f"{encoding.codec}-le"
    missing = raw.num_bytes
    counted = 0
    waiting = ""
    while missing > 0 and (chunk := raw.file.read(min(missing, BLOCK_BYTES))):
        missing -= len(chunk)
        waiting += decoder.decode(chunk, final=missing == 0)
        *lines, waiting = waiting.split("\n")
        for line in lines:
            line += "\n"
            size = len(line.encode(codec, "surrogatepass"))
            counted += size
            yield line, size
        if len(waiting) > MAX_LINE_BYTES:
            counted += len(waiting.encode(codec, "surrogatepass"))
            yield waiting, len(waiting.encode(codec, "surrogatepass"))
            waiting = ""
    if waiting or counted < raw.num_bytes:
        yield waiting, raw.num_bytes - missing - counted


def split_points(path: Path, part_bytes: int) -> list[tuple[int, int, int]]:
    """(begin, end, number of the first line) of parts of a file of lines of about so many bytes, to be read apart.

    Each ends with the end of a line that is not blank, and holds at least one; so what is read from the parts, one
    after the other, is what is read from the whole, down to the bytes of each line. A file in UTF-16 or UTF-32, where
    the byte of a line feed may be part of another character, is one part.

    Raises:
        OSError: the file cannot be read.
    """
    assert part_bytes > 0
    size = path.stat().st_size
    parts: list[tuple[int, int, int]] = []
    with path.open("rb") as file:
        if is_wide(file.read(4096)):
            return [(0, size, 1)]
        last = _last_byte_of_text(file, size)
        begin, first_line = 0, 1
        while size - begin > part_bytes:
            end = _end_of_line_with_text(file, begin + part_bytes)
            if end > last:
                break
            parts.append((begin, end, first_line))
            first_line += _num_line_feeds(file, begin, end)
            begin = end
    return [*parts, (begin, size, first_line)]


def is_wide(head: bytes) -> bool:
    """Whether text that begins so is UTF-16 or UTF-32, in which line feeds take several bytes."""
    return b"\0" in head or head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def _last_byte_of_text(file: BinaryIO, size: int) -> int:
    """Where the last byte is that is not white space; -1 when there is none."""
    end = size
    while end > 0:
        begin = max(0, end - BLOCK_BYTES)
        file.seek(begin)
        if text := file.read(end - begin).rstrip():
            return begin + len(text) - 1
        end = begin
    return -1


def _end_of_line_with_text(file: BinaryIO, place: int) -> int:
    """Where the first line ends that is not blank from `place` on, or where the file ends."""
    file.seek(place)
    has_text = False
    while piece := file.readline(BLOCK_BYTES):
        has_text = has_text or not piece.isspace()
        if has_text and piece.endswith(b"\n"):
            break
    return file.tell()


def _num_line_feeds(file: BinaryIO, begin: int, end: int) -> int:
    file.seek(begin)
    number = 0
    while begin < end and (block := file.read(min(BLOCK_BYTES, end - begin))):
        number += block.count(b"\n")
        begin += len(block)
    return number
