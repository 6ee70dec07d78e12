"""What a run is to leave out because somebody asked for it: the record of that, and what it does not reach.

Takes names as they stand in the corpus; what somebody typed, `inspect_corpus.resolve_source` understands.
"""

import glob
import json
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

from core.config import nearest
from core.errors import CorruptArtifactError, DataError
from core.files import atomic_write, lock
from data_processing.reports.corpus_files import DROPPED_NAME, read_lines
from data_processing.reports.inspect_corpus import Places, parsed_lines

FORGOTTEN_NAME = "forgotten.jsonl"
"""In the run directory, one line an act: `source`, `time`, `action` (forget, undo), `because`. The last act counts."""


def forget(run_dir: Path, sources: Sequence[str], because: str) -> list[str]:
    """The sources that are recorded as forgotten from now on and were not before; collecting leaves them out.

    Nothing else is done: neither are raw files deleted, nor is anything changed that was made from them.

    Args:
        sources: Names of files or documents as they stand in the corpus (`resolve_source`).
        because: Why, for those who read the record later.

    Raises:
        DataError: `because` is empty.
        LockedError, DiskError: the record cannot be written.
    """
    if not because.strip():
        raise DataError("because: empty; say why, in a few words, for those who read the record later")
    return _record(run_dir, sources, action="forget", because=because)


def copies_of(places: Places, sources: Collection[str]) -> list[str]:
    """The documents that were left out as copies or near copies of these, and are not among them themselves."""
    beginnings = tuple(
        beginning for source in sources for beginning in (f"the same text as {source}", f"like {source} (")
    )
    found = []
    for line in parsed_lines(places.corpus / DROPPED_NAME, b"duplicate"):
        exact = line["reason"] == "duplicate" and line["detail"] in beginnings
        near = line["reason"] == "near_duplicate" and line["detail"].startswith(beginnings)
        if (exact or near) and line["source"] not in sources:
            found.append(str(line["source"]))
    return found


def old_results(places: Places) -> list[Path]:
    """Results of earlier collections that were moved aside, and hold what was in them."""
    beside = [place for place in (places.corpus, places.dataset) if place is not None]
    return sorted(old for place in beside for old in place.parent.glob(f"{glob.escape(place.name)}.stale-*"))


def undo_forget(run_dir: Path, sources: Sequence[str]) -> list[str]:
    """The sources that are not forgotten any more.

    Raises:
        DataError: one of them is not forgotten.
        LockedError, DiskError: the record cannot be written.
    """
    forgotten = read_forgotten(run_dir)
    for source in sources:
        if source not in forgotten:
            raise DataError(
                f"{source}: is not forgotten{nearest(source, forgotten)} (forgotten: "
                f"{', '.join(sorted(forgotten)[:10]) or 'nothing'})"
            )
    return _record(run_dir, sources, action="undo", because="")


def read_forgotten(run_dir: Path) -> frozenset[str]:
    """The sources, of files or of documents, that collecting leaves out because somebody asked for it.

    Raises:
        CorruptArtifactError: the record is damaged; going on would bring back what was to be forgotten.
    """
    forgotten = set()
    path = run_dir / FORGOTTEN_NAME
    for act in read_lines(path):
        if not {"source", "action"} <= act.keys():
            raise CorruptArtifactError(f"{path}: a line without source or action ({act}); restore the file")
        if act["action"] == "forget":
            forgotten.add(act["source"])
        else:
            forgotten.discard(act["source"])
    return frozenset(forgotten)


def _record(run_dir: Path, sources: Sequence[str], *, action: str, because: str) -> list[str]:
    path = run_dir / FORGOTTEN_NAME
    with lock(run_dir / f".{FORGOTTEN_NAME}.lock", held=path):
        forgotten = read_forgotten(run_dir)
        changed = [
            source for source in dict.fromkeys(sources) if (source in forgotten) != (action == "forget")
        ]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lines = [
            json.dumps(
                {"source": source, "time": now, "action": action, "because": because}, ensure_ascii=False
            )
            for source in changed
        ]
        if lines:
            before = path.read_text(encoding="utf-8") if path.is_file() else ""
            atomic_write(path, before + "\n".join(lines) + "\n")
    return changed
