"""Which of the encodings from before Unicode a piece of text is in, when chardet is sure. Reads no files.

chardet 7 weighs by language models. Of random bytes it was at most 0.13 sure, of random bytes among English letters
at most 0.3 (and these are told by where they stand); of the first 60 bytes of article 1 of the Declaration of Human
Rights in 15 languages that are not written in Western encodings between 0.19 and 1.0, and always right.
"""

import codecs
import itertools
import re
from dataclasses import dataclass
from unicodedata import category

SAMPLE_BYTES = 8 << 10
"""So much of the lines that are not ASCII is shown to chardet, which takes about 1 ms for it. On Russian, Polish,
Chinese and French its answers for 2 kB and for 200 kB were the same."""

ASCII_CONTEXT_BYTES = 64
"""So much ASCII before a character that is not belongs to the sample too; arbitrary."""

MAX_WAITING_BLOCKS = 4
"""After so many blocks chardet is asked in any case, with what was found until then; arbitrary."""

MIN_CONFIDENCE = 0.17
"""From here on an encoding other than Western is believed: between random bytes and 60 bytes of text, see above."""

MIN_OLD_WESTERN_BYTES = 4
"""With fewer characters beyond ASCII, Western encodings of the Macintosh and of DOS are not told from windows-1252: in
two of 137 files that were read as windows-1252, the one curly apostrophe was taken for an accented i."""

MAX_ODD_SHARE = 0.002
"""Share of the characters that may be unassigned, private or control characters; arbitrary. gb18030 gives a meaning to
nearly all bytes, but it is one of these."""

MIN_TEXTUAL_SHARE = 0.8
"""Share of the characters beyond ASCII that are letters, accents, digits, punctuation or spaces. Arbitrary: text has
0.95 and more; random bytes in encodings with symbols (Macintosh, DOS) have half."""

MAX_MISPLACED_SHARE = 0.1
"""Share of them that may be capitals behind a small letter; arbitrary."""


@dataclass(frozen=True, slots=True)
class Guess:
    """An encoding: Python's codec, the name in reports, and whether its letters take several bytes each."""

    codec: str
    name: str
    multibyte: bool


_NOT_ASCII = re.compile(rb"[\x80-\xff]")

_OLD_WESTERN = ("mac-roman", "cp437", "cp850")
# What chardet says -> the codecs to try, the widest in use first: programs write the larger set under the older name
# (WHATWG Encoding Standard, section 4.2).
_CODECS = {
    "shift_jis_2004": ("cp932", "shift_jis_2004"),
    "cp932": ("cp932",),
    "euc_jis_2004": ("euc_jp", "euc_jis_2004"),
    "gb18030": ("gb18030",),
    "big5hkscs": ("big5hkscs", "cp950"),
    "euc_kr": ("cp949",),
    "cp949": ("cp949",),
    "iso8859-2": ("iso8859-2",),
    "iso8859-5": ("iso8859-5",),
    "iso8859-7": ("iso8859-7", "cp1253"),
    "iso8859-8": ("cp1255", "iso8859-8"),
    "iso8859-9": ("cp1254", "iso8859-9"),
    "iso8859-13": ("cp1257", "iso8859-13"),
    "tis-620": ("cp874", "tis-620"),
    **{
        name: (name,)
        for name in ("cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258")
    },
    **{name: (name,) for name in ("koi8-r", "koi8-u", "cp866", "cp852", "cp874", "mac-cyrillic")},
    **{name: (name,) for name in _OLD_WESTERN},
}
_WESTERN = ("ascii", "cp1252", "iso8859-1", "iso8859-15")
_NAMES = {
    "cp932": "shift_jis",
    "euc_jp": "euc-jp",
    "euc_jis_2004": "euc-jp",
    "shift_jis_2004": "shift_jis",
    "big5hkscs": "big5",
    "cp950": "big5",
    "cp949": "euc-kr",
    "cp874": "windows-874",
    "iso8859-2": "iso-8859-2",
    "iso8859-5": "iso-8859-5",
    "iso8859-7": "iso-8859-7",
    "iso8859-8": "iso-8859-8",
    "iso8859-9": "iso-8859-9",
    "iso8859-13": "iso-8859-13",
}
_MULTIBYTE = ("cp932", "shift_jis_2004", "euc_jp", "euc_jis_2004", "gb18030", "big5hkscs", "cp950", "cp949")


