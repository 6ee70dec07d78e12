"""What raw data is made of, of files and behind URLs."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from data_processing.sources import file_digests, fingerprints
from data_processing.sources.fingerprints import remote_fingerprint, source_fingerprint
from tests.data_processing.remote_stores import FailingFileSystem, put


def write(path: Path, text: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_fingerprint_changes_with_content_names_and_files_and_with_nothing_else(tmp_path: Path):
    root = tmp_path / "raw"
    write(root / "a.txt", "one")
    write(root / "sub" / "b.md", "two")
    first = source_fingerprint(root)
    assert (first["num_files"], first["num_bytes"]) == (2, 6)
    assert list(first["files"]) == ["a.txt", "sub/b.md"]

    os.utime(root / "a.txt", (0, 0))
    (root / "a.txt").chmod(stat.S_IRUSR | stat.S_IWUSR)
    moved = root.rename(tmp_path / "elsewhere")
    assert source_fingerprint(moved) == first

    write(moved / "c.unknown", "may be read all the same")
    assert source_fingerprint(moved)["num_files"] == 3
    (moved / "c.unknown").unlink()

    write(moved / "a.txt", "eno")
    (moved / "sub" / "b.md").rename(moved / "sub" / "c.md")
    second = source_fingerprint(moved)
    assert second["sha256"] != first["sha256"]
    assert list(second["files"]) == ["a.txt", "sub/c.md"]
    assert second["files"]["a.txt"] != first["files"]["a.txt"]
    assert second["files"]["sub/c.md"] == first["files"]["sub/b.md"]
    assert source_fingerprint(moved, recursive=False)["num_files"] == 1


def test_the_fingerprint_of_named_files_and_of_very_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = [write(tmp_path / f"{n}.txt", str(n)) for n in range(3)]
    named = source_fingerprint(files)
    assert named["num_files"] == 3
    monkeypatch.setattr(fingerprints, "MAX_NAMED_FILES", 2)
    many = source_fingerprint(files)
    assert many == {**named, "files": None}


def test_a_file_that_cannot_be_read_is_part_of_the_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "a.txt")
    readable = source_fingerprint(tmp_path)

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(file_digests, "sha256_file", refuse)
    assert source_fingerprint(tmp_path)["files"] == {"a.txt": "unreadable"} != readable["files"]


def test_the_fingerprint_changes_with_names_sizes_and_times_and_with_nothing_else(tmp_path: Path):
    place = f"file://{tmp_path}"

    def fingerprint() -> dict[str, Any]:
        return remote_fingerprint(place)

    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.md").write_text("text")
    first = fingerprint()
    assert fingerprint() == first
    assert (first["num_files"], first["num_bytes"], list(first["files"])) == (2, 8, ["a.txt", "b.md"])
    assert first.keys() == source_fingerprint(tmp_path).keys()
    (tmp_path / "empty.txt").touch()
    (tmp_path / ".hidden").write_text("hidden")
    assert fingerprint() == first
    os.utime(tmp_path / "a.txt", (1, 1))
    touched = fingerprint()
    assert touched["sha256"] != first["sha256"]
    assert touched["files"]["b.md"] == first["files"]["b.md"]
    (tmp_path / "b.md").rename(tmp_path / "d.md")
    assert fingerprint()["sha256"] != touched["sha256"]


def test_the_fingerprint_prefers_a_digest_and_reads_no_content(errors: list[Exception], monkeypatch: Any):
    put("failing://x", "a.txt")
    etags = iter(["one", "one", "two"])

    def ls(self: Any, path: str, detail: bool = True, **kwargs: Any) -> Any:
        return [
            {
                "name": "/x/a.txt",
                "size": 4,
                "type": "file",
                "ETag": next(etags),
                "LastModified": os.urandom(4),
            }
        ]

    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("content was read")

    monkeypatch.setattr(FailingFileSystem, "ls", ls)
    monkeypatch.setattr(FailingFileSystem, "cat_file", refuse)
    digests = [remote_fingerprint("failing://x")["sha256"] for _ in range(3)]
    assert digests[0] == digests[1] != digests[2]


def test_many_files_are_counted_and_not_listed(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fingerprints, "MAX_NAMED_FILES", 2)
    for name in "abc":
        put(url, f"{name}.txt")
    fingerprint = remote_fingerprint(url)
    assert (fingerprint["files"], fingerprint["num_files"]) == (None, 3)
