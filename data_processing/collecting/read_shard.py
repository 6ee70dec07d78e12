"""From raw files to a shard of cleaned texts: the first half of collecting, one call a shard, in any process.

What is decided here depends on one document alone. Next to the texts lie hashes of their lines, by which is found what
recurs across documents (`recurrence`), before anything is judged (`judge_shard`).
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

import numpy as np

from core.files import sha256_json
from core.packed_list import pack, unpack
from data_processing.collecting.shard_files import (
    DamagedShardError,
    Item,
    item_of_document,
    item_of_dropped,
    read_record,
    table_of_items,
    write_array,
    write_bytes,
    write_record,
)
from data_processing.collecting.shard_plan import shards
from data_processing.collecting.shard_store import ShardStore
from data_processing.document import Document, Dropped, utf8_size
from data_processing.formats.raw_input import Reading
from data_processing.formats.readers import read_file
from data_processing.formats.records import RecordCounts
from data_processing.rules.boilerplate import line_hashes, strip_wrapper
from data_processing.sources.raw_files import RawFile
from data_processing.sources.remote_files import RemoteFile
from data_processing.text_cleaner import TextCleaner

READ_VERSION = 4
"""To be raised when what comes out changes under equal settings: shards of earlier versions are then made anew."""

PART_TEXT_BYTES = 24 << 20
PART_ITEMS = 20_000
"""A shard is written in parts of at most about this much text, however large its files. Arbitrary: what a worker holds
in memory is some ten times this."""


PASSING_REASONS = frozenset({"unreadable", "vanished", "changed", "too_slow", "needs_extra"})
"""Reasons that may be gone next time although the file is the same: its shard is then read again."""


def library_versions(names: Iterable[str]) -> list[str]:
    """The versions of libraries that decide results; another one may read the same file in another way."""
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    return versions


@dataclass(frozen=True)
class ReadSettings:
    """What decides the content of a shard, beside its files.

    Attributes:
        reading: How files are read.
        cleaner: Its `clean` is called here; its limits are asked later.
        wrappers: Whether wrappers of known libraries are removed.
        lines: Whether hashes of lines are needed.
    """

    reading: Reading
    cleaner: TextCleaner
    wrappers: bool = True
    lines: bool = True

    def fingerprint(self) -> str:
        """One digest over all of it."""
        return sha256_json(
            [
                READ_VERSION,
                *library_versions(("lxml", "pypdf", "chardet", "ftfy", "pyarrow", "zstandard")),
                unicodedata.unidata_version,
                self.reading.text_field,
                self.reading.limits.to_dict(),
                self.cleaner.cleaning_fingerprint(),
                self.wrappers,
                self.lines,
            ]
        )


@dataclass(frozen=True)
class ReadTask:
    """Some files that become one shard.

    Attributes:
        store: Where shards lie.
        name: The shard's name, which stands for its files' contents and the settings.
        packed_files: The files in the order of the corpus, packed: a corpus of small files has more of them than fit.
        num_bytes: Size of all of them.
        has_ranges: Whether one of them is a range of a file.
    """

    store: ShardStore
    name: str
    settings: ReadSettings
    packed_files: bytes
    num_bytes: int
    has_ranges: bool

    @classmethod
    def of(
        cls, store: ShardStore, name: str, settings: ReadSettings, files: Sequence[RawFile | RemoteFile]
    ) -> "ReadTask":
        """The task of reading these files."""
        num_bytes = sum(file.num_bytes for file in files)
        return cls(store, name, settings, pack(files), num_bytes, any(map(is_range, files)))


def read_shard(task: ReadTask) -> list[str]:
    """The names of the parts that the shard consists of; they are written when it returns."""
    writer = ShardWriter(task.store, task.name, task.settings)
    ranges: dict[str, RecordCounts] = {}
    files: Sequence[RawFile | RemoteFile] = unpack(task.packed_files)
    for file in files:
        size = size_on_disk(file)
        counts = ranges.setdefault(file.source, RecordCounts()) if is_range(file) else None
        for item in read_file(file, task.settings.reading, counts):
            writer.add(item, file=file.source, file_bytes=size)
    return writer.finish(ranges)


def range_counts(store: ShardStore, shard: str) -> dict[str, RecordCounts]:
    """What the records of the ranges in a shard were, by source: files that are judged when all ranges are read."""
    record = read_record(store, f"{shard}.shard")
    return {source: RecordCounts(**counts) for source, counts in record["ranges"].items()}


class ShardWriter:
    """Cleans documents and writes them as the parts of a shard, at most one part in memory."""

    def __init__(self, store: ShardStore, name: str, settings: ReadSettings) -> None:
        self._store = store
        self._name = name
        self._settings = settings
        self._items: list[Item] = []
        self._text_bytes = 0
        self._lines: list[np.ndarray] = []
        self._parts: list[str] = []
        self._passing = False

    def add(self, item: Document | Dropped, *, file: str = "", file_bytes: int = 0) -> None:
        """Append a document, which is cleaned, or something that was left out."""
        if isinstance(item, Dropped):
            self._passing |= item.reason in PASSING_REASONS
            self._items.append(item_of_dropped(item, file=file, file_bytes=file_bytes))
        else:
            self._items.append(self._cleaned(item, file, file_bytes))
        self._text_bytes += len(self._items[-1].text)
        if self._text_bytes >= PART_TEXT_BYTES or len(self._items) >= PART_ITEMS:
            self._write_part()

    def finish(self, ranges: Mapping[str, RecordCounts] = {}) -> list[str]:
        """Write what waits and, last, the list of parts, which this returns, with what `range_counts` reads."""
        if self._items:
            self._write_part()
        counts = {source: asdict(seen) for source, seen in ranges.items()}
        record = {"parts": self._parts, "passing": self._passing, "ranges": counts}
        write_record(self._store, f"{self._name}.shard", record)
        return self._parts

    def _cleaned(self, document: Document, file: str, file_bytes: int) -> Item:
        item = item_of_document(document, file=file, file_bytes=file_bytes)
        code = bool(document.metadata.get("code"))
        item.read_bytes = utf8_size(document.text)
        text = self._settings.cleaner.clean(document.text, code=code)
        size = _note_removed(item, "cleaning", item.read_bytes, text)
        if self._settings.wrappers and not code:
            text, wrapper = strip_wrapper(text)
            if wrapper is not None:
                item.metadata["wrapper"] = wrapper
                _note_removed(item, "wrapper", size, text)
        if self._settings.lines:
            self._lines.append(line_hashes(text, code=code))
        item.text = text
        return item

    def _write_part(self) -> None:
        table = table_of_items(self._items)
        # With a digest of the content: what is judged by this name must not be taken for what was there before, when a
        # file that could not be read now can.
        digest = hashlib.blake2b(table, digest_size=8).hexdigest()
        part = f"{self._name}-{len(self._parts):05d}-{digest}"
        if self._settings.lines:
            # Of one document each hash stands once, so a count is a number of documents.
            hashes, counts = np.unique(_joined(self._lines), return_counts=True)
            write_array(self._store, f"{part}.lines", hashes)
            write_array(self._store, f"{part}.line-counts", counts.astype(np.uint32))
        write_record(self._store, f"{part}.files", sorted({item.file for item in self._items}))
        write_bytes(self._store, f"{part}.items", table)
        self._parts.append(part)
        self._items, self._lines, self._text_bytes = [], [], 0


def spool(
    items: Iterable[Document | Dropped], store: ShardStore, settings: ReadSettings
) -> Iterator[list[str]]:
    """The parts of one shard after the other, made of documents that a caller hands in.

    A shard that was made of the same documents earlier is not made again; so what is handed in again, all but a few
    documents of it, costs little more than reading it.
    """
    for stretch in shards(items, name=_name_of, num_bytes=_size_of):
        digest = hashlib.blake2b(settings.fingerprint().encode(), digest_size=16)
        for item in stretch:
            digest.update(repr(item).encode("utf-8", "surrogatepass"))
        name = f"read/given-{digest.hexdigest()}"
        if (parts := finished_parts(store, name)) is not None:
            yield parts
            continue
        writer = ShardWriter(store, name, settings)
        for item in stretch:
            writer.add(item)
        yield writer.finish()


def _name_of(item: Document | Dropped) -> str:
    return item.id if isinstance(item, Document) else item.source


def _size_of(item: Document | Dropped) -> int:
    return item.input_bytes if isinstance(item, Document) else item.num_bytes


def is_range(file: RawFile | RemoteFile) -> bool:
    """Whether it is a range of a file and not the whole."""
    return file.begin > 0 or file.end is not None


def size_on_disk(file: RawFile | RemoteFile) -> int:
    """Size of the whole file, of which `file` may be a range."""
    if not isinstance(file, RawFile) or not is_range(file):
        return file.num_bytes
    try:
        return file.path.stat().st_size
    except OSError:  # reading it will say the same
        return file.num_bytes


def shard_of_part(part: str) -> str:
    """The name of the shard that a part belongs to."""
    return part.rsplit("-", 2)[0]


def finished_parts(store: ShardStore, name: str) -> list[str] | None:
    """The parts of a shard that is there and can be used; None = it has to be made."""
    if not store.exists(f"{name}.shard"):
        return None
    try:
        record = read_record(store, f"{name}.shard")
    except DamagedShardError:
        return None
    parts: list[str] = record["parts"]
    whole = all(store.exists(f"{part}.items") for part in parts)
    return parts if whole and not record["passing"] else None


def _note_removed(item: Item, step: str, size: int, text: str) -> int:
    """The size of `text`; what is missing from `size` was taken by `step`."""
    now = utf8_size(text)
    if now != size:
        item.removed[step] = size - now
    return now


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(0, np.uint64)
