"""Text for measurements of any size: English words drawn by their frequency, with faults that raw data has."""

import argparse
import re
import sysconfig
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

MEAN_SENTENCE_WORDS = 16
DOCUMENTS_A_DIRECTORY = 1_000
SHARE_COPIES = 0.02
SHARE_EDITIONS = 0.03
"""Of the documents, how many are an earlier one again, to the letter or with every fiftieth word changed."""

_FOOTER = "All rights reserved by the generator of this text and by nobody else in the world."
_PRIVACY_LINE = "Write to somebody@example.org or call +1-555-555-0100 for the rest of this story."


def vocabulary() -> tuple["np.ndarray", "np.ndarray"]:
    """English words and how often each stands in the documentation of Python that every interpreter has."""
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    docstrings = (
        text
        for module in modules
        for text in re.findall(r'"""(.*?)"""', module.read_text("utf-8", "replace"), re.DOTALL)
    )
    counts = Counter(
        word for text in (*topics.values(), *docstrings) for word in re.findall(r"\b[a-z]{1,14}\b", text)
    )
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return np.array(words, dtype=object), np.array([counts[word] for word in words], dtype=float)


class Generator:
    """Documents one after the other; the same seed gives the same ones."""

    def __init__(self, seed: int = 1, mean_bytes: int = 6_000) -> None:
        self._mean_bytes = mean_bytes
        self._words, counts = vocabulary()
        self._cumulative = np.cumsum(counts) / counts.sum()
        self._random = np.random.default_rng(seed)
        self._earlier: list[str] = []

    def document(self) -> str:
        """The next text: prose in paragraphs, now and then an earlier one again."""
        fate = self._random.random()
        if self._earlier and fate < SHARE_COPIES + SHARE_EDITIONS:
            text = self._earlier[int(self._random.integers(len(self._earlier)))]
            return text if fate < SHARE_COPIES else self._edited(text)
        text = self._fresh()
        if len(self._earlier) < 1_000:
            self._earlier.append(text)
        return text

    def _fresh(self) -> str:
        size = max(300, int(self._random.exponential(self._mean_bytes)))
        words = self._drawn(size // 6)
        sentences, place = [], 0
        while place < len(words):
            length = 4 + int(self._random.integers(2 * MEAN_SENTENCE_WORDS - 8))
            sentence = " ".join(words[place : place + length])
            sentences.append(f"{sentence[:1].upper()}{sentence[1:]}.")
            place += length
        paragraphs = [" ".join(sentences[n : n + 5]) for n in range(0, len(sentences), 5)]
        if self._random.random() < 0.1:
            paragraphs.append(_FOOTER)
        if self._random.random() < 0.05:
            paragraphs.append(_PRIVACY_LINE)
        return "\n\n".join(paragraphs) + "\n"

    def _edited(self, text: str) -> str:
        words = text.split(" ")
        for place in range(int(self._random.integers(50)), len(words), 50):
            words[place] = "edited"
        return " ".join(words)

    def _drawn(self, number: int) -> "np.ndarray":
        return self._words[np.searchsorted(self._cumulative, self._random.random(number))]


def write_corpus(directory: Path, num_bytes: int, *, seed: int = 1, mean_bytes: int = 6_000) -> int:
    """Write text files of about `num_bytes` together, in directories of a thousand, and return how many."""
    generator = Generator(seed, mean_bytes)
    written = number = 0
    while written < num_bytes:
        parent = directory / f"{number // DOCUMENTS_A_DIRECTORY:05}"
        parent.mkdir(parents=True, exist_ok=True)
        data = generator.document().encode()
        (parent / f"{number:08}.txt").write_bytes(data)
        written += len(data)
        number += 1
    return number


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--document-bytes", type=int, default=6_000, help="mean size of a document")
    flags = parser.parse_args()
    number = write_corpus(flags.directory, int(flags.megabytes * 1e6), mean_bytes=flags.document_bytes)
    print(number, "files")
