"""One text on its way into the corpus, or the reason why there is none. Knows no file format and no rule."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

SAMPLE_CHARACTERS = 200
"""Length of the excerpt that is kept of something dropped; arbitrary: about two lines of a report."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text and where it came from.

    Attributes:
        text: The text as it was read, newlines and all; cleaning comes later and does not change the id.
        id: 32 hexadecimal digits, the same in every run for the same source and text (see `document_id`).
        source: File, relative to the directory that was searched, and the place in it: `notes.txt`,
            `records.jsonl:12` (line, from 1), `records.json[3]` (element, from 0), `big.txt#part=2`.
        metadata: JSON values. The readers set `format` (extension) and `encoding`; `code: true` says that white
            space carries meaning.
        num_bytes: Bytes of input that this document stands for, the markup around it included; None = as many as
            its text has in UTF-8.
    """

    text: str
    id: str
    source: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    num_bytes: int | None = None

    @classmethod
    def of(
        cls,
        text: str,
        *,
        source: str,
        metadata: Mapping[str, Any] | None = None,
        num_bytes: int | None = None,
    ) -> Self:
        """A document whose id is computed from its source and text."""
        return cls(text, document_id(text, source=source), source, dict(metadata or {}), num_bytes)

    @property
    def input_bytes(self) -> int:
        """`num_bytes`, or the UTF-8 size of the text where nothing else is known."""
        return utf8_size(self.text) if self.num_bytes is None else self.num_bytes

    @property
    def format(self) -> str:
        """The extension of the file that it came from, such as `.txt`; empty for a text without a file."""
        return str(self.metadata.get("format", ""))

    def dropped(self, reason: str, detail: str = "") -> "Dropped":
        """The record of this document's being left out."""
        return Dropped(self.source, reason, detail, excerpt(self.text), self.input_bytes, self.format)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A text or a file that does not enter the corpus.

    Attributes:
        source: As in `Document`.
        reason: One word out of `report.REASONS` or of a rule of one's own.
        detail: What exactly was found, for people.
        sample: At most `SAMPLE_CHARACTERS` characters of it; empty when it was not read.
        num_bytes: Bytes of input that are left out with it.
        format: Extension of the file, such as `.txt`; empty when there is none.
    """

    source: str
    reason: str
    detail: str = ""
    sample: str = ""
    num_bytes: int = 0
    format: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step made of a cleaned text.

    Attributes:
        text: The text as the next step gets it.
        reason: Why the document is left out (one word, as in `report.REASONS`), or None when it goes on.
        detail: What exactly was found, with the numbers, for people; empty when it goes on.
        counts: What was done, by name, such as {"email": 3} for three addresses replaced.
    """

    text: str
    reason: str | None = None
    detail: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


Step = Callable[[str, dict[str, Any]], Outcome]
"""(cleaned text, metadata of its document) -> outcome. It may add to the metadata. It takes time linear in the text, is
the same function of its arguments in every process, and knows neither files nor other documents."""

BatchStep = Callable[[Sequence[str], Sequence[dict[str, Any]]], Sequence[Outcome]]
"""A `Step` for several documents at once, where that costs less than one by one; none decides about another."""


def document_id(text: str, *, source: str) -> str:
    """32 hexadecimal digits (128 bits of BLAKE2b) over source and text; the same on every machine."""
    digest = hashlib.blake2b(digest_size=16)
    # The length in front keeps ("a", "bc") and ("ab", "c") apart.
    name = source.encode("utf-8", "surrogatepass")
    digest.update(b"%d:" % len(name) + name + text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def excerpt(text: str) -> str:
    """The first `SAMPLE_CHARACTERS` characters, control characters and lone surrogates written as escapes."""
    return escape_unprintable(text[:SAMPLE_CHARACTERS])


def escape_unprintable(text: str) -> str:
    r"""`text` with control characters but `\n` and `\t`, and lone surrogates, written as escapes."""
    if text.isprintable():  # as every usual name of a file is
        return text
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def utf8_size(text: str) -> int:
    """Bytes that `text` takes in UTF-8, counting three for a lone surrogate."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
