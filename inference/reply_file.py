"""Replies on their way into a file: each is kept at once, the file appears when all are there. Knows no model.

`FILE.partial` holds what there is so far; `FILE.manifest.json` says, when all are there, what they are replies to.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

from core.errors import DataError, LockedError, MismatchError
from core.files import (
    atomic_writer,
    check_writable,
    explain_disk_errors,
    lock_open_file,
    open_append,
    sha256_file,
    write_json,
)
from core.json_files import json_object
from inference.chat import Reply
from inference.continuous_batch import FinishReason

FIRST = b'{"task": '
"""What the first line begins with: whatever begins otherwise is not ours to cut off."""

REPLACE = "name another output, or replace it with --overwrite"


class KeptReplies:
    """The replies to numbered prompts, beside the file that they are for, so that a killed run goes on where it was.

    The first line says what the replies are to; the others are replies, in the order in which they came. A half line at
    the end, of a run that was killed while writing, is dropped. As long as the block of `with` lasts, no other process
    can write the same file.

    Attributes:
        path: Where they are kept.
        replies: By the number of the prompt; those that were there at the beginning and those that were added.
    """

    def __init__(self, output: Path, *, overwrite: bool = False) -> None:
        """Finds what is wrong with the place, before anything is known of the replies.

        Args:
            overwrite: Whether a file that is there may be replaced.

        Raises:
            DataError: what is there was not written by this class.
            LockedError: another process is writing this file.
            NotWritableError, DiskError: it cannot be read or written.
        """
        self.path = output.with_name(output.name + ".partial")
        self.replies: dict[int, Reply] = {}
        self._output = output
        self._manifest = output.with_name(output.name + ".manifest.json")
        self._overwrite = overwrite
        self._begun: dict[str, Any] = {}
        self._is_needed = True
        with explain_disk_errors(self.path):
            for place in (output, self.path, self._manifest):
                if place.exists() and not place.is_file():
                    raise DataError(
                        f"{place}: expected a file or nothing; move it away, or name another output"
                    )
            if not overwrite:
                self._check_known()
            check_writable(output.parent)
            output.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_append(self.path)
        try:
            self._take_over()
        except BaseException:  # Ctrl-C too must let go of the file and its lock
            self._file.close()
            raise

    def _check_known(self) -> None:
        if self._output.exists() and not self._manifest.exists():
            raise DataError(f"{self._output}: is there already, and not the work of this command; {REPLACE}")

    def _take_over(self) -> None:
        try:
            lock_open_file(self._file, self.path)
        except OSError:
            raise LockedError(
                f"{self._output}: another process is writing it; wait for it to end, or name another output"
            ) from None
        with explain_disk_errors(self.path):
            whole, newline, half = self.path.read_bytes().rpartition(b"\n")
            if newline or half[: len(FIRST)] != FIRST[: len(half)]:
                self._read((whole or half).split(b"\n"))
            # Without a reply, what was begun binds nobody.
            self._file.truncate(len(whole + newline) if self.replies else 0)

    def _read(self, lines: list[bytes]) -> None:
        number = 1
        try:
            self._begun = dict(json.loads(lines[0])["task"])
            for number, line in enumerate(lines[1:], start=2):  # noqa: B007 - the message names it
                record = json.loads(line)
                prompt, reply = record.pop("number"), Reply(**record)
                types = (type(prompt), type(reply.text), type(reply.num_tokens))
                if types != (int, str, int) or reply.finish_reason not in get_args(FinishReason):
                    raise TypeError("a value is none of a reply's")
                self.replies[prompt] = reply
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(
                f"{self.path}:{number}: not the replies of an interrupted run ({error!r}); move the file away, or name "
                "another output"
            ) from None

    def begin(self, task: Mapping[str, Any]) -> int | None:
        """Say what the replies are to.

        Args:
            task: Everything that decides the replies, by the names that a user knows.

        Returns:
            The number of replies in the output, when it was finished before; otherwise None, and they are to be made.

        Raises:
            MismatchError: the replies that are there are to something else.
            DataError: the output was changed since it was finished.
        """
        if self._output.exists() and not self._overwrite:
            count = self._finished(task)
            self._is_needed = self._begun != dict(task)  # else left by a kill after the output was there
            return count
        if not self.replies:
            with explain_disk_errors(self.path):
                self._file.write(json.dumps({"task": dict(task)}) + "\n")
        elif changed := _changed(self._begun, task):
            raise MismatchError(
                f"{self.path}: an interrupted run left {counted(len(self.replies))} here to something else "
                f"({changed}); repeat its command to finish it, move the file away, or name another output"
            )
        self._begun = dict(task)
        return None

    def _finished(self, task: Mapping[str, Any]) -> int:
        """The number of replies in the output, which are to this task."""
        self._check_known()
        manifest = json_object(self._manifest, mistake=DataError)
        begun, count = manifest.get("task"), manifest.get("replies")
        if not isinstance(begun, dict) or type(count) is not int:
            raise DataError(
                f"{self._manifest}: not the manifest of replies; move it away, or name another output"
            )
        if changed := _changed(begun, task):
            raise MismatchError(
                f"{self._output}: holds {counted(count)} to something else ({changed}); {REPLACE}"
            )
        if sha256_file(self._output) != manifest.get("sha256"):
            raise DataError(f"{self._output}: was changed after {counted(count)} had been written; {REPLACE}")
        return count

    def add(self, number: int, reply: Reply) -> None:
        """Keep a reply; from now on a kill does not lose it.

        Raises:
            DiskError: the disk is full or failing.
        """
        with explain_disk_errors(self.path):
            self._file.write(json.dumps({"number": number, **dataclasses.asdict(reply)}) + "\n")
        self.replies[number] = reply

    def finish(self, content: Iterable[str]) -> None:
        """Write the output, whose replies are all there; what was kept of them is removed.

        Raises:
            DiskError: the disk is full or failing.
        """
        digest = hashlib.sha256()
        with atomic_writer(self._output) as out:
            for piece in content:
                data = piece.encode()
                digest.update(data)
                out.write(data)
            # Before the output: after a kill between the two, what was kept is still there and is gone on from.
            manifest = {"task": self._begun, "replies": len(self.replies), "sha256": digest.hexdigest()}
            write_json(self._manifest, manifest)
        self._is_needed = False

    def __enter__(self) -> "KeptReplies":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the file; it is removed when it holds nothing that is needed."""
        if not (self._is_needed and self.replies):
            # Before others can lock it. (Windows removes no open file.)
            with contextlib.suppress(PermissionError):
                self.path.unlink()
        # What could not be written is tried once more by closing, and has been told of.
        with contextlib.suppress(OSError):
            self._file.close()


def counted(replies: int) -> str:
    """So many replies, in words."""
    return "1 reply" if replies == 1 else f"{replies} replies"


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, with both values; empty if nothing does."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {before.get(name)}, now {now.get(name)}" for name in names)
