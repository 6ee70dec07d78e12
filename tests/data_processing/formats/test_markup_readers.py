"""Readers of marked-up text, from bytes to documents."""

import json

import pytest

from data_processing.document import Document, Dropped
from data_processing.formats import input_bytes, markup_readers
from data_processing.formats.markup_readers import (
    read_epub,
    read_html,
    read_notebook,
    read_subtitles,
    read_tex,
    read_xml,
)
from tests.data_processing import format_files, web_pages
from tests.data_processing.reading_bytes import documents_of, items_of, reason_of, text_of

SENTENCE = "The smith heats the iron until it glows, and the hammer falls again."


# HTML


def test_a_page_is_its_main_text_with_title_and_encoding():
    [document] = documents_of(read_html, web_pages.ARTICLE.encode(), "a.html")
    assert document.text == web_pages.ARTICLE_TEXT
    assert document.metadata == {
        "format": ".html",
        "encoding": "utf-8",
        "title": "How iron was made | The Times",
    }


@pytest.mark.parametrize(
    ("declaration", "codec"),
    [
        ('<meta http-equiv="Content-Type" content="text/html; charset=koi8-r">', "koi8-r"),
        ("<meta charset='windows-1251'>", "windows-1251"),
        ("<?xml version='1.0' encoding='utf-8'?>", "utf-8"),
        ("", "utf-16"),
    ],
)
def test_the_declared_encoding_of_a_page_counts(declaration: str, codec: str):
    # Too short for any detection.
    page = f"{declaration}<title>Да</title><p>Всё"
    [document] = documents_of(read_html, page.encode(codec), "a.html")
    assert (document.text, document.metadata["title"]) == ("Всё", "Да")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (web_pages.ONLY_NAVIGATION.encode(), "no_text"),
        (b"<html><head><script>var a</script></head></html>", "no_text"),
        (b"<div>" * 100_000 + b"text", "too_deep"),
        (b"<p>\x00\x01\x02\xff\xfe\x80", "binary"),
    ],
)
def test_a_page_without_text_is_dropped_with_the_reason(data: bytes, reason: str):
    assert reason_of(read_html, data, "a.html")[0] == reason


def test_a_long_page_comes_in_parts_that_make_up_the_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(input_bytes, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(markup_readers, "PART_BYTES", 3000)
    paragraphs = [f"Paragraph {number}. {SENTENCE}" for number in range(200)]
    page = "<title>Long</title>" + "".join(f"<p>{text}</p>" for text in paragraphs)
    documents = documents_of(read_html, page.encode(), "a.html")
    assert "\n\n".join(document.text for document in documents).split("\n\n") == paragraphs
    assert [document.source for document in documents[:2]] == ["a.html#part=1", "a.html#part=2"]
    assert documents[1].metadata["part"] == 2
    assert {document.num_bytes for document in documents[:-1]} == {3000}


def test_what_is_too_deep_in_a_later_part_costs_only_that(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(input_bytes, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(markup_readers, "PART_BYTES", 3000)
    items = items_of(read_html, f"<p>{SENTENCE * 60}</p>".encode() + b"<div>" * 20_000, "a.html")
    assert isinstance(items[0], Document)
    assert [item.reason for item in items if isinstance(item, Dropped)] == ["too_deep"]


# XML


def test_xml_is_read_in_its_declared_encoding():
    xml = '<?xml version="1.0" encoding="EUC-JP"?><r><p>日本語</p><p>二</p></r>'
    assert text_of(read_xml, xml.encode("euc_jp"), "a.xml") == "日本語\n二"


def test_long_xml_comes_in_parts_up_to_a_mistake(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(input_bytes, "CHUNK_BYTES", 1000)
    monkeypatch.setattr(markup_readers, "PART_BYTES", 3000)
    rows = "".join(f"<row><a>{number}</a><t>{SENTENCE}</t></row>" for number in range(100))
    whole = documents_of(read_xml, f"<r>{rows}</r>".encode(), "a.xml")
    lines = [line for number in range(100) for line in (str(number), SENTENCE)]
    assert " ".join("\n".join(part.text for part in whole).split()).replace(" ", "") == "".join(
        lines
    ).replace(" ", "")
    *parts, dropped = items_of(read_xml, f"<r>{rows}".encode(), "a.xml")
    assert len(parts) == len(whole) - 1
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.sample[:4] != "") == ("malformed_xml", True)


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (b"<r><a></r>", "malformed_xml"),
        (b'<!DOCTYPE r [<!ENTITY a "' + b"x" * 70_000 + b'">]><r>&a;</r>', "entity_bomb"),
        (b"<r a='1'/>", "no_text"),
        (b"\x00\x01\x02\xff\xfe\x80", "binary"),
    ],
)
def test_xml_that_is_not_read_says_why(xml: bytes, reason: str):
    assert reason_of(read_xml, xml, "a.xml")[0] == reason


# Books


def test_a_book_is_one_document_in_reading_order():
    [document] = documents_of(read_epub, format_files.epub(SENTENCE), "a.epub")
    assert document.text == f"First\n\n{SENTENCE}\n\nLast\n\n{format_files.other_sentences(SENTENCE)}"
    assert document.metadata == {"format": ".epub", "title": "The Forge", "author": "Ann; Bob"}


def test_a_long_book_is_a_document_a_chapter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(markup_readers, "PART_BYTES", 100)
    documents = documents_of(read_epub, format_files.epub(SENTENCE), "a.epub")
    assert [document.source for document in documents] == ["a.epub#chapter=1", "a.epub#chapter=2"]
    assert [document.text[:5] for document in documents] == ["First", "Last\n"]


ENCRYPTION = """<encryption xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:EncryptedData>
<e:EncryptionMethod Algorithm="{}"/><k xmlns="http://www.w3.org/2000/09/xmldsig#"><e:EncryptedKey>
<e:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#rsa"/></e:EncryptedKey></k>
<e:CipherData><e:CipherReference URI="{}"/></e:CipherData></e:EncryptedData></encryption>"""
AES = "http://www.w3.org/2001/04/xmlenc#aes128-cbc"


@pytest.mark.parametrize(
    ("algorithm", "uri", "reason"),
    [
        (AES, "OPS/text/two.xhtml", "encrypted"),
        (AES, "OPS/text/one%20.xhtml", "encrypted"),
        (AES, "OPS/fonts/a.otf", None),
        ("http://www.idpf.org/2008/embedding", "OPS/text/two.xhtml", None),
    ],
)
def test_a_book_that_is_protected_is_told_from_one_with_hidden_fonts(
    algorithm: str, uri: str, reason: str | None
):
    members = {"META-INF/encryption.xml": ENCRYPTION.format(algorithm, uri).encode()}
    [item] = items_of(read_epub, format_files.epub(SENTENCE, **members), "a.epub")
    assert (item.reason if isinstance(item, Dropped) else None) == reason


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"META-INF/container.xml": b"<a/>"}, "malformed_document"),
        ({"META-INF/container.xml": b"<a>"}, "malformed_xml"),
        ({"OPS/book.opf": b"<package/>"}, "malformed_document"),
        ({"OPS/book.opf": b'<!DOCTYPE r [<!ENTITY a "' + b"x" * 70_000 + b'">]><r>&a;</r>'}, "entity_bomb"),
    ],
)
def test_a_book_that_is_not_read_says_why(members: dict[str, bytes], reason: str):
    assert reason_of(read_epub, format_files.epub(SENTENCE, **members), "a.epub")[0] == reason