def guess_encoding(sample: bytes) -> Guess | None:
    """The encoding of some lines of text that is neither UTF-8 nor Western European, or None when none is certain."""
    import chardet

    found = chardet.detect(sample, compat_names=False, include_encodings=(*_CODECS, *_WESTERN))
    if found["encoding"] not in _CODECS or found["confidence"] < MIN_CONFIDENCE:
        return None
    if found["encoding"] in _OLD_WESTERN and sum(byte >= 0x80 for byte in sample) < MIN_OLD_WESTERN_BYTES:
        return None
    for codec in _CODECS[found["encoding"]]:
        if _looks_like_text(sample, codec):
            return Guess(codec, _NAMES.get(codec, codec.replace("cp125", "windows-125")), codec in _MULTIBYTE)
    return None


def _looks_like_text(sample: bytes, codec: str) -> bool:
    """Whether it decodes, to letters and punctuation in the places where text has them."""
    try:
        # Not final: the last character may be cut through.
        text = codecs.getincrementaldecoder(codec)().decode(sample)
    except UnicodeDecodeError:
        return False
    others = [character for character in text if not character.isascii()]
    num_odd = sum(category(character) in ("Cc", "Cn", "Co") for character in others)
    num_textual = sum(category(character)[0] in "LMPNZ" for character in others)
    num_misplaced = sum(
        before.islower() and after.isupper()
        for before, after in itertools.pairwise(text)
        if not after.isascii()
    )
    return (
        num_odd <= MAX_ODD_SHARE * len(others)
        and num_textual >= MIN_TEXTUAL_SHARE * len(others)
        and num_misplaced <= MAX_MISPLACED_SHARE * len(others)
    )


class LegacyText:
    """Collects what chardet is shown, and sees whether all of the text decodes as it says.

    Args:
        carried: Bytes that stand in front of the first block.
    """

    def __init__(self, carried: bytes) -> None:
        self._sample = bytearray()
        self._waiting = [carried]
        self._guess: Guess | None = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._asked = False

    def add(self, block: bytes) -> None:
        """Take the next bytes of the text."""
        if self._asked:
            self._check(block)
            return
        self._waiting.append(block)
        if len(self._waiting) == 2:
            block = b"".join(self._waiting)
        self._sample += _lines_beyond_ascii(block, SAMPLE_BYTES - len(self._sample))
        if len(self._sample) >= SAMPLE_BYTES or len(self._waiting) > MAX_WAITING_BLOCKS:
            self._ask()

    def verdict(self) -> Guess | None:
        """The encoding, when the text has ended."""
        if not self._asked:
            self._ask()
        self._check(b"", final=True)
        return self._guess

    def _ask(self) -> None:
        self._asked = True
        self._guess = guess_encoding(bytes(self._sample))
        if self._guess is not None:
            self._decoder = codecs.getincrementaldecoder(self._guess.codec)()
        for block in self._waiting:
            self._check(block)
        self._waiting = []

    def _check(self, block: bytes, *, final: bool = False) -> None:
        if self._guess is None or self._decoder is None:
            return
        try:
            self._decoder.decode(block, final=final)
        except UnicodeDecodeError:
            self._guess = None


def _lines_beyond_ascii(block: bytes, num_bytes: int) -> bytes:
    """About so many bytes of lines that are not ASCII; of long lines, what stands around the characters that are not.

    A piece begins and ends between characters, but for one that is cut off where the sample ends.
    """
    pieces: list[bytes] = []
    place = 0
    while num_bytes > 0 and (found := _NOT_ASCII.search(block, place)):
        # All from `place` to what was found is ASCII, of which a little shows the language as well.
        begin = max(place, block.rfind(b"\n", place, found.start()) + 1, found.start() - ASCII_CONTEXT_BYTES)
        end = block.find(b"\n", found.start()) + 1 or len(block)
        place = min(end, begin + num_bytes)
        pieces.append(block[begin:place])
        num_bytes -= len(pieces[-1])
    return b"".join(pieces)
