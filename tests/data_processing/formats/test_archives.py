"""Compressed files and archives, harmless and hostile, as a user would have them on disk."""

import bz2
import doctest
import gzip
import io
import json
import lzma
import os
import struct
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import zstandard

from core.data_config import ReadingConfig
from core.errors import DiskError
from data_processing.document import Document, Dropped
from data_processing.formats import tar_archives, unpacking
from data_processing.formats.raw_input import Reading
from data_processing.formats.readers import read_file
from data_processing.formats.tar_archives import is_tar
from data_processing.sources.raw_files import RawFile

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def read(path: Path, **limits: Any) -> list[Document | Dropped]:
    reading = Reading(limits=ReadingConfig(**limits))
    return list(read_file(RawFile(path, path.name, path.stat().st_size), reading))


def texts(items: list[Document | Dropped]) -> dict[str, str]:
    return {item.source: item.text for item in items if isinstance(item, Document)}


def reasons(items: list[Document | Dropped]) -> dict[str, str]:
    return {item.source: item.reason for item in items if isinstance(item, Dropped)}


def num_bytes(items: list[Document | Dropped]) -> int:
    return sum(item.input_bytes if isinstance(item, Document) else item.num_bytes for item in items)


def zip_of(members: dict[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tar_of(members: dict[str, bytes], mode: str = "w", **options: Any) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, **options) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


# --- what is there is read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", PACKERS)
def test_a_compressed_file_is_read_as_what_is_in_it(tmp_path: Path, compression: str):
    lines = b'{"text": "one"}\n{"text": "two"}\n'
    path = tmp_path / f"records.jsonl{compression}"
    path.write_bytes(PACKERS[compression](lines))
    items = read(path)
    assert texts(items) == {f"{path.name}:1": "one", f"{path.name}:2": "two"}
    assert items[0].format == ".jsonl"
    assert num_bytes(items) == len(lines)


def test_compression_is_seen_by_content_and_not_by_name(tmp_path: Path):
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(b'{"text": "one"}\n'))
    (tmp_path / "b").write_bytes(bz2.compress(b"Plain text without a name for it."))
    assert texts(read(tmp_path / "a.jsonl")) == {"a.jsonl:1": "one"}
    [document] = read(tmp_path / "b")
    assert (document.source, document.format) == ("b", ".txt")


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_members_of_a_zip_archive_are_read_each_by_its_own_reader(tmp_path: Path, compression: int):
    members = {
        "a.txt": "text é",
        "code/x.py": "x = 1\n",
        "r.jsonl": '{"text": "one"}\n{"text": "two"}\n',
        "noext": "plain",
        "dir/": "",
    }
    path = tmp_path / "all.zip"
    path.write_bytes(zip_of(members, compression))
    items = read(path)
    assert texts(items) == {
        "all.zip!a.txt": "text é",
        "all.zip!code/x.py": "x = 1\n",
        "all.zip!r.jsonl:1": "one",
        "all.zip!r.jsonl:2": "two",
        "all.zip!noext": "plain",
    }
    assert [item.metadata.get("code") for item in items if isinstance(item, Document)][1] is True
    assert num_bytes(items) == sum(len(content.encode()) for content in members.values())


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_tar_archives_are_read(tmp_path: Path, mode: str, format_: int):
    members = {"a.txt": b"text", f"{'long/' * 19}b.json": json.dumps({"text": "in json"}).encode()}
    path = tmp_path / "all.tar"
    path.write_bytes(tar_of(members, mode, format=format_))
    items = read(path)
    assert list(texts(items).values()) == ["text", "in json"]
    assert reasons(items) == {}
    assert num_bytes(items) == sum(map(len, members.values()))


