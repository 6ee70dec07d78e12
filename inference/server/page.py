"""The chat page as one document: markup, style and script in one, and a policy that lets it load nothing else."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

PARTS = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Page:
    """The document in UTF-8, and its Content-Security-Policy."""

    html: bytes
    policy: str


def load_page() -> Page:
    """The page. The browser runs the script and applies the style whose hashes the policy names, and no other."""
    document, style, chat, view = (
        (PARTS / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "chat.js", "view.js")
    )
    script = chat + view
    for mark, text in (("/*STYLE*/", style), ("/*SCRIPT*/", script)):
        assert document.count(mark) == 1, f"page.html has no place for {mark}"
        document = document.replace(mark, text)
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Page(document.encode(), policy)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
