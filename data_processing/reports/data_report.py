"""What is known of a run's data, in one place: `data_report.json`, and the page and the card made from it.

Reads the reports that collecting, the tokenizer and the dataset leave; computes nothing from texts.
"""

import heapq
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.errors import CorruptArtifactError, DataError
from core.files import atomic_write, sha256_json, write_json
from core.manifest import read_manifest
from data_processing.reports.corpus_files import (
    DUPLICATES_NAME,
    FILES_NAME,
    REPORT_NAME,
    read_lines,
    read_report,
)
from data_processing.reports.data_card import data_card
from data_processing.reports.report import REASONS, Ledger
from data_processing.reports.report_page import report_page
from data_processing.reports.shown import by_size, number, share

REPORT_VERSION = 1
FACTS_NAME = "data_report.json"
PAGE_NAME = "data_report.html"
CARD_NAME = "DATA_CARD.md"

TOKENIZER_REPORT = "tokenizer_report.json"
DATASET_REPORT = "dataset_report.json"

_THRESHOLD = re.compile(r"(?:^|\.)quality\.(gopher|c4|fineweb|code)_")

NUM_LARGEST = 10
"""Of clusters and of files that lost most, this many are named; `inspect_data.py` finds the others."""
NUM_MEMBERS = 12
"""Of a cluster, this many members are named."""

NOTABLE_SHARE = 0.2
"""From which share of the documents on a reason is said to stand out; arbitrary."""


def write_data_report(
    *, corpus: Path, tokenizer: Path | None, dataset: Path | None, out: Path, command: str | None = None
) -> dict[str, Any]:
    """The facts, after writing them to `out`: `data_report.json`, `data_report.html` and `DATA_CARD.md`.

    Equal inputs give equal files.

    Args:
        corpus: Directory with `collection_report.json`; `files.jsonl` and `duplicates.jsonl` are read if there.
        tokenizer: Directory with `tokenizer_report.json`, or None; a directory without one is passed over.
        dataset: Directory with `dataset_report.json`, or None; likewise.
        out: Directory to write to; created when it is missing.
        command: How the data was made, to be shown as the way to make it again.

    Raises:
        DataError: `corpus` holds no account of a collection.
        CorruptArtifactError: a report is not what was written.
        DiskError: the disk is full, read-only or failing.
    """
    facts = gather_facts(corpus=corpus, tokenizer=tokenizer, dataset=dataset, command=command)
    write_json(out / FACTS_NAME, facts)
    atomic_write(out / PAGE_NAME, report_page(facts))
    atomic_write(out / CARD_NAME, data_card(facts))
    return facts


def gather_facts(
    *, corpus: Path, tokenizer: Path | None = None, dataset: Path | None = None, command: str | None = None
) -> dict[str, Any]:
    """Everything that the page shows, as JSON; see `write_data_report`.

    Keys: `collection` (the collection report, whose account adds up), `settings` (`settings_in_force`), `files`,
    `duplicates`, `tokenizer` and `dataset` (their reports, or null), `notable` (what stands out, in sentences), and
    `origin` (how it was made).
    """
    collection = read_collection_report(corpus)
    facts: dict[str, Any] = {
        "report_version": REPORT_VERSION,
        "notable": [],
        "settings": settings_in_force(collection.get("settings", {})),
        "collection": collection,
        "files": _file_facts(corpus / FILES_NAME),
        "duplicates": _duplicate_facts(corpus / DUPLICATES_NAME),
        "tokenizer": _optional_report(tokenizer, TOKENIZER_REPORT),
        "dataset": _optional_report(dataset, DATASET_REPORT),
        "origin": {
            "command": command,
            "settings_fingerprint": sha256_json(collection.get("settings", {})),
            "artifacts": {
                name: found
                for name, place in (("corpus", corpus), ("tokenizer", tokenizer), ("dataset", dataset))
                if place is not None and (found := _artifact_facts(place))
            },
        },
    }
    facts["notable"] = list(_notable(facts))
    return facts


def read_collection_report(corpus: Path) -> dict[str, Any]:
    """The account of a corpus directory, as JSON; it was checked that it adds up.

    Raises:
        DataError: there is none.
        CorruptArtifactError: it is no account, or does not add up.
    """
    path = corpus / REPORT_NAME
    if not path.is_file():
        raise DataError(
            f"{corpus}: holds no {REPORT_NAME}; name a directory that a collection wrote, or a run that holds one"
        )
    report = read_report(path)
    try:
        Ledger.from_dict(report).check()
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise CorruptArtifactError(
            f"{path}: not the account of a collection ({error}); collect again"
        ) from None
    return report


