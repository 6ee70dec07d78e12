"""Readers of text files, and what all readers promise."""

import gzip
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pytest

from core.data_config import ReadingConfig
from core.errors import DataError
from data_processing.document import Document, Dropped
from data_processing.formats import readers, text_readers
from data_processing.formats.raw_input import RawInput, Reading
from data_processing.formats.readers import LAID_OUT, READERS, read_file
from data_processing.formats.time_limit import TooSlow
from data_processing.sources.raw_files import RawFile
from data_processing.sources.remote_files import RemoteFile, find_remote_files
from data_processing.text_cleaner import TextCleaner


def read(path: Path, **reading: object) -> list[Document | Dropped]:
    size = path.stat().st_size if path.exists() else 17
    return list(read_file(RawFile(path, path.name, size), Reading(**reading)))  # type: ignore[arg-type]


def find_remote(url: str) -> list[RemoteFile]:
    return [file for file in find_remote_files(url) if isinstance(file, RemoteFile)]


def num_bytes(items: list[Document | Dropped]) -> int:
    return sum(item.num_bytes or 0 for item in items)


def test_extensions_are_lower_case_with_a_dot_and_cover_what_was_promised():
    promised = (
        "txt md rst py pyi js mjs ts tsx jsx java c h cpp cc hpp cs go rs rb php swift kt scala sh sql css lua r jl pl "
        "toml yaml ini tex json jsonl ndjson"
    )
    assert {f".{name}" for name in promised.split()} <= set(READERS)
    assert all(name == name.lower() and name.startswith(".") for name in READERS)


def test_a_text_file_is_one_document_with_its_bytes_and_encoding(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffCafé\r\n".encode())
    [document] = read(path)
    assert isinstance(document, Document)
    assert (document.text, document.source, document.num_bytes) == ("Café\r\n", "a.txt", 10)
    assert document.metadata == {"format": ".txt", "encoding": "utf-8"}


def test_code_is_marked_and_prose_is_not(tmp_path: Path):
    for name, code in [("a.py", True), ("a.yaml", True), ("a.md", False), ("a.rst", False)]:
        (tmp_path / name).write_text("x = 1\n")
        [document] = read(tmp_path / name)
        assert isinstance(document, Document)
        assert bool(document.metadata.get("code")) is code


@pytest.mark.parametrize("data", [b"\x7fELF\x00\x01", b"\x81\x8d\x8f" * 10])
def test_what_is_not_text_is_dropped_whole(tmp_path: Path, data: bytes):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    [dropped] = read(path)
    assert isinstance(dropped, Dropped)
    assert (dropped.reason in ("binary", "undecodable"), dropped.num_bytes) == (True, len(data))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "windows-1252"])
def test_a_long_file_comes_in_parts_that_make_up_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
):
    monkeypatch.setattr(text_readers, "PART_BYTES", 1001)
    text = "".join(f"Zeile {n}: die Würde des Menschen.\n" + "\n" * (n % 7 == 0) for n in range(300))
    path = tmp_path / "big.txt"
    path.write_bytes(text.encode(encoding))
    items = read(path)
    documents = [item for item in items if isinstance(item, Document)]
    assert len(documents) == len(items) > 8
    assert "".join(document.text for document in documents) == text
    assert num_bytes(items) == path.stat().st_size
    assert documents[1].source == "big.txt#part=2"
    assert all(document.text.endswith("\n\n") for document in documents[:-1])


def test_a_line_without_end_is_cut_anyway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text_readers, "PART_BYTES", 1000)
    path = tmp_path / "line.txt"
    path.write_text("é" * 3000)
    items = read(path)
    assert "".join(item.text for item in items if isinstance(item, Document)) == "é" * 3000
    assert len(items) == 6


def test_a_file_that_grows_while_it_is_read_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "log.txt"
    path.write_text("first\n")
    real = text_readers.detect_encoding

    def detect_while_somebody_writes(chunks):  # type: ignore[no-untyped-def]
        encoding = real(chunks)
        with path.open("a") as other:
            other.write("second\n")
        return encoding

    monkeypatch.setattr(text_readers, "detect_encoding", detect_while_somebody_writes)
    [dropped] = read(path)
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.num_bytes) == ("changed", 6)


