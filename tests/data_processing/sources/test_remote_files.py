"""Files and shards behind URLs."""

import doctest
import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from core.errors import ConfigError, DataError, MissingDependencyError, UnreachableError
from data_processing.document import Dropped
from data_processing.sources import remote_files, remote_store
from data_processing.sources.raw_files import RawFile, find_files
from data_processing.sources.remote_files import (
    RemoteFile,
    find_remote_files,
    is_url,
    open_remote,
    remote_version,
    url_of,
)
from tests.data_processing.remote_stores import NUMBER, put


def described(items: Iterator[Any]) -> list[tuple[str, ...]]:
    return [
        ("read", item.source, item.format, str(item.num_bytes))
        if isinstance(item, RawFile | RemoteFile)
        else (item.reason, item.source)
        for item in items
    ]


# --- addresses


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://bucket/raw", "s3://bucket/raw"),
        (Path("s3://bucket/raw"), "s3://bucket/raw"),
        ("S3://Bucket/Raw", "s3://Bucket/Raw"),
        ("file:///data/raw", "file:///data/raw"),
        (Path("file:///data/raw"), "file:///data/raw"),
        ("memory://a/b", "memory://a/b"),
        ("simplecache::s3://bucket/raw", "simplecache::s3://bucket/raw"),
        ("books/raw", None),
        ("/data/raw", None),
        ("C:/data/raw", None),
        (Path("a:b"), None),
        ("notes/a:/b", None),
        ("", None),
    ],
)
def test_an_address_is_told_from_a_path_even_after_pathlib_had_it(place: str | Path, expected: str | None):
    assert url_of(place) == expected
    assert is_url(place) is (expected is not None)


