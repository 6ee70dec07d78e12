"""How an input is encoded that says so itself, as web pages, XML and mail do. Detection is `text_encoding`'s."""

import codecs
from collections.abc import Callable, Iterable, Iterator

from data_processing.formats.input_bytes import chunks
from data_processing.formats.raw_input import RawInput
from data_processing.formats.text_encoding import MAX_DAMAGE, Encoding, Undecodable, detect_encoding

MIN_HIGH_BYTES = 20
"""Bytes above 0x7F that must be valid UTF-8 to outweigh a declaration. A character of GBK is so with a chance of about
one in seven, ten of them with one in a hundred million."""

_ASCII = bytes(range(0x80))
_BYTE_ORDER_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

# Names under which pages of old are declared in fact hold the larger set that Windows made of it; browsers read them
# so (WHATWG Encoding Standard, section 4.2).
_AS_BROWSERS_READ = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    # The declaration was read as ASCII, so it cannot be UTF-16.
    "utf-16": "utf-8",
    "utf-16-le": "utf-8",
    "utf-16-be": "utf-8",
    "utf-32": "utf-8",
}
_LABELS = {
    "x-sjis": "shift_jis",
    "windows-31j": "cp932",
    "x-gbk": "gbk",
    "x-euc-jp": "euc_jp",
    "windows-949": "cp949",
    "ks_c_5601-1987": "euc_kr",
    "x-cp1251": "windows-1251",
    "x-cp1252": "windows-1252",
    "x-mac-roman": "mac_roman",
    "macintosh": "mac_roman",
    "dos-874": "cp874",
    "windows-874": "cp874",
    "iso-8859-8-i": "iso8859-8",
    "unicode-1-1-utf-8": "utf-8",
    "utf8mb4": "utf-8",
}
# Python's own notations, which are no encodings of text; some take quadratic time.
_NOT_FOR_PAGES = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}
# In these one character takes several bytes, so hardly any other text decodes by them; a byte of all the others means
# something whatever it is.
_SEVERAL_BYTES = ("gb", "big5", "cp93", "cp94", "cp95", "euc", "shift", "johab", "iso2022", "hz")


def codec_of(label: str | None) -> str | None:
    """Python's name of the codec that a page, message or XML file means by `label`; None when it is unknown."""
    if label is None:
        return None
    label = label.strip().strip("\"'").lower()
    try:
        name = codecs.lookup(_LABELS.get(label, label)).name
        # Codecs that are not character encodings, such as rot13 and hex, are no reading of a page.
        "".encode(name)
    except (LookupError, ValueError):
        return None
    if name in _NOT_FOR_PAGES:
        return None
    return _AS_BROWSERS_READ.get(name, name)


def encoding_of(pieces: Callable[[], Iterable[bytes]], declared: str | None) -> Encoding | Undecodable:
    """How bytes are encoded of which somebody says that it is `declared`. The first rule that fits:

    1. A byte-order mark.
    2. Valid UTF-8: pages that were converted and kept their declaration are common, and other text is hardly ever
       valid UTF-8 by chance. Where an encoding of several bytes a character is declared, it takes at least
       `MIN_HIGH_BYTES` of evidence: the word 联通 in GBK is valid UTF-8.
    3. What is declared, if at most `MAX_DAMAGE` of the characters are invalid by it; these become U+FFFD.
    4. Detection.

    Args:
        pieces: The bytes from the beginning, at each call.
    """
    codec = codec_of(declared)
    head = next(iter(pieces()), b"")
    if codec is None or codec == "utf-8" or head.startswith(_BYTE_ORDER_MARKS):
        return detect_encoding(pieces())
    detected = detect_encoding(pieces())
    if isinstance(detected, Encoding) and detected.name == "utf-8":
        is_sure = not codec.startswith(_SEVERAL_BYTES) or _num_high_bytes(pieces()) >= MIN_HIGH_BYTES
        if is_sure:
            return detected
    damage = _damage(pieces(), codec)
    name = codec.replace("cp125", "windows-125").replace("iso8859-", "iso-8859-")
    if damage == 0:
        return Encoding(codec, name)
    if damage <= MAX_DAMAGE:
        return Encoding(codec, f"{name} (damaged)", "replace")
    return detected


def decode_declared(data: bytes, declared: str | None) -> tuple[str, Encoding] | Undecodable:
    """The characters of `data`, of which somebody says that its encoding is `declared`, and how it was encoded."""
    encoding = encoding_of(lambda: [data] if data else [], declared)
    if isinstance(encoding, Undecodable):
        return encoding
    return data.decode(encoding.codec, encoding.errors), encoding


def decoded_chunks(raw: RawInput, encoding: Encoding) -> Iterator[tuple[str, int]]:
    """(text, bytes that it was read from) of each piece of the input, in order. What is left of a character that a
    piece ends within stands in the next."""
    # It decoded a moment ago; if it was rewritten since, that is found by its time stamp and not by an exception.
    decoder = codecs.getincrementaldecoder(encoding.codec)("replace")
    done = 0
    for chunk in chunks(raw):
        done += len(chunk)
        yield decoder.decode(chunk, final=done == raw.num_bytes), len(chunk)


def _num_high_bytes(pieces: Iterable[bytes]) -> int:
    return sum(len(piece.translate(None, _ASCII)) for piece in pieces)


def _damage(pieces: Iterable[bytes], codec: str) -> float:
    """Share of the characters that are invalid by `codec`."""
    decoder = codecs.getincrementaldecoder(codec)("replace")
    num_characters = num_invalid = 0
    for piece in pieces:
        text = decoder.decode(piece)
        num_characters += len(text)
        num_invalid += text.count("\ufffd")
    text = decoder.decode(b"", final=True)
    num_invalid += text.count("\ufffd")
    return num_invalid / max(num_characters + len(text), 1)
