"""The files of a corpus directory by name, and how those of one JSON object a line are read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import ConfigError, CorruptArtifactError
from core.json_files import read_json_object
from data_processing.rows.json_records import read_json_lines

CORPUS_NAME = "collected_texts.jsonl"
"""The corpus: `text`, `id`, `source` and `metadata` of each document."""
REPORT_NAME = "collection_report.json"
"""The account (`report.Ledger`) with the settings and what the search for duplicates met."""
DROPPED_NAME = "dropped.jsonl"
"""Each thing that was left out: `source`, `reason`, `detail`, `sample`, `num_bytes`, `format`."""
FILES_NAME = "files.jsonl"
"""Each raw file that was found: `source`, `num_bytes` (on the disk), `read` (false: left out before it was opened), and
what became of it as in `report.SourceCounts`."""
DUPLICATES_NAME = "duplicates.jsonl"
"""Each cluster of several documents: `cluster`, `kept`, `members` (`source`, `similarity`, `num_characters`)."""

CORPUS_FILES = (CORPUS_NAME, REPORT_NAME, DROPPED_NAME, FILES_NAME, DUPLICATES_NAME)
"""All of them."""


def read_report(path: Path) -> dict[str, Any]:
    """The JSON object in a report that an earlier stage wrote.

    Raises:
        CorruptArtifactError: it is none any more.
    """
    try:
        return read_json_object(path)
    except ConfigError as error:  # to its reader the file is no configuration but a result
        raise CorruptArtifactError(f"{error}; it was changed after it was written") from None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects in one of the files beside a corpus; none where the file is not there.

    Raises:
        CorruptArtifactError: a line, which is named, is no JSON object.
    """
    if not path.exists():
        return
    for record in read_json_lines(path):
        if not isinstance(record.value, dict):
            raise CorruptArtifactError(
                f"{path}:{record.line}: {record.problem or 'not a JSON object'}; it was changed after it was written, "
                "collect again"
            )
        yield record.value
