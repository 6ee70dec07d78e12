"""Web archives, compared with what fastwarc reads in them."""

import gzip
import io
import zlib

import pyarrow as pa
import pytest

from data_processing.document import Document, Dropped
from data_processing.formats import http_response, warc_records
from data_processing.formats.http_response import media_type_of, parse_response
from data_processing.formats.web_archive_readers import read_warc
from tests.data_processing import format_files, web_pages
from tests.data_processing.format_files import warc_record
from tests.data_processing.reading_bytes import documents_of, items_of

SENTENCE = "The smith heats the iron until it glows."
PAGE = f"<title>Iron</title><p>{SENTENCE}".encode()


def answer(content: bytes = PAGE, *, status: str = "200 OK", **headers: str) -> bytes:
    headers = {"content_type": "text/html", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + content


def response(*arguments: bytes, **keywords: str) -> bytes:
    return warc_record("response", answer(*arguments, **keywords))


def text_of_response(*arguments: bytes, **keywords: str) -> str:
    [document] = documents_of(read_warc, response(*arguments, **keywords), "a.warc")
    return document.text


@pytest.mark.parametrize("build", [format_files.warc, format_files.warc_by_record])
def test_the_pages_of_an_archive_are_those_that_fastwarc_finds(build):
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    data = build(SENTENCE)
    documents = documents_of(read_warc, data, "a.warc")
    plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    records = list(ArchiveIterator(io.BytesIO(plain), record_types=WarcRecordType.response))
    assert [document.source for document in documents] == [
        f"a.warc#{record.stream_pos}" for record in records
    ]
    assert [document.metadata["url"] for document in documents] == [
        record.headers["WARC-Target-URI"] for record in records
    ]
    assert SENTENCE in documents[0].text
    assert documents[0].metadata == {
        "format": ".warc",
        "encoding": "utf-8",
        "title": "A story",
        "url": "http://example.org/",
    }


def test_an_archive_that_fastwarc_wrote_is_read():
    from fastwarc.warc import WarcRecord, WarcRecordType

    buffer = io.BytesIO()
    record = WarcRecord()
    record.init_headers(record_type=WarcRecordType.response)
    record.headers["WARC-Target-URI"] = "http://example.org/a"
    record.headers["Content-Type"] = "application/http; msgtype=response"
    record.set_bytes_content(answer())
    record.write(buffer)
    [document] = documents_of(read_warc, buffer.getvalue(), "a.warc")
    assert (document.text, document.metadata["url"]) == (SENTENCE, "http://example.org/a")


def chunked(content: bytes) -> bytes:
    middle = len(content) // 2
    pieces = (content[:middle], content[middle:])
    return b"".join(b"%x;a=b\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (PAGE, {}),
        (chunked(PAGE), {"transfer_encoding": "chunked"}),
        (gzip.compress(PAGE, mtime=0), {"content_encoding": "gzip"}),
        (zlib.compress(PAGE), {"content_encoding": "deflate"}),
        (chunked(gzip.compress(PAGE, mtime=0)), {"content_encoding": "gzip", "Transfer_Encoding": "Chunked"}),
        (pa.Codec("brotli").compress(PAGE, asbytes=True), {"content_encoding": "br"}),
        (pa.Codec("zstd").compress(PAGE, asbytes=True), {"content_encoding": "zstd"}),
        # Archives keep the headers of what they have unpacked.
        (PAGE, {"content_encoding": "gzip"}),
        (b"\n" + PAGE, {"content_encoding": "br"}),
        (PAGE, {"content_encoding": "zstd"}),
        (PAGE, {"transfer_encoding": "chunked"}),
        (chunked(PAGE)[:-5], {"transfer_encoding": "chunked"}),
    ],
)
def test_chunks_and_compression_are_taken_away(content: bytes, headers: dict[str, str]):
    assert text_of_response(content, **headers) == SENTENCE


def test_after_a_page_in_compressed_chunks_the_archive_goes_on():
    packed = response(
        chunked(gzip.compress(PAGE, mtime=0)), content_encoding="gzip", transfer_encoding="chunked"
    )
    assert len(documents_of(read_warc, packed * 3, "a.warc")) == 3


@pytest.mark.parametrize(
    ("content_type", "codec"),
    [
        ("text/html; charset=koi8-r", "koi8-r"),
        ('TEXT/HTML;Charset="windows-1251"', "windows-1251"),
        ("text/plain;charset=utf-8", "utf-8"),
        ("application/xhtml+xml", "utf-8"),
    ],
)
def test_the_charset_of_the_answer_counts(content_type: str, codec: str):
    assert text_of_response("Всё".encode(codec), content_type=content_type) == "Всё"


