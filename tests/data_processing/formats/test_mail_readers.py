"""Messages and mailboxes; messages are written by the standard library, which is no part of how they are divided."""

import mailbox
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.document import Document, Dropped
from data_processing.formats import input_bytes, mail_readers
from data_processing.formats.mail_readers import read_eml, read_mbox
from tests.data_processing import format_files
from tests.data_processing.reading_bytes import documents_of, items_of, reason_of, text_of

SENTENCE = "The smith heats the iron until it glows."
GREETING = "Grüße aus der Schmiede, die Kohle ist teuer geworden."


def message(body: str = SENTENCE, subject: str = "Über Eisen", **content: str) -> EmailMessage:
    found = EmailMessage()
    found["From"], found["To"], found["Subject"] = "ann@example.org", "bob@example.org", subject
    found.set_content(body, **content)
    return found


def test_a_message_is_its_subject_and_body_and_no_other_header():
    [document] = documents_of(read_eml, bytes(message(f"{GREETING}\n> quoted\n-- \nAnn")), "a.eml")
    assert document.text == f"Über Eisen\n\n{GREETING}\n> quoted\n-- \nAnn"
    assert document.metadata == {"format": ".eml", "encoding": "utf-8", "title": "Über Eisen"}


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "windows-1252", "iso-8859-15"])
@pytest.mark.parametrize("encoding", ["quoted-printable", "base64", "8bit"])
def test_bodies_are_decoded_as_they_declare(charset: str, encoding: str):
    assert GREETING in text_of(read_eml, bytes(message(GREETING, charset=charset, cte=encoding)), "a.eml")


@pytest.mark.parametrize("charset", ["x-unknown", "utf-16", "us-ascii", "", "idna", '"', "\u00e9"])
def test_a_wrong_or_unknown_charset_costs_nothing(charset: str):
    data = f"Subject: a\nContent-Type: text/plain; charset={charset}\n\n{GREETING}".encode()
    assert text_of(read_eml, data, "a.eml") == f"a\n\n{GREETING}"


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (b"=?utf-8?b?R3LDvMOfZQ==?= and =?iso-8859-1?q?Gr=FC=DFe?=", "Grüße and Grüße"),
        (b"=?utf-8?b?!!!?=", ""),
        (b"=?no-such?q?abc?=", "abc"),
        (b"folded\n  on", "folded on"),
        ("Grüße".encode(), "Grüße"),
        (b"=?utf-8?q?a=81=ff?=", "a\ufffd\ufffd"),
        (b"", ""),
    ],
)
def test_subjects_are_decoded_or_kept_as_they_stand(subject: bytes, text: str):
    found = text_of(read_eml, b"Subject: " + subject + b"\n\nbody", "a.eml")
    assert found == (f"{text}\n\nbody" if text else "body")


def test_of_two_renderings_the_plain_text_is_taken_and_html_where_there_is_no_other():
    both = message()
    both.add_alternative("<p>AS_HTML</p>", subtype="html")
    assert text_of(read_eml, bytes(both), "a.eml") == f"Über Eisen\n\n{SENTENCE}"
    only = message("<style>x</style><p>One<p hidden>two<ul><li>three</ul>", subtype="html")
    assert text_of(read_eml, bytes(only), "a.eml") == "Über Eisen\n\nOne\n\n- three"
    empty = message(" ")
    empty.add_alternative("<p>AS_HTML</p>", subtype="html")
    assert "AS_HTML" in text_of(read_eml, bytes(empty), "a.eml")


def test_attachments_are_left_out_and_counted_with_their_bytes():
    found = message()
    found.add_attachment(b"\x89PNG" * 1000, maintype="image", subtype="png", filename="a.png")
    found.add_attachment("ATTACHED text", filename="b.txt")
    data = bytes(found)
    dropped, document = items_of(read_eml, data, "a.eml")
    assert isinstance(dropped, Dropped)
    assert (dropped.source, dropped.reason) == ("a.eml#attachments", "attachment")
    assert dropped.detail == "2 left out: image/png, text/plain"
    assert 5300 < dropped.num_bytes < 5600  # base64 of 4000 bytes
    assert isinstance(document, Document)
    assert document.text == f"Über Eisen\n\n{SENTENCE}"


