"""Opt-in variations of documents, for corpora too small to see a word in more than one setting. Reads no files.

Only documents that are trained on are to be repeated; who calls this sees to that.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Final

from core.data_config import AugmentationConfig
from data_processing.document import Document

LAST_PART: Final = 1 / 3
"""Share of a document that is put in front of it as context; arbitrary."""

_BREAKS: Final = (re.compile(r"\n[^\S\n]*\n\s*"), re.compile(r"\n"), re.compile(r"(?<=[.!?])\s+(?=\S)"))
"""Where a document may be divided: between paragraphs, else lines, else sentences."""
_FORMED: Final = re.compile(r"\s*(?:[>#|=]|[-*+•]\s|[0-9]{1,3}[.)]\s|[-*_=]{3,}$)")
"""Quotations, headings, tables, lists and rules keep their lines."""

FULL_LINE_CHARACTERS: Final = 40
"""A shorter line ends where its author wanted it to: verse, titles, addresses. Arbitrary; books wrap at 50 to 80."""

_FENCE: Final = re.compile(r"\s*(?:```|~~~)")


def augmented(document: Document, config: AugmentationConfig, *, seed: int) -> Iterator[Document]:
    """The extra copies of `document`: none, or up to one of each kind in `KINDS`; never the document itself.

    Which documents are repeated is drawn by a hash of seed, kind and document id, so that it does not depend on the
    other documents, and a larger share repeats the same ones and more. A copy has the source `x.txt~lowercase`, an id
    of its own, no bytes of input, and `augmentation` in its metadata. Code, and a document that a variation would not
    change, is not repeated.
    """
    if document.metadata.get("code"):
        return
    for kind, vary in KINDS.items():
        if _drawn(f"{seed}:{kind}:{document.id}") >= getattr(config, f"{kind}_share"):
            continue
        text = vary(document.text)
        if text != document.text:
            yield Document.of(
                text,
                source=f"{document.source}~{kind}",
                metadata={**document.metadata, "augmentation": kind},
                num_bytes=0,
            )


def join_lines(text: str) -> str:
    """`text` with the lines of each paragraph joined by spaces, but for verse, headings, lists, tables and code.

    Behind a hyphen within a word no space is put: whether `well-` and `known` were one word cannot be told, but
    `well-known` is nearer to either than `well- known`.
    """
    pieces: list[str] = []
    before = ""  # the line before, when it goes on in this one
    fenced = False
    for line in text.split("\n"):
        fence = _FENCE.match(line) is not None
        flows = bool(line.strip()) and not fence and not fenced and not _FORMED.match(line)
        if before and flows and not line[0].isspace():
            pieces.append("" if before.endswith("-") and before[-2].isalpha() else " ")
        elif pieces:
            pieces.append("\n")
        pieces.append(line)
        before = line if flows and len(line) >= FULL_LINE_CHARACTERS else ""
        fenced ^= fence
    return "".join(pieces)


def last_part_first(text: str) -> str:
    """`text` with about its last third, from the beginning of a paragraph (line, sentence) on, moved to the front.

    Unchanged when it has nothing between its first and last quarter where it could be divided.
    """
    wanted = len(text) * (1 - LAST_PART)
    for breaks in _BREAKS:
        places = [
            match for match in breaks.finditer(text) if len(text) / 4 <= match.start() <= len(text) * 3 / 4
        ]
        if places:
            best = min(places, key=lambda match: abs(match.start() - wanted))
            return text[best.end() :].rstrip() + "\n\n" + text[: best.start()]
    return text


KINDS: Final[dict[str, Callable[[str], str]]] = {
    "lowercase": str.lower,
    "whitespace": join_lines,
    "context": last_part_first,
}
"""Kind -> variation; the share of each is the setting `<kind>_share`."""


def _drawn(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
