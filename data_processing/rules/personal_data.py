"""Where e-mail addresses, public network addresses, phone and card numbers stand in a text, and what may stand instead.

Each search starts at a character that is rare in prose ("@", ".", ":", "+") or, for numbers, at a digit, looks at a
bounded stretch around it, and so takes time linear in the text. Decides nothing.
"""

import bisect
import ipaddress
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """One piece of personal data: its place in the text, and a token of the same kind that belongs to nobody."""

    start: int
    end: int
    stand_in: str


# ---- e-mail addresses ----

EMAIL_STAND_IN: Final = "email@example.com"

_LATIN: Final = "A-Za-z0-9\u00c0-\u024f"
_LOCAL_CHARACTERS: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+'-"
    + "".join(map(chr, range(0xC0, 0x250)))
)
_MAX_LOCAL: Final = 64  # RFC 5321, section 4.5.3.1.1
_AT_DOMAIN: Final = re.compile(
    rf"@(?<=[{_LATIN}_%+-]@)((?:[{_LATIN}](?:[{_LATIN}-]{{0,61}}[{_LATIN}])?\.){{1,8}})([A-Za-z]{{2,24}})(?![\w@(\[])"
)
_NOBODYS_DOMAIN: Final = re.compile(  # RFC 2606 and 6762
    r"(?:^|\.)(?:example\.(?:com|net|org|edu)|example|test|invalid|localhost|local)$", re.IGNORECASE
)
_FILE_ENDING: Final = re.compile(
    "bmp|css|gif|gz|html|ico|jpe?g|js|json|md|mjs|pdf|php|png|py|rb|rs|svg|tar|tgz|ts|txt|webp|xml|ya?ml|zip"
)
# In code `a@b.sum` multiplies matrices, so there only endings count that most addresses have.
_USUAL_ENDING: Final = re.compile("[a-z]{2}|com|org|net|edu|gov|mil|int|info|biz|name|app|dev|email|online")


def find_emails(text: str, *, code: bool) -> Iterator[Found]:
    """The e-mail addresses in `text`, but for reserved domains, users in URLs and remotes such as git@host:path."""
    if "@" not in text:
        return
    for match in _AT_DOMAIN.finditer(text):
        at = match.start()
        ending = match[2].lower()
        known = _USUAL_ENDING.fullmatch(ending) if code else not _FILE_ENDING.fullmatch(ending)
        if not known or _NOBODYS_DOMAIN.search(match[1] + ending):
            continue
        start = at
        while start > 0 and at - start <= _MAX_LOCAL and text[start - 1] in _LOCAL_CHARACTERS:
            start -= 1
        while start < at and text[start] in ".%+'-":
            start += 1
        if not 0 < at - start <= _MAX_LOCAL or _is_user_of_url(text, start):
            continue
        if text[start:at] == "git" and text.startswith(":", match.end()):
            continue
        yield Found(start, match.end(), EMAIL_STAND_IN)


def _is_user_of_url(text: str, start: int) -> bool:
    before = text[max(0, start - 100) : start]
    if before.endswith(("//", "@")):
        return True
    # `//user:password@host`: what looks like the local part is the password.
    slashes = before.rfind("//")
    return before.endswith(":") and slashes >= 0 and not re.search(r"[\s/@]", before[slashes + 2 :])


# ---- network addresses ----

IPV4_STAND_IN: Final = "192.0.2.1"
IPV6_STAND_IN: Final = "2001:db8::1"
"""Of the ranges for documentation (RFC 5737, RFC 3849)."""

_IPV4: Final = re.compile(
    r"\.(?<=[0-9]\.)([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})(?!\w|-(?![0-9]{1,3}\.[0-9])|\.[0-9A-Za-z])"
)
_VERSION_BEFORE: Final = re.compile(
    # Directly behind a letter, a dot, or a dash that ends a word, it is part of a name.
    r"(?:[\w.]|(?:^|[^0-9])-|[\w)]/|[=<>~^!]=\s*[\"']?|[\^~]|§\s?|"
    r"(?:version|\b(?:ver|v|release|rev|revision|build|firmware|driver|kernel|sdk|api|oid|section|chapter|clause|"
    r"paragraph))s?_*\.?[\s:=\"'(>]*)$",
    re.IGNORECASE,
)
_HEADING_BEHIND: Final = re.compile(r"\.?[ \t]+[A-Z][a-z]")
_HEADING_MAX_PART: Final = 30
# 2000::/3 is all that is assigned for the public (IANA), so every address begins with four digits. What ends with two
# colons is a network.
_IPV6: Final = re.compile(
    r":(?<=[23][0-9A-Fa-f]{3}:)(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{1,4}(?![\w-]|:[0-9A-Fa-f:]|\.[0-9])"
)
_IPV6_DOCUMENTATION: Final = (ipaddress.ip_network("2001:db8::/32"), ipaddress.ip_network("3fff::/20"))


