"""The text of an e-mail message: its subject and body. Knows no file.

The standard library's older model of messages is used (`policy.compat32`): the newer one parses each header when it is
asked for, and on damaged ones lets out whatever its parser stumbles over (IndexError, AttributeError, ...).
"""

import binascii
import email
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.header import decode_header
from email.message import Message

from data_processing.formats.declared_encoding import decode_declared
from data_processing.formats.html_text import HtmlTooDeepError, html_page
from data_processing.formats.markup_charset import declared_charset
from data_processing.formats.not_readable import NotReadableError
from data_processing.formats.text_encoding import Undecodable

MAX_PARTS_DEPTH = 50
"""Parts of a message within one another that are looked into; arbitrary: forwarded ten times is three deep each."""

_TOO_DEEP = f"parts nested more than {MAX_PARTS_DEPTH} deep"


@dataclass(slots=True)
class MailText:
    """What a message says.

    Attributes:
        subject: On one line; empty when there is none.
        body: Its text as it was sent, quotations and signatures too.
        encoding: Name of the encoding of its first text.
        left_out: A description of each part that is no part of the text: attachments, pictures.
        left_out_bytes: What these take in the message, encoded as they are.
    """

    subject: str
    body: str
    encoding: str = ""
    left_out: list[str] = field(default_factory=list)
    left_out_bytes: int = 0

    @property
    def text(self) -> str:
        """Subject and body, a blank line between them."""
        return "\n\n".join(filter(None, (self.subject, self.body)))


def mail_text(data: bytes) -> MailText:
    """The text of a message; of a body that comes as plain text and as HTML, the plain text.

    Raises:
        NotReadableError: it does not begin with headers, or nests its parts too deeply.
    """
    try:
        message = email.message_from_bytes(data)
    except RecursionError:
        raise NotReadableError("too_deep", _TOO_DEEP) from None
    if not message.keys():
        detail = "does not begin with headers such as 'Subject: ...'; is it a message?"
        raise NotReadableError("malformed_document", detail)
    found = MailText(_subject(message), "")
    texts = _texts(message, found, 0)
    found.body = "\n\n".join(text for text, _ in texts)
    return found


def _texts(part: Message, found: MailText, depth: int) -> list[tuple[str, bool]]:
    """(text, whether it came as plain text) of a part and those within it; what is no text is noted in `found`."""
    if depth > MAX_PARTS_DEPTH:
        raise NotReadableError("too_deep", _TOO_DEEP)
    kind = part.get_content_type()
    if part.get_content_disposition() == "attachment":
        _leave_out(part, found)
    elif part.is_multipart():
        members = [_texts(member, found, depth + 1) for member in _members(part)]
        if kind == "multipart/alternative":
            return _best(members)
        return [text for member in members for text in member]
    elif kind in ("text/plain", "text/html"):
        text = _text_of(part, kind, found)
        if text is None:
            _leave_out(part, found)
        elif text.strip():
            return [(text, kind == "text/plain")]
    else:
        _leave_out(part, found)
    return []


def _best(alternatives: list[list[tuple[str, bool]]]) -> list[tuple[str, bool]]:
    """Of several renderings of the same, the first in plain text, else the last, which is the richest."""
    with_text = [texts for texts in alternatives if texts]
    plain = [texts for texts in with_text if all(is_plain for _, is_plain in texts)]
    return plain[0] if plain else with_text[-1] if with_text else []


def _text_of(part: Message, kind: str, found: MailText) -> str | None:
    """The text of a part, None when it cannot be decoded; its encoding is noted in `found`."""
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes), "a part without parts has bytes"
    declared = part.get_content_charset() or (declared_charset(data) if kind == "text/html" else None)
    decoded = decode_declared(data, declared)
    if isinstance(decoded, Undecodable):
        return None
    found.encoding = found.encoding or decoded[1].name
    text = decoded[0].replace("\r\n", "\n")
    if kind == "text/html":
        try:
            return html_page(text, main_only=False).text
        except HtmlTooDeepError:
            return None
    return text.strip("\n")


def _members(part: Message) -> list[Message]:
    inner = part.get_payload()
    assert isinstance(inner, list), "a part that is multipart holds a list"
    return [member for member in inner if isinstance(member, Message)]


def _leave_out(part: Message, found: MailText) -> None:
    if num_bytes := _num_bytes(part):
        found.left_out_bytes += num_bytes
        found.left_out.append(part.get_content_type())


def _num_bytes(part: Message) -> int:
    """What the content of a part takes in the message, encoded as it is."""
    if part.is_multipart():
        return sum(map(_num_bytes, _members(part)))
    try:
        payload = part.get_payload()
    except (LookupError, UnicodeError):  # as a charset it names one of Python's own notations
        payload = part.get_payload(decode=True)
    assert isinstance(payload, str | bytes), "a part without parts has text or bytes"
    return len(payload)


def _subject(message: Message) -> str:
    """The subject on one line; what cannot be decoded of it is as it stands in the message."""
    header = message.get("Subject")
    if header is None:
        return ""
    try:
        pieces = decode_header(header)
    except (HeaderParseError, binascii.Error, ValueError):
        pieces = [(str(header), None)]
    return " ".join("".join(_decoded(pieces)).split())


def _decoded(pieces: list[tuple[bytes | str, str | None]]) -> Iterator[str]:
    for piece, charset in pieces:
        if isinstance(piece, str):
            yield piece
            continue
        decoded = decode_declared(piece, None if charset == "unknown-8bit" else charset)
        yield piece.decode("ascii", "replace") if isinstance(decoded, Undecodable) else decoded[0]
