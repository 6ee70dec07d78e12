"""Readers of marked-up text: HTML, XML, EPUB, LaTeX, notebooks and subtitles. Know no rule of quality."""

import json
from collections.abc import Callable
from typing import Any

from data_processing.document import Document, Dropped, excerpt
from data_processing.formats.declared_encoding import decoded_chunks, encoding_of
from data_processing.formats.epub_book import chapter_page, open_book
from data_processing.formats.html_text import HtmlReader, HtmlTooDeepError
from data_processing.formats.input_bytes import PART_BYTES, Items, chunks, whole, with_all_bytes
from data_processing.formats.markup_charset import declared_charset
from data_processing.formats.not_readable import NotReadableError
from data_processing.formats.notebook_text import notebook_cells
from data_processing.formats.raw_input import RawInput, Reading
from data_processing.formats.safe_xml import XmlError, XmlStream
from data_processing.formats.subtitle_text import subtitle_text
from data_processing.formats.tex_text import tex_text
from data_processing.formats.text_encoding import Encoding, Undecodable, decode
from data_processing.formats.xml_text import XmlText
from data_processing.formats.zipped_document import ZippedDocument


def read_html(raw: RawInput, reading: Reading) -> Items:
    """The main text of a page (`html_text`), its title as `metadata["title"]`; without text it is `no_text`.

    A page longer than `PART_BYTES` becomes parts, whose main text is chosen one by one.
    """
    return with_all_bytes(raw, _html_items(raw))


def read_xml(raw: RawInput, reading: Reading) -> Items:
    """The text of all elements in order (`xml_text`), in parts if the file is longer than `PART_BYTES`.

    What cannot be read on is dropped from the beginning of its part: `malformed_xml`, or `entity_bomb`.
    """
    return with_all_bytes(raw, _xml_items(raw))


def read_epub(raw: RawInput, reading: Reading) -> Items:
    """A book as one document, its chapters in reading order without the table of contents; `title` and `author`.

    A book with more than `PART_BYTES` of pages becomes a document a chapter, `book.epub#chapter=3`. A chapter that
    cannot be read is dropped alone.
    """
    return with_all_bytes(raw, _epub_items(raw, reading))


def read_tex(raw: RawInput, reading: Reading) -> Items:
    """The body of a LaTeX source without comments and list of literature (`tex_text`), as prose."""

    def text_of(source: str) -> tuple[str, dict[str, Any]]:
        found = tex_text(source)
        return found.text, {"title": found.title} if found.title else {}

    return with_all_bytes(raw, _whole_text(raw, text_of, "nothing between the beginning and end of it"))


def read_subtitles(raw: RawInput, reading: Reading) -> Items:
    """What is spoken in a SubRip or WebVTT file (`subtitle_text`)."""

    def text_of(source: str) -> tuple[str, dict[str, Any]]:
        return subtitle_text(source) or "", {}

    return with_all_bytes(
        raw, _whole_text(raw, text_of, "no caption: no line like 00:01:02,000 --> 00:01:04,000")
    )


def read_notebook(raw: RawInput, reading: Reading) -> Items:
    """The Markdown and code cells of a Jupyter notebook in order, code fenced and marked with its language.

    Results of cells are left out, text as well: they repeat data and file names of somebody's machine, and pictures are
    no text. So are raw cells, which are meant for a converter.
    """
    return with_all_bytes(raw, _notebook_items(raw))


def _html_items(raw: RawInput) -> Items:
    found = _encoding(raw)
    if isinstance(found, Undecodable):
        yield raw.dropped(found.reason, found.detail)
        return
    reader = HtmlReader()
    parts = _Parts(raw, found, "no text outside of navigation, headers and footers")
    try:
        for text, num_bytes in decoded_chunks(raw, found):
            # The parser gets short pieces, so that a time limit can take effect between them.
            for start in range(0, len(text), _FEED_CHARACTERS):
                reader.feed(text[start : start + _FEED_CHARACTERS])
            if parts.is_full(num_bytes):
                yield from parts.take(reader.take(), title=reader.title)
        reader.close()
    except HtmlTooDeepError as error:
        yield raw.dropped("too_deep", str(error), num_bytes=raw.num_bytes - parts.num_done)
        return
    yield from parts.last(reader.take(), title=reader.title)


_FEED_CHARACTERS = 1 << 16


def _xml_items(raw: RawInput) -> Items:
    found = _encoding(raw)
    if isinstance(found, Undecodable):
        yield raw.dropped(found.reason, found.detail)
        return
    collected = XmlText()
    stream = XmlStream(start=collected.start, end=collected.end, data=collected.data)
    parts = _Parts(raw, found, "no text between its tags")
    try:
        for text, num_bytes in decoded_chunks(raw, found):
            stream.feed(text)
            if parts.is_full(num_bytes):
                yield from parts.take(collected.take())
        stream.close()
    except XmlError as error:
        sample = excerpt(collected.take())
        yield raw.dropped(error.reason, str(error), sample=sample, num_bytes=raw.num_bytes - parts.num_done)
        return
    yield from parts.last(collected.take())


