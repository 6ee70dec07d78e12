"""Word, OpenDocument and PDF files, written by other people's libraries where there are some."""

import io
import logging
import sys
import zipfile

import pytest

from data_processing.formats import docx_text, odt_text, office_readers
from data_processing.formats.office_readers import read_docx, read_odt, read_pdf
from tests.data_processing import format_files
from tests.data_processing.reading_bytes import documents_of, reason_of, text_of

SENTENCE = "The smith heats the iron until it glows."
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def with_member(document: bytes, name: str, change) -> bytes:
    """A zipped document with one member changed: `change` is called with its text, or is its bytes."""
    archive = zipfile.ZipFile(io.BytesIO(document))
    members = {member: archive.read(member) for member in archive.namelist()}
    members[name] = change if isinstance(change, bytes) else change(members[name].decode()).encode()
    return format_files.zipped(members)


def with_body(xml: str, **parts: str) -> bytes:
    """A Word document with this body, and other parts in `word/`."""
    document = format_files.docx("x")
    document = with_member(
        document, "word/document.xml", f"<w:document {WORD}><w:body>{xml}</w:body></w:document>".encode()
    )
    for name, text in parts.items():
        document = with_member(document, f"word/{name}.xml", f"<w:{name} {WORD}>{text}</w:{name}>".encode())
    return document


# Word


