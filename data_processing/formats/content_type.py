"""What a file is, by its first bytes and by its name. Looks, and reads nothing.

Bytes that leave no doubt come first, then the name, and where that says nothing, what the text looks like. Source code
and Markdown are believed by their names alone: both may well begin with a tag or a brace.
"""

import codecs
import re
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from typing import BinaryIO

from data_processing.formats.archives import CONTAINERS, TAR_SUFFIXES
from data_processing.formats.compression import compression_of
from data_processing.formats.tar_archives import is_tar
from data_processing.formats.text_encoding import MIN_NUL_SHARE, Undecodable, detect_encoding
from data_processing.formats.zip_archives import ZIP_ERRORS

HEAD_BYTES = 4096
"""So much of a file is looked at."""

MAX_CONTROL_SHARE = 0.1
"""A file of unknown name with a larger share of control characters is binary; arbitrary."""

PLAIN_TEXT = ".txt"


@dataclass(frozen=True, slots=True)
class NotReadable:
    """Why there is no reader: `reason` is `binary`, `unsupported_format`, `encrypted` or `damaged_archive`."""

    reason: str
    detail: str


# --- bytes that leave no doubt -----------------------------------------------------------------------------------

_FORMATS = (
    # The line may end with CR, LF, spaces or the bytes that mark binary data; a text about PDF goes on with words.
    (b"%PDF-", re.compile(rb"%PDF-\d\.\d\s*[\r\n%]"), ".pdf"),
    (b"WARC/", re.compile(rb"WARC/\d\.\d+\r?\n"), ".warc"),
    (b"PAR1", re.compile(rb"PAR1\x15"), ".parquet"),
    (b"ARROW1", re.compile(rb"ARROW1\x00\x00"), ".arrow"),
    # A stream of Arrow messages: continuation mark, length, root of a flatbuffer.
    (b"\xff\xff\xff\xff", re.compile(rb"\xff\xff\xff\xff..\x00\x00\x10\x00\x00\x00", re.DOTALL), ".arrow"),
)
"""First bytes, the pattern that they must begin, and the format."""
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_UNSUPPORTED = (
    (b"SQLite format 3\0", "a SQLite database; set data.corpus=sql and data.sql.url to read it"),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an Office document of before 2007 or an encrypted one; save it as docx",
    ),
    (b"{\\rtf", "rich text; save it as docx or txt"),
    (b"%!PS", "PostScript; convert it to PDF or text"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"Rar!\x1a\x07", "a rar archive; unpack it"),
    (b"\x04\x22\x4d\x18", "compressed with lz4; unpack it"),
    (b"\x1f\x9d", "compressed with compress; unpack it"),
    (b"FEA1", "a feather file of version 1; write it anew as version 2"),
    (b"AT&TFORM", "a DjVu document; convert it to PDF or text"),
)
_BINARY = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"\x7fELF", "an executable"),
    (b"\xca\xfe\xba\xbe", "an executable or Java class"),
    (b"\xcf\xfa\xed\xfe", "an executable"),
    (b"\0asm", "WebAssembly"),
    (b"OggS", "Ogg audio or video"),
    (b"ID3", "MP3 audio"),
    (b"fLaC", "FLAC audio"),
    (b"\x1a\x45\xdf\xa3", "Matroska video"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"wOFF", "a font"),
    (b"wOF2", "a font"),
)
_ENCRYPTED_PARQUET = b"PARE"
# Asked at once, which nearly every text answers with no: one after the other they took a tenth of reading a file.
_ANY_BEGINNING = (_ENCRYPTED_PARQUET, *(beginning for beginning, *_ in _FORMATS + _UNSUPPORTED + _BINARY))
_OFFICE_KINDS = {
    "word/document.xml": ".docx",
    "xl/workbook.xml": "an Excel table; save it as csv",
    "ppt/presentation.xml": "a PowerPoint presentation; save it as PDF",
}
_OPEN_DOCUMENT_KINDS = {
    b"application/epub+zip": ".epub",
    b"application/vnd.oasis.opendocument.text": ".odt",
    b"application/vnd.oasis.opendocument.text-template": ".odt",
}

