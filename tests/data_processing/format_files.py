"""Files of every format that is read, made from nothing, each with sentences of its own that are to be found in it."""

import bz2
import gzip
import io
import json
import lzma
import random
import tarfile
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet
import zstandard

from tests.small_texts import make_text


def write_every_format(directory: Path) -> dict[str, str]:
    """A mixed tree of files below `directory`: path, relative to it -> sentences to be found in it.

    White space may be different there: a PDF breaks lines. Of formats with several records, the sentences are one
    record's, and there is another one with other sentences.
    """
    expected = {}
    for name, build in _BUILDERS.items():
        expected[name] = text = sentences(name)
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(build(text))
    return expected


def sentences(name: str) -> str:
    """Some English-like sentences on one line, others for every name."""
    generator = random.Random(name)
    words = "".join(letter if letter.isalpha() else " " for letter in name)
    return f"The smith called {' '.join(words.split())} tells a story. {make_text(generator, 5)}"


def other_sentences(text: str) -> str:
    """Sentences for a second record beside `text`."""
    return make_text(random.Random(f"beside {text}"), 5)


# Plain text and code


def plain(text: str) -> bytes:
    return f"{text}\n".encode()


def restructured(text: str) -> bytes:
    return f"Story\n=====\n\n{text}\n".encode()


def markdown(text: str) -> bytes:
    return f"# Story\n\n{text}\n\n- one\n- two\n".encode()


def python(text: str) -> bytes:
    return f'"""{text}"""\n\n\ndef heat(iron):\n    return iron + 1\n'.encode()


# Records


def json_array(text: str) -> bytes:
    return json.dumps([{"text": text}, {"text": other_sentences(text)}], indent=1).encode()


def json_lines(text: str) -> bytes:
    return b"".join(
        json.dumps({"text": record, "number": number}).encode() + b"\n"
        for number, record in enumerate((text, other_sentences(text)))
    )


def separated(separator: str) -> Callable[[str], bytes]:
    def build(text: str) -> bytes:
        rows = [("number", "text"), ("1", f'"{text}"'), ("2", f'"{other_sentences(text)}"')]
        return "".join(separator.join(row) + "\n" for row in rows).encode()

    return build


def parquet(text: str) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(_table(text), buffer)
    return buffer.getvalue()


