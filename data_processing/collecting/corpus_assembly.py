"""From judged parts to the corpus: which documents are alike, what becomes of each, and the stretches end to end.

The only step of collecting that sees all documents together; it sees of them digests, bands and sizes.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from core.data_config import DuplicatesConfig
from core.files import atomic_writer
from core.progress import progress
from data_processing.collecting.assemble_part import Decisions, dropped_line, json_line
from data_processing.collecting.shard_files import (
    read_array,
    read_packed,
    read_record,
    read_sources,
    read_texts,
)
from data_processing.collecting.shard_store import ShardStore
from data_processing.collecting.verified_pairs import read_verified, write_verified
from data_processing.document import Dropped
from data_processing.duplicates.near_duplicates import find_near_duplicates
from data_processing.duplicates.recurrence import earlier_paragraphs, first_of_equal_texts
from data_processing.reports.corpus_files import CORPUS_NAME, DROPPED_NAME, FILES_NAME
from data_processing.reports.report import Ledger, SourceCounts


@dataclass(frozen=True)
class Duplicates:
    """Which documents are alike. Documents are numbered through all parts in order, what was left out included.

    Attributes:
        first: int64 (N,): the first document with the same text; itself where it is the first or takes no part.
        root: int64 (N,): the member of its cluster of near duplicates that stays; itself where it is alone.
        similarity: float32 (N,): Jaccard similarity to the member that it was found alike with.
        keys: Root of a cluster of several → the cluster's key.
        statistics: What the search met, for the report.
    """

    first: np.ndarray
    root: np.ndarray
    similarity: np.ndarray
    keys: Mapping[int, str] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)


def find_duplicates(
    store: ShardStore,
    parts: Sequence[str],
    *,
    exact: bool,
    near: DuplicatesConfig,
    memory_bytes: int,
) -> Duplicates:
    """The duplicates among all documents that were kept so far.

    Args:
        parts: Names of judged parts, in the order of the corpus.
        exact: Whether equal texts count; of near duplicates they always are.
    """
    indexes = [read_array(store, f"{part}.index") for part in parts]
    num_documents = sum(map(len, indexes))
    alone = np.arange(num_documents, dtype=np.int64)
    if not exact and near.near == "off":
        return Duplicates(alone, alone, np.ones(num_documents, np.float32))
    first = first_of_equal_texts([index["digest"] for index in indexes], memory_bytes=memory_bytes)
    if near.near == "off":
        return Duplicates(first, alone, np.ones(num_documents, np.float32))
    kept = np.concatenate([index["kept"] for index in indexes]) if indexes else np.empty(0, bool)
    offsets = np.concatenate([[0], np.cumsum([len(index) for index in indexes])])
    # Equal texts are one candidate, or ten thousand copies of a page would be compared with each other.
    candidates = kept & (first == alone)
    bands = [
        _Masked(read_array(store, f"{part}.bands"), candidates[start:end])
        for part, start, end in zip(
            progress(parts, description="reading band hashes", unit="parts"),
            offsets,
            offsets[1:],
            strict=False,
        )
    ]
    sizes = [index["num_characters"] for index in indexes]
    digests = [index["digest"] for index in indexes]

    def texts(numbers: Sequence[int]) -> Iterator[tuple[int, str]]:
        wanted = np.sort(np.asarray(numbers, dtype=np.int64))
        for part, start, end in zip(parts, offsets, offsets[1:], strict=False):
            rows = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, end)] - start
            if len(rows):
                for row, text in read_texts(store, f"{part}.items", rows):
                    yield int(start) + row, text

    clusters = find_near_duplicates(
        bands,
        np.concatenate(sizes) if sizes else np.empty(0, np.uint32),
        texts,
        min_similarity=near.min_similarity,
        memory_bytes=memory_bytes,
        known=read_verified(store, digests, first),
    )
    if clusters.work["num_computed_pairs"]:
        write_verified(store, clusters.verified, digests)
    keys = _cluster_keys(clusters.root, digests, offsets)
    # A copy goes with the text that it is a copy of.
    return Duplicates(first, clusters.root[first], clusters.similarity[first], keys, clusters.statistics)


class _Masked:
    """The bands of a part, read one at a time, with zeros for documents that are not candidates."""

    def __init__(self, bands: np.ndarray, mask: np.ndarray) -> None:
        self._bands = bands
        self._mask = mask
        self.shape = bands.shape

    def __getitem__(self, band: int) -> np.ndarray:
        return np.where(self._mask, self._bands[band], np.uint64(0))


def _cluster_keys(root: np.ndarray, digests: Sequence[np.ndarray], offsets: np.ndarray) -> dict[int, str]:
    """Root → key, of clusters of different texts: the lowest digest among the members, so that a new member changes
    the key (and with it the split) in one case out of as many as there are members, and a lone text has its own."""
    keys: dict[int, str] = {}
    sizes = np.bincount(root, minlength=len(root))
    for number in np.flatnonzero(sizes[root] > 1):
        part = int(np.searchsorted(offsets, number, side="right")) - 1
        key = digests[part][number - offsets[part]].tobytes().hex()
        cluster = int(root[number])
        keys[cluster] = min(keys.get(cluster, key), key)
    return keys


def decide(
    store: ShardStore,
    parts: Sequence[str],
    duplicates: Duplicates,
    settings: DuplicatesConfig,
    *,
    remove_exact: bool,
    remove_near: bool,
    memory_bytes: int,
) -> Iterator[Decisions]:
    """What becomes of the documents of each part, part by part.

    Args:
        remove_exact, remove_near: Which duplicates are left out; the others stay, in one cluster.
    """
    numbers = np.arange(len(duplicates.root))
    none = np.zeros(len(numbers), dtype=bool)
    copies = (duplicates.first != numbers) if remove_exact else none
    near = (duplicates.root != numbers) & ~copies if remove_near else none
    sizes = [len(read_array(store, f"{part}.index")) for part in parts]
    ends = np.cumsum(sizes, dtype=np.int64)
    clustered = np.isin(duplicates.root, np.fromiter(duplicates.keys, np.int64)) & ~copies & ~near
    lost_by, lost = np.empty(0, np.int64), np.empty(0, np.uint64)
    if settings.paragraphs:
        paragraphs = [read_array(store, f"{part}.paragraphs") for part in parts]
        stays = np.split(~copies & ~near, ends[:-1]) if sizes else []
        lost_by, lost = earlier_paragraphs(paragraphs, stays, memory_bytes=memory_bytes)
    wanted = np.union1d(duplicates.first[copies], duplicates.root[near])
    names = dict(_sources(store, parts, sizes, wanted))
    for size, end in zip(sizes, ends, strict=True):
        begin = int(end) - size
        here = slice(begin, int(end))
        left_out = {
            int(row): ("duplicate", f"the same text as {names[int(duplicates.first[begin + row])]}")
            for row in np.flatnonzero(copies[here])
        }
        for row in np.flatnonzero(near[here]):
            share = duplicates.similarity[begin + row]
            detail = f"like {names[int(duplicates.root[begin + row])]} (similarity {share:.2f})"
            left_out[int(row)] = ("near_duplicate", detail)
        clusters = {
            int(row): duplicates.keys[int(duplicates.root[begin + row])]
            for row in np.flatnonzero(clustered[here])
        }
        losses: dict[int, list[int]] = {}
        for place in range(*np.searchsorted(lost_by, [begin, int(end)])):
            losses.setdefault(int(lost_by[place]) - begin, []).append(int(lost[place]))
        yield Decisions(left_out, clusters, losses, settings.paragraph_min_characters)


def _sources(
    store: ShardStore, parts: Sequence[str], sizes: Sequence[int], wanted: np.ndarray
) -> Iterator[tuple[int, str]]:
    """(number, source) of the documents `wanted`, which ascend."""
    begin = 0
    named = progress(parts, description="naming duplicates", unit="parts")
    for part, size in zip(named, sizes, strict=True):
        rows = wanted[np.searchsorted(wanted, begin) : np.searchsorted(wanted, begin + size)] - begin
        if len(rows):
            for row, source in read_sources(store, f"{part}.items", rows):
                yield begin + row, source
        begin += size


class EmptyCorpusError(Exception):
    """Nothing is left to write; the ledger says why."""


def write_corpus(
    store: ShardStore,
    stretches: Iterable[str],
    ledger: Ledger,
    found: Sequence[Dropped],
    directory: Path,
    *,
    beside: Callable[[], Mapping[str, bytes]],
    num_stretches: int,
) -> None:
    """Write the corpus and the lists beside it into `directory` and add every stretch's account to `ledger`.

    All files appear under their names, one after the other, when all are complete: an error leaves the old ones, and
    only a kill within these renames could leave some of each.

    Args:
        stretches: Names of what `assemble_part` wrote, in the order of the corpus.
        found: What was left out before anything was read; it stands in `ledger` already.
        beside: Name → content of further files, asked for when the account is complete.

    Raises:
        EmptyCorpusError: nothing is left; no file was written then.
        DiskError: the disk is full, read-only or failing.
    """
    with contextlib.ExitStack() as stack:
        corpus, dropped, files = (
            stack.enter_context(atomic_writer(directory / name))
            for name in (CORPUS_NAME, DROPPED_NAME, FILES_NAME)
        )
        lines = _FileLines(files, ledger)
        for record in found:
            dropped.write(dropped_line(record))
            lines.left_out(record)
        for name in progress(stretches, total=num_stretches, description="writing the corpus", unit="parts"):
            for piece in read_packed(store, f"{name}.corpus"):
                corpus.write(piece)
            for piece in read_packed(store, f"{name}.dropped"):
                dropped.write(piece)
            account = read_record(store, f"{name}.record")
            ledger.add(Ledger.from_dict(account["ledger"]))
            for file in account["files"]:
                lines.enter(file)
        lines.finish()
        if ledger.kept == 0:
            raise EmptyCorpusError
        for name, content in beside().items():
            stack.enter_context(atomic_writer(directory / name)).write(content)


class _FileLines:
    """Writes what became of each raw file; a file may go on in the next stretch."""

    def __init__(self, output: IO[bytes], ledger: Ledger) -> None:
        self._output = output
        self._ledger = ledger
        self._file: tuple[str, int, SourceCounts] | None = None

    def left_out(self, record: Dropped) -> None:
        """Write a file that was left out before it was read."""
        counts = SourceCounts()
        counts.enter(record)
        self._write(record.source, record.num_bytes, counts, read=False)

    def enter(self, file: Mapping[str, Any]) -> None:
        """Take the counts of a file, or of more of the file before."""
        counts = SourceCounts.from_dict(file)
        if self._file is not None and self._file[0] == file["source"]:
            self._file[2].add(counts)
            return
        self.finish()
        self._file = (file["source"], file["num_bytes"], counts)

    def finish(self) -> None:
        """Write the file that was taken last."""
        if self._file is None:
            return
        source, num_bytes, counts = self._file
        if counts.bytes_in != num_bytes:
            self._ledger.unpack(packed_bytes=num_bytes, unpacked_bytes=counts.bytes_in)
        self._write(source, num_bytes, counts, read=True)
        self._file = None

    def _write(self, source: str, num_bytes: int, counts: SourceCounts, *, read: bool) -> None:
        line = {"source": source, "num_bytes": num_bytes, "read": read, **counts.to_dict()}
        self._output.write(json_line(line))


def cluster_lines(store: ShardStore, parts: Sequence[str], duplicates: Duplicates) -> bytes:
    """Each cluster of near duplicates on a line, in the order of their first members."""
    numbers = np.arange(len(duplicates.root))
    # Copies stand in the account as duplicates; here are texts that differ.
    roots = np.fromiter(sorted(duplicates.keys), np.int64)
    members = numbers[np.isin(duplicates.root, roots) & (duplicates.first == numbers)]
    indexes = [read_array(store, f"{part}.index") for part in parts]
    sizes = [len(index) for index in indexes]
    lengths = np.concatenate([index["num_characters"] for index in indexes]) if indexes else np.empty(0)
    clusters: dict[int, list[dict[str, Any]]] = {}
    kept: dict[int, str] = {}
    for number, source in _sources(store, parts, sizes, members):
        root = int(duplicates.root[number])
        if number == root:
            kept[root] = source
        clusters.setdefault(root, []).append(
            {
                "source": source,
                "similarity": round(float(duplicates.similarity[number]), 4),
                "num_characters": int(lengths[number]),
            }
        )
    return b"".join(
        json_line({"cluster": duplicates.keys[root], "kept": kept[root], "members": inside})
        for root, inside in clusters.items()
    )
