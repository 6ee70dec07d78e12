"""Readers of e-mail: single messages and mailboxes. Know no rule of quality."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from data_processing.document import Document, Dropped, excerpt
from data_processing.formats.input_bytes import MAX_WHOLE_BYTES, Items, whole, with_all_bytes
from data_processing.formats.mail_text import MailText, mail_text
from data_processing.formats.not_readable import NotReadableError
from data_processing.formats.raw_input import RawInput, Reading

MAX_LINE_BYTES = 1 << 20
"""A longer line of a mailbox is read in pieces; only the first can divide messages."""

# What divides messages: an envelope sender, and a date in the manner of C's asctime with or without a time zone.
_SEPARATOR = re.compile(rb"From \S.{0,300}\d{1,2}:\d{2}(?::\d{2})?\b.{0,30}\b\d{4}\b")
_QUOTED_FROM = re.compile(rb">+From ")


def read_eml(raw: RawInput, reading: Reading) -> Items:
    """One message: subject and body as text (`mail_text`), the subject as `title`.

    Attachments and pictures become one `attachment` beside it, with the bytes that they take.
    """
    data = whole(raw)
    if isinstance(data, Dropped):
        yield data
    else:
        yield from with_all_bytes(raw, _message_items(raw, raw.source, data, len(data)))


def read_mbox(raw: RawInput, reading: Reading) -> Items:
    """The messages of a mailbox, one at a time in memory, called `box.mbox[12]`; numbers begin at 0.

    Messages are divided by lines such as `From ann@example.org Thu Jan  1 00:00:00 2026` after a blank one; a `>` that
    was put before such words in a message is taken away (mboxrd).
    """
    return with_all_bytes(raw, _mailbox_items(raw))


def _message_items(raw: RawInput, source: str, data: bytes, num_bytes: int) -> Items:
    try:
        found = mail_text(data)
    except NotReadableError as error:
        sample = excerpt(data[:400].decode("ascii", "replace"))
        yield Dropped(source, error.reason, str(error), sample, num_bytes, raw.format)
        return
    left_out_bytes = min(found.left_out_bytes, num_bytes)
    if found.left_out:
        yield Dropped(f"{source}#attachments", "attachment", _told(found), "", left_out_bytes, raw.format)
    if found.body.strip():
        metadata = {"format": raw.format, "encoding": found.encoding}
        if found.subject:
            metadata["title"] = found.subject
        rest = num_bytes - left_out_bytes
        yield Document.of(found.text, source=source, metadata=metadata, num_bytes=rest)
    else:
        detail = f"no part is text (subject: {excerpt(found.subject) or 'none'})"
        yield Dropped(source, "no_text", detail, "", num_bytes - left_out_bytes, raw.format)


def _told(found: MailText) -> str:
    shown = ", ".join(found.left_out[:10]) + (", ..." if len(found.left_out) > 10 else "")
    return f"{len(found.left_out)} left out: {shown}"


class _Message(NamedTuple):
    """A message of a mailbox as bytes, None when it is too long to be held; all the bytes that it takes there."""

    data: bytes | None
    num_bytes: int


def _mailbox_items(raw: RawInput) -> Items:
    for number, message in enumerate(_messages(raw)):
        source = f"{raw.source}[{number}]"
        if message.data is None:
            detail = f"a message of {message.num_bytes} bytes, at most {MAX_WHOLE_BYTES} are read"
            yield Dropped(source, "too_large", detail, "", message.num_bytes, raw.format)
        else:
            yield from _message_items(raw, source, message.data, message.num_bytes)


def _messages(raw: RawInput) -> Iterator[_Message]:
    """The messages in order; what stands before the first separator is one too, if it is not blank."""
    lines: list[bytes] = []
    size = num_bytes = 0
    after_blank = True
    has_begun = False
    for line, is_start in _lines(raw):
        if is_start and after_blank and line.startswith(b"From ") and _SEPARATOR.match(line):
            if has_begun:
                yield _Message(b"".join(lines) if size <= MAX_WHOLE_BYTES else None, num_bytes)
                num_bytes = 0
            lines.clear()
            size = 0
            has_begun = True
        else:
            has_begun = has_begun or not line.isspace()
            size += len(line)
            if size <= MAX_WHOLE_BYTES:
                lines.append(line[1:] if is_start and _QUOTED_FROM.match(line) else line)
            else:
                lines.clear()
        num_bytes += len(line)
        after_blank = is_start and line in (b"\n", b"\r\n")
    if has_begun:
        yield _Message(b"".join(lines) if size <= MAX_WHOLE_BYTES else None, num_bytes)


def _lines(raw: RawInput) -> Iterator[tuple[bytes, bool]]:
    """Each line, a long one in pieces, and whether this is its beginning."""
    raw.file.seek(0)
    missing = raw.num_bytes
    is_start = True
    while missing > 0 and (line := raw.file.readline(min(missing, MAX_LINE_BYTES))):
        missing -= len(line)
        yield line, is_start
        is_start = line.endswith(b"\n")
