"""What a file is, by content and by name."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from data_processing.formats.archives import CONTAINERS
from data_processing.formats.content_type import NotReadable, recognise
from data_processing.formats.readers import READERS
from data_processing.sources.raw_files import format_of

HTML = b"<!DOCTYPE html>\n<html><head><title>x</title></head><body><p>text</p></body></html>"
XML = b'<?xml version="1.0"?>\n<doc><p>text</p></doc>'
MAIL = b"Return-Path: <a@b.c>\r\nReceived: from x\r\n\tby y\r\nSubject: hello\r\n\r\nbody"
MBOX = b"From a@b.c Mon Nov  9 10:15:00 2026\n" + MAIL


def zip_of(*names: str, first: bytes = b"x") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, first)
    return file.getvalue()


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    return file.getvalue()


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"]}), file)
    return file.getvalue()


def arrow(*, stream: bool) -> bytes:
    file = io.BytesIO()
    table = pa.table({"text": ["a"]})
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def look(name: str, data: bytes) -> str | NotReadable:
    file = io.BytesIO(data)
    found = recognise(file, name=name, extension=format_of(Path(name)), readable=READERS.keys())
    assert file.tell() == 0
    return found


CERTAIN = [
    (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", ".pdf"),
    (zip_of("mimetype", first=b"application/epub+zip"), ".epub"),
    (zip_of("mimetype", first=b"application/vnd.oasis.opendocument.text"), ".odt"),
    (zip_of("[Content_Types].xml", "_rels/.rels", "word/document.xml"), ".docx"),
    (zip_of("META-INF/container.xml", "mimetype"), ".epub"),
    (zip_of("a.txt"), ".zip"),
    (zip_of("META-INF/MANIFEST.MF", "x.class"), ".zip"),
    (gzip.compress(b"x", mtime=0), ".gz"),
    (bz2.compress(b"x"), ".bz2"),
    (lzma.compress(b"x"), ".xz"),
    (zstandard.compress(b"x"), ".zst"),
    (tar(), ".tar"),
    (parquet(), ".parquet"),
    (arrow(stream=False), ".arrow"),
    (arrow(stream=True), ".arrow"),
    (b"WARC/1.0\r\nWARC-Type: warcinfo\r\n", ".warc"),
]


@pytest.mark.parametrize(
    "name", ["x", "x.txt", "x.data", "x.pdf", "x.json", "x.py", "x.docx", "x.gz", "x.md"]
)
@pytest.mark.parametrize(("data", "expected"), CERTAIN, ids=lambda value: str(value)[:20])
def test_bytes_that_leave_no_doubt_win_over_any_name(name: str, data: bytes, expected: str):
    assert look(name, data) == expected


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"SQLite format 3\0" + bytes(100), "unsupported_format", "SQLite database; set data.corpus=sql"),
        (b"{\\rtf1\\ansi text}", "unsupported_format", "rich text; save it as docx"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "unsupported_format", "before 2007"),
        (
            zip_of("[Content_Types].xml", "xl/workbook.xml"),
            "unsupported_format",
            "Excel table; save it as csv",
        ),
        (
            zip_of("mimetype", first=b"application/vnd.oasis.opendocument.spreadsheet"),
            "unsupported_format",
            "no text",
        ),
        (b"7z\xbc\xaf\x27\x1c", "unsupported_format", "7z archive; unpack it"),
        (b"PARE" + bytes(20), "encrypted", "encrypted parquet"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "binary", "PNG image"),
        (b"\xff\xd8\xff\xe0", "binary", "JPEG image"),
        (b"\x7fELF\x02\x01", "binary", "executable"),
    ],
)
@pytest.mark.parametrize("name", ["x", "x.txt", "x.py", "x.csv"])
def test_what_has_no_reader_says_what_it_is(name: str, data: bytes, reason: str, detail: str):
    found = look(name, data)
    assert isinstance(found, NotReadable)
    assert found.reason == reason
    assert detail in found.detail


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (HTML, ".html"),
        (b"\xef\xbb\xbf\n<!-- saved -->\n<HTML lang=en>", ".html"),
        (HTML.decode().encode("utf-16"), ".html"),
        (HTML.decode().encode("utf-16-be"), ".html"),
        (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0">', ".html"),
        (b"<div><p>saved", ".html"),
        (XML, ".xml"),
        (b'{"text": "a"}\n{"text": "b"}\n', ".json"),
        (b'[\n {"text": "a"}]', ".json"),
        (MBOX, ".mbox"),
        (MAIL, ".eml"),
        (b"WEBVTT\n\n00:01.000 --> 00:02.000\nhi", ".vtt"),
        (b"1\r\n00:00:01,000 --> 00:00:02,000\r\nhi", ".srt"),
        (b"% comment\n\\documentclass[11pt]{article}", ".tex"),
        (b"#!/usr/bin/env python3\nprint()", ".py"),
        (b"#!/bin/bash\nls", ".sh"),
        (b"#! /usr/bin/perl -w\n", ".pl"),
        (b"Just a text.\n", ".txt"),
        (b"[1] A list of references, not JSON.", ".txt"),
        (b"From here on it is prose, Mon dieu.", ".txt"),
        (b"To: be or not\nDate: unknown\n\nprose", ".txt"),
        ("Ein Text, der es in sich hat".encode("utf-16"), ".txt"),
        ("人人生而自由，在尊严和权利上一律平等。\n".encode("utf-16-le"), ".txt"),
        ("Русский текст".encode("koi8-r"), ".txt"),
    ],
)
@pytest.mark.parametrize("name", ["README", "x.log", "x.unknown", "x.docx.old"])
def test_text_of_an_unknown_name_is_read_as_what_it_looks_like(name: str, data: bytes, expected: str):
    assert look(name, data) == expected


@pytest.mark.parametrize("data", [b"\x00\x01\x02\x03" * 100, bytes(range(1, 9)) * 9, b"x" * 50 + b"\x00" * 9])
def test_what_is_no_text_and_has_an_unknown_name_is_binary(data: bytes):
    found = look("x.unknown", data)
    assert isinstance(found, NotReadable)
    assert found.reason == "binary"


def test_a_drawing_is_no_document():
    assert isinstance(look("x.svg", b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="y">'), NotReadable)


@pytest.mark.parametrize("name", ["x.md", "x.py", "x.c", "x.rst", "x.js", "x.php", "x.vue"])
@pytest.mark.parametrize("data", [HTML, XML, b'{"a": 1}', MBOX, b"#!/bin/sh"])
def test_code_and_markdown_are_believed_by_their_names(name: str, data: bytes):
    assert look(name, data) == name[1:]


@pytest.mark.parametrize("name", ["x.txt", "x.text"])
def test_a_page_that_was_saved_as_text_is_a_page_and_other_text_stays_text(name: str):
    assert look(name, HTML) == ".html"
    assert look(name, XML) == ".xml"
    for data in (b'{"text": "a"}\n{"text": "b"}', MBOX, b"<p>in a text about HTML", b"#!/bin/sh"):
        assert look(name, data) == name[1:]


@pytest.mark.parametrize(
    "extension", [".html", ".json", ".jsonl", ".csv", ".xml", ".tex", ".srt", ".eml", ".mbox"]
)
def test_other_names_of_text_are_believed(extension: str):
    assert look(f"X{extension.upper()}", b"whatever this is") == extension


@pytest.mark.parametrize(
    "extension", [".pdf", ".docx", ".odt", ".epub", ".parquet", ".arrow", ".gz", ".zip", ".tgz"]
)
def test_an_error_page_that_was_saved_under_the_name_of_a_document_is_a_page(extension: str):
    assert look(f"x{extension}", HTML) == ".html"
    found = look(f"x{extension}", b"\x01\x02\x03\x00" * 50)
    if extension in {*CONTAINERS, ".tgz"}:
        assert isinstance(found, NotReadable)
        assert found.reason == "damaged_archive"
        assert f"is named {extension}, but does not begin like one" in found.detail
    else:
        assert found == extension  # its reader says what is wrong


def test_a_pdf_with_something_in_front_is_one_if_it_is_named_so():
    assert look("x.pdf", b"HTTP/1.1 200 OK\r\n\r\n%PDF-1.4\n") == ".pdf"
    assert look("x.txt", b"The header %PDF-1.4 begins a file") == ".txt"
    assert look("x.txt", b"%PDF-1.4 is how a file begins") == ".txt"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Makefile", ".mk"), ("Dockerfile", ".dockerfile"), ("CMakeLists.txt", ".cmake"), ("Gemfile", ".rb")],
)
def test_well_known_names_of_code_are_code(name: str, expected: str):
    assert look(name, b"all:\n\techo\n") == expected
    assert expected in READERS


def test_everything_that_can_be_recognised_has_a_reader():
    names = [look(name, data) for name in ("x",) for data, _ in CERTAIN]
    assert {name for name in names if isinstance(name, str)} <= {*READERS, *CONTAINERS}


def test_json_that_is_recognised_by_its_looks_is_read_as_lines_too(tmp_path: Path):
    assert look("records", json.dumps({"text": "a"}).encode()) == ".json"
