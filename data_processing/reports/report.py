"""The account of a collection: what came in, what was kept, what was left out and why. Decides nothing.

Longer than other files because the list of reasons stands with what counts them.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from core.errors import DataError
from data_processing.document import Document, Dropped, utf8_size
from data_processing.reports.shown import size
from data_processing.rules.quality import QUALITY_REASONS

SAMPLES_PER_REASON = 3
"""How many of the documents that share a reason are kept as samples: the first ones; arbitrary."""

REASONS: Mapping[str, str] = {
    # the text
    "empty": "nothing but white space",
    "no_text": "the file opened, but holds no text (a scanned page, a picture); run text recognition on it first",
    "too_short": "fewer characters than data.min_text_length",
    "too_long": "more characters than data.max_text_length",
    "too_many_urls": "more web addresses than data.max_urls_per_document",
    "garbled": "more than 1 % replacement characters: decoded wrongly by an earlier program",
    "language": "in a language that data.languages.keep does not name",
    "personal_data": "holds personal data whose treatment in data.privacy is drop",
    "blocklisted": "named by data.blocklist.documents, or matched by a line of data.blocklist.patterns",
    "contaminated": "shares n-grams with the evaluation files of data.decontamination.files",
    # other texts
    "duplicate": "the same text as an earlier document; data.remove_duplicates=false keeps it",
    "near_duplicate": "nearly the text of a document that is kept; data.duplicates.near=group keeps both, "
    "data.duplicates.min_similarity says what is near",
    "forgotten": "recorded by inspect_data.py forget; forget --undo takes it back",
    # the format
    "unsupported_format": "no reader for what it is; convert it to a format that is read",
    "needs_extra": "its reader needs a package that is not installed; the detail says which extra to install",
    "binary": "not text",
    "undecodable": "in no encoding that is certain; convert it to UTF-8",
    "malformed_json": "not valid JSON",
    "malformed_row": "a row that does not fit its table; repair it or convert the file to jsonl",
    "malformed_document": "damaged, or not of the format that its name says; repair it or convert it to text",
    "attachment": "a part of a message that is no text, or was attached; save it as a file to have it read",
    "http_error": "the server answered with something other than the page",
    "malformed_table": "a damaged Parquet or Arrow file; write it anew",
    "malformed_xml": "not well-formed XML; repair it or convert it to text",
    "entity_bomb": "XML that defines entities, which can unfold without end; convert it to text",
    "malformed_pdf": "not a readable PDF; repair it or convert it to text",
    "encrypted": "needs a password; take the protection off first",
    "no_text_field": "no text in the field that data.text_field names",
    "too_large": "more than is read into memory at once; divide it (a JSON value into lines of jsonl), or raise "
    "data.reading.max_json_bytes for .json",
    "too_deep": "nested more deeply than is read; for archives data.reading.max_archive_depth",
    "too_slow": "laying it out took longer than data.reading.max_file_seconds",
    # archives
    "damaged_archive": "cut off or damaged; fetch or pack it again",
    "archive_bomb": "unpacks to more than data.reading.max_unpacking_ratio times its size",
    "archive_limit": "unpacks to more than data.reading.max_unpacked_bytes or max_archive_members",
    # which files are read
    "hidden": "the name begins with a dot",
    "not_included": "no pattern of data.include names it",
    "excluded": "a pattern of data.exclude names it",
    "ignored_by_git": "a .gitignore names it; data.respect_gitignore=false reads it",
    "not_a_file": "a pipe, socket or device",
    "link_outside": "a link that leads out of the directory; copy the file, or make data.raw_dir the link's target",
    "broken_link": "a link that leads nowhere",
    "unreadable": "the operating system refused; check the permissions",
    "vanished": "deleted after the directory was listed",
    "changed": "written to while it was read; collect again",
    # rules that the user asks for
    **QUALITY_REASONS,
}
"""Reason -> what it means and what changes it. Rules of one's own may use other words."""

