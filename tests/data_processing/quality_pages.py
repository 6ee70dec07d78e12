"""Pages made from nothing that sit near the thresholds of quality rules, the same on every machine.

What datatrove decides on them is stored beside, so that it need not be installed. To make that file anew:

    python -m tests.data_processing.quality_pages \
        | PEER_PYTHON benchmarks/datatrove_decisions.py > tests/data_processing/datatrove_decisions.jsonl
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

DECISIONS = Path(__file__).with_name("datatrove_decisions.jsonl")
NUM_PAGES = 280

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
LINE_ENDS = (
    ".",
    "?",
    "!",
    '"',
    "'",
    "...",
    "…",
    ".”",
    ",",
    ":",
    "",
    "。",
    ". [1]",
    ".[2]",
    ".[citation needed]",
)
ODD_WORDS = (
    "#",
    "-",
    "—",
    "•",
    "...",
    "…",
    "12",
    "3.14",
    "(7)",
    "&",
    "😀",
    "★",
    "été",
    "Straße",
    "слово",
    "日本語",
    "{x}",
)
ODD_LINES = (
    "Please enable Javascript to see this page.",
    "Read our privacy policy before you go on.",
    "This site uses cookies, as all sites do.",
    "Lorem ipsum dolor sit amet, consectetur.",
    "if (a < b) { return a; } else { return b; }.",
    "The history of ore.[edit] It is long.",
    "- and so on, and so on...",
    "• one more point.",
    "   indented, with a tab\tin it.   ",
    "x" * 1001 + " is too long a word to keep.",
    "Full-width　space and no-break\u00a0space between.",
    "#hash #tags #are #everywhere.",
)
SYLLABLES = ("ka", "lo", "mi", "ter", "un", "dra", "pe", "sho", "i", "an", "gry", "bel")


class PageMaker:
    """One page: its own mixture of words, lines, repetitions and oddities."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        num_syllables = self.pick((2, 3, 3, 6, 10))
        self.vocabulary = [
            "".join(self.pick(SYLLABLES) for _ in range(1 + self.below(num_syllables)))
            for _ in range(self.pick((4, 40, 200, 1000, 1000)))
        ]
        self.line_words = self.pick((2, 4, 6, 12, 30))
        self.bullet = self.pick(("", "", "", "", "", "- ", "  • "))
        self.end = self.pick(LINE_ENDS)
        self.same_end = self.pick((0.0, 0.1, 0.5, 0.9, 1.0))
        self.stop_words = self.pick((0.0, 0.01, 0.1, 0.2))
        self.odd_words = self.pick((0.0, 0.0, 0.02, 0.1, 0.3))
        self.odd_lines = self.pick((0.0, 0.0, 0.03, 0.3))
        self.repeated_lines = self.pick((0.0, 0.0, 0.02, 0.1, 0.35))
        self.repeated_phrases = self.pick((0.0, 0.0, 0.1, 0.2, 0.4))
        self.blank_lines = self.pick((0.0, 0.1, 0.5))

    def page(self) -> str:
        lines: list[str] = []
        for _ in range(1 + self.below(self.pick((4, 20, 40)))):
            lines.append(
                self.pick(lines) if lines and self.happens(self.repeated_lines) else self.line(lines)
            )
            if self.happens(self.blank_lines):
                lines += [""] * (1 + self.below(3))
        return "\n".join(lines).strip("\n") or "nothing."

    def line(self, before: list[str]) -> str:
        if self.happens(self.odd_lines):
            return self.pick(ODD_LINES)
        words = [self.word() for _ in range(1 + self.below(2 * self.line_words))]
        earlier = " ".join(before).split()
        if earlier and self.happens(self.repeated_phrases):
            start = self.below(len(earlier))
            words += earlier[start : start + 3 + self.below(15)]
        return (
            self.bullet
            + " ".join(words)
            + (self.end if self.happens(self.same_end) else self.pick(LINE_ENDS))
        )

    def word(self) -> str:
        if self.happens(self.stop_words):
            return self.pick(STOP_WORDS)
        return self.pick(ODD_WORDS) if self.happens(self.odd_words) else self.pick(self.vocabulary)

    # By `random()` alone, whose numbers Python promises to keep.
    def below(self, number: int) -> int:
        return int(self.random.random() * number)

    def happens(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]


def make_pages() -> list[str]:
    """Different pages, most of which break a rule or nearly do."""
    return [PageMaker(seed).page() for seed in range(NUM_PAGES)]


if __name__ == "__main__":
    for text in make_pages():
        print(json.dumps(text))