def test_what_is_no_archive_or_a_bomb_is_no_book():
    assert reason_of(read_epub, b"PK\x03\x04 and no more", "a.epub")[0] == "damaged_archive"
    bomb = format_files.epub(SENTENCE, **{"OPS/text/two.xhtml": b"<p>" + b" " * (40 << 20)})
    dropped, document = items_of(read_epub, bomb, "a.epub", max_unpacking_ratio=50)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "archive_bomb"
    # Nothing more was unpacked: this is the record of the chapter after it.
    assert isinstance(document, Dropped)
    limited = reason_of(read_epub, format_files.epub(SENTENCE), "a.epub", max_archive_members=2)
    assert limited[0] == "archive_limit"


def test_a_chapter_that_cannot_be_read_is_dropped_alone():
    members = {"OPS/text/two.xhtml": b"\x00\x01\x02\xff\xfe\x80"}
    dropped, document = items_of(read_epub, format_files.epub(SENTENCE, **members), "a.epub")
    assert isinstance(dropped, Dropped)
    assert (dropped.source, dropped.reason) == ("a.epub#chapter=1", "binary")
    assert isinstance(document, Document)
    assert document.text.startswith("Last")


# LaTeX, notebooks, subtitles


def test_latex_is_prose_with_its_title():
    [document] = documents_of(read_tex, format_files.tex(SENTENCE), "a.tex")
    assert document.text.strip() == SENTENCE
    assert document.metadata == {"format": ".tex", "encoding": "utf-8", "title": "Story"}
    assert reason_of(read_tex, b"% nothing\n", "a.tex")[0] == "no_text"


def test_a_notebook_is_its_cells():
    text = text_of(read_notebook, format_files.notebook(SENTENCE), "a.ipynb")
    assert text == f"{SENTENCE}\nNext:\n\n```python\nprint(1)\n```"


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"{", "malformed_json", "line 1"),
        (b"[" * 200_000, "malformed_json", "nested too deeply"),
        (json.dumps({"a": 1}).encode(), "malformed_json", "list of cells"),
        (json.dumps({"cells": []}).encode(), "no_text", "no code"),
        (b"\x00\x01\x02\xff\xfe\x80", "binary", ""),
    ],
)
def test_a_notebook_that_is_not_read_says_why(data: bytes, reason: str, detail: str):
    found = reason_of(read_notebook, data, "a.ipynb")
    assert found[0] == reason
    assert detail in found[1]


@pytest.mark.parametrize("build", [format_files.subrip, format_files.webvtt])
def test_subtitles_are_what_is_spoken(build):
    text = " ".join(text_of(read_subtitles, build(SENTENCE), "a.srt").split())
    assert text == SENTENCE
    reason, detail = reason_of(read_subtitles, b"just words", "a.srt")
    assert (reason, "no caption" in detail) == ("no_text", True)


@pytest.mark.parametrize("reader", [read_tex, read_notebook, read_subtitles])
def test_what_is_read_as_a_whole_has_a_largest_size(reader, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(input_bytes, "MAX_WHOLE_BYTES", 10)
    assert reason_of(reader, b"more than ten", "a.tex") == (
        "too_large",
        "13 bytes of .tex, at most 10 are read; divide it",
    )