# --- names -------------------------------------------------------------------------------------------------------

_NAMES = {
    "makefile": ".mk",
    "gnumakefile": ".mk",
    "dockerfile": ".dockerfile",
    "containerfile": ".dockerfile",
    "cmakelists.txt": ".cmake",
    "rakefile": ".rb",
    "gemfile": ".rb",
    "vagrantfile": ".rb",
    "jenkinsfile": ".groovy",
    "pkgbuild": ".sh",
}
"""Files of code whose extension does not say so -> extension of their language."""

_OF_ANY_TEXT = frozenset({".txt", ".text"})
"""Extensions that people give to pages and documents that they saved."""

_OWN_MAGIC = frozenset(
    {".pdf", ".docx", ".odt", ".epub", ".parquet", ".arrow", ".arrows", ".feather", ".ipc"}
)
"""Formats whose files always begin in their own way: one that does not is something else."""

# --- what text looks like ----------------------------------------------------------------------------------------

_PAGE = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*(?:<!doctype\s+html\b|<html[\s>])", re.IGNORECASE | re.DOTALL
)
_XML = re.compile(r"\s*<\?xml\s")
_DRAWING = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?(?:<!.*?>\s*)*<svg[\s>]", re.DOTALL)
_MAIL_FIELD = r"(?:Received|Return-Path|Message-ID|Delivered-To|MIME-Version|Date|From|To|Subject)"
_LOOKS = (
    (_PAGE, ".html"),
    (_XML, ".xml"),
    (re.compile(r"\s*<(?:head|body|title|meta|div|p|table)[\s>]", re.IGNORECASE), ".html"),
    (re.compile(r'\s*(?:\{\s*["}]|\[\s*[{"])'), ".json"),
    (re.compile(r"From \S+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) .*\d\d:\d\d"), ".mbox"),
    (re.compile(rf"(?:{_MAIL_FIELD}:\s.*\r?\n(?:[ \t].*\r?\n)*){{3}}", re.IGNORECASE), ".eml"),
    (re.compile(r"WEBVTT\b"), ".vtt"),
    (re.compile(r"\s*\d+\s*\r?\n\d\d:\d\d:\d\d[,.]\d{3} --> "), ".srt"),
    (re.compile(r"\s*(?:%.*\n\s*)*\\documentclass\b"), ".tex"),
)
_CONTROLS = "".join(map(chr, [*range(0x08), *range(0x0E, 0x1A), *range(0x1C, 0x20)]))
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_SHEBANG = re.compile(r"#!\s*(?:/\S*/)?(?:env\s+(?:-S\s+)?)?([a-z]+)")
_INTERPRETERS = {"python": ".py", "perl": ".pl", "ruby": ".rb", "node": ".js", "php": ".php", "lua": ".lua"}