def test_a_word_document_is_read_as_python_docx_wrote_it():
    import docx

    document = docx.Document()
    document.core_properties.title = "On  iron"
    document.core_properties.author = "Ann"
    document.sections[0].header.paragraphs[0].text = "HEADER"
    document.add_heading("On iron", level=0)
    document.add_heading("Ore", level=1)
    paragraph = document.add_paragraph("Ore is ")
    paragraph.add_run("roasted").bold = True
    paragraph.add_run("\tslowly.\nNext line")
    for text, style in [("one", "List Bullet"), ("two", "List Bullet"), ("deeper", "List Bullet 2")]:
        document.add_paragraph(text, style=style)
    for text in ("first", "second"):
        document.add_paragraph(text, style="List Number")
    document.add_paragraph("")
    table = document.add_table(rows=2, cols=2)
    for row, cells in zip(table.rows, [("Metal", "Melts at"), ("Iron", "1538")], strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    wide = document.add_table(rows=1, cols=2)
    wide.cell(0, 0).text = "left one"
    wide.cell(0, 0).add_paragraph("left two")
    wide.cell(0, 1).text = "right"
    document.add_paragraph("The end.")
    buffer = io.BytesIO()
    document.save(buffer)
    [found] = documents_of(read_docx, buffer.getvalue(), "a.docx")
    assert found.metadata == {"format": ".docx", "title": "On iron", "author": "Ann"}
    assert found.text == (
        "On iron\n\nOre\n\nOre is roasted\tslowly.\nNext line\n\n- one\n- two\n\n- deeper\n\n1. first\n2. second\n\n"
        "Metal | Melts at\nIron | 1538\n\nleft one\n\nleft two\n\nright\n\nThe end."
    )


def test_what_was_inserted_is_read_and_what_was_deleted_is_not():
    run = "<w:r><w:t>{}</w:t></w:r>".format
    body = (
        f"<w:p>{run('a')}<w:ins>{run('b')}</w:ins><w:del><w:r><w:delText>c</w:delText></w:r></w:del>"
        f"<w:moveFrom>{run('d')}</w:moveFrom><w:hyperlink>{run('e')}</w:hyperlink>"
        f"<w:sdt><w:sdtPr><w:t>f</w:t></w:sdtPr><w:sdtContent>{run('g')}</w:sdtContent></w:sdt>"
        "<w:r><w:noBreakHyphen/><w:instrText>h</w:instrText></w:r></w:p>"
    )
    assert text_of(read_docx, with_body(body), "a.docx") == "abeg-"


def test_text_boxes_stand_before_their_paragraph_and_are_read_once():
    box = "<w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p></w:txbxContent>"
    body = (
        '<w:p><w:r><w:t>around</w:t></w:r><w:r><mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/'
        f'markup-compatibility/2006"><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>'
        "</mc:AlternateContent></w:r></w:p>"
    )
    assert text_of(read_docx, with_body(body), "a.docx") == "box\n\naround"


def test_notes_are_numbered_and_set_behind():
    body = (
        '<w:p><w:r><w:t>one</w:t></w:r><w:r><w:footnoteReference w:id="7"/></w:r><w:r><w:t> two</w:t></w:r>'
        '<w:r><w:endnoteReference w:id="2"/><w:footnoteReference w:id="99"/></w:r></w:p>'
    )
    footnotes = (
        '<w:footnote w:id="7"><w:p><w:r><w:t>see</w:t><w:tab/><w:t>there</w:t></w:r></w:p></w:footnote>'
    )
    endnotes = '<w:endnote w:id="2"><w:p><w:r><w:t>last</w:t></w:r></w:p></w:endnote>'
    document = with_body(body, footnotes=footnotes, endnotes=endnotes)
    assert text_of(read_docx, document, "a.docx") == "one[1] two[2]\n\n[1] see there\n[2] last"


def test_numbers_of_lists_go_on_and_begin_anew_below_another_item():
    def item(text: str, level: int) -> str:
        list_ = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="5"/></w:numPr>'
        return f"<w:p><w:pPr>{list_}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"

    levels = "".join(f'<w:lvl w:ilvl="{n}"><w:numFmt w:val="decimal"/></w:lvl>' for n in range(2))
    numbering = (
        f'<w:abstractNum w:abstractNumId="3">{levels}</w:abstractNum><w:num w:numId="5">'
        '<w:abstractNumId w:val="3"/></w:num>'
    )
    body = "".join(item(text, level) for text, level in [("a", 0), ("b", 1), ("c", 1), ("d", 0), ("e", 1)])
    body += '<w:p><w:pPr><w:numPr><w:ilvl w:val="-7"/></w:numPr></w:pPr></w:p>'
    text = text_of(read_docx, with_body(body, numbering=numbering), "a.docx")
    assert text == "1. a\n  1. b\n  2. c\n2. d\n  1. e"


def test_styles_may_be_based_on_each_other_in_a_circle():
    styles = "".join(
        f'<w:style w:styleId="{a}"><w:basedOn w:val="{b}"/></w:style>' for a, b in [("a", "b"), ("b", "a")]
    )
    body = '<w:p><w:pPr><w:pStyle w:val="a"/></w:pPr><w:r><w:t>text</w:t></w:r></w:p>'
    assert text_of(read_docx, with_body(body, styles=styles), "a.docx") == "text"


def test_deeply_nested_word_documents_are_read():
    body = (
        "<w:tbl><w:tr><w:tc>" * 5000
        + "<w:p><w:r><w:t>deep</w:t></w:r></w:p>"
        + "</w:tc></w:tr></w:tbl>" * 5000
    )
    assert text_of(read_docx, with_body(body), "a.docx") == "deep"


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (OLE + b"x" * 600 + "EncryptedPackage".encode("utf-16-le"), "encrypted", "password"),
        (OLE + b"x" * 600, "malformed_document", "save it as docx"),
        (b"PK\x03\x04", "damaged_archive", "not a readable zip archive"),
        (format_files.zipped({"a": b"b"}), "malformed_document", "'_rels/.rels' is missing"),
        (format_files.zipped({"_rels/.rels": b"<a/>"}), "malformed_document", "no main part"),
        (with_body(""), "no_text", ""),
        (with_body("<w:p>"), "malformed_xml", "word/document.xml"),
        (
            with_member(
                format_files.docx("x"),
                "word/document.xml",
                b'<!DOCTYPE r [<!ENTITY a "' + b"x" * 70_000 + b'">]><r>&a;</r>',
            ),
            "entity_bomb",
            "'a' stands for 70000 characters",
        ),
        (
            with_member(format_files.docx("x"), "word/document.xml", b"<a>" + b" " * (60 << 20) + b"</a>"),
            "archive_bomb",
            "200 times",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_word_document_that_is_not_read_says_why(data: bytes, reason: str, detail: str):
    found = reason_of(read_docx, data, "a.docx")
    assert found[0] == reason
    assert detail in found[1]


def test_documents_have_a_largest_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(docx_text, "MAX_DOCUMENT_BYTES", 100)
    monkeypatch.setattr(odt_text, "MAX_DOCUMENT_BYTES", 100)
    assert reason_of(read_docx, format_files.docx(SENTENCE), "a.docx")[0] == "too_large"
    assert reason_of(read_odt, format_files.odt(SENTENCE), "a.odt")[0] == "too_large"


# OpenDocument


def test_an_open_document_is_read_as_odfpy_wrote_it():
    from odf import dc, table, text
    from odf.opendocument import OpenDocumentText

    document = OpenDocumentText()
    document.meta.addElement(dc.Title(text="On iron"))
    document.meta.addElement(dc.Creator(text="Ann"))
    numbered = text.ListStyle(name="N")
    numbered.addElement(text.ListLevelStyleNumber(level=1, numformat="1"))
    document.automaticstyles.addElement(numbered)
    body = document.text
    body.addElement(text.H(outlinelevel=1, text="Ore"))
    paragraph = text.P(text="Ore is")
    for element in (text.S(c=2), text.Span(text="roasted"), text.Tab(), text.LineBreak()):
        paragraph.addElement(element)
    paragraph.addText("slowly.")
    note = text.Note(noteclass="footnote")
    note.addElement(text.NoteCitation(text="*"))
    note_body = text.NoteBody()
    note_body.addElement(text.P(text="In a fire."))
    note.addElement(note_body)
    paragraph.addElement(note)
    body.addElement(paragraph)
    for style, items in (("", ["one", ["deeper"], "two"]), ("N", ["first", "second"])):
        body.addElement(_odt_list(items, style))
    rows = table.Table(name="t")
    for cells in (("Metal", "Melts at"), ("Iron", "1538")):
        row = table.TableRow()
        for value in cells:
            cell = table.TableCell()
            cell.addElement(text.P(text=value))
            row.addElement(cell)
        rows.addElement(row)
    body.addElement(rows)
    buffer = io.BytesIO()
    document.write(buffer)
    [found] = documents_of(read_odt, buffer.getvalue(), "a.odt")
    assert found.metadata == {"format": ".odt", "title": "On iron", "author": "Ann"}
    assert found.text == (
        "Ore\n\nOre is  roasted\t\nslowly.[1]\n\n- one\n  - deeper\n- two\n\n1. first\n2. second\n\n"
        "Metal | Melts at\nIron | 1538\n\n[1] In a fire."
    )


def _odt_list(items: list, style: str):
    from odf import text

    found = text.List(stylename=style) if style else text.List()
    for item in items:
        if isinstance(item, list):
            found.lastChild.addElement(_odt_list(item, ""))
        else:
            entry = text.ListItem()
            entry.addElement(text.P(text=item))
            found.addElement(entry)
    return found


def odt_with(change) -> bytes:
    return with_member(format_files.odt(SENTENCE), "content.xml", change)


def test_what_is_about_the_document_is_not_its_text():
    extra = (
        "<text:table-of-content><text:p>CONTENTS</text:p></text:table-of-content>"
        "<text:tracked-changes><text:p>DELETED</text:p></text:tracked-changes>"
        '<text:p>a<office:annotation><text:p>COMMENT</text:p></office:annotation>\n  b<text:s text:c="99999999999"/>'
        '<text:s text:c="x"/>c</text:p>'
    )
    data = odt_with(lambda xml: xml.replace("</office:text>", f"{extra}</office:text>"))
    assert text_of(read_odt, data, "a.odt") == f"Story\n\n{SENTENCE}\n\na b  c"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"PK", "damaged_archive"),
        (format_files.zipped({"mimetype": b"x"}), "malformed_document"),
        (odt_with(b"<a/>"), "no_text"),
        (odt_with(b"<a>"), "malformed_xml"),
        (
            with_member(
                format_files.odt("x"),
                "META-INF/manifest.xml",
                b'<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"><m:file-entry>'
                b"<m:encryption-data/></m:file-entry></m:manifest>",
            ),
            "encrypted",
        ),
    ],
)
def test_an_open_document_that_is_not_read_says_why(data: bytes, reason: str):
    assert reason_of(read_odt, data, "a.odt")[0] == reason