def test_a_file_that_is_cut_off_while_it_is_read_is_dropped_with_all_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "log.txt"
    path.write_text("x" * 100)
    real = text_readers.detect_encoding

    def detect_while_somebody_truncates(chunks):  # type: ignore[no-untyped-def]
        encoding = real(chunks)
        os.truncate(path, 0)
        return encoding

    monkeypatch.setattr(text_readers, "detect_encoding", detect_while_somebody_truncates)
    [dropped] = read(path)
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.num_bytes) == ("changed", 100)


def test_a_missing_file_is_vanished_with_the_bytes_that_it_had(tmp_path: Path):
    for extension in (".txt", ".json", ".jsonl"):
        [dropped] = read(tmp_path / f"missing{extension}")
        assert isinstance(dropped, Dropped)
        assert (dropped.reason, dropped.num_bytes, dropped.format) == ("vanished", 17, extension)


@pytest.mark.skipif("BLOOMERY_REAL_DATA" not in os.environ, reason="needs the real data")
def test_the_latin1_book_equals_its_ascii_edition_in_length_and_has_its_accents():
    books = Path(os.environ["BLOOMERY_REAL_DATA"]) / "books"
    [latin1] = [path for path in books.iterdir() if path.name.endswith("-8.txt")]
    [document] = read(latin1)
    assert isinstance(document, Document)
    assert document.metadata["encoding"] == "windows-1252"
    assert document.text == latin1.read_bytes().decode("latin-1")
    assert any(c in document.text for c in "éèàü")
    assert "\r" not in TextCleaner().clean(document.text)


# --- what may be wrong with a file ------------------------------------------------------------------------------


class BrokenFile(io.BytesIO):
    """A file that fails from some place on, as a disk does."""

    def __init__(self, file: BinaryIO, *, broken_at: int) -> None:
        super().__init__(file.read())
        self.file = file
        self.broken_at = broken_at

    def read(self, size: int | None = -1, /) -> bytes:
        self.check()
        # As from a disk: what is left in front of the bad place comes first.
        return super().read(min(size if size and size >= 0 else self.broken_at, self.broken_at - self.tell()))

    def readline(self, size: int | None = -1, /) -> bytes:
        self.check()
        return super().readline(size)

    def check(self) -> None:
        if self.tell() >= self.broken_at:
            raise OSError(5, "Input/output error")

    def fileno(self) -> int:
        return self.file.fileno()

    def close(self) -> None:
        self.file.close()
        super().close()


@pytest.mark.parametrize(
    ("error", "reason", "detail"),
    [
        (PermissionError(13, "Permission denied"), "unreadable", "Permission denied"),
        (FileNotFoundError(2, "No such file or directory"), "vanished", "No such file or directory"),
        (OSError("without a number"), "unreadable", "without a number"),
    ],
)
def test_a_file_that_cannot_be_opened_is_dropped_with_its_bytes_and_stops_a_strict_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, reason: str, detail: str
):
    def refuse(file: RawFile) -> BinaryIO:
        raise error

    (tmp_path / "a.txt").write_text("text")
    monkeypatch.setattr(readers, "open_raw", refuse)
    assert read(tmp_path / "a.txt") == [Dropped("a.txt", reason, detail, "", 4, ".txt")]
    with pytest.raises(
        DataError, match=rf"a\.txt: {reason} \({detail}\); make it readable .*data\.reading\.strict=false"
    ):
        read(tmp_path / "a.txt", limits=ReadingConfig(strict=True))


def test_a_disk_that_fails_in_the_middle_keeps_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = b"".join(b'{"text": "%d"}\n' % number for number in range(100, 200))
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    real = readers.open_raw
    monkeypatch.setattr(readers, "open_raw", lambda file: BrokenFile(real(file), broken_at=320))
    items = read(path)
    assert [item.text for item in items if isinstance(item, Document)] == [str(n) for n in range(100, 119)]
    assert isinstance(items[-1], Dropped)
    assert (items[-1].reason, items[-1].detail) == ("unreadable", "Input/output error")
    assert num_bytes(items) == len(data)