def arrow_file(text: str) -> bytes:
    buffer = io.BytesIO()
    table = _table(text)
    with pyarrow.ipc.new_file(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def arrow_stream(text: str) -> bytes:
    buffer = io.BytesIO()
    table = _table(text)
    with pyarrow.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def _table(text: str) -> pyarrow.Table:
    return pyarrow.table({"text": [text, other_sentences(text)], "number": [1, 2]})


# Marked-up text


def html(text: str) -> bytes:
    return (
        "<!DOCTYPE html><html><head><title>A story</title><script>var a = 1;</script></head><body>"
        "<nav><a href='/'>Home</a> <a href='/news'>News</a> <a href='/about'>About</a></nav>"
        f"<article><h1>Story</h1><p>{text}</p></article><footer>All rights reserved</footer></body></html>"
    ).encode()


def xml(text: str) -> bytes:
    return f'<?xml version="1.0" encoding="utf-8"?>\n<book><title>Story</title><para>{text}</para></book>'.encode()


def tex(text: str) -> bytes:
    return (
        "\\documentclass{article}\n\\title{Story}\n\\begin{document}\n% not for readers\n"
        f"{text}\n\\end{{document}}\n"
    ).encode()


def notebook(text: str) -> bytes:
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": [f"{text}\n", "Next:"]},
        {"cell_type": "code", "metadata": {}, "source": "print(1)", "outputs": [], "execution_count": 1},
    ]
    metadata = {"kernelspec": {"language": "python", "name": "python3", "display_name": "Python 3"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()


def subrip(text: str) -> bytes:
    return "".join(
        f"{number}\n00:00:{number:02},000 --> 00:00:{number:02},900\n{line}\n\n"
        for number, line in enumerate(textwrap.wrap(text, 60), 1)
    ).encode()


def webvtt(text: str) -> bytes:
    captions = "".join(
        f"00:{number:02}.000 --> 00:{number:02}.900 line:0\n{line}\n\n"
        for number, line in enumerate(textwrap.wrap(text, 60), 1)
    )
    return f"WEBVTT\n\nNOTE made by a test\n\n{captions}".encode()


def epub(text: str, **members: bytes) -> bytes:
    """A book with a table of contents and two chapters; `members` are added, or take a member's place."""
    page = "<html xmlns='http://www.w3.org/1999/xhtml'><head><title>x</title></head><body>{}</body></html>"
    package = """<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata
        xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The Forge</dc:title><dc:creator>Ann</dc:creator>
        <dc:creator>Bob</dc:creator></metadata><manifest>
        <item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
        <item id="c1" href="text/one%20.xhtml" media-type="application/xhtml+xml"/>
        <item id="c2" href="text/two.xhtml" media-type="application/xhtml+xml"/>
        </manifest><spine><itemref idref="nav"/><itemref idref="c2"/><itemref idref="c1"/></spine></package>"""
    container = """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>
        <rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
    contents = {
        "mimetype": b"application/epub+zip",
        "META-INF/container.xml": container.encode(),
        "OPS/book.opf": package.encode(),
        "OPS/nav.xhtml": page.format("<nav><a href='x'>Contents of the book</a></nav>").encode(),
        "OPS/text/one .xhtml": page.format(f"<h1>Last</h1><p>{other_sentences(text)}</p>").encode(),
        "OPS/text/two.xhtml": page.format(f"<h1>First</h1><p>{text}</p>").encode(),
        **members,
    }
    return zipped(contents)


def zipped(contents: dict[str, bytes]) -> bytes:
    """A zip archive with these members; the first one is not compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, (name, data) in enumerate(contents.items()):
            # A fixed date, so that equal arguments give equal bytes.
            member = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED if number else zipfile.ZIP_STORED
            archive.writestr(member, data)
    return buffer.getvalue()


# Documents in pages


def pdf(text: str) -> bytes:
    return pdf_of_pages([textwrap.wrap(text, 70)])


def pdf_of_pages(pages: list[list[str]], *, title: str = "") -> bytes:
    """A PDF with these lines of ASCII on its pages, in one of the fonts that every reader has."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, lines in enumerate(pages):
        shown = " T* ".join(f"({_escaped(line)}) Tj" for line in lines)
        content = f"BT /F1 10 Tf 12 TL 50 750 Td {shown} ET" if lines else ""
        page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >>"
        objects.append(f"{page} /Contents {5 + 2 * number} 0 R >>")
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    objects.append(f"<< /Title ({_escaped(title)}) >>")
    return _pdf_file(objects)


def _escaped(line: str) -> str:
    return line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


def _pdf_file(objects: list[str]) -> bytes:
    file = b"%PDF-1.4\n"
    places = []
    for number, text in enumerate(objects, 1):
        places.append(len(file))
        file += f"{number} 0 obj\n{text}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    count = len(objects) + 1
    return file + (
        f"xref\n0 {count}\n0000000000 65535 f \n{table}"
        f"trailer\n<< /Size {count} /Root 1 0 R /Info {len(objects)} 0 R >>\nstartxref\n{len(file)}\n%%EOF\n"
    ).encode("latin-1")


def docx(text: str) -> bytes:
    import docx as python_docx

    document = python_docx.Document()
    document.add_heading("Story", level=1)
    document.add_paragraph(text)
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "iron", "1538"
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def odt(text: str) -> bytes:
    from odf.opendocument import OpenDocumentText
    from odf.text import H, P

    document = OpenDocumentText()
    document.text.addElement(H(outlinelevel=1, text="Story"))
    document.text.addElement(P(text=text))
    buffer = io.BytesIO()
    document.write(buffer)
    return buffer.getvalue()


# Mail and web archives


def eml(text: str) -> bytes:
    lines = "\r\n".join(textwrap.wrap(text, 70))
    return (
        "From: Ann <ann@example.org>\r\nTo: bob@example.org\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
        f"Subject: A story\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{lines}\r\n"
    ).encode()


def mbox(text: str) -> bytes:
    return b"".join(
        b"From ann@example.org Thu Jan  1 00:00:00 2026\n" + eml(story).replace(b"\r\n", b"\n") + b"\n"
        for story in (text, other_sentences(text))
    )


def warc(text: str) -> bytes:
    return b"".join(warc_records(text))


def warc_by_record(text: str) -> bytes:
    """A web archive compressed as crawlers do it, every record by itself."""
    return b"".join(gzip.compress(record, mtime=0) for record in warc_records(text))


def warc_records(text: str) -> list[bytes]:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    return [
        warc_record("warcinfo", b"software: a test\r\n", content_type="application/warc-fields"),
        warc_record("request", b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"),
        warc_record("response", answer + html(text)),
        warc_record("response", answer + html(other_sentences(text)), url="http://example.org/other"),
    ]


def warc_record(
    kind: str, block: bytes, *, url: str = "http://example.org/", content_type: str = "application/http"
) -> bytes:
    header = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>\r\n"
        f"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Target-URI: {url}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(block)}\r\n\r\n"
    )
    return header.encode() + block + b"\r\n\r\n"


# Compressed files and archives


def gzipped(text: str) -> bytes:
    return gzip.compress(plain(text), mtime=0)


def bzipped(text: str) -> bytes:
    return bz2.compress(plain(text))


def xzipped(text: str) -> bytes:
    return lzma.compress(plain(text))


def zstandardised(text: str) -> bytes:
    return zstandard.ZstdCompressor().compress(plain(text))


def zip_archive(text: str) -> bytes:
    return zipped({"inner/a.txt": plain(text), "inner/b.html": html(other_sentences(text))})


def tar_gz(text: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in (("inner/a.txt", plain(text)), ("inner/b.md", markdown(other_sentences(text)))):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


_BUILDERS: dict[str, Callable[[str], bytes]] = {
    "story.txt": plain,
    "notes/story.md": markdown,
    "notes/story.rst": restructured,
    "code/forge.py": python,
    "records/array.json": json_array,
    "records/lines.jsonl": json_lines,
    "records/lines.ndjson": json_lines,
    "records/table.csv": separated(","),
    "records/table.tsv": separated("\t"),
    "records/table.parquet": parquet,
    "records/table.arrow": arrow_file,
    "records/stream.arrow": arrow_stream,
    "web/page.html": html,
    "web/page.xml": xml,
    "web/crawl.warc": warc,
    "web/crawl.warc.gz": warc_by_record,
    "papers/paper.tex": tex,
    "papers/paper.pdf": pdf,
    "papers/work.ipynb": notebook,
    "office/letter.docx": docx,
    "office/letter.odt": odt,
    "books/book.epub": epub,
    "films/film.srt": subrip,
    "films/film.vtt": webvtt,
    "mail/message.eml": eml,
    "mail/box.mbox": mbox,
    "packed/story.txt.gz": gzipped,
    "packed/story.txt.bz2": bzipped,
    "packed/story.txt.xz": xzipped,
    "packed/story.txt.zst": zstandardised,
    "packed/stories.zip": zip_archive,
    "packed/stories.tar.gz": tar_gz,
}
