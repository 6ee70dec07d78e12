"""From the bytes of a text to its characters: a declared ladder of rules. Knows no format of files.

Where rules end, at text in an old encoding that does not say which, chardet is asked; what it says is taken only when
it is sure and the whole text decodes.
"""

import codecs
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from data_processing.formats.legacy_encodings import Guess, LegacyText

MAX_DAMAGE = 0.001
"""Damaged UTF-8 is read when at most this share of its characters is invalid; arbitrary: one in a thousand."""

MAX_HIGH_SHARE = 0.25
"""Western European text has fewer bytes above 0x7F than this; arbitrary, between French or Swedish (about one
byte in twenty) and encodings in which nearly every letter is such a byte (Russian, Greek, Japanese)."""

MAX_IMPLAUSIBLE_SHARE = 0.1
"""Share of the bytes above 0x7F that may be signs which Western text does not have in that place; arbitrary."""

BLOCK_BYTES = 1 << 20
"""Texts are looked at in pieces of this size, however they come in; arbitrary."""

SAMPLE_BYTES = 8 << 10
"""So much of the beginning shows whether it is UTF-16; arbitrary."""

MAX_ODD_SHARE = 0.01
"""UTF-16 without a mark is believed when at most this share of its characters is unassigned, private or a control
character; arbitrary. Bytes that are no UTF-16 give 5 to 20 % of those, or do not decode at all."""

MIN_NUL_SHARE = 0.2
MAX_PRINTABLE_SHARE = 0.92
"""UTF-16 with a smaller share of NULs (Latin script has half) is not believed when a larger share of its other bytes is
printable ASCII: 0.86 in hiragana, about half in Chinese; text with accents of one byte has 0.95."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_NOT_ASCII_BYTES = bytes(range(0x80, 0x100))
# What text does not hold of the control characters; it does hold tab, line ends, form feed, backspace, DOS end of file
# and escape.
_CONTROLS = bytes([*range(0x01, 0x08), *range(0x0E, 0x1A), *range(0x1C, 0x20)])
_PRINTABLE_ASCII = bytes([*b"\t\n\r", *range(0x20, 0x7F)])
_UNDEFINED_IN_1252 = b"\x81\x8d\x8f\x90\x9d"
# Of 0x80-0x9F, Western text has the euro sign, quotation marks, dashes, bullets, ellipsis, trade mark, OE, S and Z
# with caron; in the encodings of DOS and the old Macintosh letters are there instead.
_UNUSUAL_IN_1252 = b"\x83\x86\x87\x88\x89\x8b\x98\x9b"
# A sign in the middle of a word is a letter of another encoding: 0xB3 is a superscript three here, but in Polish
# (ISO 8859-2) it is an l with stroke; 0x94 is a closing quotation mark, but on the Macintosh an i with circumflex.
# (Opening ones stand behind letters in JSON: `\n“`.) Letters of ASCII become a, signs s: counting `asa` takes a tenth
# of the time of a regular expression.
_LETTERS_AND_SIGNS = bytes(
    ord("a")
    if byte in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    else ord("s")
    if (0xA1 <= byte <= 0xBF and byte not in b"\xad\xb7") or byte in b"\x94\xd7\xf7"
    else ord(" ")
    for byte in range(0x100)
)
# How ISO-2022-JP, the Japanese of e-mail, turns from ASCII to kanji.
_ISO_2022_JP = (b"\x1b$B", b"\x1b$@")


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
    2. A NUL byte: UTF-16 or UTF-32 without a mark, if it decodes, has no NUL character and hardly any that text does
       not have; otherwise `binary`.
    3. Valid UTF-8; ISO-2022-JP, where its escape sequences stand in ASCII and all of it decodes.
    4. UTF-8 with scattered damage: ten times as many valid multi-byte characters as invalid bytes, and at most
       `MAX_DAMAGE` of the characters invalid; what is invalid becomes U+FFFD.
    5. Control characters besides: `binary`. More than a few valid multi-byte characters: `undecodable`, for it mixes
       encodings.
    6. An encoding other than Western European of which chardet is sure (`legacy_encodings`), if all of it decodes.
    7. windows-1252, which is Latin-1 plus typographic signs, where that is plausible: none of the five undefined
       bytes, at most `MAX_HIGH_SHARE` of the bytes above 0x7F, and at most `MAX_IMPLAUSIBLE_SHARE` of those signs
       that Western text does not have there.
    8. Otherwise `undecodable`.

    The verdict does not depend on where the chunks are cut. Each is looked at once. Memory: a few times the largest
    chunk, or `BLOCK_BYTES`.
    """
    blocks = _blocks(chunks)
    first = next(blocks, b"")
    if len(first) < BLOCK_BYTES and first.isascii() and b"\0" not in first and b"\x1b" not in first:
        return Encoding("utf-8", "utf-8")  # ASCII, as most files are, which need none of the rules
    for mark, codec in _BYTE_ORDER_MARKS:
        if first.startswith(mark):
            return _with_mark(codec, first, blocks)
    if b"\0" in first:
        return _without_mark(first, blocks)
    if first.isascii() and any(sign in first for sign in _ISO_2022_JP):
        return _iso_2022_jp(first, blocks)
    return _utf8_or_other(first, blocks)