def test_parts_that_were_read_before_a_file_was_written_to_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(text_readers, "PART_BYTES", 1000)
    monkeypatch.setattr(readers, "CHECK_BYTES", 1000)
    path = tmp_path / "log.txt"
    path.write_text("a line\n" * 1000)
    items = read_file(RawFile(path, "log.txt", 7000), Reading())
    first = next(items)
    with path.open("a") as other:
        other.write("more\n")
    rest = list(items)
    assert isinstance(first, Document)
    assert [item.reason for item in rest if isinstance(item, Dropped)] == ["changed"]
    assert len(rest) == 1
    assert num_bytes([first, *rest]) == 7000


def test_a_changed_file_stops_a_strict_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "log.txt"
    path.write_text("first\n")
    real = text_readers.detect_encoding

    def detect_while_somebody_writes(chunks: Any) -> Any:
        with path.open("a") as other:
            other.write("second\n")
        return real(chunks)

    monkeypatch.setattr(text_readers, "detect_encoding", detect_while_somebody_writes)
    with pytest.raises(DataError, match=r"log\.txt: changed \(was written to while it was being read"):
        read(path, limits=ReadingConfig(strict=True))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in the file system")
def test_a_pipe_that_took_the_place_of_a_file_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.txt")
    [dropped] = list(read_file(RawFile(tmp_path / "a.txt", "a.txt", 10), Reading()))
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "not_a_file"


@pytest.mark.parametrize("text", ["", " \n\t\n"])
def test_nothing_and_white_space_are_read_as_such(tmp_path: Path, text: str):
    (tmp_path / "a.txt").write_text(text)
    [item] = read(tmp_path / "a.txt")
    assert isinstance(item, Document) if text else (isinstance(item, Dropped) and item.reason == "empty")
    assert num_bytes([item]) == len(text)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RecursionError(), "too_deep"), (MemoryError(), "too_large"), (TooSlow(), "too_slow")],
)
def test_what_hostile_content_does_to_a_reader_costs_the_rest_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, reason: str
):
    def read_hostile(raw: RawInput, reading: Reading) -> Iterator[Document | Dropped]:
        yield Document.of("first", source=raw.source, metadata={"format": raw.format}, num_bytes=5)
        raise error

    monkeypatch.setitem(READERS, ".pdf", read_hostile)
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4\nhostile")
    first, dropped = read(tmp_path / "a.pdf")
    assert isinstance(first, Document)
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.num_bytes) == (reason, 11)
    (tmp_path / "a.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.pdf", "a.pdf")
        archive.writestr("b.txt", "read all the same")
    items = read(tmp_path / "a.zip")
    assert [item.source for item in items] == ["a.zip!a.pdf", "a.zip!a.pdf", "a.zip!b.txt"]


def test_a_document_that_takes_too_long_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def read_for_ever(raw: RawInput, reading: Reading) -> Iterator[Document | Dropped]:
        while True:
            pass
        yield

    monkeypatch.setitem(READERS, ".html", read_for_ever)
    (tmp_path / "a.html").write_text("<html>")
    [dropped] = read(tmp_path / "a.html", limits=ReadingConfig(max_file_seconds=0.05))
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "too_slow"
    assert "more than 0.05 seconds of processor time; raise data.reading.max_file_seconds" in dropped.detail


def test_formats_with_a_time_limit_have_readers():
    assert set(READERS) >= LAID_OUT


# --- what a file is ---------------------------------------------------------------------------------------------


def test_a_file_is_read_as_what_it_is_and_says_so(tmp_path: Path):
    (tmp_path / "page.txt").write_text("<!doctype html><html><body><p>" + "Some text of a page. " * 20)
    [page] = read(tmp_path / "page.txt")
    assert page.format == ".html"
    assert isinstance(page, Document)
    assert "<p>" not in page.text
    (tmp_path / "notes.log").write_text("Notes without a known extension.")
    [notes] = read(tmp_path / "notes.log")
    assert (notes.format, notes.source) == (".txt", "notes.log")
    (tmp_path / "data.bin").write_bytes(bytes(range(256)))
    [dropped] = read(tmp_path / "data.bin")
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.num_bytes, dropped.format) == ("binary", 256, ".bin")