UNKNOWN_LANGUAGE = "unknown"
CODE_LANGUAGE = "code"

_ARCHIVE_MEMBER = re.compile(r"\.(?:zip|tar|tgz|tbz2?|txz|tzst|gz|bz2|xz|zst)!", re.IGNORECASE)


class Kept(NamedTuple):
    """What the account knows of a document that is kept: sizes and names, not its text.

    Attributes:
        source, format: As in `Document`.
        encoding: Name of the encoding that it was decoded from; empty where it was not decoded.
        language: Its language, `code`, or `unknown`.
        bytes_in: Bytes of input that it stands for.
        bytes_read: UTF-8 size of the text as it was read.
        bytes_kept: UTF-8 size of the text in the corpus.
        characters: Characters of the text in the corpus.
        removed: Step -> bytes that it took from the text (below zero where it made the text longer); they add up
            to `bytes_read - bytes_kept`.
        counts: What steps did, by name, such as {"email": 3}.
    """

    source: str
    format: str
    encoding: str
    language: str
    bytes_in: int
    bytes_read: int
    bytes_kept: int
    characters: int
    removed: Mapping[str, int] = {}
    counts: Mapping[str, int] = {}

    @classmethod
    def of(
        cls,
        document: Document,
        text: str,
        removed: Mapping[str, int] | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> Self:
        """The record of a document (its text as it was read) whose text in the corpus is `text`.

        Args:
            removed: Bytes that each step took; None = all that is missing was taken by `cleaning`.
        """
        metadata = document.metadata
        read, kept = utf8_size(document.text), utf8_size(text)
        return cls(
            document.source,
            document.format,
            str(metadata.get("encoding") or ""),
            CODE_LANGUAGE if metadata.get("code") else str(metadata.get("language") or UNKNOWN_LANGUAGE),
            read if document.num_bytes is None else document.num_bytes,
            read,
            kept,
            len(text),
            {"cleaning": read - kept} if removed is None else removed,
            counts or {},
        )

    def dropped(self, reason: str, detail: str = "", sample: str = "") -> Dropped:
        """The record of its being left out after all, such as when an earlier document turns out to be the same."""
        return Dropped(self.source, reason, detail, sample, self.bytes_in, self.format)


@dataclass(slots=True)
class SourceCounts:
    """What became of the documents of one file, or of one group of sources, in counts that add up:

        documents_in == kept + sum(dropped)
        bytes_in     == bytes_kept + sum(bytes_dropped) + bytes_removed + bytes_around

    The words mean what they mean in `Ledger`.
    """

    documents_in: int = 0
    bytes_in: int = 0
    kept: int = 0
    bytes_kept: int = 0
    bytes_removed: int = 0
    bytes_around: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    bytes_dropped: Counter[str] = field(default_factory=Counter)

    def enter(self, record: Kept | Dropped) -> None:
        """Enter the record of a document."""
        self.documents_in += 1
        if isinstance(record, Dropped):
            self.bytes_in += record.num_bytes
            self.dropped[record.reason] += 1
            self.bytes_dropped[record.reason] += record.num_bytes
            return
        self.bytes_in += record.bytes_in
        self.kept += 1
        self.bytes_kept += record.bytes_kept
        self.bytes_removed += record.bytes_read - record.bytes_kept
        self.bytes_around += record.bytes_in - record.bytes_read

    def add(self, other: "SourceCounts") -> None:
        """Enter what stands in `other`."""
        for name in _SOURCE_NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _SOURCE_COUNTERS:
            getattr(self, name).update(getattr(other, name))

    def adds_up(self) -> bool:
        """Whether documents and bytes do."""
        accounted = self.bytes_kept + self.bytes_dropped.total() + self.bytes_removed + self.bytes_around
        return self.documents_in == self.kept + self.dropped.total() and self.bytes_in == accounted

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON; `from_dict` reads it."""
        numbers = {name: getattr(self, name) for name in _SOURCE_NUMBERS}
        return numbers | {name: dict(sorted(getattr(self, name).items())) for name in _SOURCE_COUNTERS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The counts that `to_dict` wrote; other keys in `values` are not read.

        Raises:
            KeyError: one is missing.
        """
        counts = cls()
        for name in _SOURCE_COUNTERS:
            setattr(counts, name, Counter(values[name]))
        for name in _SOURCE_NUMBERS:
            setattr(counts, name, values[name])
        return counts


_SOURCE_NUMBERS = ("documents_in", "bytes_in", "kept", "bytes_kept", "bytes_removed", "bytes_around")
_SOURCE_COUNTERS = ("dropped", "bytes_dropped")


def group_of(source: str) -> str:
    """The part of the data that a source belongs to: the first directory of its path.

    `.` stands for files that lie in the directory itself and for texts without a path; what is in an archive belongs
    where the archive does; of a web address it is the site.

    >>> group_of("books/austen/emma.txt"), group_of("notes.txt"), group_of("books/all.zip!a/b.txt")
    ('books', '.', 'books')
    """
    if "!" in source and (member := _ARCHIVE_MEMBER.search(source)):
        source = source[: member.end() - 1]
    start = 0
    if source.startswith("/"):
        start = 1
    elif (scheme := source.find("://")) > 0:
        start = scheme + 3
    end = source.find("/", start)
    return source[:end] if end > 0 else source if start > 1 else "."


@dataclass(slots=True)
class Ledger:
    """Counts that add up, for documents and for bytes:

        documents_in == kept + sum(dropped)
        bytes_in     == bytes_kept + sum(bytes_dropped) + bytes_removed + bytes_around
        bytes_in     == bytes_on_disk + bytes_unpacked

    A file from which nothing could be read counts as one document. Ledgers of shards, added in order, give the ledger
    of the whole.

    Attributes:
        bytes_in: Size of everything found, archives and compressed files as what they unpack to.
        bytes_unpacked: How much of that unpacking added (see `unpack`).
        bytes_kept: UTF-8 size of the texts in the corpus.
        bytes_dropped: Reason -> bytes of input left out.
        bytes_around: Input around the kept texts: JSON syntax, other fields, byte-order marks; and the difference
            that another encoding makes (below zero: a letter of windows-1252 takes two bytes or three in UTF-8).
        characters_kept: Characters in the corpus.
        removed_by: Step -> bytes that it took from the kept texts (below zero if it made them longer).
        counts: What steps did to the kept texts, by name, such as the number of addresses replaced.
        formats: Extension -> counts of documents and bytes; "" for texts that did not come from files.
        groups: Source group (`group_of`) -> counts. Takes about 700 bytes a group.
        languages: Language of kept documents (`code`, `unknown` too) -> documents and bytes.
        lengths: Power of two -> kept documents with at least so many characters, and fewer than twice as many;
            0 for texts without any.
        encodings: Name of an encoding -> number of kept documents.
        directories_skipped: Reason -> number of directories that were not entered.
        samples: Reason -> the first `SAMPLES_PER_REASON` things left out for it.
    """

    documents_in: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_unpacked: int = 0
    bytes_kept: int = 0
    bytes_dropped: Counter[str] = field(default_factory=Counter)
    bytes_around: int = 0
    characters_kept: int = 0
    removed_by: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    formats: dict[str, Counter[str]] = field(default_factory=dict)
    groups: dict[str, SourceCounts] = field(default_factory=dict)
    languages: dict[str, Counter[str]] = field(default_factory=dict)
    lengths: Counter[int] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)
    directories_skipped: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    @property
    def bytes_removed(self) -> int:
        """What the steps took from the kept texts (below zero if they made them longer)."""
        return self.removed_by.total()

    @property
    def bytes_on_disk(self) -> int:
        """Size of everything found, as it lies on the disk."""
        return self.bytes_in - self.bytes_unpacked

    def keep(
        self,
        document: Document,
        text: str,
        removed: Mapping[str, int] | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        """Enter a document (its text as it was read) whose text in the corpus is `text`; see `Kept.of`."""
        self.enter(Kept.of(document, text, removed, counts))

    def drop(self, dropped: Dropped) -> None:
        """Enter something that is left out."""
        reason = dropped.reason
        self._enter(dropped, dropped.num_bytes)
        self.dropped[reason] += 1
        self.bytes_dropped[reason] += dropped.num_bytes
        if len(self.samples.get(reason, ())) < SAMPLES_PER_REASON:
            self._sample(reason, source=dropped.source, detail=dropped.detail, sample=dropped.sample)

    def enter(self, record: Kept | Dropped) -> None:
        """Enter the record of a document, kept or not: what remains of it when its text is elsewhere."""
        if isinstance(record, Dropped):
            self.drop(record)
            return
        kept = record.bytes_kept
        format_counts = self._enter(record, record.bytes_in)
        format_counts["kept"] += 1
        format_counts["bytes_kept"] += kept
        self.kept += 1
        self.bytes_kept += kept
        self.bytes_around += record.bytes_in - record.bytes_read
        self.characters_kept += record.characters
        self.lengths[1 << record.characters.bit_length() >> 1] += 1
        language = self.languages.get(record.language)
        if language is None:
            language = self.languages[record.language] = Counter(documents=0, bytes=0)
        language["documents"] += 1
        language["bytes"] += kept
        if record.encoding:
            self.encodings[record.encoding] += 1
        removed = 0
        for step, num_bytes in record.removed.items():
            self.removed_by[step] += num_bytes
            removed += num_bytes
        assert removed == record.bytes_read - kept, (
            f"{record.source}: {dict(record.removed)} removed of {record.bytes_read} bytes, {kept} kept"
        )
        for name, number in record.counts.items():
            self.counts[name] += number

    def unpack(self, *, packed_bytes: int, unpacked_bytes: int) -> None:
        """Enter a file of `packed_bytes` on the disk that stands in the account with `unpacked_bytes`."""
        self.bytes_unpacked += unpacked_bytes - packed_bytes

    def skip_directory(self, source: str, reason: str) -> None:
        """Enter a directory that was not entered; it is no document, whatever it holds."""
        self.directories_skipped[reason] += 1
        self._sample(f"directory {reason}", source=source)

    def add(self, other: "Ledger") -> None:
        """Enter everything that stands in `other`, as if it had come after what stands here."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in (*_COUNTERS, "lengths"):
            # Not Counter.__add__, which would lose reasons with zero bytes.
            getattr(self, name).update(getattr(other, name))
        for name in _COUNTERS_BY_NAME:
            mine = getattr(self, name)
            for key, counts in getattr(other, name).items():
                mine.setdefault(key, Counter()).update(counts)
        for key, group in other.groups.items():
            self.groups.setdefault(key, SourceCounts()).add(group)
        for reason, samples in other.samples.items():
            known = self.samples.setdefault(reason, [])
            known.extend(samples[: SAMPLES_PER_REASON - len(known)])

    def check(self) -> None:
        """Assert that everything adds up."""
        assert self.documents_in == self.kept + self.dropped.total(), "documents do not add up"
        accounted = self.bytes_kept + self.bytes_dropped.total() + self.bytes_removed + self.bytes_around
        assert self.bytes_in == accounted, (
            f"bytes do not add up: {self.bytes_in} in, {accounted} accounted for"
        )
        groups = self.groups.values()
        assert self.documents_in == sum(group.documents_in for group in groups), "groups do not add up"
        for name, group in self.groups.items():
            assert group.adds_up(), f"group {name} does not add up: {group.to_dict()}"
        assert self.kept == sum(counts["documents"] for counts in self.languages.values()), (
            "languages do not add up"
        )
        assert self.kept == self.lengths.total(), "lengths do not add up"

    def to_dict(self) -> dict[str, Any]:
        """The account as JSON, sorted by name so that equal collections give equal files; `from_dict` reads it."""
        self.check()
        return {
            "documents_in": self.documents_in,
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.items())),
            "bytes_in": self.bytes_in,
            "bytes_on_disk": self.bytes_on_disk,
            "bytes_unpacked": self.bytes_unpacked,
            "bytes_kept": self.bytes_kept,
            "bytes_dropped": dict(sorted(self.bytes_dropped.items())),
            "bytes_removed": self.bytes_removed,
            "bytes_around": self.bytes_around,
            "characters_kept": self.characters_kept,
            "removed_by": dict(sorted(self.removed_by.items())),
            "counts": dict(sorted(self.counts.items())),
            "formats": {name: dict(sorted(counts.items())) for name, counts in sorted(self.formats.items())},
            "groups": {name: group.to_dict() for name, group in sorted(self.groups.items())},
            "languages": {
                name: dict(sorted(counts.items())) for name, counts in sorted(self.languages.items())
            },
            "lengths": {str(length): number for length, number in sorted(self.lengths.items())},
            "encodings": dict(sorted(self.encodings.items())),
            "directories_skipped": dict(sorted(self.directories_skipped.items())),
            "samples": dict(sorted(self.samples.items())),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The account that `to_dict` wrote; other keys in `values` are not read.

        Raises:
            DataError: it was not written by this version of the program.
        """
        account = cls()
        try:
            for name in _NUMBERS:
                setattr(account, name, values[name])
            for name in _COUNTERS:
                setattr(account, name, Counter(values[name]))
            for name in _COUNTERS_BY_NAME:
                setattr(account, name, {key: Counter(counts) for key, counts in values[name].items()})
            account.lengths = Counter({int(length): number for length, number in values["lengths"].items()})
            for name, counts in values["groups"].items():
                account.groups[name] = SourceCounts.from_dict(counts)
            account.samples = {
                reason: [dict(one) for one in found] for reason, found in values["samples"].items()
            }
        except KeyError as error:
            raise DataError(
                f"no account of a collection: {error} is missing; it was written by an earlier version, collect again"
            ) from None
        return account

    def summary(self) -> str:
        """One line for people: `kept 3 of 10 documents (0.1 MB); left out: too_short 7 (fewer ...)`."""
        line = f"kept {self.kept:,} of {self.documents_in:,} documents ({size(self.bytes_kept)})"
        reasons = [
            f"{reason} {count:,}" + (f" ({REASONS[reason]})" if reason in REASONS else "")
            for reason, count in self.dropped.most_common()
        ]
        if reasons:
            line += "; left out: " + ", ".join(reasons)
        if self.directories_skipped:
            skipped = ", ".join(
                f"{reason} {count:,}" for reason, count in self.directories_skipped.most_common()
            )
            line += f"; directories not entered: {skipped}"
        return line

    def _enter(self, record: Kept | Dropped, num_bytes: int) -> Counter[str]:
        """The counts of its format, which the caller completes."""
        self.documents_in += 1
        self.bytes_in += num_bytes
        counts = self.formats.get(record.format)
        if counts is None:
            counts = self.formats[record.format] = Counter(documents_in=0, bytes_in=0, kept=0, bytes_kept=0)
        counts["documents_in"] += 1
        counts["bytes_in"] += num_bytes
        name = group_of(record.source)
        group = self.groups.get(name)
        if group is None:
            group = self.groups[name] = SourceCounts()
        group.enter(record)
        return counts

    def _sample(self, reason: str, **sample: str) -> None:
        samples = self.samples.setdefault(reason, [])
        if len(samples) < SAMPLES_PER_REASON:
            samples.append({name: value for name, value in sample.items() if value})


_NUMBERS = (
    *("documents_in", "kept", "bytes_in", "bytes_unpacked", "bytes_kept", "bytes_around"),
    "characters_kept",
)
_COUNTERS = ("dropped", "bytes_dropped", "removed_by", "counts", "encodings", "directories_skipped")
_COUNTERS_BY_NAME = ("formats", "languages")