def test_a_tar_archive_in_zstandard_and_one_of_the_seventies_are_read(tmp_path: Path):
    data = tar_of({"a.txt": b"text"}, format=tarfile.USTAR_FORMAT)
    (tmp_path / "a.tzst").write_bytes(zstandard.compress(data))
    assert texts(read(tmp_path / "a.tzst")) == {"a.tzst!a.txt": "text"}
    header = bytearray(data[:512])
    header[257:512] = bytes(255)  # no magic, no owner, no prefix
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    old = bytes(header) + data[512:]
    assert is_tar(old[:512])
    (tmp_path / "old").write_bytes(old)
    assert texts(read(tmp_path / "old")) == {"old!a.txt": "text"}


def test_archives_within_archives_are_opened_to_a_depth(tmp_path: Path):
    inner = zip_of({"deep.txt": "deep"})
    middle = tar_of({"inner.zip": inner, "log.txt.gz": gzip.compress(b"log")})
    path = tmp_path / "outer.zip"
    path.write_bytes(zip_of({"middle.tar": middle, "a.txt": "shallow"}))
    assert texts(read(path)) == {
        "outer.zip!middle.tar!inner.zip!deep.txt": "deep",
        "outer.zip!middle.tar!log.txt.gz": "log",
        "outer.zip!a.txt": "shallow",
    }
    items = read(path, max_archive_depth=1)
    assert reasons(items) == {
        "outer.zip!middle.tar!inner.zip": "too_deep",
        "outer.zip!middle.tar!log.txt.gz": "too_deep",
    }
    assert num_bytes(items) == len(inner) + len(gzip.compress(b"log")) + len("shallow")
    assert reasons(read(path, max_archive_depth=0)) == {"outer.zip!middle.tar": "too_deep"}


def test_what_tools_and_hidden_names_leave_in_archives_is_passed_over_and_counted(tmp_path: Path):
    members = {
        "__MACOSX/._a.txt": "x",
        "__MACOSX/a.txt": "x",
        ".git/a.txt": "x",
        "b/.hidden": "x",
        "b/c.txt": "c",
    }
    (tmp_path / "a.zip").write_bytes(zip_of(members))
    (tmp_path / "a.tar").write_bytes(tar_of({f"./{name}": b"x" for name in members}))
    for name, prefix in (("a.zip", ""), ("a.tar", "./")):
        items = read(tmp_path / name)
        assert list(texts(items)) == [f"{name}!{prefix}b/c.txt"]
        assert reasons(items) == {
            f"{name}!{prefix}__MACOSX/._a.txt": "hidden",
            f"{name}!{prefix}__MACOSX/a.txt": "excluded",
            f"{name}!{prefix}.git/a.txt": "hidden",
            f"{name}!{prefix}b/.hidden": "hidden",
        }


def test_large_members_go_to_a_temporary_file_that_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened: list[BinaryIO] = []
    real = tempfile.TemporaryFile

    def remember() -> BinaryIO:
        opened.append(real())  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr(unpacking, "SPOOL_BYTES", 1000)
    monkeypatch.setattr(unpacking, "BLOCK_BYTES", 100)
    monkeypatch.setattr(unpacking.tempfile, "TemporaryFile", remember)
    path = tmp_path / "a.zip"
    path.write_bytes(zip_of({"small.txt": "s" * 900, "large.txt": "l" * 5000}))
    assert texts(read(path)) == {"a.zip!small.txt": "s" * 900, "a.zip!large.txt": "l" * 5000}
    assert len(opened) == 1
    assert opened[0].closed


def test_a_full_disk_for_temporary_files_is_an_error_that_names_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse() -> BinaryIO:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacking, "SPOOL_BYTES", 10)
    monkeypatch.setattr(unpacking.tempfile, "TemporaryFile", refuse)
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"x" * 100))
    with pytest.raises(DiskError, match=r"no room to unpack .*TMPDIR"):
        read(path)


# --- what is hostile does no harm --------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", PACKERS)
def test_a_bomb_in_a_compressed_file_is_stopped(tmp_path: Path, compression: str):
    path = tmp_path / f"a.txt{compression}"
    packed = PACKERS[compression](b" " * (25 << 20))
    path.write_bytes(packed + packed)
    items = read(path)
    assert reasons(items) == {path.name: "archive_bomb"}
    assert num_bytes(items) < 35 << 20