def test_a_file_can_be_read_as_something_else_packed_or_not(tmp_path: Path):
    line = b'{"text": "one"}\n'
    for name, data in (("records.data", line), ("records.txt", line), ("packed.data", gzip.compress(line))):
        path = tmp_path / name
        path.write_bytes(data)
        file = RawFile(path, name, len(data), read_as=".jsonl")
        [document] = list(read_file(file, Reading()))
        assert isinstance(document, Document)
        assert (document.text, document.source, document.format) == ("one", f"{name}:1", ".jsonl")


def test_a_remote_file_is_read_like_one_on_disk():
    store = fsspec.filesystem("memory")
    store.pipe_file("/readers/records.jsonl.gz", gzip.compress(b'{"text": "one"}\n{"text": "two"}\n'))
    [file] = find_remote("memory://readers")
    assert [item.text for item in read_file(file, Reading()) if isinstance(item, Document)] == ["one", "two"]
    items = read_file(file, Reading())
    first = next(items)
    store.pipe_file("/readers/records.jsonl.gz", gzip.compress(b'{"text": "another"}\n'))
    rest = list(items)
    assert isinstance(first, Document)
    assert [item.reason for item in rest if isinstance(item, Dropped)] == ["changed"]
    store.rm("/readers", recursive=True)
    [dropped] = list(read_file(file, Reading()))
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "vanished"


# --- bounded memory ---------------------------------------------------------------------------------------------

_IN_ONE_GIGABYTE = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from data_processing.sources.raw_files import RawFile
from data_processing.formats.raw_input import Reading
from data_processing.formats.readers import read_file
path = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for item in read_file(RawFile(path, path.name, path.stat().st_size), Reading()):
    print(type(item).__name__, getattr(item, "reason", ""), item.num_bytes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
@pytest.mark.parametrize(
    ("name", "beginning", "expected"),
    [
        ("line.txt", b"x", {"Document "}),
        ("line.log", b"x", {"Document "}),
        ("line.jsonl", b'{"text": "x', {"Dropped too_large"}),
        ("line.json", b'{"text": "x', {"Dropped malformed_json", "Dropped too_large"}),
        ("line.csv", b'id,text\n1,"x', {"Dropped malformed_row"}),
        ("line.html", b"<html><body><p>x", {"Document ", "Dropped too_large"}),
    ],
)
def test_a_line_of_200_megabytes_is_read_in_one_gigabyte(
    tmp_path: Path, name: str, beginning: bytes, expected: set[str]
):
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(beginning)
        for _ in range(200):
            file.write(b"x y " * (1 << 18))
    code = _IN_ONE_GIGABYTE.format(root=str(Path(__file__).parents[3]))
    child = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120
    )
    path_size = path.stat().st_size
    path.unlink()
    assert child.returncode == 0, child.stderr[-2000:]
    lines = child.stdout.splitlines()
    assert {line.rpartition(" ")[0] for line in lines} <= expected
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == path_size


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deep.json", "[" * 100_000),
        ("deep.json", '{"a":' * 100_000 + "1" + "}" * 100_000),
        ("deep.jsonl", '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}\n"),
        ("deep.ipynb", "[" * 100_000),
        ("deep.html", "<html><body>" + "<div>" * 100_000 + "text"),
        ("deep.xml", "<a>" * 100_000 + "text" + "</a>" * 100_000),
    ],
)
def test_content_that_is_nested_without_end_never_crashes(tmp_path: Path, name: str, text: str):
    (tmp_path / name).write_text(text)
    items = read(tmp_path / name)
    assert num_bytes(items) == len(text)
    assert all(isinstance(item, Dropped) or name in ("deep.html", "deep.xml") for item in items)