def test_a_forwarded_message_is_read_and_a_receipt_is_not():
    outer = message("See below.")
    outer.add_attachment(message("INNER"), disposition="inline")
    text = text_of(read_eml, bytes(outer), "a.eml")
    assert text == "Über Eisen\n\nSee below.\n\nINNER"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"just some text\nwithout headers\n", "malformed_document"),
        (b"Subject: a\n\n  \n", "no_text"),
        (b"Subject: a\nContent-Type: multipart/mixed; boundary=b\n\n", "no_text"),
        (
            b"Subject: a\n"
            + b"".join(
                b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(3000)
            )
            + b"\nx",
            "too_deep",
        ),
    ],
)
def test_a_message_that_is_not_read_says_why(data: bytes, reason: str):
    assert reason_of(read_eml, data, "a.eml")[0] == reason


def test_a_body_that_cannot_be_decoded_is_left_out():
    data = (
        b"Subject: a\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\n\x81\x8d\x00\x01\xff" * 2
    )
    items = items_of(read_eml, data, "a.eml")
    assert [item.reason for item in items if isinstance(item, Dropped)] == ["attachment", "no_text"]


# Mailboxes


def test_a_mailbox_as_python_writes_it_is_divided_as_python_divides_it(tmp_path: Path):
    box = mailbox.mbox(tmp_path / "a.mbox")
    bodies = ["one", "From me to you, at 12:30 in 2024\nFrom here", ">From quoted", "five\n\n\n"]
    for body in bodies:
        box.add(message(body))
    box.close()
    documents = documents_of(read_mbox, (tmp_path / "a.mbox").read_bytes(), "a.mbox")
    assert [document.source for document in documents] == [f"a.mbox[{n}]" for n in range(4)]
    texts = [document.text.removeprefix("Über Eisen\n\n") for document in documents]
    # Python does not quote a line that is quoted already; by the rules of mboxrd one > goes.
    assert texts == ["one", bodies[1], "From quoted", "five"]


def test_words_that_begin_a_paragraph_divide_no_messages():
    data = format_files.mbox(SENTENCE) + b"From the beginning, nobody knew.\n\nFrom me at 10:20 o'clock\n"
    documents = documents_of(read_mbox, data, "a.mbox")
    assert len(documents) == 2
    assert documents[1].text.endswith("From the beginning, nobody knew.\n\nFrom me at 10:20 o'clock")


def test_what_stands_before_the_first_message_is_told():
    dropped, document = items_of(
        read_mbox, b"nonsense\n\n" + format_files.mbox(SENTENCE).split(b"\n\nFrom ")[0], "a.mbox"
    )
    assert isinstance(dropped, Dropped)
    assert (dropped.source, dropped.reason, dropped.num_bytes) == ("a.mbox[0]", "malformed_document", 10)
    assert document.source == "a.mbox[1]"
    assert reason_of(read_mbox, b"\n\n", "a.mbox")[0] == "empty"


def test_a_message_that_is_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mail_readers, "MAX_WHOLE_BYTES", 600)
    monkeypatch.setattr(mail_readers, "MAX_LINE_BYTES", 100)
    first, second = format_files.mbox(SENTENCE).split(b"\n\nFrom ")
    data = first + b"\n\nlong" + b" words" * 200 + b"\n\nFrom " + second
    dropped, document = items_of(read_mbox, data, "a.mbox")
    assert isinstance(dropped, Dropped)
    assert (dropped.source, dropped.reason, dropped.num_bytes) == (
        "a.mbox[0]",
        "too_large",
        len(first) + 1208,
    )
    assert isinstance(document, Document)


def test_a_message_has_a_largest_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(input_bytes, "MAX_WHOLE_BYTES", 10)
    assert reason_of(read_eml, bytes(message()), "a.eml")[0] == "too_large"


@given(st.lists(st.text(st.sampled_from("ab>F \n"), min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_lines_of_any_kind_come_back_from_a_mailbox(bodies: list[str]):
    quoted = [
        "\n".join(f">{line}" if line.lstrip(">").startswith("From ") else line for line in body.split("\n"))
        for body in bodies
    ]
    separator = "From ann@example.org Thu Jan  1 00:00:00 2026\nSubject: a\n\n"
    data = "".join(f"{separator}{body}\n\n" for body in quoted).encode()
    found = [document.text for document in documents_of(read_mbox, data, "a.mbox")]
    assert found == ["a\n\n" + body.strip("\n") for body in bodies]
