"""Which elements of a page surround its text instead of being it: hidden ones, navigation, banners. Knows names and
attributes of elements, not their text."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

_MEDIA = "script style template svg iframe frame object embed applet canvas audio video map noscript noframes"
# What is filled in and pressed. A form itself is not among them: whole pages stand in one.
_CONTROLS = "button select textarea input label datalist progress meter"

ALWAYS = 1.0
MOSTLY = 0.9
UNLESS_LARGE = 0.5
"""Largest share of a page's text that an element may hold and still be taken for its surroundings. Names deceive: the
class of the `content-sidebar-wrap` of a widespread theme holds everything. Arbitrary, and looked at on real pages."""

# Whole words of a class or id, where words are divided by hyphens, underscores and capitals.
_SURROUNDINGS = re.compile(
    r"(?:^|-)(?:nav|navi|navigation|menu|menubar|topbar|toolbar|breadcrumbs?|pagination|pager|toc|tocs|masthead"
    r"|banner|cookies?|consent|gdpr|share|sharing|sharedaddy|addtoany|social|newsletter|subscribe|subscription"
    r"|adverts?|advertisements?|ads?|adsense|sponsored|promo|promos|popup|modal|tooltip|login|signup|searchbox"
    r"|printfooter|noprint|catlinks|skip-to|site-header|site-footer|page-footer|colophon|related|related-posts|related-articles|recommended"
    r"|most-read|trending|tags|tag-list)(?:-|$)"
    # Words that others are glued to, as in `sphinxsidebar`.
    r"|sidebar|navbar|footer|breadcrumb"
)
# Marks beside the text, mostly within a line: links of a heading to itself, line numbers, what is read aloud only.
_MARKS = re.compile(
    r"^(?:headerlink|permalink|anchor-link|hash-link|hashlink|doc-anchor|mw-editsection|lineno|linenos|sr-only"
    r"|visually-hidden|visuallyhidden|screen-reader-text|skip-link|copybtn|copy-button)$"
)
_COMMENTS = re.compile(r"(?:^|-)(?:comments|commentlist|comment-list|disqus|respond)(?:-|$)")
# `has-sidebar`, `no-footer`: said of what stands beside.
_SAYS_OF_OTHERS = re.compile(
    r"^(?:has|no|with|without|is|js|hide)-|-(?:active|open|enabled|layout|wrapper|page)$"
)
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_UNSEEN_STYLE = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)

# The frame of every page: its classes say what else the page has, and scripts unhide it.
_FRAME = frozenset(("html", "body", "main", "article"))
_TELLING = frozenset(("class", "id", "role", "style", "hidden", "aria-hidden", "itemprop"))


class Part(NamedTuple):
    """What an element is of its page.

    Attributes:
        unseen: Whether nobody sees it, or it is a mark beside the text; the rest does not matter then.
        max_share: The largest share of the page's text with which it is left out; None = it is text as any other.
        place: 2 for what the page calls its main text, 1 for an article, 0 for anything else.
    """

    unseen: bool = False
    max_share: float | None = None
    place: int = 0


UNSEEN = Part(unseen=True)

_BY_ELEMENT = {
    **dict.fromkeys(f"{_MEDIA} {_CONTROLS}".split(), UNSEEN),
    "main": Part(place=2),
    "article": Part(place=1),
    **dict.fromkeys(("nav", "search", "footer"), Part(max_share=ALWAYS)),
    **dict.fromkeys(("header", "aside", "menu", "dialog"), Part(max_share=UNLESS_LARGE)),
}
_BY_ROLE = {
    **dict.fromkeys(("navigation", "search", "menu", "menubar", "toolbar"), Part(max_share=ALWAYS)),
    **dict.fromkeys(
        ("contentinfo", "banner", "complementary", "dialog", "alertdialog"), Part(max_share=UNLESS_LARGE)
    ),
}
PARTS_BY_NAME = frozenset(_BY_ELEMENT)
"""Elements that say by their name alone what part of a page they are."""


def part_of(tag: str, attributes: Mapping[str, str]) -> Part | None:
    """What an element is of its page, as far as it says so; None when it is one of all the others."""
    if attributes.keys().isdisjoint(_TELLING):
        return _BY_ELEMENT.get(tag)
    classes = attributes.get("class", "")
    if tag not in _FRAME and (_is_hidden(attributes) or (classes and _is_mark(classes))):
        return UNSEEN
    role = attributes.get("role")
    if role == "main" or attributes.get("itemprop") == "articleBody":
        return Part(place=2)
    found = _BY_ELEMENT.get(tag)
    if found is None and role is not None:
        found = _BY_ROLE.get(role)
    if found is None and tag not in _FRAME and (classes or "id" in attributes):
        found = _by_names(classes, attributes.get("id", ""))
    return found


def _is_hidden(attributes: Mapping[str, str]) -> bool:
    return (
        "hidden" in attributes
        or attributes.get("aria-hidden") == "true"
        or ("style" in attributes and _UNSEEN_STYLE.search(attributes["style"]) is not None)
    )


@lru_cache(maxsize=1 << 14)
def _is_mark(classes: str) -> bool:
    return any(_MARKS.search(name.lower()) for name in classes[:1000].split())


@lru_cache(maxsize=1 << 14)
def _by_names(classes: str, id_: str) -> Part | None:
    # A name of many kilobytes is a hostile page's, and a page has a few dozen of them.
    for name in f"{classes[:1000]} {id_[:200]}".split():
        words = _CAPITAL.sub("-", name).replace("_", "-").lower()
        if _SAYS_OF_OTHERS.search(words):
            continue
        if _COMMENTS.search(words):
            return Part(max_share=MOSTLY)
        if _SURROUNDINGS.search(words):
            return Part(max_share=UNLESS_LARGE)
    return None