def find_ip_addresses(text: str, *, code: bool) -> Iterator[Found]:
    """The public IPv4 and IPv6 addresses in `text`; not version and section numbers."""
    for match in _IPV4.finditer(text):
        start = match.start()
        while start > 0 and match.start() - start < 4 and text[start - 1] in "0123456789":
            start -= 1
        parts = [text[start : match.start()], match[1], match[2], match[3]]
        if _is_public(parts) and not _is_numbering(text, start, match.end(), parts):
            yield Found(start, match.end(), IPV4_STAND_IN)
    for match in _IPV6.finditer(text):
        start = match.start() - 4
        before = text[start - 1 : start] if start else ""
        if (
            not before.isalnum()
            and before not in tuple("_:.-")
            and _is_public_ipv6(text[start : match.end()])
        ):
            yield Found(start, match.end(), IPV6_STAND_IN)


def _is_public(parts: list[str]) -> bool:
    """Whether four numbers in decimal are an address of the public network (IANA IPv4 special-purpose registry)."""
    if any((len(part) > 1 and part[0] == "0") or int(part) > 255 for part in parts):
        return False
    a, b, c, _ = map(int, parts)
    return not (
        a in (0, 10, 127)
        or a >= 224
        or (a == 100 and 64 <= b < 128)
        or (a == 169 and b == 254)
        or (a == 172 and 16 <= b < 32)
        or (a == 192 and (b == 168 or (b == 0 and c in (0, 2))))
        or (a == 198 and (b in (18, 19) or (b, c) == (51, 100)))
        or (a, b, c) == (203, 0, 113)
    )


def _is_numbering(text: str, start: int, end: int, parts: list[str]) -> bool:
    """Whether four numbers are a version (`version 1.2.3.4`, `==1.2.3.4`) or number a heading (`4.2.1.3 Scope`)."""
    before = text[max(0, start - 20) : start]
    if _VERSION_BEFORE.search(before):
        return True
    at_line_start = not before.rpartition("\n")[2].strip(" \t#*")
    small = all(int(part) <= _HEADING_MAX_PART for part in parts)
    return at_line_start and small and _HEADING_BEHIND.match(text, end) is not None


def _is_public_ipv6(token: str) -> bool:
    try:
        address = ipaddress.IPv6Address(token)
    except ValueError:
        return False
    return not any(address in network for network in _IPV6_DOCUMENTATION)


# ---- phone and card numbers ----

PHONE_STAND_IN: Final = "+1-555-555-5555"
"""No area has the code 555. Unlike the numbers 555-01xx for fiction it has no group that begins with 0, which code may
read as an octal number."""

# The sign and the parenthesis make three ranges of the first set, which Python then looks up in a bitmap: 400 MB/cpu-s
# instead of 170 for [1-9] alone (CPython 3.11, English prose).
_NUMBERS: Final = re.compile(r"[+(1-9][+0-9 .()/\u00a0-]{7,}")
_PHONE: Final = re.compile(
    r"(?P<country>\+[1-9][0-9]{0,14})(?:(?: ?\([0-9]{1,5}\)[ -]?|[ .\-/\u00a0])[0-9]{1,14}){0,7}|"
    r"(?P<trunk>1[-. ])?(?P<area>\([2-9][0-9]{2}\)[-. ]?|[2-9][0-9]{2}[-. ])(?P<local>[2-9][0-9]{2}[-. ][0-9]{4})"
)
_DIGITS: Final = re.compile("[0-9]+")
# The E.164 country codes of one and two digits, and how those of three begin.
_COUNTRY: Final = re.compile(
    r"1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|2[1-69]|3[578]|42|5[09]|6[789]|8[058]|9[679]"
)
_MIN_PHONE_DIGITS: Final = 8
_MIN_PHONE_DIGITS_IN_A_ROW: Final = 10
_MAX_PHONE_DIGITS: Final = 15  # E.164
_PHONE_WORD: Final = re.compile(
    r"\b(?:tel|telephone|phone|ph|fax|call|mobile|cell|contact|dial|whatsapp|sms)\b[^\n]{0,12}$",
    re.IGNORECASE,
)

_CARD: Final = re.compile(
    r"[2-6][0-9]{3}(?:[0-9]{9,15}|([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3}(?![0-9]))?|"
    r"([ -])[0-9]{6}\2[0-9]{4,5})"
)
# How the numbers of each network begin, and how long they are (ISO/IEC 7812; the networks' public tables).
_CARD_NETWORK: Final = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})$|"  # Visa
    r"(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}$|"  # Mastercard
    r"3[47][0-9]{13}$|"  # American Express
    r"3(?:0[0-5]|[689][0-9])[0-9]{11}$|"  # Diners Club
    r"(?:6011|64[4-9][0-9]|65[0-9]{2})[0-9]{12}(?:[0-9]{3})?$|"  # Discover
    r"35(?:2[89]|[3-8][0-9])[0-9]{12}(?:[0-9]{3})?$|"  # JCB
    r"62[0-9]{14}(?:[0-9]{3})?$|"  # UnionPay
    r"(?:5018|5020|5038|5893|6304|6759|676[1-3])[0-9]{9,15}$"  # Maestro
)
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)  # the digit sum of twice each digit


