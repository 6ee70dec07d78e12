"""Text that an earlier program decoded wrongly, decoded rightly. Knows no files; leaves all else as it is.

What is wrong and what it should be is decided by ftfy (Speer 2019, zenodo.2591652), of which only the repair of
encodings is used: no quotes are straightened, no entities resolved, no characters normalised. ftfy reads 6 MB a second,
so it is shown only lines with a sequence of characters that is usual in such text and rare elsewhere.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftfy import TextFixerConfig

MAX_LINE_CHARACTERS = 100_000
"""Longer lines are repaired piece by piece; arbitrary, far above what a line of text has."""

CUT_CHARACTERS = 1000
"""Where a long line is cut, there is an ASCII letter among so many characters, or it is cut anywhere; arbitrary."""

_ASCII_LETTER = re.compile("[A-Za-z]")
_CONTINUES = "\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
# What may stand first -> what must follow.
_SEQUENCES = {
    # UTF-8 that was read as windows-1252 or Latin-1: a first byte of two, then one that continues; a first byte of
    # three, then two. 0xA0, a no-break space, is often a plain space by now.
    "[\xc2-\xdf]": f"[{_CONTINUES}]",
    "Ã": " ",
    "[\xe0-\xf4]": f"[{_CONTINUES}][{_CONTINUES} ]",
    # Controls of Latin-1, which nobody writes: in windows-1252 quotation marks and dashes are there.
    "[\x80-\x9f]": "",
    # UTF-8 as windows-1251, without the letters of Russian and Ukrainian that follow others in any text.
    "[РСГ]": "[ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ™љ›њќћџЎўЈ¤Ґ¦§©«¬®°±¶·№јЅѕ\xa0\xad]",
    "в": "Ђ",
    # UTF-8 as Mac Roman, and as code page 437.
    "√": "[\x80-\xff†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø]",
    "‚": "Ä",
    "¬": "[\xa0-\xffß∞†•¶®©™´¨≠±]",
    "├": "[\u2500-\u25ffª-¿ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑº]",
    "Γ": "Ç",
}
# One set of characters in front: of an alternation, `re` would try each branch at each character, in two to
# nine times the time.
_SUSPICIOUS = re.compile(
    f"[{''.join(_SEQUENCES).translate({ord('['): None, ord(']'): None})}]"
    f"(?:{'|'.join(f'(?<={first}){then}' for first, then in _SEQUENCES.items())})"
)


def repair_mojibake(text: str) -> str:
    """`text` with what was decoded wrongly put right where that is certain; otherwise the same object.

    Doing it twice changes nothing more. It takes time linear in the text.

    >>> repair_mojibake("Itâ€™s a cafÃ©.")
    'It’s a café.'
    """
    if text.isascii() or _SUSPICIOUS.search(text) is None:
        return text
    config = _config()
    # Not at the other line ends of Unicode: U+0085 is a byte of wrongly decoded Chinese.
    return "\n".join(_repair_line(line, config) for line in text.split("\n"))


def _repair_line(line: str, config: "TextFixerConfig") -> str:
    if _SUSPICIOUS.search(line) is None:
        return line
    from ftfy import fix_encoding

    return "".join(fix_encoding(piece, config) for piece in _pieces(line))


def _pieces(line: str) -> Iterator[str]:
    """A line in pieces of at most `MAX_LINE_CHARACTERS`, none of which ends within a sequence to be repaired."""
    begin = 0
    while len(line) - begin > MAX_LINE_CHARACTERS:
        end = begin + MAX_LINE_CHARACTERS
        # No such sequence holds a letter of ASCII.
        ends = [match.end() for match in _ASCII_LETTER.finditer(line, end - CUT_CHARACTERS, end)]
        end = ends[-1] if ends else end
        yield line[begin:end]
        begin = end
    yield line[begin:]


def _config() -> "TextFixerConfig":
    from ftfy import TextFixerConfig

    # Lossy sequences are those of which a byte is missing: repairing them would make U+FFFD of it.
    return TextFixerConfig(explain=False, replace_lossy_sequences=False)
