"""Finding raw files, and noticing that they changed."""

import doctest
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from core.errors import DataError
from data_processing.document import Dropped
from data_processing.sources import raw_files
from data_processing.sources.raw_files import (
    RawFile,
    SkippedDirectory,
    find_files,
    named_files,
    numbered_name,
    shared_name,
    source_name,
)


def outcome(root: Path, **options: Any) -> dict[str, str]:
    """Source -> `read`, `directory <reason>` or the reason."""
    result = {}
    for item in find_files(root, **options):
        if isinstance(item, RawFile):
            result[item.source] = "read"
        elif isinstance(item, SkippedDirectory):
            result[item.source] = f"directory {item.reason}"
        else:
            result[item.source] = item.reason
    return result


def write(path: Path, text: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_files_come_sorted_by_path_whatever_the_order_of_creation(tmp_path: Path):
    names = ["b/z.txt", "a.txt", "b.txt", "a/c.txt", "B.txt", "a/b/c.txt", "é.txt", "a-b.txt"]
    for name in reversed(names):
        write(tmp_path / name)
    found = [item.source for item in find_files(tmp_path)]
    assert found == sorted(names, key=lambda name: [part.encode() for part in name.split("/")])


def test_everything_that_is_no_raw_file_is_named_with_its_reason(tmp_path: Path):
    write(tmp_path / "a.TXT")
    write(tmp_path / "b.pdf")
    write(tmp_path / "Makefile")
    write(tmp_path / "empty.txt", "")
    write(tmp_path / ".hidden.txt")
    write(tmp_path / ".git" / "x.txt")
    write(tmp_path / "deep" / "node_modules" / "x.md")
    write(tmp_path / "__pycache__" / "x.txt")
    assert outcome(tmp_path) == {
        "a.TXT": "read",
        "b.pdf": "read",
        "Makefile": "read",
        "empty.txt": "empty",
        ".hidden.txt": "hidden",
        ".git": "directory hidden",
        "deep/node_modules": "directory excluded",
        "__pycache__": "directory excluded",
    }


def test_without_recursion_directories_are_named_and_not_entered(tmp_path: Path):
    write(tmp_path / "a.txt")
    write(tmp_path / "sub" / "b.txt")
    assert outcome(tmp_path, recursive=False) == {"a.txt": "read", "sub": "directory not_recursive"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in the file system")
def test_pipes_and_sockets_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    os.mkfifo(tmp_path / "pipe.txt")
    monkeypatch.chdir(tmp_path)  # the name of a socket may have about 100 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.txt")
        assert outcome(tmp_path) == {"pipe.txt": "not_a_file", "socket.txt": "not_a_file"}
    [dropped] = named_files(["pipe.txt"])
    assert isinstance(dropped, Dropped)
    assert dropped.detail == "is a pipe"


def test_links_are_followed_only_to_files_inside(tmp_path: Path):
    outside = write(tmp_path / "outside" / "secret.txt")
    root = tmp_path / "root"
    write(root / "data" / "a.txt")
    (root / "inside.txt").symlink_to("data/a.txt")
    (root / "outside.txt").symlink_to(outside)
    (root / "up.txt").symlink_to("../outside/secret.txt")
    (root / "device.txt").symlink_to("/dev/zero")
    (root / "gone.txt").symlink_to("nowhere")
    (root / "self.txt").symlink_to("self.txt")
    (root / "data" / "loop").symlink_to("..")
    (root / "elsewhere").symlink_to(outside.parent)
    assert outcome(root) == {
        "data/a.txt": "read",
        "data/loop": "directory symlink",
        "device.txt": "link_outside",
        "elsewhere": "directory symlink",
        "gone.txt": "broken_link",
        "inside.txt": "read",
        "outside.txt": "link_outside",
        "self.txt": "broken_link",
        "up.txt": "link_outside",
    }


def test_the_directory_itself_may_be_a_link(tmp_path: Path):
    write(tmp_path / "real" / "a.txt")
    (tmp_path / "link").symlink_to("real")
    assert outcome(tmp_path / "link") == {"a.txt": "read"}


def test_a_named_link_is_followed_wherever_it_leads(tmp_path: Path):
    target = write(tmp_path / "elsewhere" / "a.txt")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    [file] = named_files([link])
    assert isinstance(file, RawFile)


@pytest.mark.skipif(os.name == "nt", reason="Windows names are Unicode")
def test_names_that_are_not_utf8_or_hold_newlines_are_escaped_and_stay_distinct(tmp_path: Path):
    names = [
        b"\xff.txt",
        b"\\xff.txt",
        b"a\nb.txt",
        b"a\\nb.txt",
        b"\x1b[31m.txt",
        b"..txt"[:1] + b"a..txt",
        b"x" * 251 + b".txt",
    ]
    for name in names:
        write(tmp_path / os.fsdecode(name))
    sources = [item.source for item in find_files(tmp_path)]
    assert len(set(sources)) == len(names)
    for source in sources:
        source.encode("utf-8")
        assert source.isprintable()
    assert source_name(Path(os.fsdecode(b"/d/\xff\n.txt")), root=Path("/d")) == "\\xff\\n.txt"


def test_a_directory_that_cannot_be_listed_is_named_and_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "closed" / "a.txt")
    write(tmp_path / "open" / "b.txt")
    real = raw_files._sorted_entries

    def refuse(directory: Path) -> list["os.DirEntry[str]"]:
        if directory.name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(directory)

    monkeypatch.setattr(raw_files, "_sorted_entries", refuse)
    assert outcome(tmp_path) == {"closed": "directory unreadable", "open/b.txt": "read"}
    monkeypatch.setattr(
        raw_files, "_sorted_entries", lambda directory: (_ for _ in ()).throw(PermissionError(13, "no"))
    )
    with pytest.raises(DataError, match="cannot be listed"):
        list(find_files(tmp_path))


def test_ignored_files_and_what_is_about_to_become_them_are_passed_over(tmp_path: Path):
    write(tmp_path / "a.txt")
    write(tmp_path / "own.txt")
    write(tmp_path / ".own.txt.tmp-0123")
    found = [item.source for item in find_files(tmp_path, ignore=[tmp_path.resolve() / "own.txt"])]
    assert found == ["a.txt"]


def test_a_missing_directory_or_a_file_in_its_place_says_what_to_do(tmp_path: Path):
    with pytest.raises(DataError, match=r"no such directory .*data\.raw_dir"):
        list(find_files(tmp_path / "missing"))
    with pytest.raises(DataError, match=r"is a file, expected a directory; set data\.raw_dir"):
        list(find_files(write(tmp_path / "a.txt")))


def test_named_files_that_are_missing_or_directories_are_refused_before_anything_is_read(tmp_path: Path):
    existing = write(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"missing\.txt: no such file"):
        named_files([existing, tmp_path / "missing.txt"])
    with pytest.raises(DataError, match="is a directory, expected a file; use collect_from_directory"):
        named_files([existing, tmp_path])


@pytest.mark.parametrize("name", ["a.txt", "letters/1998.txt", "/home/me/a.txt", "a(2)/b.txt"])
def test_a_number_in_front_is_told_from_the_name_behind_it(name: str):
    numbered = {numbered_name(name, number) for number in range(2, 12)}
    assert len(numbered) == 10 and name not in numbered
    assert {shared_name(one) for one in (name, *numbered)} == {name.lstrip("/")}


def test_the_examples_are_right():
    assert doctest.testmod(raw_files).failed == 0
