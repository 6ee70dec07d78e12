"""Readers applied to bytes, with what every reader promises checked on the way."""

import io
from pathlib import PurePosixPath

from core.data_config import ReadingConfig
from data_processing.document import Document, Dropped
from data_processing.formats.raw_input import RawInput, Reader, Reading


def items_of(reader: Reader, data: bytes, name: str, **limits: object) -> list[Document | Dropped]:
    """What the reader makes of a file of this name; the bytes add up, and the format is named."""
    raw = RawInput(io.BytesIO(data), name, PurePosixPath(name).suffix, len(data))
    items = list(reader(raw, Reading(limits=ReadingConfig(**limits))))  # type: ignore[arg-type]
    sizes = [item.num_bytes for item in items]
    assert sum(size or 0 for size in sizes) == len(data), sizes
    assert all(size is not None and size >= 0 for size in sizes), sizes
    assert all(item.format == raw.format for item in items)
    assert all(item.source.startswith(name) for item in items)
    return items


def documents_of(reader: Reader, data: bytes, name: str, **limits: object) -> list[Document]:
    """As `items_of`, where nothing is dropped."""
    items = items_of(reader, data, name, **limits)
    documents = [item for item in items if isinstance(item, Document)]
    assert documents == items
    return documents


def text_of(reader: Reader, data: bytes, name: str, **limits: object) -> str:
    """The text of a file that is one document."""
    [document] = documents_of(reader, data, name, **limits)
    return document.text


def reason_of(reader: Reader, data: bytes, name: str, **limits: object) -> tuple[str, str]:
    """(reason, detail) of a file that is dropped as a whole."""
    [dropped] = items_of(reader, data, name, **limits)
    assert isinstance(dropped, Dropped)
    return dropped.reason, dropped.detail
