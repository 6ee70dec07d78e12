"""Readers of text files, and what all readers promise."""

import os
from pathlib import Path

import pytest

from data_processing import readers
from data_processing.document import Document, Dropped
from data_processing.readers import READERS
from data_processing.text_cleaner import TextCleaner


def read(path: Path) -> list[Document | Dropped]:
    return list(READERS[path.suffix.lower()](path, source=path.name, text_field="text"))


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
    monkeypatch.setattr(readers, "PART_BYTES", 1001)
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
    monkeypatch.setattr(readers, "PART_BYTES", 1000)
    path = tmp_path / "line.txt"
    path.write_text("é" * 3000)
    items = read(path)
    assert "".join(item.text for item in items if isinstance(item, Document)) == "é" * 3000
    assert len(items) == 6


def test_a_file_that_grows_while_it_is_read_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "log.txt"
    path.write_text("first\n")
    real = readers.detect_encoding

    def detect_while_somebody_writes(chunks):  # type: ignore[no-untyped-def]
        encoding = real(chunks)
        with path.open("a") as other:
            other.write("second\n")
        return encoding

    monkeypatch.setattr(readers, "detect_encoding", detect_while_somebody_writes)
    [dropped] = read(path)
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.num_bytes) == ("changed", 6)


def test_a_file_that_is_cut_off_while_it_is_read_is_dropped_with_all_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "log.txt"
    path.write_text("x" * 100)
    real = readers.detect_encoding

    def detect_while_somebody_truncates(chunks):  # type: ignore[no-untyped-def]
        encoding = real(chunks)
        os.truncate(path, 0)
        return encoding

    monkeypatch.setattr(readers, "detect_encoding", detect_while_somebody_truncates)
    [dropped] = read(path)
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.num_bytes) == ("changed", 100)


def test_a_missing_file_raises_the_error_of_the_operating_system(tmp_path: Path):
    for extension in (".txt", ".json", ".jsonl"):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / f"missing{extension}")


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
