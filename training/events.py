"""`events.jsonl`: what happened in a run besides steps, a line each, for as long as its directory lives."""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from core.files import open_append
from training.run_log import EVENTS_NAME

logger = logging.getLogger(__name__)


def record_event(output_dir: Path, *, step: int, kind: str, **detail: object) -> None:
    """Append an event and bring it onto the medium. A full disk does not end the training for it: that is said."""
    # Behind half a line, which a kill can leave, a line end comes first: otherwise both would be lost.
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "step": step, "kind": kind, **detail}
    path = output_dir / EVENTS_NAME
    try:
        start = "" if _ends_whole(path) else "\n"
        with open_append(path) as file:
            file.write(start + json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        logger.warning("%s: the event %s is not written (%s); training goes on", path, kind, error.strerror)


def _ends_whole(path: Path) -> bool:
    """Whether the last line is finished; so is that of a file without any."""
    if not path.is_file() or path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"
