import contextlib
import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from core.errors import DiskError, LockedError, NotWritableError
from core.files import (
    Disk,
    atomic_write,
    atomic_writer,
    check_writable,
    lock,
    lock_open_file,
    move_aside,
    new_directory,
    open_append,
    remove,
    remove_leftovers,
    sha256_file,
    sha256_text,
    write_json,
)


class FailingDisk(Disk):
    """Fails at the operation with the given number, counted from 0."""

    def __init__(self, fail_at: int, error: int = errno.ENOSPC) -> None:
        self.fail_at, self.error, self.count = fail_at, error, 0

    def _maybe_fail(self) -> None:
        self.count += 1
        if self.count - 1 == self.fail_at:
            raise OSError(self.error, "injected")

    def sync_file(self, file: IO[Any]) -> None:
        self._maybe_fail()
        super().sync_file(file)

    def sync_directory(self, path: Path) -> None:
        self._maybe_fail()
        super().sync_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        self._maybe_fail()
        super().rename(source, target)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_written_file_holds_what_was_written(tmp_path: Path) -> None:
    atomic_write(tmp_path / "deep" / "a.txt", "grün\n")
    assert (tmp_path / "deep" / "a.txt").read_bytes() == "grün\n".encode()
    write_json(tmp_path / "b.json", {"a": [1, 2.5, None]})
    assert json.loads((tmp_path / "b.json").read_text()) == {"a": [1, 2.5, None]}


def test_an_exception_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_writer(path, "w") as file:
        file.write("half of the new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("fail_at", [0, 1])
def test_a_full_disk_at_any_operation_leaves_the_old_file(tmp_path: Path, fail_at: int) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(DiskError, match=r"a\.txt: the disk is full \(.* MB free\); make room"):
        atomic_write(path, "new", disk=FailingDisk(fail_at))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("fail_at", range(5))
def test_a_failing_disk_never_shows_half_a_directory(tmp_path: Path, fail_at: int) -> None:
    final = tmp_path / "out"
    with pytest.raises(DiskError), new_directory(final, disk=FailingDisk(fail_at, errno.EIO)) as out:
        (out / "a").write_text("1")
        (out / "sub").mkdir()
        (out / "sub" / "b").write_text("2")
    assert names(tmp_path) == []


def test_a_new_directory_is_whole_and_readable(tmp_path: Path) -> None:
    with new_directory(tmp_path / "out") as out:
        assert out.parent == tmp_path
        (out / "a").write_text("1")
    assert (tmp_path / "out" / "a").read_text() == "1"
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755


def test_a_place_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=r"file: File exists"):
        atomic_write(tmp_path / "file" / "a", "x")


def test_nan_is_refused_because_it_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert names(tmp_path) == []


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    remove(tmp_path / "link")
    assert names(tmp_path) == ["precious"]
    remove(tmp_path / "precious")
    assert names(tmp_path) == []


def test_only_leftovers_of_the_named_place_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".corpus.tmp-abc").mkdir()
    (tmp_path / ".other.tmp-abc").mkdir()
    (tmp_path / "corpus.tmp-abc").mkdir()
    remove_leftovers(tmp_path / "corpus")
    assert names(tmp_path) == [".other.tmp-abc", "corpus.tmp-abc"]


def test_moving_aside_never_takes_a_name_twice(tmp_path: Path) -> None:
    for expected in ("a.stale-1", "a.stale-2"):
        (tmp_path / "a").mkdir()
        assert move_aside(tmp_path / "a", "stale").name == expected


def test_hashes_agree_with_known_values(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert sha256_file(tmp_path / "a") == sha256_text("abc") == known


def test_a_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from core.files import lock\n"
        "try:\n  with lock(Path(sys.argv[1]) / '.lock', held=Path(sys.argv[1])): print('got it')\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with lock(tmp_path / ".lock", held=tmp_path):
        held = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert held.startswith("LockedError")
    assert "in use by process " in held
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "got it\n"


def test_a_lock_that_leaves_nothing_is_no_lock_for_who_opened_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    with contextlib.suppress(KeyError), lock(path, held=tmp_path, leave=False):
        with pytest.raises(LockedError), lock(path, held=tmp_path, leave=False):
            pass
        waiting = open_append(path)
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with waiting:
        with pytest.raises(OSError):  # it has no file at this place
            lock_open_file(waiting, path)
        with lock(path, held=tmp_path), pytest.raises(OSError, match="another file has taken its place"):
            lock_open_file(waiting, path)


@pytest.mark.parametrize(
    "place",
    [
        "file/below",
        pytest.param("/proc/new", marks=pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")),
    ],
)
def test_a_directory_in_which_nothing_can_be_made_is_not_writable(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(
        NotWritableError, match=r"file: expected a directory, found a file|/proc: no file can be made"
    ):
        check_writable(Path(place))


def test_the_same_process_cannot_lock_twice_either(tmp_path: Path) -> None:
    with (
        lock(tmp_path / ".lock", held=tmp_path),
        pytest.raises(LockedError, match="in use by process"),
        lock(tmp_path / ".lock", held=tmp_path),
    ):
        pass
