"""From the bytes of a text file to its characters. Knows no format; decides by declared rules, never by statistics
of a language."""

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_DAMAGE = 0.001
"""Damaged UTF-8 is read when at most this share of its characters is invalid; arbitrary: one in a thousand."""

MAX_HIGH_SHARE = 0.25
"""Western European text has fewer bytes above 0x7F than this; arbitrary, between French or Swedish (about one
byte in twenty) and encodings in which nearly every letter is such a byte (Russian, Greek, Japanese)."""

MAX_IMPLAUSIBLE_SHARE = 0.1
"""Share of the bytes above 0x7F that may be signs which Western text does not have in that place; arbitrary."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# How `surrogateescape` shows a byte that is not UTF-8.
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_ASCII = bytes(range(0x80))
# What text holds of the control characters: tab, line ends, form feed, backspace, DOS end of file, escape.
_CONTROLS = re.compile(rb"[\x01-\x07\x0e-\x19\x1c-\x1f]")
_UNDEFINED_IN_1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")
# Of 0x80-0x9F, Western text has the euro sign, quotation marks, dashes, bullets, ellipsis, trade mark, OE, S and Z
# with caron; in the encodings of DOS and the old Macintosh letters are there instead.
_UNUSUAL_IN_1252 = re.compile(rb"[\x83\x86-\x89\x8b\x98\x9b]")
# A sign in the middle of a word is a letter of another encoding: 0xB3 is a superscript three here, but in Polish
# (ISO 8859-2) it is an l with stroke.
_SIGN_IN_WORD = re.compile(rb"(?<=[A-Za-z])[\xa1-\xac\xae-\xb6\xb8-\xbf\xd7\xf7](?=[A-Za-z])")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How to decode a file: `codec` and `errors` as `bytes.decode` takes them; `name` is what the report says."""

    codec: str
    name: str
    errors: str = "strict"


@dataclass(frozen=True, slots=True)
class Undecodable:
    """Why a file is not text: `reason` is `binary` or `undecodable`."""

    reason: str
    detail: str


def detect_encoding(chunks: Iterable[bytes]) -> Encoding | Undecodable:
    """How the file that `chunks` (non-empty pieces, in order) make up is encoded. The first rule that fits:

    1. A byte-order mark of UTF-8, UTF-16 or UTF-32, and the rest decodes.
    2. A NUL byte: `binary` (UTF-16 without a mark as well: its byte order would be a guess).
    3. Valid UTF-8.
    4. UTF-8 with scattered damage: ten times as many valid multi-byte characters as invalid bytes, and at most
       `MAX_DAMAGE` of the characters invalid; what is invalid becomes U+FFFD.
    5. windows-1252, which is Latin-1 plus typographic signs, where that is plausible: hardly any valid
       multi-byte UTF-8, no control characters, none of the five undefined bytes, at most `MAX_HIGH_SHARE` of the
       bytes above 0x7F, and at most `MAX_IMPLAUSIBLE_SHARE` of those signs that Western text does not have there.
    6. Otherwise `undecodable`.

    Memory: a few times the largest chunk.
    """
    chunks = iter(chunks)
    first = next(chunks, b"")
    for mark, codec in _BYTE_ORDER_MARKS:
        if first.startswith(mark):
            return _with_mark(codec, first, chunks)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
    counts = _Counts()
    chunk: bytes | None = first
    while chunk is not None:
        if b"\0" in chunk:
            return Undecodable("binary", "holds NUL bytes")
        following = next(chunks, None)
        counts.add(chunk, decoder.decode(chunk, final=following is None))
        chunk = following
    return counts.verdict()


def decode(data: bytes) -> tuple[str, Encoding] | Undecodable:
    """The characters of a whole file and how it was encoded, by the rules of `detect_encoding`."""
    encoding = detect_encoding([data])
    if isinstance(encoding, Undecodable):
        return encoding
    return data.decode(encoding.codec, encoding.errors), encoding


def _with_mark(codec: str, first: bytes, rest: Iterable[bytes]) -> Encoding | Undecodable:
    decoder = codecs.getincrementaldecoder(codec)()
    name = codec.removesuffix("-sig")
    try:
        decoder.decode(first)
        for chunk in rest:
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return Undecodable("undecodable", f"begins with the byte-order mark of {name}, but: {error.reason}")
    return Encoding(codec, name)


class _Counts:
    """What the rules compare, summed over the chunks of a file."""

    def __init__(self) -> None:
        self.bytes = self.characters = self.high_bytes = 0
        self.valid_multibyte = self.invalid = 0
        self.controls = self.undefined = self.implausible = 0

    def add(self, chunk: bytes, text: str) -> None:
        """Count a chunk and what the UTF-8 decoder made of it (which may lag behind by a character)."""
        self.bytes += len(chunk)
        self.characters += len(text)
        self.controls += len(_CONTROLS.findall(chunk))
        if chunk.isascii() and text.isascii():
            return
        high = len(chunk.translate(None, _ASCII))
        invalid = len(_ESCAPED_BYTE.findall(text))
        self.high_bytes += high
        self.invalid += invalid
        self.valid_multibyte += len(text) - (len(chunk) - high) - invalid
        if self.invalid:
            self.undefined += len(_UNDEFINED_IN_1252.findall(chunk))
            self.implausible += len(_UNUSUAL_IN_1252.findall(chunk)) + len(_SIGN_IN_WORD.findall(chunk))

    def verdict(self) -> Encoding | Undecodable:
        if self.invalid == 0:
            return Encoding("utf-8", "utf-8")
        if self.valid_multibyte >= 10 * self.invalid and self.invalid <= MAX_DAMAGE * self.characters:
            return Encoding("utf-8", "utf-8 (damaged)", "replace")
        if self.valid_multibyte * 10 > self.invalid:
            return Undecodable(
                "undecodable",
                f"mixes {self.valid_multibyte} characters of UTF-8 with {self.invalid} bytes that are not UTF-8",
            )
        if self.controls:
            return Undecodable("binary", f"not UTF-8, and holds {self.controls} control characters")
        if (
            self.undefined
            or self.high_bytes > MAX_HIGH_SHARE * self.bytes
            or self.implausible > MAX_IMPLAUSIBLE_SHARE * self.high_bytes
        ):
            return Undecodable(
                "undecodable",
                f"not UTF-8, and not plausible as windows-1252: of {self.bytes} bytes {self.high_bytes} are above "
                f"0x7F, of these {self.undefined} undefined and {self.implausible} out of place; convert it to UTF-8",
            )
        return Encoding("windows-1252", "windows-1252")
