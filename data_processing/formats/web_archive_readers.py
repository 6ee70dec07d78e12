"""Reader of web archives (WARC). Knows no rule of quality."""

from data_processing.document import Document, Dropped
from data_processing.formats.declared_encoding import decode_declared
from data_processing.formats.html_text import HtmlTooDeepError, html_page
from data_processing.formats.http_response import HttpResponse, media_type_of, parse_response
from data_processing.formats.input_bytes import Items, with_all_bytes
from data_processing.formats.markup_charset import declared_charset
from data_processing.formats.not_readable import NotReadableError
from data_processing.formats.raw_input import RawInput, Reading
from data_processing.formats.text_encoding import Undecodable
from data_processing.formats.warc_records import WarcRecord, warc_records

_HTML = ("text/html", "application/xhtml+xml")
_PLAIN = "text/plain"


def read_warc(raw: RawInput, reading: Reading) -> Items:
    """The pages of a web archive, each called by the place of its record, `crawl.warc#1234`, with `url` and `title`.

    Pages are what servers answered with success (`response`), and records of `resource` and `conversion`, if they are
    HTML, whose main text is taken, or plain text. Other answers are dropped with a reason; requests and notes of the
    crawler are no pages, and their bytes belong to the page behind them.
    """
    return with_all_bytes(raw, _items(raw, reading))


def _items(raw: RawInput, reading: Reading) -> Items:
    num_waiting = 0  # bytes of records that are no pages
    try:
        for record in warc_records(raw, reading.limits):
            num_waiting += record.num_bytes
            item = _item(raw, record, num_waiting)
            if item is not None:
                num_waiting = 0
                yield item
    except NotReadableError as error:
        yield raw.dropped(error.reason, str(error))


def _item(raw: RawInput, record: WarcRecord, num_bytes: int) -> Document | Dropped | None:
    """What a record becomes; None for one that is no page."""
    source = f"{raw.source}#{record.offset}"

    def dropped(reason: str, detail: str) -> Dropped:
        return Dropped(source, reason, detail, "", num_bytes, raw.format)

    if record.reason:
        return dropped(record.reason, record.detail)
    url = record.headers.get("warc-target-uri", "").strip("<>")
    try:
        page = _page(record)
        if page is None:
            return None
        if page.status is None or not 200 <= page.status < 300:
            return dropped("http_error", f"{url}: status {page.status}")
        text, metadata = _text(page)
    except NotReadableError as error:
        return dropped(error.reason, f"{url}: {error}")
    metadata = {"format": raw.format, **metadata, **({"url": url} if url else {})}
    return Document.of(text, source=source, metadata=metadata, num_bytes=num_bytes)


def _page(record: WarcRecord) -> HttpResponse | None:
    """The answer that a record holds; one that was not got by HTTP counts as a success."""
    kind = record.headers.get("warc-type", "").lower()
    media_type, charset = media_type_of(record.headers.get("content-type", ""))
    if kind == "response" and media_type == "application/http":
        return parse_response(record.block)
    if kind in ("resource", "conversion"):
        return HttpResponse(200, media_type, charset, record.block)
    return None


def _text(page: HttpResponse) -> tuple[str, dict[str, str]]:
    """The text of a page, and its encoding and title."""
    is_html = page.media_type in _HTML
    if not is_html and page.media_type != _PLAIN:
        raise NotReadableError("unsupported_format", f"is {page.media_type or 'of an unknown type'}")
    declared = page.charset or (declared_charset(page.content) if is_html else None)
    decoded = decode_declared(page.content, declared)
    if isinstance(decoded, Undecodable):
        raise NotReadableError(decoded.reason, decoded.detail)
    text, encoding = decoded
    metadata = {"encoding": encoding.name}
    if is_html:
        try:
            found = html_page(text)
        except HtmlTooDeepError as error:
            raise NotReadableError("too_deep", str(error)) from None
        text = found.text
        metadata |= {"title": found.title} if found.title else {}
    if not text.strip():
        raise NotReadableError("no_text", "no text outside of navigation, headers and footers")
    return text, metadata