def test_a_member_under_a_password_is_encrypted():
    data = bytearray(format_files.odt(SENTENCE))
    archive = zipfile.ZipFile(io.BytesIO(bytes(data)))
    entry = data.rfind(b"content.xml") - 46  # in the list of members
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + 8] |= 1
    assert archive.testzip() is None
    assert reason_of(read_odt, bytes(data), "a.odt")[0] == "encrypted"


# PDF


def test_a_pdf_is_its_pages():
    data = format_files.pdf_of_pages([[f"{SENTENCE}", "Second (line)."], ["Third line."]], title="On iron")
    [found] = documents_of(read_pdf, data, "a.pdf")
    assert found.text == f"{SENTENCE}\nSecond (line).\n\nThird line."
    assert found.metadata == {"format": ".pdf", "title": "On iron"}


def encrypted(password: str, algorithm: str) -> bytes:
    import pypdf

    writer = pypdf.PdfWriter(clone_from=io.BytesIO(format_files.pdf(SENTENCE)))
    writer.encrypt(user_password=password, owner_password="other", algorithm=algorithm)
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def test_a_pdf_that_is_protected_from_readers_is_encrypted_and_one_from_printers_is_read():
    assert reason_of(read_pdf, encrypted("secret", "RC4-128"), "a.pdf")[0] == "encrypted"
    assert text_of(read_pdf, encrypted("", "RC4-128"), "a.pdf") == SENTENCE


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (format_files.pdf_of_pages([[], []]), "no_text", "2 pages without a layer of text"),
        (format_files.pdf(SENTENCE)[:200], "malformed_pdf", ""),
        (b"%PDF-1.4\nnothing", "malformed_pdf", ""),
        (b"", "malformed_pdf", "empty"),
    ],
    ids=["scanned", "cut", "nothing", "empty"],
)
def test_a_pdf_that_is_not_read_says_why(data: bytes, reason: str, detail: str):
    found = reason_of(read_pdf, data, "a.pdf")
    assert found[0] == reason, found
    assert detail in found[1]


