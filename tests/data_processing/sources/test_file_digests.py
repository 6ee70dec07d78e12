"""Digests are remembered, and never wrong."""

import os
import time
from pathlib import Path

import pytest

from core.files import sha256_file
from data_processing.sources import file_digests
from data_processing.sources.file_digests import FileDigests


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """A file that has been at rest for an hour, as far as its times say."""
    path = tmp_path / "old.txt"
    path.write_text("old text")
    return path


@pytest.fixture
def at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this test count as at rest (their status-change time cannot be set back)."""
    monkeypatch.setattr(file_digests, "AT_REST_NS", -(10**12))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content was read."""
    read: list[Path] = []

    def noted(path: Path) -> str:
        read.append(path)
        return sha256_file(path)

    monkeypatch.setattr(file_digests, "sha256_file", noted)
    return read


@pytest.mark.usefixtures("at_rest")
def test_a_file_at_rest_is_read_once(old_file: Path, tmp_path: Path, reads: list[Path]) -> None:
    for _ in range(3):
        with FileDigests(tmp_path / "cache" / "digests.sqlite") as digests:
            assert digests.sha256(old_file) == sha256_file(old_file)
    assert reads == [old_file]


@pytest.mark.usefixtures("at_rest")
def test_a_change_is_seen_also_when_size_and_modification_time_are_put_back(
    old_file: Path, tmp_path: Path, reads: list[Path]
) -> None:
    database = tmp_path / "digests.sqlite"
    with FileDigests(database) as digests:
        digests.sha256(old_file)
    status = old_file.stat()
    time.sleep(0.02)
    old_file.write_text("new text")
    os.utime(old_file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with FileDigests(database) as digests:
        assert digests.sha256(old_file) == sha256_file(old_file)
    assert len(reads) == 2


def test_a_file_that_was_written_a_moment_ago_is_read_again(
    old_file: Path, tmp_path: Path, reads: list[Path]
) -> None:
    for _ in range(2):
        with FileDigests(tmp_path / "digests.sqlite") as digests:
            digests.sha256(old_file)
    assert len(reads) == 2


@pytest.mark.usefixtures("at_rest")
@pytest.mark.parametrize("rows_at_once", [1, 3, 100])
def test_every_digest_is_remembered_however_many_are_written_at_once(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(file_digests, "LEARNED_ROWS", rows_at_once)
    files = [tmp_path / f"{number}.txt" for number in range(10)]
    for file in files:
        file.write_text(file.name)
    for _ in range(2):
        with FileDigests(tmp_path / "digests.sqlite") as digests:
            assert [digests.sha256(file) for file in files] == [sha256_file(file) for file in files]
    assert reads == files


@pytest.mark.usefixtures("at_rest")
@pytest.mark.usefixtures("at_rest")
def test_what_was_learned_long_ago_is_there_although_the_process_is_killed(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_digests, "LEARNED_ROWS", 2)
    files = [tmp_path / f"{number}.txt" for number in range(5)]
    database = tmp_path / "digests.sqlite"
    with FileDigests(database) as killed:
        for file in files:
            file.write_text(file.name)
            killed.sha256(file)
        reads.clear()
        with FileDigests(database, read_only=True) as digests:
            for file in files:
                digests.sha256(file)
    assert reads == files[4:]


def test_a_damaged_database_costs_only_time(old_file: Path, tmp_path: Path) -> None:
    database = tmp_path / "digests.sqlite"
    database.write_bytes(b"not a database" * 100)
    with FileDigests(database) as digests:
        assert digests.sha256(old_file) == sha256_file(old_file)


@pytest.mark.usefixtures("at_rest")
def test_reading_only_writes_nothing(old_file: Path, tmp_path: Path, reads: list[Path]) -> None:
    database = tmp_path / "cache" / "digests.sqlite"
    with FileDigests(database, read_only=True) as digests:
        digests.sha256(old_file)
    assert not database.parent.exists()
    with FileDigests(database) as digests:
        digests.sha256(old_file)
    before = database.read_bytes()
    with FileDigests(database, read_only=True) as digests:
        digests.sha256(old_file)
    assert database.read_bytes() == before
    assert len(reads) == 2


def test_a_missing_file_is_the_callers_matter(tmp_path: Path) -> None:
    with FileDigests() as digests, pytest.raises(FileNotFoundError):
        digests.sha256(tmp_path / "missing.txt")