def test_a_scheme_nobody_knows_is_an_error_that_says_what_is_expected():
    with pytest.raises(ConfigError, match=r"nonsense://x: fsspec cannot read .*nonsense.*expected a path or"):
        list(find_remote_files("nonsense://x"))


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    def fail(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", fail)
    with pytest.raises(MissingDependencyError, match=r"s3://b/raw: .*Install s3fs.*pip install s3fs"):
        list(find_remote_files("s3://b/raw"))


def test_what_is_behind_plain_paths_does_not_load_fsspec(tmp_path: Path):
    code = (
        "import sys\n"
        "from data_processing.collecting.shard_store import ShardStore\n"
        "from data_processing.sources.remote_files import is_url\n"
        f"store = ShardStore({str(tmp_path)!r})\n"
        "store.write('a', b'1'); store.open('a').close(); store.list(); store.delete('a'); store.exists('a')\n"
        "assert not is_url('books')\n"
        "print('fsspec' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


# --- finding


def test_a_url_is_searched_in_the_same_order_with_the_same_verdicts_as_a_path(tmp_path: Path):
    names = [
        "b/z.txt",
        "a.txt",
        "b.txt",
        "a/c.txt",
        "B.txt",
        "a/b/c.txt",
        "é.txt",
        "a-b.txt",
        "a.TXT",
        "x.pdf",
    ]
    names += [
        ".hidden.txt",
        ".git/x.txt",
        "deep/node_modules/x.md",
        "Makefile",
        "line\nend.txt",
        "back\\slash.md",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (tmp_path / "empty.md").touch()
    (tmp_path / "zero" / "empty directory").mkdir(parents=True)
    expected = described(find_files(tmp_path))
    assert described(find_remote_files(f"file://{tmp_path}")) == expected
    assert len(expected) == 17
    there = f"memory://test-{next(NUMBER)}"
    for name in [*names, "empty.md"]:
        put(there, name, b"" if name == "empty.md" else b"text")
    assert described(find_remote_files(f"{there}/")) == expected
    flat = described(find_files(tmp_path, recursive=False))
    assert described(find_remote_files(f"file://{tmp_path}", recursive=False)) == flat


def test_a_name_that_is_not_utf8_is_found_and_can_be_opened(tmp_path: Path):
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"coffee")
    (found,) = find_remote_files(f"file://{tmp_path}")
    assert isinstance(found, RemoteFile)
    assert found.source == "caf\\xe9.txt"
    assert open_remote(found.path).read() == b"coffee"


def test_globs_choose_files_and_each_that_is_passed_over_has_its_reason(url: str):
    for name in ("books/a.txt", "books/old/b.txt", "books/b.md", "notes.txt", "drafts/x.txt"):
        put(url, name)
    found = find_remote_files(url, include=["books/**", "*.md"], exclude=["old/", "books/b.*"])
    assert described(found) == [
        ("read", "books/a.txt", ".txt", "4"),
        ("excluded", "books/b.md"),
        ("excluded", "books/old"),
        ("not_included", "drafts/x.txt"),
        ("not_included", "notes.txt"),
    ]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_behind_a_url_are_named_and_not_followed(tmp_path: Path):
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "outside.txt").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe.txt")
    found = list(find_remote_files(f"file://{tmp_path}"))
    assert described(iter(found)) == [
        ("not_a_file", "loop"),
        ("not_a_file", "outside.txt"),
        ("not_a_file", "pipe.txt"),
    ]
    assert isinstance(found[1], Dropped)
    assert "links are followed on plain paths only" in found[1].detail


def test_a_missing_directory_and_a_file_in_its_place_are_errors(url: str):
    with pytest.raises(
        DataError, match=r"nowhere: nothing is there; put raw files there, or correct data.raw_dir"
    ):
        list(find_remote_files(f"{url}/nowhere"))
    put(url, "a.txt")
    with pytest.raises(DataError, match=r"a\.txt: is a file, expected a directory"):
        list(find_remote_files(f"{url}/a.txt"))


def test_a_directory_that_may_not_be_listed_is_unreadable_and_the_rest_is_found(errors: list[Exception]):
    for name in ("a/b.txt", "c.txt", "d/e.txt"):
        put("failing://x", name)
    found = find_remote_files("failing://x")
    assert described(itertools.islice(found, 1)) == [("read", "a/b.txt", ".txt", "4")]
    errors.append(PermissionError(errno.EACCES, "no"))
    assert described(found) == [("read", "c.txt", ".txt", "4"), ("unreadable", "d")]


def test_failures_that_pass_leave_no_trace_and_those_that_do_not_are_an_error(errors: list[Exception]):
    put("failing://x", "a.txt")
    errors += [ConnectionResetError("reset"), TimeoutError("slow")]
    assert described(find_remote_files("failing://x")) == [("read", "a.txt", ".txt", "4")]
    assert errors == []
    errors += [ConnectionResetError("reset")] * (remote_store.MAX_RETRIES + 1)
    with pytest.raises(
        UnreachableError, match=r"looking at failing://x: failed 6 times .*reset.*check the network"
    ):
        list(find_remote_files("failing://x"))
    errors[:] = [PermissionError(errno.EACCES, "no")]
    with pytest.raises(DataError, match=r"failing://x: cannot be listed \(PermissionError.*your rights"):
        list(find_remote_files("failing://x"))


# --- reading


def test_a_file_can_be_read_from_any_place(url: str):
    data = bytes(range(256)) * 100
    put(url, "a.txt", data)
    with open_remote(f"{url}/a.txt") as file:
        assert file.seekable()
        assert file.read(5) == data[:5]
        assert file.seek(-10, os.SEEK_END) == len(data) - 10
        assert file.read() == data[-10:]
        assert file.read() == b""
        assert file.seek(1000) == 1000
        assert file.read(7) == data[1000:1007]
        assert file.seek(3, os.SEEK_CUR) == 1010
        assert file.tell() == 1010
        assert file.seek(len(data) + 5) == len(data) + 5
        assert file.read(1) == b""
        with pytest.raises((ValueError, OSError)):
            file.seek(-1)


def test_a_file_longer_than_one_request_is_read_whole(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote_files, "READ_BYTES", 1000)
    data = os.urandom(12_345)
    put(url, "a.txt", data)
    with open_remote(f"{url}/a.txt") as file:
        assert b"".join(iter(lambda: file.read(77), b"")) == data
    with open_remote(f"{url}/a.txt") as file:
        assert file.read() == data


def test_two_readers_of_one_file_do_not_disturb_each_other(url: str):
    put(url, "a.txt", b"0123456789")
    with open_remote(f"{url}/a.txt") as one, open_remote(f"{url}/a.txt") as other:
        assert (one.read(2), other.read(1), one.read(2), other.read(3)) == (b"01", b"0", b"23", b"123")


def test_what_cannot_be_opened_is_an_operating_system_error(url: str):
    with pytest.raises(FileNotFoundError):
        open_remote(f"{url}/gone.txt")
    put(url, "a/b.txt")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        open_remote(f"{url}/a")


def test_a_stretch_that_fails_on_the_way_is_asked_for_again(errors: list[Exception]):
    put("failing://x", "a.txt", b"0123456789")
    with open_remote("failing://x/a.txt") as file:
        errors += [ConnectionResetError("reset"), OSError(errno.EIO, "internal error")]
        assert file.read() == b"0123456789"
        assert errors == []
        errors += [TimeoutError("slow")] * 9
        file.seek(0)
        file.seek(0, os.SEEK_END)
        raw = file.raw  # type: ignore[attr-defined]
        raw.seek(0)
        with pytest.raises(UnreachableError, match=r"reading failing://x/a.txt: failed 6 times"):
            raw.read(4)


def test_the_version_of_a_file_changes_when_it_is_written_anew(url: str):
    put(url, "a.txt", b"1")
    before = remote_version(f"{url}/a.txt")
    assert remote_version(f"{url}/a.txt") == before
    put(url, "a.txt", b"22")
    assert remote_version(f"{url}/a.txt") != before
    with pytest.raises(FileNotFoundError):
        remote_version(f"{url}/gone.txt")


def test_the_examples_in_the_documentation_hold():
    result = doctest.testmod(remote_files)
    assert result.attempted
    assert not result.failed