def test_a_zip_bomb_keeps_what_stands_before_it(tmp_path: Path):
    path = tmp_path / "bomb.zip"
    path.write_bytes(zip_of({"a.txt": "harmless", "bomb.txt": b"0" * (50 << 20), "z.txt": "never reached"}))
    assert path.stat().st_size < 60_000
    items = read(path)
    assert texts(items) == {"bomb.zip!a.txt": "harmless"}
    assert reasons(items) == {"bomb.zip!bomb.txt": "archive_bomb"}


def test_a_bomb_of_small_explosions_in_nested_archives_is_stopped(tmp_path: Path):
    # Each layer unpacks to what would be allowed; all of them together do not.
    layer = zip_of({"a.txt": b"0" * (4 << 20)})
    middle = zip_of({f"{number}.zip": layer for number in range(30)}, zipfile.ZIP_STORED)
    path = tmp_path / "bomb.zip"
    path.write_bytes(zip_of({"middle.zip": middle}))
    items = read(path)
    assert "archive_bomb" in reasons(items).values()
    assert num_bytes(items) < 30 << 20


def test_a_few_spaces_are_no_bomb_and_a_trusted_archive_can_be_let_through(tmp_path: Path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b" " * (1 << 20)))
    assert reasons(read(path)) == {}
    path.write_bytes(gzip.compress(b" " * (20 << 20)))
    assert reasons(read(path, max_unpacking_ratio=2000.0)) == {}


def test_unpacked_bytes_and_members_have_limits(tmp_path: Path):
    path = tmp_path / "a.zip"
    path.write_bytes(zip_of({f"{number}.txt": os.urandom(400_000).hex() for number in range(4)}))
    items = read(path, max_unpacked_bytes=2 << 20)
    assert list(texts(items)) == ["a.zip!0.txt", "a.zip!1.txt"]
    assert reasons(items) == {"a.zip!2.txt": "archive_limit"}
    for name, data in (
        ("b.zip", zip_of({f"{n}.txt": "x" for n in range(9)})),
        ("b.tar", tar_of({f"{n}.txt": b"x" for n in range(9)})),
    ):
        (tmp_path / name).write_bytes(data)
        items = read(tmp_path / name, max_archive_members=8)
        assert reasons(items) == {name: "archive_limit"}
        assert len(texts(items)) == (0 if name == "b.zip" else 8)  # a zip archive lists its members
        assert not reasons(read(tmp_path / name, max_archive_members=9))


def test_names_of_members_stay_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names = [
        "../../escaped.txt",
        "/etc/absolute.txt",
        "C:\\Windows\\a.txt",
        "a\nb.txt",
        "..",
        "same.txt",
        "same.txt",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of the name that stands twice
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for number, name in enumerate(names):
                archive.writestr(zipfile.ZipInfo(name), f"text {number}")
        (tmp_path / "a.zip").write_bytes(file.getvalue())
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = 6
            tar.addfile(info, io.BytesIO(b"text %d" % number))
    (tmp_path / "a.tar").write_bytes(file.getvalue())
    for archive_name in ("a.zip", "a.tar"):
        items = read(tmp_path / archive_name)
        assert sorted(texts(items).values()) == [f"text {number}" for number in range(7)]
        assert f"{archive_name}!../../escaped.txt" in texts(items)
        assert f"{archive_name}!same.txt#2" in texts(items)
        assert all(source.isprintable() for source in texts(items))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "a.zip"]
    assert not (tmp_path.parent / "escaped.txt").exists()