def test_records_without_http_are_read_by_their_type():
    data = warc_record("conversion", SENTENCE.encode(), content_type="text/plain") + warc_record(
        "resource", PAGE, content_type="text/html; charset=utf-8"
    )
    assert [document.text for document in documents_of(read_warc, data, "a.warc")] == [SENTENCE, SENTENCE]


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        (response(status="404 Not Found"), "http_error", "http://example.org/: status 404"),
        (response(status="301 Moved"), "http_error", "301"),
        (warc_record("response", b"nonsense"), "http_error", "None"),
        (response(content_type="image/png"), "unsupported_format", "image/png"),
        (warc_record("response", b"HTTP/1.1 200 OK\r\n\r\nx"), "unsupported_format", "an unknown type"),
        (response(PAGE, content_encoding="compress"), "unsupported_format", "'compress'"),
        (
            response(pa.Codec("brotli").compress(PAGE, asbytes=True)[:-5], content_encoding="br"),
            "damaged_archive",
            "cannot be unpacked",
        ),
        (
            response(pa.Codec("zstd").compress(PAGE, asbytes=True)[:-5], content_encoding="zstd"),
            "damaged_archive",
            "cannot be unpacked",
        ),
        (response(b"\x1f\x8b damaged", content_encoding="gzip"), "damaged_archive", "unpacked"),
        (response(b"\x00\x01\x02\xff\xfe\x80"), "binary", ""),
        (response(web_pages.ONLY_NAVIGATION.encode()), "no_text", ""),
        (response(b"<div>" * 20_000), "too_deep", ""),
        (
            warc_record("response", b"x").replace(b"Content-Length: 1", b"Content-Length: x"),
            "malformed_document",
            "'x'",
        ),
    ],
)
def test_an_answer_that_is_no_page_says_why_and_the_next_is_read(record: bytes, reason: str, detail: str):
    items = items_of(read_warc, record + response(), "a.warc")
    assert isinstance(items[0], Dropped)
    assert (items[0].source, items[0].reason) == ("a.warc#0", reason)
    assert detail in items[0].detail
    assert isinstance(items[-1], Document)


def test_damage_costs_what_is_damaged_and_a_cut_the_last_record():
    good = response()
    data = good + b"\x00garbage\r\n\r\nmore of it\n" + good + good[:-10]
    first, garbage, second, cut = items_of(read_warc, data, "a.warc")
    assert isinstance(first, Document)
    assert isinstance(second, Document)
    assert isinstance(garbage, Dropped)
    assert isinstance(cut, Dropped)
    assert (garbage.reason, garbage.detail) == ("malformed_document", "21 bytes that are no record")
    assert (cut.reason, cut.detail.startswith("cut off: 6 of")) == ("malformed_document", True)


def test_a_record_that_is_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(warc_records, "MAX_WHOLE_BYTES", 500)
    dropped, document = items_of(read_warc, response(PAGE * 10) + response(), "a.warc")
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "too_large"
    assert isinstance(document, Document)
    monkeypatch.setattr(http_response, "MAX_WHOLE_BYTES", 1000)
    space = b" " * 100_000
    for packed, encoding in (
        (gzip.compress(space), "gzip"),
        (pa.Codec("brotli").compress(space, asbytes=True), "br"),
        (pa.Codec("zstd").compress(space, asbytes=True), "zstd"),
    ):
        bomb = response(packed, content_encoding=encoding)
        dropped, document = items_of(read_warc, bomb + response(), "a.warc")
        assert isinstance(dropped, Dropped)
        assert dropped.reason == "too_large"


def test_packed_archives_end_where_they_are_damaged_or_a_bomb():
    packed = gzip.compress(response()) + gzip.compress(response())
    document, dropped = items_of(read_warc, packed[:-20], "a.warc")
    assert isinstance(document, Document)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "damaged_archive"
    bomb = gzip.compress(warc_record("metadata", b" " * (40 << 20)))
    assert [item.reason for item in items_of(read_warc, bomb, "a.warc") if isinstance(item, Dropped)] == [
        "archive_bomb"
    ]


def test_an_archive_without_pages_is_empty_of_them():
    [dropped] = items_of(read_warc, format_files.warc_records(SENTENCE)[1], "a.warc")
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "empty"


def test_answers_are_taken_apart():
    found = parse_response(b"HTTP/1.0 204 No Content\nContent-Type: Text/Plain ; charset=x\n\nbody\n\nmore")
    assert (found.status, found.media_type, found.charset, found.content) == (
        204,
        "text/plain",
        "x",
        b"body\n\nmore",
    )
    assert parse_response(b"").status is None
    assert parse_response(b"HTTP/1.1 \xb2\xb2\xb2 x\r\n\r\n").status is None
    assert media_type_of("") == ("", None)
