"""Disks that fail, and one that knows what a power cut would leave of what was written to it."""

import errno
import io
import os
import random
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any

from core.files import Disk

Persists = Callable[[str], bool]
Image = dict[str, bytes | None]


class FailingDisk(Disk):
    """Fails once, at its operation number `fail_at` (from 0): an opening, a write, a sync or a rename.

    Args:
        error: The number that the operating system gives.
        fails_for_ever: Every operation from then on fails.
        most_bytes: A single write takes no more than this; the rest is left to the caller, as POSIX allows.
    """

    def __init__(
        self,
        fail_at: int,
        error: int = errno.ENOSPC,
        *,
        fails_for_ever: bool = False,
        most_bytes: int | None = None,
    ) -> None:
        self.fail_at, self.error, self.count = fail_at, error, 0
        self.fails_for_ever, self.most_bytes = fails_for_ever, most_bytes

    def note_operation(self) -> None:
        self.count += 1
        number = self.count - 1
        if number == self.fail_at or (self.fails_for_ever and number > self.fail_at):
            raise OSError(self.error, "injected")

    def open_new(self, path: Path, mode: str, **options: Any) -> IO[Any]:
        self.note_operation()
        file = io.BufferedWriter(_CountedFile(self, path))
        return file if "b" in mode else io.TextIOWrapper(file, **options)  # type: ignore[return-value]

    def sync_file(self, file: IO[Any]) -> None:
        self.note_operation()
        file.flush()

    def sync_directory(self, path: Path) -> None:
        self.note_operation()

    def rename(self, source: Path, target: Path) -> None:
        self.note_operation()
        super().rename(source, target)


class _CountedFile(io.FileIO):
    def __init__(self, disk: FailingDisk, path: Path) -> None:
        super().__init__(path, "x")
        self._disk = disk

    def write(self, data: Any) -> int:
        self._disk.note_operation()
        return super().write(memoryview(data)[: self._disk.most_bytes])


class SimulatedDisk(Disk):
    """A directory whose files are written as ever, and a record of what of it is on the medium.

    The model is the weakest that POSIX allows but for one thing: a rename is one change, never half a one. Of what was
    written to a file since its last sync, anything may be lost or torn; of the changes of a directory since its last
    sync, any subset may be lost, in any order.

    Args:
        root: Everything that is looked at; empty at first.
        before_each: Called before each operation, which is when the power may go.
        ignoring: Syncs that do nothing: "file", "directory" (below `root`), "parent" (`root` itself).
    """

    def __init__(
        self, root: Path, *, before_each: Callable[[], None], ignoring: Collection[str] = ()
    ) -> None:
        self._root = root
        self._before_each = before_each
        self._ignoring = ignoring
        self._files: dict[int, _File] = {}
        self._directories = {root.stat().st_ino: _Directory(root)}
        self.num_operations = 0

    def open_new(self, path: Path, mode: str, **options: Any) -> IO[Any]:
        self._begin()
        return super().open_new(path, mode, **options)

    def sync_file(self, file: IO[Any]) -> None:
        self._begin()
        file.flush()
        self._observe()
        if "file" not in self._ignoring:
            known = self._files[os.fstat(file.fileno()).st_ino]
            known.durable = known.read()

    def sync_directory(self, path: Path) -> None:
        self._begin()
        self._observe()
        if ("parent" if path == self._root else "directory") not in self._ignoring:
            known = self._directories[path.stat().st_ino]
            known.durable, known.changes = dict(known.entries), []

    def rename(self, source: Path, target: Path) -> None:
        self._begin()
        self._observe()
        super().rename(source, target)
        assert source.parent == target.parent, "a rename between directories is two changes here"
        known = self._directories[source.parent.stat().st_ino]
        known.change({target.name: known.entries[source.name], source.name: None})

    def after_power_cut(self, *, persists: Persists, torn: random.Random | None = None) -> Image:
        """What the medium holds if the power goes now: the content of each file, and None for each directory.

        Args:
            persists: Asked for each "name" and each "content" that was not synced: whether it got there.
            torn: Decides how much of an unsynced content got there; None = all of it, where it did at all.
        """
        self._observe()
        image: Image = {}
        self._add(self._root.stat().st_ino, "", image, persists, torn)
        return image

    def _add(
        self, inode: int, path: str, image: Image, persists: Persists, torn: random.Random | None
    ) -> None:
        if inode in self._files:
            image[path] = self._files[inode].left(persists, torn)
            return
        image[path] = None
        known = self._directories[inode]
        entries = dict(known.durable)
        for change in known.changes:
            if persists("name"):
                entries.update(change)
        for name, below in sorted(entries.items()):
            if below is not None:
                self._add(below, f"{path}/{name}", image, persists, torn)

    def _begin(self) -> None:
        self._before_each()
        self.num_operations += 1

    def _observe(self) -> None:
        """Note what changed since the last look: files and directories come and go without this disk being asked."""
        seen: dict[int, dict[str, int]] = {inode: {} for inode in self._directories}
        for path, _, _ in os.walk(self._root):
            entries = list(os.scandir(path))
            seen[Path(path).stat().st_ino] = {entry.name: entry.inode() for entry in entries}
            for entry in entries:
                if entry.inode() not in self._files and entry.inode() not in self._directories:
                    self._meet(Path(entry.path), entry.inode())
        for inode, found in seen.items():
            known = self._directories[inode]
            for name in found.keys() | known.entries.keys():
                if found.get(name) != known.entries.get(name):
                    known.change({name: found.get(name)})

    def _meet(self, path: Path, inode: int) -> None:
        if path.is_dir():
            self._directories[inode] = _Directory(path)
        else:
            self._files[inode] = _File(path)


class _Open:
    """Held open, so that its inode number is not given to another file when this one is deleted."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self.descriptor)


class _File(_Open):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.durable = b""

    def read(self) -> bytes:
        return os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)

    def left(self, persists: Persists, torn: random.Random | None) -> bytes:
        written = self.read()
        if written == self.durable or not persists("content"):
            return self.durable
        if torn is None:
            return written
        # A file may have its new length and hold zeros where the blocks did not arrive.
        cut = torn.choice([len(written), torn.randrange(len(written) + 1)])
        return written[:cut] + torn.choice([b"", bytes(len(written) - cut)])


def write_image(image: Image, place: Path) -> None:
    """The files and directories of `image` under `place`, which is not there yet."""
    for path, content in image.items():
        if content is None:
            (place / path.lstrip("/")).mkdir()
        else:
            (place / path.lstrip("/")).write_bytes(content)


class _Directory(_Open):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.durable: dict[str, int | None] = {}
        self.entries: dict[str, int | None] = {}
        self.changes: list[dict[str, int | None]] = []

    def change(self, change: dict[str, int | None]) -> None:
        self.changes.append(change)
        self.entries.update(change)