class _Parts:
    """Makes documents of a long input, and counts the bytes that each stands for."""

    def __init__(self, raw: RawInput, encoding: Encoding, without_text: str) -> None:
        self.num_done = 0
        self._raw = raw
        self._metadata = {"format": raw.format, "encoding": encoding.name}
        self._without_text = without_text
        self._num_waiting = 0
        self._number = 0

    def is_full(self, num_bytes: int) -> bool:
        """Count bytes that were read; whether enough came together for a part."""
        self._num_waiting += num_bytes
        return self._num_waiting >= PART_BYTES

    def take(self, text: str, *, title: str = "") -> Items:
        """The part that the bytes since the last one make; without text it goes into the next."""
        if not text:
            return
        num_bytes, self._num_waiting = self._num_waiting, 0
        self.num_done += num_bytes
        self._number += 1
        metadata: dict[str, Any] = {**self._metadata, "title": title} if title else dict(self._metadata)
        source = self._raw.source
        if self._raw.num_bytes > PART_BYTES:
            metadata["part"] = self._number
            source = f"{source}#part={self._number}"
        yield Document.of(text, source=source, metadata=metadata, num_bytes=num_bytes)

    def last(self, text: str, *, title: str = "") -> Items:
        """The last part; an input without any text is `no_text`."""
        if text or self._number:
            yield from self.take(text, title=title)
        else:
            yield self._raw.dropped("no_text", self._without_text)


def _encoding(raw: RawInput) -> Encoding | Undecodable:
    head = next(chunks(raw), b"")
    return encoding_of(lambda: chunks(raw), declared_charset(head))


def _epub_items(raw: RawInput, reading: Reading) -> Items:
    try:
        archive = ZippedDocument(raw, reading.limits)
        book = open_book(archive)
    except NotReadableError as error:
        yield raw.dropped(error.reason, str(error))
        return
    metadata: dict[str, Any] = {"format": raw.format, **book.metadata}
    in_one = sum(archive.unpacked_bytes(name) for name in book.chapters) <= PART_BYTES
    texts: list[str] = []
    for number, name in enumerate(book.chapters, start=1):
        source, size = f"{raw.source}#chapter={number}", archive.packed_bytes(name)
        try:
            text = chapter_page(archive, name).text
        except NotReadableError as error:
            yield Dropped(source, error.reason, str(error), "", size, raw.format)
            continue
        if in_one:
            texts.append(text)
        elif text:
            chapter = {**metadata, "chapter": number}
            yield Document.of(text, source=source, metadata=chapter, num_bytes=size)
    if text := "\n\n".join(filter(None, texts)):
        yield Document.of(text, source=raw.source, metadata=metadata, num_bytes=0)
    elif texts:
        yield raw.dropped("no_text", "its chapters hold no text", num_bytes=0)


def _decoded(raw: RawInput) -> tuple[str, Encoding] | Dropped:
    """An input that is read as a whole, and how it was encoded; or why there is none."""
    data = whole(raw)
    if isinstance(data, Dropped):
        return data
    decoded = decode(data)
    return raw.dropped(decoded.reason, decoded.detail) if isinstance(decoded, Undecodable) else decoded


def _whole_text(
    raw: RawInput, text_of: Callable[[str], tuple[str, dict[str, Any]]], without_text: str
) -> Items:
    """The document that `text_of` (text -> text and metadata) makes of an input that is read as a whole."""
    decoded = _decoded(raw)
    if isinstance(decoded, Dropped):
        yield decoded
        return
    source, encoding = decoded
    text, about = text_of(source)
    if not text.strip():
        yield raw.dropped("no_text", without_text, sample=excerpt(source))
        return
    metadata = {"format": raw.format, "encoding": encoding.name, **about}
    yield Document.of(text, source=raw.source, metadata=metadata, num_bytes=raw.num_bytes)


def _notebook_items(raw: RawInput) -> Items:
    decoded = _decoded(raw)
    if isinstance(decoded, Dropped):
        yield decoded
        return
    source, encoding = decoded
    try:
        notebook = json.loads(source)
    except ValueError as error:
        yield raw.dropped("malformed_json", str(error), sample=excerpt(source))
        return
    except RecursionError:
        yield raw.dropped("malformed_json", "nested too deeply", sample=excerpt(source))
        return
    cells = notebook_cells(notebook)
    if cells is None:
        detail = "an object with a list of cells was expected; is it a notebook?"
        yield raw.dropped("malformed_json", detail, sample=excerpt(source))
    elif not cells:
        yield raw.dropped("no_text", "no Markdown and no code in its cells")
    else:
        metadata = {"format": raw.format, "encoding": encoding.name}
        text = "\n\n".join(cells)
        yield Document.of(text, source=raw.source, metadata=metadata, num_bytes=raw.num_bytes)
