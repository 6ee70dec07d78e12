"""The account of a collection: what came in, what was kept, what was left out and why. Decides nothing."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from data_processing.document import Document, Dropped, utf8_size

SAMPLES_PER_REASON = 3
"""How many of the documents that share a reason are kept as samples: the first ones; arbitrary."""

REASONS: Mapping[str, str] = {
    "empty": "nothing but white space",
    "too_short": "fewer characters than data.min_text_length",
    "too_long": "more characters than data.max_text_length",
    "too_many_urls": "more web addresses than data.max_urls_per_document",
    "garbled": "more than 1 % replacement characters: decoded wrongly by an earlier program",
    "duplicate": "the same text as an earlier document; data.remove_duplicates=false keeps it",
    "unsupported_format": "no reader for this extension; convert it to one that is read",
    "binary": "not text",
    "undecodable": "neither UTF-8 nor plausible windows-1252; convert it to UTF-8",
    "malformed_json": "not valid JSON",
    "no_text_field": "no text in the field that data.text_field names",
    "too_large": "more than is read into memory at once; convert it to jsonl with shorter records",
    "hidden": "the name begins with a dot",
    "not_a_file": "a pipe, socket or device",
    "link_outside": "a link that leads out of the directory; copy the file, or make data.raw_dir the link's target",
    "broken_link": "a link that leads nowhere",
    "unreadable": "the operating system refused; check the permissions",
    "vanished": "deleted after the directory was listed",
    "changed": "written to while it was read; collect again",
}
"""Reason -> what it means and what changes it. Rules of one's own may use other words."""


@dataclass(slots=True)
class Ledger:
    """Counts that add up, for documents and for bytes:

        documents_in == kept + sum(dropped)
        bytes_in     == bytes_kept + sum(bytes_dropped) + bytes_removed + bytes_around

    A file from which nothing could be read counts as one document.

    Attributes:
        bytes_in: Size of everything found, as it lies on the disk.
        bytes_kept: UTF-8 size of the texts in the corpus.
        bytes_dropped: Reason -> bytes of input left out.
        bytes_removed: What cleaning took from the kept texts (below zero if normalisation made them longer).
        bytes_around: Input around the kept texts: JSON syntax, other fields, byte-order marks; and the difference
            that another encoding makes (below zero: a letter of windows-1252 takes two bytes or three in UTF-8).
        characters_kept: Characters in the corpus.
        formats: Extension -> counts of documents and bytes; "" for texts that did not come from files.
        encodings: Name of an encoding -> number of kept documents.
        directories_skipped: Reason -> number of directories that were not entered.
        samples: Reason -> the first `SAMPLES_PER_REASON` things left out for it.
    """

    documents_in: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    bytes_in: int = 0
    bytes_kept: int = 0
    bytes_dropped: Counter[str] = field(default_factory=Counter)
    bytes_removed: int = 0
    bytes_around: int = 0
    characters_kept: int = 0
    formats: dict[str, Counter[str]] = field(default_factory=dict)
    encodings: Counter[str] = field(default_factory=Counter)
    directories_skipped: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def keep(self, document: Document, text: str) -> None:
        """Enter a document whose cleaned text is `text`."""
        size, kept = document.input_bytes, utf8_size(text)
        read = utf8_size(document.text)
        self._enter(document.format, size)
        self.kept += 1
        self.bytes_kept += kept
        self.bytes_removed += read - kept
        self.bytes_around += size - read
        self.characters_kept += len(text)
        self.formats[document.format].update(kept=1, bytes_kept=kept)
        if encoding := document.metadata.get("encoding"):
            self.encodings[str(encoding)] += 1

    def drop(self, dropped: Dropped) -> None:
        """Enter something that is left out."""
        self._enter(dropped.format, dropped.num_bytes)
        self.dropped[dropped.reason] += 1
        self.bytes_dropped[dropped.reason] += dropped.num_bytes
        self._sample(dropped.reason, source=dropped.source, detail=dropped.detail, sample=dropped.sample)

    def skip_directory(self, source: str, reason: str) -> None:
        """Enter a directory that was not entered; it is no document, whatever it holds."""
        self.directories_skipped[reason] += 1
        self._sample(f"directory {reason}", source=source)

    def add(self, other: "Ledger") -> None:
        """Enter everything that stands in `other`, as if it had come after what stands here."""
        for name in ("documents_in", "kept", "bytes_in", "bytes_kept", "bytes_removed", "bytes_around"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.characters_kept += other.characters_kept
        for name in ("dropped", "bytes_dropped", "encodings", "directories_skipped"):
            # Not Counter.__add__, which would lose reasons with zero bytes.
            getattr(self, name).update(getattr(other, name))
        for extension, counts in other.formats.items():
            self.formats.setdefault(extension, Counter()).update(counts)
        for reason, samples in other.samples.items():
            known = self.samples.setdefault(reason, [])
            known.extend(samples[: SAMPLES_PER_REASON - len(known)])

    def check(self) -> None:
        """Assert both equations."""
        assert self.documents_in == self.kept + self.dropped.total(), "documents do not add up"
        accounted = self.bytes_kept + self.bytes_dropped.total() + self.bytes_removed + self.bytes_around
        assert self.bytes_in == accounted, (
            f"bytes do not add up: {self.bytes_in} in, {accounted} accounted for"
        )

    def to_dict(self) -> dict[str, Any]:
        """The account as JSON, sorted by name so that equal collections give equal files."""
        self.check()
        return {
            "documents_in": self.documents_in,
            "kept": self.kept,
            "dropped": dict(sorted(self.dropped.items())),
            "bytes_in": self.bytes_in,
            "bytes_kept": self.bytes_kept,
            "bytes_dropped": dict(sorted(self.bytes_dropped.items())),
            "bytes_removed": self.bytes_removed,
            "bytes_around": self.bytes_around,
            "characters_kept": self.characters_kept,
            "formats": {name: dict(sorted(counts.items())) for name, counts in sorted(self.formats.items())},
            "encodings": dict(sorted(self.encodings.items())),
            "directories_skipped": dict(sorted(self.directories_skipped.items())),
            "samples": dict(sorted(self.samples.items())),
        }

    def summary(self) -> str:
        """One line for people: `kept 3 of 10 documents (0.1 MB); left out: too_short 7 (fewer ...)`."""
        line = f"kept {self.kept:,} of {self.documents_in:,} documents ({self.bytes_kept / 1e6:,.1f} MB)"
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

    def _enter(self, extension: str, num_bytes: int) -> None:
        self.documents_in += 1
        self.bytes_in += num_bytes
        counts = self.formats.setdefault(extension, Counter())
        counts.update(documents_in=1, bytes_in=num_bytes, kept=0, bytes_kept=0)

    def _sample(self, reason: str, **sample: str) -> None:
        samples = self.samples.setdefault(reason, [])
        if len(samples) < SAMPLES_PER_REASON:
            samples.append({name: value for name, value in sample.items() if value})
