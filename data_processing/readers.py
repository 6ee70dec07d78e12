"""One function a format: from a file to documents, and to what in it is not one. Knows no rule of quality.

A reader is a generator `(path, *, source, text_field)`. The bytes of the items that it yields add up to the bytes
that it read. A new format is one such function and one entry in `READERS`.
"""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from data_processing.document import Document, Dropped
from data_processing.json_readers import read_json, read_json_lines
from data_processing.raw_files import changed_since, changed_while_read, format_of
from data_processing.text_encoding import Encoding, Undecodable, detect_encoding

PART_BYTES = 16 << 20
"""A longer text becomes several documents, so that a corpus in one file streams; arbitrary: ten long novels, and
small beside the memory of a laptop."""


class Reader(Protocol):
    """From a file to documents.

    Args:
        path: A regular file.
        source: The name of the file in documents and reports.
        text_field: Field of records that holds the text, for formats that have records.

    Raises:
        OSError: the file cannot be opened or read.
        DataError: the file as a whole is so damaged that going on would hide a mistake.
    """

    def __call__(self, path: Path, *, source: str, text_field: str) -> Iterator[Document | Dropped]: ...


def read_prose(path: Path, *, source: str, text_field: str) -> Iterator[Document | Dropped]:
    """A text file as one document, or as parts of about `PART_BYTES` cut at a blank line where there is one."""
    return _read_text(path, source=source, code=False)


def read_code(path: Path, *, source: str, text_field: str) -> Iterator[Document | Dropped]:
    """As `read_prose`, marked so that cleaning keeps its white space."""
    return _read_text(path, source=source, code=True)


_PROSE = (".txt", ".text", ".md", ".markdown", ".mdx", ".rst")
_CODE = (
    *(".py", ".pyi", ".js", ".mjs", ".cjs", ".ts", ".tsx", ".jsx", ".java", ".kt", ".kts", ".scala", ".clj"),
    *(".c", ".h", ".cpp", ".cc", ".cxx", ".hpp", ".hh", ".cs", ".go", ".rs", ".swift", ".zig", ".dart", ".m"),
    *(".rb", ".php", ".pl", ".pm", ".lua", ".r", ".jl", ".hs", ".ml", ".ex", ".exs", ".erl", ".f90"),
    *(".sh", ".bash", ".zsh", ".vim", ".sql", ".css", ".scss", ".proto", ".cmake", ".tex", ".bib"),
    *(".toml", ".yaml", ".yml", ".ini", ".cfg"),
)

READERS: dict[str, Reader] = {
    **dict.fromkeys(_PROSE, read_prose),
    **dict.fromkeys(_CODE, read_code),
    ".json": read_json,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
}
"""Extension in lower case -> reader."""


def _read_text(path: Path, *, source: str, code: bool) -> Iterator[Document | Dropped]:
    name = format_of(path)
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        if before.st_size == 0:  # it had some bytes when the directory was listed
            yield Dropped(source, "empty", "0 bytes", format=name)
            return
        encoding = detect_encoding(_chunks(file, before.st_size))
        if isinstance(encoding, Undecodable):
            yield Dropped(source, encoding.reason, encoding.detail, num_bytes=before.st_size, format=name)
            return
        metadata: dict[str, Any] = {"format": name, "encoding": encoding.name}
        if code:
            metadata["code"] = True
        file.seek(0)
        in_parts = before.st_size > PART_BYTES
        missing = before.st_size
        for number, (text, num_bytes) in enumerate(_parts(file, before.st_size, encoding), start=1):
            missing -= num_bytes
            if changed_since(file, before):
                # Of a large file, the parts before this one are kept: they were read as they stood.
                yield changed_while_read(source, name, num_bytes)
            elif in_parts:
                part = {**metadata, "part": number}
                yield Document.of(text, source=f"{source}#part={number}", metadata=part, num_bytes=num_bytes)
            else:
                yield Document.of(text, source=source, metadata=metadata, num_bytes=num_bytes)
        if missing:
            yield changed_while_read(source, name, missing)


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The first `size` bytes: what is appended while we read is not ours."""
    while size > 0 and (chunk := file.read(min(size, PART_BYTES))):
        size -= len(chunk)
        yield chunk


def _parts(file: BinaryIO, size: int, encoding: Encoding) -> Iterator[tuple[str, int]]:
    """(text, bytes read for it) of each part. What is carried over to the next part was counted in this one."""
    decoder = codecs.getincrementaldecoder(encoding.codec)(encoding.errors)
    carried = ""
    done = 0
    try:
        for chunk in _chunks(file, size):
            done += len(chunk)
            last = done == size
            text = carried + decoder.decode(chunk, final=last)
            end = len(text) if last else _end_of_part(text)
            carried = text[end:]
            yield text[:end], len(chunk)
    except UnicodeDecodeError:
        # It decoded a moment ago, so it was rewritten since; the caller sees that by the time stamp.
        yield "", len(chunk)


def _end_of_part(text: str) -> int:
    """Where a part ends that is followed by more: behind its last blank line, else its last line."""
    for separator in ("\n\n", "\r\n\r\n", "\n"):
        # In the second half only: a part of a few characters helps nobody.
        if (place := text.rfind(separator, len(text) // 2)) >= 0:
            return place + len(separator)
    return len(text)