def test_a_page_that_cannot_be_read_is_left_out_and_counted():
    data = format_files.pdf_of_pages([["First."], ["Second."], ["Third."]])
    # A word in place of a length; pypdf lets out a TypeError.
    broken = data.replace(b"/Length 43 ", b"/Length true ", 1)
    [found] = documents_of(read_pdf, broken, "a.pdf")
    assert (found.text, found.metadata["pages_left_out"]) == ("Second.\n\nThird.", 1)
    broken = format_files.pdf_of_pages([["First."]]).replace(b"/Length 43 ", b"/Length true ")
    reason, detail = reason_of(read_pdf, broken, "a.pdf")
    assert (reason, detail.startswith("no page can be read; page 1: ")) == ("malformed_pdf", True)


def test_what_pypdf_mends_is_not_said_in_the_log(caplog: pytest.LogCaptureFixture):
    data = format_files.pdf(SENTENCE).replace(b"startxref\n", b"startxref\n9")
    with caplog.at_level(logging.DEBUG):
        assert text_of(read_pdf, data, "a.pdf") == SENTENCE
    assert caplog.text == ""
    assert logging.getLogger("pypdf").level == logging.NOTSET


def test_without_pypdf_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pypdf", None)
    reason, detail = reason_of(read_pdf, format_files.pdf(SENTENCE), "a.pdf")
    assert reason == "needs_extra"
    assert "pip install -e '.[documents]'" in detail


def test_a_pdf_has_a_largest_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(office_readers, "MAX_PDF_BYTES", 100)
    assert reason_of(read_pdf, format_files.pdf(SENTENCE), "a.pdf")[0] == "too_large"