def decode(data: bytes) -> tuple[str, Encoding] | Undecodable:
    """The characters of a whole file and how it was encoded, by the rules of `detect_encoding`."""
    encoding = detect_encoding([data])
    if isinstance(encoding, Undecodable):
        return encoding
    return data.decode(encoding.codec, encoding.errors), encoding


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of `BLOCK_BYTES`, the last one shorter."""
    waiting = bytearray()
    for chunk in chunks:
        if not waiting and len(chunk) == BLOCK_BYTES:
            yield chunk
            continue
        view = memoryview(chunk)
        while len(waiting) + len(view) >= BLOCK_BYTES:
            missing = BLOCK_BYTES - len(waiting)
            yield bytes(waiting) + bytes(view[:missing])
            waiting.clear()
            view = view[missing:]
        waiting += view
    if waiting:
        yield bytes(waiting)


def _decodes(codec: str, blocks: Iterable[bytes], *, nul: bool = True) -> UnicodeDecodeError | None:
    """What is wrong with text by a codec, or None; with `nul=False`, a NUL character is wrong too."""
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        for block in blocks:
            if "\0" in decoder.decode(block) and not nul:
                return UnicodeDecodeError(codec, b"\0", 0, 1, "holds NUL characters")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return error
    return None


def _with_mark(codec: str, first: bytes, rest: Iterator[bytes]) -> Encoding | Undecodable:
    name = codec.removesuffix("-sig")
    if error := _decodes(codec, _chain(first, rest)):
        return Undecodable("undecodable", f"begins with the byte-order mark of {name}, but: {error.reason}")
    return Encoding(codec, name)


def _without_mark(first: bytes, rest: Iterator[bytes]) -> Encoding | Undecodable:
    """UTF-32 or UTF-16 in the byte order in which its beginning looks like text, if all of it decodes."""
    if _is_byte_text(first[:SAMPLE_BYTES]):
        return Undecodable("binary", "holds NUL bytes")
    # Most characters have a zero upper byte. Chinese has few such, and its most frequent character has a zero lower
    # byte, so this settles only what is tried first.
    little_first = first[1::2].count(0) >= first[0::2].count(0)
    orders = ("le", "be") if little_first else ("be", "le")
    # UTF-32 first: hardly anything else decodes as such.
    for codec in (f"utf-{size}-{order}" for size in (32, 16) for order in orders):
        if _looks_like_text(first, codec):
            if _decodes(codec, _chain(first, rest), nul=False) is None:
                return Encoding(codec, codec.rpartition("-")[0])
            break
    return Undecodable("binary", "holds NUL bytes")


def _is_byte_text(beginning: bytes) -> bool:
    """Whether it is text of one byte a character with some NULs in it: any two letters make a Chinese character."""
    num_nul = beginning.count(0)
    num_printable = _number(beginning, _PRINTABLE_ASCII)
    return num_nul < MIN_NUL_SHARE * len(beginning) and num_printable > MAX_PRINTABLE_SHARE * (
        len(beginning) - num_nul
    )


def _looks_like_text(first: bytes, codec: str) -> bool:
    try:
        # Not final: a character may be cut through at the end.
        text = codecs.getincrementaldecoder(codec)().decode(first[:SAMPLE_BYTES])
    except UnicodeDecodeError:
        return False
    num_odd = sum(unicodedata.category(c) in ("Cc", "Cn", "Co") and c not in "\t\n\r\f" for c in text)
    return len(text) >= 4 and num_odd <= MAX_ODD_SHARE * len(text)


def _iso_2022_jp(first: bytes, rest: Iterator[bytes]) -> Encoding | Undecodable:
    if len(first) < BLOCK_BYTES:
        # Text about terminals has such sequences too, and is ASCII then.
        if _decodes("iso2022_jp_2", [first]) is None:
            return Encoding("iso2022_jp_2", "iso-2022-jp")
        return _utf8_or_other(first, rest)
    if error := _decodes("iso2022_jp_2", _chain(first, rest)):
        return Undecodable("undecodable", f"has escape sequences of ISO-2022-JP, but: {error.reason}")
    return Encoding("iso2022_jp_2", "iso-2022-jp")


def _utf8_or_other(first: bytes, rest: Iterator[bytes]) -> Encoding | Undecodable:
    decoder = codecs.getincrementaldecoder("utf-8")()
    counts = _Counts()
    for block in _chain(first, rest):
        if b"\0" in block:
            return Undecodable("binary", "holds NUL bytes")
        carried = decoder.getstate()[0]
        try:
            counts.add_valid(block, decoder.decode(block))
        except UnicodeDecodeError:
            return _other(counts, carried, _chain(block, rest))
    if carried := decoder.getstate()[0]:
        return _other(counts, carried, iter([b""]))
    return Encoding("utf-8", "utf-8")


def _other(counts: "_Counts", carried: bytes, blocks: Iterator[bytes]) -> Encoding | Undecodable:
    """The verdict on text whose first block that is not UTF-8 is the next one. `carried` are bytes before it, already
    in `counts`, that wait for the rest of their character."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    decoder.setstate((carried, 0))
    counts.valid_bytes -= len(carried)
    # Text of an old encoding is not valid UTF-8 for a megabyte before, unless it is ASCII there.
    legacy = LegacyText(carried) if counts.valid_multibyte == 0 else None
    for block in blocks:
        if b"\0" in block:
            return Undecodable("binary", "holds NUL bytes")
        counts.add(block, decoder.decode(block))
        if legacy is not None:
            legacy.add(block)
    return counts.verdict(legacy.verdict() if legacy is not None else None)


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


