"""`events.jsonl`: what happened in a run besides steps, a line each, for as long as its directory lives."""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

logger = logging.getLogger(__name__)

EVENTS_NAME = "events.jsonl"


def record_event(output_dir: Path, *, step: int, kind: str, **detail: object) -> None:
    """Append an event and bring it onto the medium. A full disk does not end the training for it: that is said."""
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "step": step, "kind": kind, **detail}
    path = output_dir / EVENTS_NAME
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        logger.warning("%s: the event %s is not written (%s); training goes on", path, kind, error.strerror)