def test_links_and_devices_in_archives_are_not_followed(tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.txt")
            info.type, info.linkname = kind, str(secret)
            tar.addfile(info)
    (tmp_path / "a.tar").write_bytes(file.getvalue())
    items = read(tmp_path / "a.tar")
    assert set(reasons(items).values()) == {"not_a_file"}
    assert len(items) == 4
    link = zipfile.ZipInfo("link.txt")
    link.external_attr = 0o120777 << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(link, str(secret))
    (tmp_path / "a.zip").write_bytes(file.getvalue())
    assert reasons(read(tmp_path / "a.zip")) == {"a.zip!link.txt": "not_a_file"}


def test_encrypted_members_are_named(tmp_path: Path):
    data = bytearray(zip_of({"a.txt": "text", "b.txt": "plain"}))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(bytes(data))
    items = read(tmp_path / "a.zip")
    assert reasons(items) == {"a.zip!a.txt": "encrypted"}
    assert texts(items) == {"a.zip!b.txt": "plain"}


def test_a_sparse_member_of_a_terabyte_is_stopped(tmp_path: Path):
    info = tarfile.TarInfo("huge.txt")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"%011o\0%011o\0" % (0, 0)  # no data at all
    header[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(10240))
    assert reasons(read(tmp_path / "a.tar")) == {"a.tar!huge.txt": "archive_bomb"}


def test_a_header_of_a_gigabyte_is_damage_and_takes_no_memory(tmp_path: Path):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    good = tar_of({"a.txt": b"text"})[:1024]
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(good + info.tobuf() + bytes(1 << 20)))
    items = read(tmp_path / "a.tar.gz")
    assert texts(items) == {"a.tar.gz!a.txt": "text"}
    assert reasons(items) == {"a.tar.gz": "damaged_archive"}


def test_a_list_of_members_that_lies_about_its_length_is_counted_itself(tmp_path: Path):
    data = bytearray(zip_of({f"{number}.txt": "x" for number in range(100)}))
    end = data.rindex(b"PK\5\6")
    struct.pack_into("<HH", data, end + 8, 1, 1)
    (tmp_path / "a.zip").write_bytes(bytes(data))
    assert reasons(read(tmp_path / "a.zip", max_archive_members=99)) == {"a.zip": "archive_limit"}
    assert len(texts(read(tmp_path / "a.zip", max_archive_members=100))) == 100


# --- what is damaged is named, and what can be had of it is kept ------------------------------------------------


