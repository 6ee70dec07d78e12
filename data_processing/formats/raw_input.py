"""What a reader gets: an open file, its name and size, and how the user wants files to be read. Reads nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from core.data_config import ReadingConfig
from data_processing.document import Document, Dropped


@dataclass(frozen=True, slots=True)
class Reading:
    """How the user wants files to be read.

    Attributes:
        text_field: Field of records that holds the text; `meta.body` goes into nested objects.
        limits: Where reading stops.
    """

    text_field: str = "text"
    limits: ReadingConfig = field(default_factory=ReadingConfig)


@dataclass(frozen=True, slots=True)
class RawInput:
    """One stream of bytes to be read, plain: compression and archives around it are already opened.

    Attributes:
        file: Open for reading in binary, at its beginning, and seekable. The reader does not close it.
        source: Its name in documents and reports; a member of an archive is `a/b.zip!inner/c.txt`.
        format: The extension that says how it is read, in lower case, such as `.txt`.
        num_bytes: Its length. What is appended to the file meanwhile is not ours.
    """

    file: BinaryIO
    source: str
    format: str
    num_bytes: int

    def dropped(
        self, reason: str, detail: str = "", *, sample: str = "", num_bytes: int | None = None
    ) -> Dropped:
        """The record of the whole input's (or of `num_bytes` of it) being left out."""
        size = self.num_bytes if num_bytes is None else num_bytes
        return Dropped(self.source, reason, detail, sample, size, self.format)


class Reader(Protocol):
    """From one input to documents, a generator.

    The bytes of the items that it yields (`Document.input_bytes`, `Dropped.num_bytes`) add up to `raw.num_bytes`. Each
    document's metadata has `format`, and where it applies `encoding` and `code: true`.

    Raises:
        OSError: the file cannot be read on.
        DataError: the file as a whole is so damaged that going on would hide a mistake.
    """

    def __call__(self, raw: RawInput, reading: Reading) -> Iterator[Document | Dropped]: ...
