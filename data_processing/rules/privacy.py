"""What becomes of personal data in a text: kept, replaced by stand-ins, or the document left out. Finds none itself."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from core.data_config import PrivacyConfig, Treatment
from data_processing.document import Outcome, Step
from data_processing.rules.access_secrets import find_secrets
from data_processing.rules.personal_data import (
    Found,
    find_card_numbers,
    find_emails,
    find_ip_addresses,
    find_phone_numbers,
)


class Finder(Protocol):
    """The pieces of one kind of personal data in a text, in any order, in time linear in the text.

    None of them is found again in a text where all are replaced by their stand-ins.
    """

    def __call__(self, text: str, *, code: bool) -> Iterator[Found]: ...


KINDS: Final[Mapping[str, tuple[str, Finder]]] = {
    "secrets": ("secret", find_secrets),
    "emails": ("email", find_emails),
    "card_numbers": ("card_number", find_card_numbers),
    "ip_addresses": ("ip_address", find_ip_addresses),
    "phone_numbers": ("phone_number", find_phone_numbers),
}
"""Setting -> (name in counts, how it is found), in the order in which they are replaced: a token in front of an "@" is
gone before the address is looked for, and nothing of either is left."""


def privacy_step(config: PrivacyConfig) -> Step:
    """A step that treats each kind of personal data as `config` says.

    Replaced pieces are counted by name. A document with something to drop is left out as `personal_data`; the detail
    says what and how often, never the data. Applied again, it finds nothing more; code that parsed still does.
    """
    treatments: dict[str, Treatment] = {
        name: getattr(config, setting) for setting, (name, _) in KINDS.items()
    }
    finders = [(name, find) for name, find in KINDS.values() if treatments[name] != "keep"]

    def step(text: str, metadata: dict[str, Any]) -> Outcome:
        code = bool(metadata.get("code"))
        counts: dict[str, int] = {}
        rest = text
        for name, find in finders:
            if pieces := _joined(sorted(find(rest, code=code))):
                counts[name] = len(pieces)
                rest = _replaced(rest, pieces)
        dropped = {name: number for name, number in counts.items() if treatments[name] == "drop"}
        if dropped:
            detail = ", ".join(f"{number} {name}" for name, number in dropped.items())
            return Outcome(text, "personal_data", detail, dropped)
        return Outcome(rest, counts=counts)

    return step


def _joined(found: Iterable[Found]) -> list[Found]:
    """The pieces in the order of the text; those that overlap become one, with the stand-in of the first."""
    joined: list[Found] = []
    for piece in found:
        if joined and piece.start < joined[-1].end:
            last = joined.pop()
            piece = Found(last.start, max(last.end, piece.end), last.stand_in)
        joined.append(piece)
    return joined


def _replaced(text: str, pieces: Iterable[Found]) -> str:
    parts: list[str] = []
    behind = 0
    for piece in pieces:
        parts += (text[behind : piece.start], piece.stand_in)
        behind = piece.end
    return "".join((*parts, text[behind:]))
