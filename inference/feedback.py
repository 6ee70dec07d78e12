"""What people thought of answers: one JSON record a line, for later training. Knows neither models nor networks."""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from core.files import explain_disk_errors
from core.manifest import content_fingerprint, describe_files, read_manifest
from inference.model_directory import run_of

FEEDBACK_NAME = "feedback.jsonl"


def feedback_file(directory: Path) -> Path:
    """Where feedback about the model in `directory` is kept: in its run, or beside a model that belongs to none."""
    return (run_of(directory) or directory.absolute()) / FEEDBACK_NAME


def model_fingerprint(directory: Path) -> str:
    """SHA-256 over names and contents of a model's files: those of its manifest, or its weights where it has none."""
    manifest = read_manifest(directory) or {}
    files = manifest.get("files") or describe_files(directory, directory.glob("*.safetensors"))
    return content_fingerprint(files)


def append_feedback(
    path: Path,
    messages: Sequence[Mapping[str, str]],
    *,
    rating: Literal[1, -1],
    correction: str | None,
    model: str,
) -> None:
    """Append `{"messages", "rating", "correction", "time", "model"}` as one line, on the disk when this returns.

    Args:
        messages: The conversation; the last message is the answer that is rated.
        correction: What the answer should have been, or None.
        model: Fingerprint of the model that gave it.

    Raises:
        DiskError: the disk is full or failing.
        NotWritableError: the file may not be written to, or is a link.
    """
    record = {
        "messages": [dict(message) for message in messages],
        "rating": rating,
        "correction": correction,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model,
    }
    line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with explain_disk_errors(path), os.fdopen(os.open(path, flags, 0o600), "rb+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
            line = b"\n" + line  # The last writer was cut off; its half line is left alone.
        # In one piece, so that lines of several processes do not mix.
        file.write(line)
        os.fsync(file.fileno())
