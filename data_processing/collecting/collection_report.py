"""What is said of a whole collection: its report as JSON, and why nothing is left of it. Decides nothing."""

from typing import Any

from core.data_config import DataConfig
from data_processing.collecting.corpus_assembly import Duplicates
from data_processing.formats.readers import READERS
from data_processing.formats.text_readers import read_code
from data_processing.reports.corpus_files import CORPUS_NAME
from data_processing.reports.report import Ledger
from data_processing.rules.filters import Limits

REPORT_VERSION = 3

REPORTED_SECTIONS = (
    *("include", "exclude", "respect_gitignore", "reading", "boilerplate", "languages", "quality", "privacy"),
    *("blocklist", "decontamination", "duplicates"),
)
"""Settings of `DataConfig` that stand in the report."""


def collection_report(
    config: DataConfig, limits: Limits, ledger: Ledger, duplicates: Duplicates | None
) -> dict[str, Any]:
    """The account of a collection, with the settings that decided it and what was found alike.

    Args:
        limits: Those of the cleaner, which may be the caller's own.
        duplicates: What was found; None where nothing was kept.
    """
    settings = config.to_dict()
    return {
        "report_version": REPORT_VERSION,
        "corpus": CORPUS_NAME,
        "settings": {
            "text_field": config.text_field,
            "remove_duplicates": config.remove_duplicates,
            "min_length": limits.min_length,
            "max_length": limits.max_length,
            "max_urls": limits.max_urls,
            **{name: settings[name] for name in REPORTED_SECTIONS},
        },
        "near_duplicates": {} if duplicates is None else dict(duplicates.statistics),
        **ledger.to_dict(),
    }


def nothing_kept(place: str, ledger: Ledger) -> str:
    """What to say when no document is left: what was searched, which rule took what, and what to change."""
    extensions = " ".join(sorted(name for name, reader in READERS.items() if reader is not read_code))
    formats = f"{extensions}, source code, and archives and compressed files of these"
    if ledger.documents_in == 0:
        skipped = f" ({ledger.summary()})" if ledger.directories_skipped else ""
        return (
            f"{place}: nothing was found{skipped}, expected at least one text; put raw files there ({formats}), "
            "or set data.raw_dir to where they are"
        )
    examples = "; ".join(
        f"{reason}: {sample['source']}" + (f" ({sample['detail']})" if "detail" in sample else "")
        for reason, samples in sorted(ledger.samples.items())
        for sample in samples[:1]
    )
    hint = f"; read are {formats}" if ledger.dropped["unsupported_format"] else ""
    return f"{place}: no document is left. {ledger.summary()}. For example, {examples}{hint}"
