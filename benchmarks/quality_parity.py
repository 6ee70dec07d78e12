"""Our rules of quality beside datatrove's: decisions page by page, and megabytes per second of processor time.

    python benchmarks/quality_parity.py --data DIR [--peer-python PATH]

DIR holds `books`, `text` and `markdown` (BLOOMERY_REAL_DATA is taken where the flag is missing). PATH is an interpreter
that has datatrove 0.10.1; without it only our speed is measured. It gets its words and sentences from us
(`datatrove_decisions.py`), so what differs is the rules.

Every difference is known: of n-grams, datatrove compares the letters of all words run together, so "pe pe" is "pepe" to
it, and a text of such words may be dropped for repetition there and kept here. On 11,000 made-up pages that
happened once, on the 3,599 pages of books, encyclopaedia and manual never.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core.data_config import QualityConfig, QualityRule
from data_processing.document import Outcome
from data_processing.rules.quality import PROSE_RULES, quality_step
from data_processing.text_cleaner import TextCleaner

FOLDERS = ("books", "text", "markdown")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOOMERY_REAL_DATA"), help="real texts")
    parser.add_argument("--peer-python", type=Path, help="interpreter that has datatrove")
    parser.add_argument("--page-characters", type=int, default=3000, help="length of a page, in characters")
    parser.add_argument(
        "--repeat", type=int, default=3, help="measurements of each, of which the best counts"
    )
    flags = parser.parse_args()
    if flags.data is None:
        parser.error("--data is missing, and BLOOMERY_REAL_DATA is not set")
    pages = {folder: cut(read(flags.data / folder), flags.page_characters) for folder in FOLDERS}
    peer = (
        {folder: ask_peer(flags.peer_python, pages[folder]) for folder in FOLDERS}
        if flags.peer_python
        else {}
    )
    print_speeds(pages, peer, flags.repeat)
    print_drops(pages)
    if peer:
        print_agreement(
            [(page, theirs) for name in FOLDERS for page, theirs in zip(pages[name], peer[name], strict=True)]
        )


def read(folder: Path) -> list[str]:
    """The cleaned texts of a folder, UTF-8 or else windows-1252."""
    cleaner = TextCleaner()
    texts = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")
        texts.append(cleaner.clean(text))
    return texts


def cut(texts: list[str], num_characters: int) -> list[str]:
    """Pages of at most so many characters, each ending with a line, or else with a word."""
    pages = []
    for text in texts:
        start = 0
        while start < len(text):
            end = start + num_characters
            if end < len(text):
                breaks = (text.rfind("\n", start + 1, end), text.rfind(" ", start + 1, end))
                end = next((place for place in breaks if place > 0), end)
            pages.append(text[start:end].strip("\n"))
            start = end
    return [page for page in pages if page.strip()]


def ask_peer(python: Path, pages: list[str]) -> list[dict[str, Any]]:
    """What datatrove decides on each page, with the seconds it took."""
    script = Path(__file__).with_name("datatrove_decisions.py")
    done = subprocess.run(
        [python, script, "--seconds"],
        input="".join(json.dumps(page) + "\n" for page in pages),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def decide(name: QualityRule, page: str) -> Outcome:
    """What one of our sets of rules decides."""
    return quality_step(QualityConfig(rules=(name,)))(page, {})


def print_speeds(pages: dict[str, list[str]], peer: dict[str, list[dict[str, Any]]], repeat: int) -> None:
    """A table of megabytes per second of processor time, one row a set of rules."""
    print(f"MB/cpu-s on {sum(map(len, pages.values())):,} pages\n")
    print("| rules | " + " | ".join(pages) + " | all | datatrove, all |\n|---|" + "---|" * (len(pages) + 2))
    everything = {**pages, "all": [page for some in pages.values() for page in some]}
    rules: dict[str, tuple[QualityRule, ...]] = {name: (name,) for name in PROSE_RULES}
    for label, names in {**rules, "all four in order": tuple(PROSE_RULES)}.items():
        speeds = [num_bytes(some) / 1e6 / seconds(names, some, repeat) for some in everything.values()]
        theirs = sum(row[f"{name}_seconds"] for rows in peer.values() for row in rows for name in names)
        beside = f"{num_bytes(everything['all']) / 1e6 / theirs:.2f}" if peer else ""
        print(f"| {label} | " + " | ".join(f"{speed:.1f}" for speed in speeds) + f" | {beside} |", flush=True)


def seconds(names: tuple[QualityRule, ...], pages: list[str], repeat: int) -> float:
    """Processor time in which our step judges all pages, the least of several."""
    step = quality_step(QualityConfig(rules=names))
    times = []
    for _ in range(repeat):
        started = time.process_time()
        for page in pages:
            step(page, {})
        times.append(time.process_time() - started)
    return min(times)


def print_drops(pages: dict[str, list[str]]) -> None:
    """A table of what each set of rules would drop, asked by itself."""
    print("\n| folder | pages | rules | dropped | reasons |\n|---|---|---|---|---|")
    for folder, some in pages.items():
        for name in PROSE_RULES:
            reasons = Counter(outcome.reason for page in some if (outcome := decide(name, page)).reason)
            listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
            print(f"| {folder} | {len(some):,} | {name} | {reasons.total():,} | {listed} |")


def print_agreement(compared: list[tuple[str, dict[str, Any]]]) -> None:
    """A table of equal decisions, and every page on which they differ."""
    print("\n| rules | pages | same decision | same reason | only we drop | only datatrove drops |")
    print("|---|---|---|---|---|---|")
    differences = []
    for name in PROSE_RULES:
        counts: Counter[str] = Counter()
        for page, theirs in compared:
            reason = decide(name, page).reason
            counts["decision"] += (reason is None) == (theirs[name] is None)
            counts["reason"] += reason == theirs[name]
            counts["ours"] += reason is not None and theirs[name] is None
            counts["theirs"] += reason is None and theirs[name] is not None
            if reason != theirs[name]:
                differences.append(f"{name}: ours {reason}, datatrove's {theirs[name]}: {page[:80]!r}")
        cells = (len(compared), *(counts[key] for key in ("decision", "reason", "ours", "theirs")))
        print(f"| {name} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    print("\n".join(["", *differences]) if differences else "\nNo differences.")


def num_bytes(pages: list[str]) -> int:
    """Size of all pages in UTF-8."""
    return sum(len(page.encode("utf-8")) for page in pages)


if __name__ == "__main__":
    main()
