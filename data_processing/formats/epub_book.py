"""The chapters of an EPUB, in reading order (EPUB 3.3, W3C; EPUB 2 is read too). Yields no documents."""

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from data_processing.formats.declared_encoding import decode_declared
from data_processing.formats.html_text import HtmlPage, HtmlTooDeepError, html_page
from data_processing.formats.input_bytes import MAX_WHOLE_BYTES
from data_processing.formats.markup_charset import declared_charset
from data_processing.formats.not_readable import NotReadableError
from data_processing.formats.text_encoding import Undecodable
from data_processing.formats.xml_members import XmlElement, elements_if_there, elements_of, title_and_author
from data_processing.formats.zipped_document import ZippedDocument

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
# Fonts are scrambled so that they are not copied by accident; nobody's text is (EPUB 3.3, section 4.4).
_ABOUT_FONTS = {"http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"}


@dataclass(frozen=True, slots=True)
class Book:
    """What a book's package says of it.

    Attributes:
        metadata: `title` and `author`, where it names them.
        chapters: Names of the members that hold its text, in reading order; the table of contents is none.
    """

    metadata: Mapping[str, str]
    chapters: tuple[str, ...]


def open_book(archive: ZippedDocument) -> Book:
    """The order and the names of a book.

    Raises:
        NotReadableError: it is damaged, or protected against copying.
    """
    roots = [element for element in elements_of(archive, _CONTAINER) if element.local == "rootfile"]
    package = roots[0].attributes.get("full-path", "") if roots else ""
    if not package:
        raise NotReadableError("malformed_document", f"{_CONTAINER!r} names no package")
    elements = elements_of(archive, package)
    folder = posixpath.dirname(package)
    # Two places of the reading order may lead to one member.
    chapters = tuple(dict.fromkeys(_member(folder, address) for address in _addresses(elements)))
    if not chapters:
        raise NotReadableError("malformed_document", f"{package!r} names no chapters")
    _refuse_protected(archive, chapters)
    return Book(title_and_author(elements), chapters)


def chapter_page(archive: ZippedDocument, name: str) -> HtmlPage:
    """The text of a chapter.

    Raises:
        NotReadableError: it is missing or damaged, or is no text.
    """
    if archive.unpacked_bytes(name) > MAX_WHOLE_BYTES:
        detail = f"{name!r} has {archive.unpacked_bytes(name)} bytes, at most {MAX_WHOLE_BYTES} are read"
        raise NotReadableError("too_large", detail)
    data = b"".join(archive.stream(name))
    decoded = decode_declared(data, declared_charset(data))
    if isinstance(decoded, Undecodable):
        raise NotReadableError(decoded.reason, f"{name!r}: {decoded.detail}")
    try:
        return html_page(decoded[0], main_only=False)
    except HtmlTooDeepError as error:
        raise NotReadableError("too_deep", f"{name!r}: {error}") from None


def _addresses(elements: list[XmlElement]) -> Iterator[str]:
    """Where the pages of the reading order lie that are text and no table of contents."""
    items = {item.attributes.get("id", ""): item.attributes for item in elements if item.local == "item"}
    contents = {
        reference.attributes.get("href", "").partition("#")[0]
        for reference in elements
        if reference.local == "reference" and reference.attributes.get("type", "").lower() == "toc"
    }
    for place in elements:
        if place.local != "itemref":
            continue
        item = items.get(place.attributes.get("idref", ""), {})
        address, media = item.get("href", ""), item.get("media-type", "")
        is_contents = "nav" in item.get("properties", "").split() or address in contents
        if address and not is_contents and ("html" in media or "dtbook" in media):
            yield address


def _member(folder: str, href: str) -> str:
    """The name of the member that `href` in a file of `folder` leads to."""
    return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))


def _refuse_protected(archive: ZippedDocument, chapters: tuple[str, ...]) -> None:
    protected: set[str] = set()
    algorithms: list[str] = []  # the first is that of the member, the next that of its key
    for element in elements_if_there(archive, _ENCRYPTION):
        if element.local == "EncryptedData":
            algorithms = []
        elif element.local == "EncryptionMethod":
            algorithms.append(element.attributes.get("Algorithm", ""))
        elif element.local == "CipherReference" and not set(algorithms[:1]) & _ABOUT_FONTS:
            protected.add(_member("", element.attributes.get("URI", "")))
    for name in chapters:
        if name in protected:
            raise NotReadableError(
                "encrypted", f"{name!r} is protected against copying, as {len(protected)} members are"
            )
