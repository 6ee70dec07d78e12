"""Which encoding a page or an XML file says it is in. Decodes nothing."""

import re

SEARCHED_BYTES = 4096
"""How far a declaration is looked for; browsers look at the first 1024 bytes, and pages of scripts come later."""

_IN_XML = re.compile(
    rb"""^(?:\xef\xbb\xbf)?\s{0,100}<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([\w.:-]{1,40})["']"""
)
_IN_HTML = re.compile(rb"""<meta\s[^>]{0,500}?charset\s*=\s*["']?\s*([\w.:-]{1,40})""", re.IGNORECASE)


def declared_charset(head: bytes) -> str | None:
    """The name of an encoding in the declaration of XML or in a `meta` element, None when there is none."""
    head = head[:SEARCHED_BYTES]
    match = _IN_XML.search(head) or _IN_HTML.search(head)
    return match[1].decode("ascii", "replace") if match else None
