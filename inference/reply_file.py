"""Replies on their way into a file: each is kept at once, the file appears when all are there. Knows no model."""

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from core.errors import DataError, MismatchError
from core.files import explain_disk_errors, open_append
from inference.chat import Reply


class KeptReplies:
    """The replies to numbered prompts, beside the file that they are for, so that a killed run goes on where it was.

    The first line says what the replies are to; the others are replies, in the order in which they came. A half line at
    the end, of a run that was killed while writing, is dropped.

    Attributes:
        path: Where they are kept.
        replies: By the number of the prompt; those that were there at the beginning and those that were added.
    """

    def __init__(self, output: Path, *, task: Mapping[str, Any]) -> None:
        """
        Args:
            task: Everything that decides the replies, by the names that a user knows.

        Raises:
            MismatchError: the replies that are there are to something else.
            DataError: what is there was not written by this class.
            NotWritableError, DiskError: it cannot be read or written.
        """
        self.path = output.with_name(output.name + ".partial")
        self.replies: dict[int, Reply] = {}
        with explain_disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_append(self.path, readable=True)
            self._file.seek(0)
            content = self._file.read()
            whole, _, half = content.rpartition("\n")
            if half:
                self._file.truncate(len((whole + "\n").encode()) if whole else 0)
            lines = whole.split("\n") if whole else []
            if not lines:
                self._file.write(json.dumps({"task": dict(task)}) + "\n")
        try:
            self._read(lines, task)
        except (DataError, MismatchError):
            self._file.close()
            raise

    def _read(self, lines: list[str], task: Mapping[str, Any]) -> None:
        try:
            records = [json.loads(line) for line in lines]
            begun = records[0]["task"] if records else dict(task)
            self.replies = {record.pop("number"): Reply(**record) for record in records[1:]}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{self.path}: not the replies of an interrupted run ({error!r}); move it away, or name another output"
            ) from None
        changed = [name for name in {**begun, **task} if begun.get(name) != task.get(name)]
        if changed:
            facts = ", ".join(f"{name} was {begun.get(name)}, now {task.get(name)}" for name in changed)
            raise MismatchError(
                f"{self.path}: an interrupted run left {len(self.replies)} replies here that are to something else "
                f"({facts}); repeat its command to finish it, move the file away, or name another output"
            )

    def add(self, number: int, reply: Reply) -> None:
        """Keep a reply; from now on a kill does not lose it.

        Raises:
            DiskError: the disk is full or failing.
        """
        with explain_disk_errors(self.path):
            self._file.write(json.dumps({"number": number, **dataclasses.asdict(reply)}) + "\n")
        self.replies[number] = reply

    def __enter__(self) -> "KeptReplies":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; it is removed when the block came to its end, because the output is there by then."""
        # What could not be written is tried once more by closing, and has been told of.
        with contextlib.suppress(OSError) if kind else explain_disk_errors(self.path):
            self._file.close()
        if kind is None:
            self.path.unlink(missing_ok=True)