def settings_in_force(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name, without the thresholds of rules that were not asked.

    >>> settings_in_force({"quality": {"rules": ["c4"], "c4_min_sentences": 5, "code_max_data_share": 0.5}})
    {'quality.rules': ['c4'], 'quality.c4_min_sentences': 5}
    """
    flat = dict(_flat("", settings))
    asked = {
        rule.partition("_")[0]
        for name, rules in flat.items()
        if name.endswith("quality.rules")
        for rule in rules
    }
    return {
        name: value
        for name, value in flat.items()
        if (threshold := _THRESHOLD.search(name)) is None or threshold[1] in asked
    }


def _flat(prefix: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        # A mapping from numbers is one setting (a length and its threshold), not a section.
        if isinstance(value, Mapping) and not any(key.isdigit() for key in value):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield prefix + name, value


def _optional_report(directory: Path | None, name: str) -> dict[str, Any] | None:
    if directory is None or not (directory / name).is_file():
        return None
    return read_report(directory / name)


def _artifact_facts(directory: Path) -> dict[str, Any] | None:
    manifest = read_manifest(directory)
    if manifest is None or manifest.get("status") != "complete":
        return None
    return {name: manifest[name] for name in ("fingerprint", "recipe_fingerprint", "versions")}


def _file_facts(path: Path) -> dict[str, Any] | None:
    """How many raw files gave all, some or nothing of their documents, and which lost most; one pass, little memory."""
    if not path.exists():
        return None
    whole = partly = nothing = unread = 0

    def losses() -> Iterator[tuple[int, str, dict[str, Any]]]:
        nonlocal whole, partly, nothing, unread
        for file in read_lines(path):
            if not file["read"]:
                unread += 1
                continue
            kept = file["kept"]
            nothing += not kept
            partly += 0 < kept < file["documents_in"]
            whole += 0 < kept == file["documents_in"]
            if kept < file["documents_in"]:
                # The name settles ties, so that equal corpora give equal reports.
                yield file["num_bytes"] - file["bytes_kept"], file["source"], file

    largest = heapq.nlargest(NUM_LARGEST, losses(), key=lambda loss: loss[:2])
    return {
        "files": whole + partly + nothing,
        "all_kept": whole,
        "partly_kept": partly,
        "nothing_kept": nothing,
        "unread": unread,
        "largest_losses": [file for _, _, file in largest],
    }


def _duplicate_facts(path: Path) -> dict[str, Any] | None:
    """Sizes of the clusters, and the largest ones with their members."""
    if not path.exists():
        return None
    sizes: Counter[int] = Counter()

    def clusters() -> Iterator[tuple[int, str, dict[str, Any]]]:
        for cluster in read_lines(path):
            num_members = len(cluster["members"])
            sizes[num_members] += 1
            yield num_members, str(cluster["cluster"]), cluster

    largest = heapq.nlargest(NUM_LARGEST, clusters(), key=lambda entry: entry[:2])
    return {
        "clusters": sizes.total(),
        "documents": sum(members * number for members, number in sizes.items()),
        "sizes": {str(members): number for members, number in sorted(sizes.items())},
        "largest": [
            {**cluster, "num_members": num_members, "members": cluster["members"][:NUM_MEMBERS]}
            for num_members, _, cluster in largest
        ],
    }


def _notable(facts: Mapping[str, Any]) -> Iterator[str]:
    """What a reader should look at first, in sentences with the numbers."""
    collection = facts["collection"]
    documents, dropped = collection["documents_in"], collection["dropped"]
    for reason, times in by_size(dropped):
        if times >= NOTABLE_SHARE * documents:
            meaning = f": {REASONS[reason]}" if reason in REASONS else ""
            yield f"{share(times, documents)} of the documents were left out as {reason}{meaning}."
    lost = [name for name, group in collection["groups"].items() if not group["kept"]]
    if lost:
        shown = ", ".join(lost[:5]) + (f" and {number(len(lost) - 5)} more" if len(lost) > 5 else "")
        yield f"Nothing was kept of {number(len(lost))} of {number(len(collection['groups']))} sources: {shown}."
    unstable = {
        reason: dropped[reason] for reason in ("changed", "vanished", "unreadable") if reason in dropped
    }
    if unstable:
        named = ", ".join(f"{reason} {number(times)}" for reason, times in unstable.items())
        yield f"Some files could not be read as they stood ({named}); collecting again may find them."
    if times := dropped.get("needs_extra", 0):
        yield f"{number(times)} files need a package that was not installed; the details name the extra."
