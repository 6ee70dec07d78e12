"""From a judged part and what was decided about its documents to its stretch of the corpus, in any process.

The last step of collecting that looks at texts; behind it, stretches are put end to end and accounts added up.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.files import sha256_json
from data_processing.collecting.shard_files import Item, read_items, write_packed, write_record
from data_processing.collecting.shard_store import ShardStore
from data_processing.document import Dropped, excerpt, utf8_size
from data_processing.reports.report import CODE_LANGUAGE, UNKNOWN_LANGUAGE, Kept, Ledger, SourceCounts
from data_processing.rules.boilerplate import remove_paragraphs
from data_processing.text_cleaner import TextCleaner

ASSEMBLE_VERSION = 2
"""To be raised when what is written changes: stretches of earlier versions are then written anew."""


@dataclass(frozen=True)
class Decisions:
    """What was decided about the documents of one part, by row.

    Attributes:
        left_out: Row → (reason, detail) of duplicates.
        clusters: Row → key of the cluster that it is in.
        paragraphs: Row → hashes of the paragraphs that it loses.
        min_characters: Length of the shortest paragraph.
    """

    left_out: Mapping[int, tuple[str, str]]
    clusters: Mapping[int, str]
    paragraphs: Mapping[int, list[int]]
    min_characters: int


@dataclass(frozen=True)
class AssembleTask:
    """A judged part to be written as a stretch of the corpus.

    Attributes:
        store: Where shards lie.
        part: Name of the judged part.
        decisions: What becomes of its documents.
        cleaner: Its limits are asked again where a document lost paragraphs.
    """

    store: ShardStore
    part: str
    decisions: Decisions
    cleaner: TextCleaner

    @property
    def name(self) -> str:
        """The name of the stretch, which stands for everything that decides it."""
        decided = self.decisions
        limits = self.cleaner.fingerprint() if decided.paragraphs else ""
        content = [
            ASSEMBLE_VERSION,
            self.part,
            sorted(decided.left_out.items()),
            sorted(decided.clusters.items()),
            sorted(decided.paragraphs.items()),
            decided.min_characters,
            limits,
        ]
        return f"assembled/{sha256_json(content)[:32]}"


def assemble_part(task: AssembleTask) -> str:
    """The name of the stretch; its lines, drops and account are written when it returns."""
    corpus, dropped, files, ledger = bytearray(), bytearray(), FileCounts(), Ledger()
    for row, item in enumerate(read_items(task.store, f"{task.part}.items")):
        if not item.reason:
            _decide(row, item, task)
        record = item.as_dropped() if item.reason else _kept(item)
        ledger.enter(record)
        files.enter(record, file=item.file, num_bytes=item.file_bytes)
        if isinstance(record, Dropped):
            dropped += dropped_line(record)
        else:
            corpus += _corpus_line(item)
    name = task.name
    write_packed(task.store, f"{name}.corpus", bytes(corpus))
    write_packed(task.store, f"{name}.dropped", bytes(dropped))
    write_record(task.store, f"{name}.record", {"ledger": ledger.to_dict(), "files": files.finish()})
    return name


class FileCounts:
    """What became of each raw file; the items of a file stand together."""

    def __init__(self) -> None:
        self._files: list[tuple[str, int, SourceCounts]] = []

    def enter(self, record: Kept | Dropped, *, file: str, num_bytes: int) -> None:
        """Count a document of a file of so many bytes on the disk."""
        if not file:  # a text that did not come from a file
            return
        if not self._files or self._files[-1][0] != file:
            self._files.append((file, num_bytes, SourceCounts()))
        self._files[-1][2].enter(record)

    def finish(self) -> list[dict[str, Any]]:
        """The counts of each file, in order."""
        return [
            {"source": file, "num_bytes": num_bytes, **counts.to_dict()}
            for file, num_bytes, counts in self._files
        ]


def dropped_line(record: Dropped) -> bytes:
    """The line for something that was left out."""
    return json_line(
        {
            "source": record.source,
            "reason": record.reason,
            "detail": record.detail,
            "sample": record.sample,
            "num_bytes": record.num_bytes,
            "format": record.format,
        }
    )


def json_line(record: Mapping[str, Any]) -> bytes:
    """A JSON object on a line of its own."""
    # Texts are clean; a lone surrogate can only come from the metadata of a caller.
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _decide(row: int, item: Item, task: AssembleTask) -> None:
    decided = task.decisions
    if (why := decided.left_out.get(row)) is not None:
        item.dropped(*why, excerpt(item.text))
        return
    if (key := decided.clusters.get(row)) is not None:
        item.metadata["cluster"] = key
    if (hashes := decided.paragraphs.get(row)) is None:
        return
    text = remove_paragraphs(item.text, frozenset(hashes), min_characters=decided.min_characters)
    if (reason := task.cleaner.reason_to_drop(text)) is not None:
        detail = (
            f"without the paragraphs of earlier documents: {task.cleaner.explain(text, reason) or reason}"
        )
        item.dropped(reason, detail, excerpt(item.text))
        return
    item.removed["earlier_paragraphs"] = utf8_size(item.text) - utf8_size(text)
    item.text = text


def _kept(item: Item) -> Kept:
    metadata = item.metadata
    return Kept(
        item.source,
        item.format,
        str(metadata.get("encoding") or ""),
        CODE_LANGUAGE if metadata.get("code") else str(metadata.get("language") or UNKNOWN_LANGUAGE),
        item.num_bytes,
        item.read_bytes,
        utf8_size(item.text),
        len(item.text),
        item.removed,
        item.counts,
    )


def _corpus_line(item: Item) -> bytes:
    return json_line({"text": item.text, "id": item.id, "source": item.source, "metadata": item.metadata})