@pytest.mark.parametrize("compression", PACKERS)
def test_a_compressed_file_that_is_cut_off_keeps_its_beginning(tmp_path: Path, compression: str):
    text = b"".join(b'{"text": "%s"}\n' % os.urandom(500).hex().encode() for _ in range(2000))
    packed = PACKERS[compression](text)
    path = tmp_path / f"a.jsonl{compression}"
    path.write_bytes(packed[: len(packed) * 3 // 4])
    items = read(path)
    assert len(texts(items)) > 100 or compression == ".bz2"
    assert reasons(items)[path.name] == "damaged_archive"
    assert items[-1].reason == "damaged_archive"  # type: ignore[union-attr]


def test_of_a_compressed_file_with_a_wrong_checksum_nothing_is_kept(tmp_path: Path):
    packed = bytearray(gzip.compress(b"a text that is not to be trusted"))
    packed[-8] ^= 1
    (tmp_path / "a.txt.gz").write_bytes(bytes(packed))
    [dropped] = read(tmp_path / "a.txt.gz")
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.num_bytes) == ("damaged_archive", len(packed))
    assert "incorrect data check" in dropped.detail


def test_a_compressed_tar_archive_with_a_wrong_checksum_says_so_behind_its_members(tmp_path: Path):
    packed = bytearray(gzip.compress(tar_of({"a.txt": b"text"})))
    packed[-8] ^= 1
    (tmp_path / "a.tgz").write_bytes(bytes(packed))
    items = read(tmp_path / "a.tgz")
    assert texts(items) == {"a.tgz!a.txt": "text"}
    assert reasons(items) == {"a.tgz": "damaged_archive"}


def test_a_damaged_member_of_a_zip_archive_costs_itself(tmp_path: Path):
    members: dict[str, bytes | str] = {"a.txt": "first text", "b.txt": "second text", "c.txt": "third text"}
    data = bytearray(zip_of(members, zipfile.ZIP_STORED))
    data[data.index(b"second")] ^= 1
    (tmp_path / "a.zip").write_bytes(bytes(data))
    items = read(tmp_path / "a.zip")
    assert list(texts(items)) == ["a.zip!a.txt", "a.zip!c.txt"]
    assert reasons(items) == {"a.zip!b.txt": "damaged_archive"}
    assert num_bytes(items) == 20


@pytest.mark.parametrize("cut", [40, 600, 1100, 2000])
def test_a_tar_archive_that_is_cut_off_keeps_its_members_before_that(tmp_path: Path, cut: int):
    data = tar_of({"a.txt": b"x" * 500, "b.txt": b"y" * 500})
    (tmp_path / "a.tar").write_bytes(data[:cut])
    items = read(tmp_path / "a.tar")
    assert len(texts(items)) == cut // 1024
    assert "damaged_archive" in reasons(items).values()


def test_a_broken_header_within_a_tar_archive_is_not_taken_for_its_end(tmp_path: Path):
    data = bytearray(tar_of({"a.txt": b"text", "b.txt": b"text", "c.txt": b"text"}))
    data[1024] ^= 1
    (tmp_path / "a.tar").write_bytes(bytes(data))
    items = read(tmp_path / "a.tar")
    assert list(texts(items)) == ["a.tar!a.txt"]
    assert reasons(items) == {"a.tar": "damaged_archive"}
    assert "bad checksum" in items[-1].detail  # type: ignore[union-attr]


def test_a_zip_archive_without_its_end_is_damaged_with_all_its_bytes(tmp_path: Path):
    data = zip_of({"a.txt": "text"})[:-30]
    (tmp_path / "a.zip").write_bytes(data)
    [dropped] = read(tmp_path / "a.zip")
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.num_bytes) == ("damaged_archive", len(data))


def test_every_flipped_byte_of_an_archive_is_survived(tmp_path: Path):
    for data, name in (
        (zip_of({"a.txt": "some text", "b.txt": "other"}), "a.zip"),
        (tar_of({"a.txt": b"text"})[:1100], "a.tar"),
    ):
        path = tmp_path / name
        for place in range(0, len(data), 3):
            damaged = bytearray(data)
            damaged[place] ^= 0xFF
            path.write_bytes(bytes(damaged))
            assert read(path)


def test_an_archive_without_files_is_empty(tmp_path: Path):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        directory = tarfile.TarInfo("directory")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
    tar_of_directories = file.getvalue()
    for name, data in (
        ("a.zip", zip_of({})),
        ("b.zip", zip_of({"dir/": ""})),
        ("a.tar", tar_of_directories),
    ):
        (tmp_path / name).write_bytes(data)
        [dropped] = read(tmp_path / name)
        assert isinstance(dropped, Dropped)
        assert (dropped.reason, dropped.num_bytes) == ("empty", len(data))


def test_a_method_of_compression_that_nobody_knows_is_named(tmp_path: Path):
    data = bytearray(zip_of({"a.txt": "text"}))
    for signature, offset in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.index(signature) + offset] = 77
    (tmp_path / "a.zip").write_bytes(bytes(data))
    assert reasons(read(tmp_path / "a.zip")) == {"a.zip!a.txt": "unsupported_format"}


def test_a_quine_that_unpacks_to_itself_ends(tmp_path: Path):
    data = b"text"
    for _ in range(20):
        data = gzip.compress(data)
    (tmp_path / "a.gz").write_bytes(data)
    assert set(reasons(read(tmp_path / "a.gz")).values()) == {"too_deep"}


def test_the_examples_in_the_documentation_are_true():
    assert doctest.testmod(tar_archives).failed == 0