class _Counts:
    """What the rules compare, summed over the blocks of a file."""

    def __init__(self) -> None:
        self.bytes = self.high_bytes = self.valid_bytes = self.valid_characters = 0
        self.controls = self.undefined = self.implausible = 0

    @property
    def invalid(self) -> int:
        """Bytes that are not UTF-8."""
        return self.bytes - self.valid_bytes

    @property
    def characters(self) -> int:
        """Characters, an invalid byte counted as one."""
        return self.valid_characters + self.invalid

    @property
    def valid_multibyte(self) -> int:
        """Characters of UTF-8 that are not ASCII."""
        return self.valid_characters - (self.bytes - self.high_bytes)

    def add_valid(self, block: bytes, text: str) -> None:
        """Count a block of UTF-8 and the characters in it (which may lag behind by one)."""
        self.bytes += len(block)
        self.valid_bytes += len(block)
        self.valid_characters += len(text)
        if not block.isascii():
            self.high_bytes += _number(block, _NOT_ASCII_BYTES)

    def add(self, block: bytes, text: str) -> None:
        """Count a block and what the UTF-8 decoder kept of it, and what tells windows-1252 from other encodings."""
        self.bytes += len(block)
        self.valid_bytes += len(text.encode())
        self.valid_characters += len(text)
        self.high_bytes += _number(block, _NOT_ASCII_BYTES)
        self.controls += _number(block, _CONTROLS)
        self.undefined += _number(block, _UNDEFINED_IN_1252)
        self.implausible += _number(block, _UNUSUAL_IN_1252)
        self.implausible += block.translate(_LETTERS_AND_SIGNS).count(b"asa")

    def verdict(self, guess: Guess | None) -> Encoding | Undecodable:
        """The rules from the fourth on; `guess` is what the sixth says."""
        if self.valid_multibyte >= 10 * self.invalid and self.invalid <= MAX_DAMAGE * self.characters:
            return Encoding("utf-8", "utf-8 (damaged)", "replace")
        if self.controls:
            return Undecodable("binary", f"not UTF-8, and holds {self.controls} control characters")
        if self.valid_multibyte > self._lookalikes(guess) * self.invalid:
            return Undecodable(
                "undecodable",
                f"mixes {self.valid_multibyte} characters of UTF-8 with {self.invalid} bytes that are not UTF-8",
            )
        if guess is not None:
            return Encoding(guess.codec, guess.name)
        if (
            self.undefined
            or self.high_bytes > MAX_HIGH_SHARE * self.bytes
            or self.implausible > MAX_IMPLAUSIBLE_SHARE * self.high_bytes
        ):
            return Undecodable(
                "undecodable",
                "not UTF-8, no other encoding is certain, and not plausible as windows-1252: of "
                f"{self.bytes} bytes {self.high_bytes} are above 0x7F, of these {self.undefined} undefined and "
                f"{self.implausible} out of place; convert it to UTF-8",
            )
        return Encoding("windows-1252", "windows-1252")

    def _lookalikes(self, guess: Guess | None) -> float:
        """How many characters that happen to be valid UTF-8 come, at most, on one byte that is not.

        Measured: 0.15 (EUC-KR) to 0.44 (EUC-JP); 0.13 to 0.31 in Thai, KOI8-U and code page 866; up to 0.13 in Latin
        script (French of the Macintosh). In a text that is one half UTF-8, 0.5 and more.
        """
        if guess is None:
            return 0.1
        return 0.6 if guess.multibyte else 0.4 if self.high_bytes > MAX_HIGH_SHARE * self.bytes else 0.2


def _number(block: bytes, values: bytes) -> int:
    """How many bytes of a block are one of `values`."""
    return len(block) - len(block.translate(None, values))