def find_phone_numbers(text: str, *, code: bool) -> Iterator[Found]:
    """The phone numbers in `text`: international with a country code, and North American with separators.

    Where only spaces separate (`212 867 5309`), a word such as "call" must stand before. A North American number keeps
    its form and becomes fives.
    """
    for numbers in _NUMBERS.finditer(text):
        place = numbers.start()
        while match := _PHONE.search(text, place, numbers.end()):
            start, end = match.start(), match.end()
            if match["country"]:
                stop = _end_of_international(match) if end - start > _MIN_PHONE_DIGITS else None
                if stop is not None and not _is_arithmetic(text, match, code=code):
                    yield Found(start, stop, PHONE_STAND_IN)
                    end = stop
            elif _is_north_american(text, match):
                start = match.start("area")
                yield Found(start, end, re.sub("[0-9]", "5", text[start:end]))
            place = end


def find_card_numbers(text: str, *, code: bool) -> Iterator[Found]:
    """The payment card numbers in `text`, by network, length and check digit; each keeps its form and becomes nines.

    No network's numbers begin with 9, and code reads nines as a number where it read one before. One in ten long
    numbers has a right check digit by chance, so powers of two and their neighbours, frequent in code, are no cards.
    """
    for numbers in _NUMBERS.finditer(text):
        place = numbers.start()
        while match := _CARD.search(text, place, numbers.end()):
            if _stands_alone(text, *match.span()) and _is_card(re.sub("[ -]", "", match[0])):
                yield Found(*match.span(), re.sub("[0-9]", "9", match[0]))
                place = match.end()
            else:
                place = match.start() + 4  # the number may begin with the next group


def _end_of_international(match: re.Match[str]) -> int | None:
    """Where the number that `match` begins with ends, or None when it is none."""
    country = _COUNTRY.match(match["country"], 1)
    if country is None or match.string[match.end() : match.end() + 1].isdigit():
        return None
    groups = list(_DIGITS.finditer(match[0]))
    num_digits = list(itertools.accumulate(len(group[0]) for group in groups))
    north_american = country[0] == "1"
    # What follows may be another number: `+1 212 867 5309 2020`.
    num_groups = bisect.bisect_right(num_digits, 11 if north_american else _MAX_PHONE_DIGITS)
    if num_groups == 0 or len(groups[num_groups - 1][0]) == 1:
        return None
    digits = "".join(group[0] for group in groups[:num_groups])
    if north_american:
        valid = len(digits) == 11 and _is_assigned(digits[1:4], digits[4:7], digits[7:])
    elif num_groups == 1:
        valid = len(digits) >= _MIN_PHONE_DIGITS_IN_A_ROW
    else:
        decimal = num_groups == 2 and len(groups[0][0]) > 3 and "." in match[0]
        valid = len(digits) >= _MIN_PHONE_DIGITS and not digits.endswith("00000") and not decimal
    return match.start() + groups[num_groups - 1].end() if valid else None


def _is_arithmetic(text: str, match: re.Match[str], *, code: bool) -> bool:
    """Whether the plus sign may be an operator or an exponent's."""
    before = text[match.start() - 1 : match.start()] if match.start() else ""
    if before.isalnum() or before in tuple("_+)]"):
        return True
    return code and match[0] == match["country"] and before not in tuple("\"'`:>")


def _is_north_american(text: str, match: re.Match[str]) -> bool:
    area, local = re.sub("[^0-9]", "", match["area"]), match["local"]
    if not _is_assigned(area, local[:3], local[4:]) or not _stands_alone(text, *match.span()):
        return False
    only_spaces = set(match[0]) <= set("0123456789 ") and match["trunk"] is None
    return not only_spaces or _PHONE_WORD.search(text[max(0, match.start() - 30) : match.start()]) is not None


def _is_assigned(area: str, exchange: str, line: str) -> bool:
    """Whether a North American number can be somebody's (nanpa.com: N11 are services, 555-01xx is for fiction)."""
    if area[0] in "01" or exchange[0] in "01" or area.endswith("11") or exchange.endswith("11"):
        return False
    return area != "555" and not (exchange == "555" and line.startswith("01"))


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether the digits from `start` to `end` are not part of a word, a decimal or a longer number."""
    before, behind = text[max(0, start - 2) : start], text[end : end + 2]
    if before and (
        before[-1].isalnum() or before[-1] in "_.+-/" or (before[-1] in ",\u00a0" and before[0].isdigit())
    ):
        return False
    if behind and (behind[0].isalnum() or behind[0] in "_-/"):
        return False
    return not (len(behind) == 2 and behind[0] in ".," and behind[1].isdigit())


def _is_card(digits: str) -> bool:
    if not _CARD_NETWORK.match(digits):
        return False
    total = sum(map(int, digits[-1::-2])) + sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])  # Luhn 1954
    number = int(digits)
    return total % 10 == 0 and not any(near & (near - 1) == 0 for near in (number - 1, number, number + 1))
