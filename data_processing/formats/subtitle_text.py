"""What is spoken in subtitles (SubRip and WebVTT), without numbers, times and markup. Knows no file."""

import html
import re
from collections.abc import Iterator

_TIMES = re.compile(r"^\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}\s*-->\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}")
_SPEAKER = re.compile(r"<v(?:\.[^\s<>]*)?\s([^<>]*)>")
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}|\{[ybifs]:[^{}]*\}", re.IGNORECASE)
_SAYS_ANOTHER = re.compile(r"^(?:[-–—‐]\s*\S|\w[^:\n]{0,40}: )")


def subtitle_text(source: str) -> str | None:
    """What is spoken, a line for every caption; None when nothing in `source` is a time.

    Lines of a caption are joined, unless another speaker begins; `<v Ann>` becomes `Ann: `. A line that repeats the
    one before is left out, as captions that roll repeat each line while the next one comes.
    """
    captions = list(_captions(source))
    if not captions:
        return None
    spoken: list[str] = []
    before = ""
    for caption in captions:
        new: list[str] = []
        for line in caption:
            text = _plain(line)
            if text and text != before:
                new.append(text)
                before = text
        spoken += _joined(new)
    return "\n".join(spoken)


def _captions(source: str) -> Iterator[list[str]]:
    """The lines of every caption: those from a time to the next blank line or time."""
    caption: list[str] | None = None
    for line in source.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if _TIMES.match(line):
            if caption is not None:
                # Without a blank line between, the last line before a time is the number of the next caption.
                yield caption[:-1] if caption and caption[-1].strip().isdigit() else caption
            caption = []
        elif not line.strip():
            if caption is not None:
                yield caption
            caption = None
        elif caption is not None:
            caption.append(line)
    if caption is not None:
        yield caption


def _plain(line: str) -> str:
    line = _SPEAKER.sub(lambda match: f"{match[1].strip()}: ", line)
    # Entities last: what they stand for is no markup. Marks of direction have done their work.
    return " ".join(html.unescape(_MARKUP.sub("", line)).split())


def _joined(lines: list[str]) -> list[str]:
    joined: list[str] = []
    for line in lines:
        if joined and not _SAYS_ANOTHER.match(line):
            joined[-1] += f" {line}"
        else:
            joined.append(line)
    return joined