def recognise(file: BinaryIO, *, name: str, extension: str, readable: Collection[str]) -> str | NotReadable:
    """The format of a file: one of `readable` or of `archives.CONTAINERS`, or why it has none.

    Args:
        file: Open and seekable; it is at its beginning again afterwards.
        name: The last part of its path.
        extension: What its name says, such as `.txt`; empty when it says nothing.
        readable: Extensions that have a reader.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    try:
        return _by_bytes(head, file, extension) or _by_name(head, name, extension, readable) or _by_text(head)
    finally:
        file.seek(0)


def _by_bytes(head: bytes, file: BinaryIO, extension: str) -> str | NotReadable | None:
    if compression := compression_of(head):
        return compression
    if head.startswith((b"PK\3\4", b"PK\5\6", b"PK\7\x08")):
        return _kind_of_zip(head, file, extension)
    if is_tar(head):
        return ".tar"
    if not head.startswith(_ANY_BEGINNING):
        return None
    for _, pattern, format_ in _FORMATS:
        if pattern.match(head):
            return format_
    if head.startswith(_OLE) and extension in _OWN_MAGIC:
        return extension  # its reader tells whether it is encrypted
    for magic, detail in _UNSUPPORTED:
        if head.startswith(magic):
            return NotReadable("unsupported_format", f"is {detail}")
    if head.startswith(_ENCRYPTED_PARQUET):
        return NotReadable("encrypted", "is an encrypted parquet file; write it without encryption")
    for magic, detail in _BINARY:
        if head.startswith(magic):
            return NotReadable("binary", f"is {detail}")
    return None


def _kind_of_zip(head: bytes, file: BinaryIO, extension: str) -> str | NotReadable:
    """`.zip`, or the format of a document that is one inside."""
    for kind, format_ in _OPEN_DOCUMENT_KINDS.items():
        # The standards have this member first and not compressed, so that it can be seen from outside.
        if head[30:].startswith(b"mimetype" + kind) and not head[38 + len(kind) :].startswith(b"."):
            return format_
    if head[30:].startswith(b"mimetypeapplication/vnd.oasis.opendocument"):
        return NotReadable(
            "unsupported_format", "is an OpenDocument file that is no text; save it as odt or csv"
        )
    hints = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"word/", b"META-INF/", b"mimetype")
    if not head[30:].startswith(hints) and extension not in _OWN_MAGIC:
        return ".zip"
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
    except (*ZIP_ERRORS, NotImplementedError):
        return extension if extension in _OWN_MAGIC else ".zip"  # its reader says what is wrong
    for name, kind_or_detail in _OFFICE_KINDS.items():
        if name in names:
            is_format = kind_or_detail.startswith(".")
            return kind_or_detail if is_format else NotReadable("unsupported_format", f"is {kind_or_detail}")
    if "META-INF/container.xml" in names:
        return ".epub"
    return ".odt" if {"mimetype", "content.xml", "META-INF/manifest.xml"} <= names else ".zip"


def _by_name(head: bytes, name: str, extension: str, readable: Collection[str]) -> str | NotReadable | None:
    if (of_language := _NAMES.get(name.lower())) is not None:
        return of_language
    if extension in CONTAINERS or extension in TAR_SUFFIXES:
        if _is_binary(head):
            return NotReadable("damaged_archive", f"is named {extension}, but does not begin like one")
        return None
    if extension in _OWN_MAGIC:
        # Some programs write something in front of a PDF. Of what is no text, the reader says what is wrong.
        return extension if _is_binary(head) or (extension == ".pdf" and b"%PDF-" in head[:1024]) else None
    if extension in _OF_ANY_TEXT and (text := _peeked(head)) is not None:
        if _PAGE.match(text):
            return ".html"
        if _XML.match(text):
            return ".xml"
    return extension if extension in readable else None


def _by_text(head: bytes) -> str | NotReadable:
    if _is_binary(head):
        return NotReadable("binary", "no extension that is known, and not text")
    text = _peeked(head) or ""
    if _DRAWING.match(text):
        return NotReadable("unsupported_format", "is an SVG drawing")
    for pattern, format_ in _LOOKS:
        if pattern.match(text):
            return format_
    if found := _SHEBANG.match(text):
        return _INTERPRETERS.get(found[1], ".sh")
    return PLAIN_TEXT


def _is_binary(head: bytes) -> bool:
    return (text := _peeked(head)) is None or sum(map(text.count, _CONTROLS)) > MAX_CONTROL_SHARE * len(text)


def _peeked(head: bytes) -> str | None:
    """Something like the first characters, good enough for tags and line ends; None where bytes are no text."""
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return head.decode(codec, "replace").removeprefix("\ufeff")
    if b"\0" not in head:
        return head.decode("latin-1")
    for codec, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[0::2])):
        # Tags, braces and line ends have a zero byte each, on one side of the other bytes.
        if zeros.count(0) == head.count(0) >= MIN_NUL_SHARE * len(head):
            return head.decode(codec, "replace")
    # Other text in UTF-16 or UTF-32 is for `text_encoding` to find.
    return None if isinstance(detect_encoding([head[: len(head) // 4 * 4]]), Undecodable) else ""
