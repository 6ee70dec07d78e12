"""The bytes of an open input, in pieces or whole up to a limit, and the account of them. Knows no format."""

import dataclasses
from collections.abc import Iterable, Iterator

from data_processing.document import Document, Dropped
from data_processing.formats.raw_input import RawInput

CHUNK_BYTES = 1 << 20
"""Bytes that are read at once. Arbitrary: large beside the cost of a call, and short enough that a time limit is
noticed between two of them."""

PART_BYTES = 16 << 20
"""Input longer than this becomes several documents where its format allows, so that memory stays bounded; the same
size as for plain text."""

MAX_WHOLE_BYTES = 64 << 20
"""A file that can only be read as a whole is `too_large` above this. Arbitrary: parsed, it takes some ten times as
much memory."""

Items = Iterator[Document | Dropped]


def chunks(raw: RawInput) -> Iterator[bytes]:
    """The input from its beginning, in pieces of at most `CHUNK_BYTES`; never more than `raw.num_bytes`."""
    raw.file.seek(0)
    missing = raw.num_bytes
    while missing > 0 and (chunk := raw.file.read(min(missing, CHUNK_BYTES))):
        missing -= len(chunk)
        yield chunk


def whole(raw: RawInput) -> bytes | Dropped:
    """The input in one piece, or the record of its being `too_large`."""
    if raw.num_bytes > MAX_WHOLE_BYTES:
        detail = f"{raw.num_bytes} bytes of {raw.format}, at most {MAX_WHOLE_BYTES} are read; divide it"
        return raw.dropped("too_large", detail)
    return b"".join(chunks(raw))


def with_all_bytes(raw: RawInput, items: Iterable[Document | Dropped]) -> Items:
    """The items, the last of them with the bytes that are still missing from `raw.num_bytes`.

    What stands behind the last record (a closing bracket, an index of the archive) belongs to somebody too. Sizes that
    a damaged archive gives its members are believed up to what the input has. An input without any item is `empty`.
    """
    last: Document | Dropped | None = None
    missing = raw.num_bytes
    for item in items:
        if last is not None:
            num_bytes = min(_bytes_of(last), missing)
            missing -= num_bytes
            yield dataclasses.replace(last, num_bytes=num_bytes)
        last = item
    if last is None:
        yield raw.dropped("empty", f"holds nothing that {raw.format} is made of")
    else:
        yield dataclasses.replace(last, num_bytes=missing)


def _bytes_of(item: Document | Dropped) -> int:
    return item.input_bytes if isinstance(item, Document) else item.num_bytes
