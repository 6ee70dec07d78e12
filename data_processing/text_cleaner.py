"""What is done to the characters of a text, and which texts are too poor to keep. Knows no files."""

import dataclasses
import inspect
import re
import unicodedata
from pathlib import Path

from core.errors import ConfigError
from core.files import sha256_json
from data_processing.rules.filters import FILTERS, Limits
from data_processing.rules.mojibake import repair_mojibake

# Marks that show nothing and break words apart or reorder the line: byte-order mark, zero-width space, word
# joiner, soft hyphen, and the bidirectional embeddings, overrides and isolates ("Trojan Source", Boucher &
# Anderson 2021). The zero-width joiner and non-joiner (U+200D, U+200C) and the direction marks (U+200E, U+200F)
# stay: Persian, Hindi, Arabic, Hebrew and composed emoji need them.
_INVISIBLE = "\ufeff\u200b\u2060\u00ad\u202a-\u202e\u2066-\u2069"
_LONE_SURROGATES = "\ud800-\udfff"

_REMOVED_FROM_PROSE = re.compile(f"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f{_INVISIBLE}{_LONE_SURROGATES}]")
# Form feeds separate sections of source code, so they stay there.
_REMOVED_FROM_CODE = re.compile(f"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f{_INVISIBLE}{_LONE_SURROGATES}]")

_PLAIN = b"\t\n" + bytes(range(0x20, 0x7F))
_NEWLINES = re.compile("\r\n?")
_OTHER_LINE_ENDS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_MANY_BLANK_LINES = re.compile("\n{4,}")


CLEANER_VERSION = 3
"""To be raised when cleaning or the limits change: texts that were cleaned before are then cleaned anew."""


class TextCleaner:
    r"""Normalises characters and white space, and names the reason to leave a text out.

    Every text:

    - `\r\n` and `\r` become `\n`;
    - control characters but `\n` and `\t`, lone surrogates, byte-order marks anywhere, zero-width spaces, word
      joiners, soft hyphens and bidirectional overrides are removed; joiners and direction marks stay.

    Prose besides:

    - letters that an earlier program decoded wrongly (`Ã©` for `é`) are put right where that is certain (`mojibake`);
    - all other line ends of Unicode (vertical tab, form feed, U+2028, U+2029 ...) become `\n`;
    - Unicode normal form C, so that one letter has one spelling;
    - white space at line ends, blank lines at both ends of the text, and blank lines beyond two in a row go away.
      Indentation stays, so code blocks in Markdown survive.

    Code keeps its white space exactly, form feeds included, and is not normalised: `code=True`.

    Cleaning twice changes nothing more, and what comes out can be written as UTF-8. Both take time linear in the
    text.

    >>> TextCleaner(min_length=5).clean("Caf\u0065\u0301 \r\n")
    'Café'

    Args:
        min_length: Shortest text to keep, in characters after cleaning.
        max_urls: Largest number of web addresses in a text to keep; None = any number.
        max_length: Longest text to keep, in characters after cleaning; None = any length.

    Raises:
        ConfigError: a limit is negative, or max_length is below min_length.
    """

    def __init__(self, min_length: int = 50, max_urls: int | None = 5, max_length: int | None = None) -> None:
        for name, value in (("min_length", min_length), ("max_urls", max_urls), ("max_length", max_length)):
            if value is not None and value < 0:
                raise ConfigError(f"{name} is {value}; expected a number of at least 0")
        if max_length is not None and max_length < min_length:
            raise ConfigError(
                f"max_length {max_length} is below min_length {min_length}: no text could be kept; raise max_length "
                "or lower min_length"
            )
        self.limits = Limits(min_length=min_length, max_length=max_length, max_urls=max_urls)

    def fingerprint(self) -> str:
        """One digest over what decides the result: this class, or the source of the caller's own, and its attributes.

        Raises:
            ConfigError: the source of a subclass cannot be had, as of one that was typed into a prompt; then it must
                define `fingerprint` itself.
        """
        kind = type(self)
        if kind is TextCleaner:
            return sha256_json([CLEANER_VERSION, *dataclasses.astuple(self.limits)])
        # The whole files of all classes down to this one: what a method calls may stand anywhere in them.
        own = kind.__mro__[: kind.__mro__.index(TextCleaner)]
        attributes = repr(sorted(vars(self).items()))
        try:
            sources = [Path(str(inspect.getsourcefile(one))).read_text(encoding="utf-8") for one in own]
            cells = [
                repr(cell.cell_contents)
                for one in own
                for method in vars(one).values()
                for cell in getattr(method, "__closure__", None) or ()
            ]
        except (OSError, TypeError):
            sources = cells = []
        # An address in memory says nothing, and another one the next time.
        if not sources or " at 0x" in attributes + "".join(cells):
            raise ConfigError(
                f"{kind.__name__}: what decides its results cannot be told (its source file, plain attributes), so "
                "nobody knows when they are out of date; define it in a file, or give it a method fingerprint() -> str"
            )
        return sha256_json([CLEANER_VERSION, sources, cells, attributes])

    def cleaning_fingerprint(self) -> str:
        """As `fingerprint`, for `clean` alone: limits do not change what a text becomes."""
        return sha256_json([CLEANER_VERSION]) if type(self) is TextCleaner else self.fingerprint()

    def clean(self, text: str, *, code: bool = False) -> str:
        """`text` as it enters the corpus; see the class for what changes. It may be empty."""
        if "\r" in text:
            text = _NEWLINES.sub("\n", text)
        # Most texts need none of what follows, and asking takes a quarter of the time (23 instead of 87 us for 7 kB).
        plain = _is_plain(text)
        if code:
            return text if plain else _REMOVED_FROM_CODE.sub("", text)
        if not plain:
            # Removal comes before normalisation: it can bring a letter and its accent together.
            repaired = repair_mojibake(text)
            text = _without_removed(repaired)
            # It can bring together, too, what was decoded wrongly.
            while text != repaired and (repaired := repair_mojibake(text)) != text:
                text = _without_removed(repaired)
        # A tab alone is looked for in a twentieth of the time.
        tabs_end_lines = "\t" in text and "\t\n" in text
        if not plain or " \n" in text or tabs_end_lines or text.endswith((" ", "\t")):
            # Line by line, because nothing composes across a line end and most lines are ASCII: of a text with a few
            # dashes in it, normalising the whole takes five times as long. And `\s+$` as a regular expression would
            # take quadratic time on long runs of spaces within a line.
            text = "\n".join(
                (line if line.isascii() else unicodedata.normalize("NFC", line)).rstrip()
                for line in text.split("\n")
            )
        if "\n\n\n\n" in text:
            text = _MANY_BLANK_LINES.sub("\n\n\n", text)
        return text.strip("\n")

    def reason_to_drop(self, text: str) -> str | None:
        """Why a cleaned text is left out (a name in `filters.FILTERS`), or None when it may stay."""
        for reason, rule in FILTERS.items():
            if rule(text, self.limits) is not None:
                return reason
        return None

    def explain(self, text: str, reason: str) -> str:
        """What in a cleaned text gave `reason`, with the numbers; empty for a reason that is not in `FILTERS`."""
        rule = FILTERS.get(reason)
        return (rule(text, self.limits) or "") if rule else ""


def _without_removed(text: str) -> str:
    return _REMOVED_FROM_PROSE.sub("", _OTHER_LINE_ENDS.sub("\n", text))


def _is_plain(text: str) -> bool:
    """Whether a text is ASCII without control characters but tabs and line ends."""
    return text.isascii() and not text.encode("ascii").translate(None, _PLAIN)
