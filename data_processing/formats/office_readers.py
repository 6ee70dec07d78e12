"""Readers of documents that are laid out in pages: PDF, Word and OpenDocument. Know no rule of quality."""

from collections.abc import Callable

from data_processing.document import Document, Dropped
from data_processing.formats.docx_text import docx_text
from data_processing.formats.input_bytes import Items, chunks
from data_processing.formats.not_readable import NotReadableError
from data_processing.formats.odt_text import odt_text
from data_processing.formats.office_text import OfficeDocument
from data_processing.formats.pdf_text import pdf_text
from data_processing.formats.raw_input import RawInput, Reading
from data_processing.formats.zipped_document import ZippedDocument

MAX_PDF_BYTES = 512 << 20
"""A larger PDF is `too_large`: to mend a damaged one, the package holds it in memory. Arbitrary."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")


def read_docx(raw: RawInput, reading: Reading) -> Items:
    """A Word document (`docx_text`), with its `title` and `author`."""
    if next(chunks(raw), b"").startswith(_OLE):
        yield _dropped_container(raw)
    else:
        yield _item(raw, lambda: docx_text(ZippedDocument(raw, reading.limits)))


def read_odt(raw: RawInput, reading: Reading) -> Items:
    """An OpenDocument text (`odt_text`), with its `title` and `author`."""
    yield _item(raw, lambda: odt_text(ZippedDocument(raw, reading.limits)))


def read_pdf(raw: RawInput, reading: Reading) -> Items:
    """The text of a PDF's pages (`pdf_text`), with its `title` and `author`; `no_text` when they are pictures.

    Without the package pypdf it is `needs_extra`.
    """
    if raw.num_bytes > MAX_PDF_BYTES:
        yield raw.dropped("too_large", f"{raw.num_bytes} bytes of PDF, at most {MAX_PDF_BYTES} are read")
        return
    raw.file.seek(0)
    yield _item(raw, lambda: pdf_text(raw.file))


def _item(raw: RawInput, document: Callable[[], OfficeDocument]) -> Document | Dropped:
    try:
        found = document()
    except NotReadableError as error:
        return raw.dropped(error.reason, str(error))
    if not found.text:
        return raw.dropped("no_text", "no paragraph holds text; pictures only?")
    metadata = {"format": raw.format, **found.metadata}
    return Document.of(found.text, source=raw.source, metadata=metadata, num_bytes=raw.num_bytes)


def _dropped_container(raw: RawInput) -> Dropped:
    """Why a file in Microsoft's older container is not read: a protected document is put into one."""
    overlap = b""
    for chunk in chunks(raw):
        if _ENCRYPTED_PACKAGE in overlap + chunk:
            return raw.dropped("encrypted", "protected by a password")
        overlap = chunk[-len(_ENCRYPTED_PACKAGE) :]
    return raw.dropped("malformed_document", "a document of Word before 2007; save it as docx")
