"""Near duplicates with known truth: precision, recall and speed, beside other tools on the same documents.

    python benchmarks/near_duplicates.py [--books DIR] [--libraries DIR ...] [--megabytes 20]
                                         [--peer-python PATH] [--peers NAME ...] [--peer-megabytes 5]

Truth and what counts:

- Books: editions of one book (Project Gutenberg, files BOOK__EDITION.txt) are one text, books are different texts.
  Wrappers are stripped first, for every tool.
- Libraries: Python files of several versions of a library. Truth is every pair with a Jaccard similarity of 5-word
  shingles >= 0.8, found without MinHash, by comparing all pairs that could reach it (prefix filter: Bayardo, Ma &
  Srikant 2007, "Scaling Up All Pairs Similarity Search", section 4). Only equal files are left out before.
- Licence: 40 different short texts, each inside one long licence, as they are and after lines that recur in many of the
  documents are removed, as the data engine does. Every text removed is a mistake.

Precision is the share of the pairs within a found cluster that are within a true cluster (linked by true pairs, perhaps
through others); recall is the share of the true pairs that are within a found cluster.

MB/s is bytes of UTF-8 by wall-clock time, in two processes for this project and datatrove, in one for the others;
MB/cpu-s is by the processor time of all of them together, and shows more on a machine with other work. Take ratios,
measured in one run, not absolute figures.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_processing.duplicates.minhash import (
    NUM_BANDS,
    ROWS_PER_BAND,
    band_hashes,
    bands_of_shingles,
    shingle_hashes,
)
from data_processing.duplicates.near_duplicates import find_near_duplicates, jaccard, shingle_set
from data_processing.duplicates.word_hashes import word_hashes
from data_processing.rules.boilerplate import line_hashes, remove_lines, strip_wrapper

MIN_SIMILARITY = 0.8
MEMORY_BYTES = 2_000_000_000
NUM_PROCESSES = 2
NUM_LICENSED = 40
Pairs = set[tuple[int, int]]


@dataclass
class Case:
    """Documents and the pairs of them that are near duplicates."""

    name: str
    texts: list[str]
    truth: Pairs

    @property
    def num_bytes(self) -> int:
        return sum(len(text.encode("utf-8", "surrogatepass")) for text in self.texts)


@dataclass
class Found:
    """For each document the number of one that stands for its cluster; and what it took, in seconds."""

    roots: Sequence[int]
    seconds: float
    cpu_seconds: float


# ---- the documents and the truth about them


def books(directory: Path) -> Case:
    """Editions of books without their wrappers."""
    titles, texts = [], []
    for path in sorted(directory.glob("*__*.txt")):
        encoding = "latin-1" if path.name.endswith("-8.txt") else "utf-8"
        texts.append(strip_wrapper(path.read_text(encoding=encoding, errors="replace"))[0])
        titles.append(path.name.split("__")[0])
    pairs = combinations(range(len(texts)), 2)
    return Case("books", texts, {(a, b) for a, b in pairs if titles[a] == titles[b]})


def libraries(directories: Sequence[Path], megabytes: float) -> Case:
    """Files of the same relative paths out of `directories`, chosen at random, none twice; of a single directory also
    two edited versions."""
    paths = sorted(
        {
            path.relative_to(directory)
            for directory in directories
            for path in directory.rglob("*.py")
            if "site-packages" not in path.parts
        }
    )
    generator = random.Random(1)
    generator.shuffle(paths)
    texts: dict[str, None] = {}
    num_bytes = 0
    for path in paths:
        versions = [_read(directory / path) for directory in directories if (directory / path).is_file()]
        if len(directories) == 1:
            versions += [_edited(versions[0], generator) for _ in range(2)]
        for text in versions:
            if text not in texts and num_bytes < megabytes * 1e6:
                texts[text] = None
                num_bytes += len(text)
    return Case("libraries", list(texts), similar_pairs(list(texts), MIN_SIMILARITY))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _edited(text: str, generator: random.Random) -> str:
    """`text` with up to a sixth of its lines removed or changed, mostly far fewer."""
    share = generator.random() ** 3 / 6
    lines = [line for line in text.split("\n") if generator.random() >= share / 2]
    return "\n".join(
        f"{line} {generator.getrandbits(32):x}" if generator.random() < share / 2 else line for line in lines
    )


def similar_pairs(texts: Sequence[str], min_similarity: float) -> Pairs:
    """All pairs of `texts` whose sets of shingles have at least this similarity.

    Two such sets share a shingle among the rarest |x| - ceil(t |x|) + 1 of each, so only those are looked up.
    """
    sets = [shingle_set(text) for text in texts]
    shingles = np.concatenate(sets)
    document = np.repeat(np.arange(len(sets)), [len(shingle) for shingle in sets])
    _, number, counts = np.unique(shingles, return_inverse=True, return_counts=True)
    order = np.lexsort((number, counts[number], document))
    sizes = np.array([len(shingle) for shingle in sets])
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    prefix = sizes - np.ceil(min_similarity * sizes - 1e-9).astype(int) + 1
    kept = order[(place < prefix[document[order]]) & (counts[number[order]] > 1)]
    kept = kept[np.lexsort((document[kept], number[kept]))]
    candidates: Pairs = set()
    for group in np.split(document[kept], np.flatnonzero(np.diff(number[kept])) + 1):
        candidates.update(combinations(group.tolist(), 2))
    return {(a, b) for a, b in candidates if jaccard(sets[a], sets[b]) >= min_similarity}


def licensed(directory: Path | None) -> list[Case]:
    """Short texts inside one licence, as they are and without lines that recur."""
    generator = random.Random(2)
    words = [
        f"{a}{b}" for a in ("ba", "co", "du", "fe", "gi", "la", "mo", "ru") for b in ("n", "rst", "lk", "mp")
    ]
    licence = ["".join(_sentence(words, generator)) for _ in range(120)]
    texts = []
    for _ in range(NUM_LICENSED):
        own = [_sentence(words, generator) for _ in range(12)]
        texts.append("\n".join([*licence[:20], "", *own, "", *licence[20:]]))
    if directory is not None:
        whole = _read(sorted(directory.glob("*__*.txt"))[0])
        text, wrapper = strip_wrapper(whole)
        assert wrapper, "the first book has no wrapper"
        before, _, after = whole.partition(text)
        lines = [line for line in text.split("\n") if line.strip()]
        texts = [
            "\n".join((before, *lines[start * 100 : start * 100 + 12], after))
            for start in range(NUM_LICENSED)
        ]
    counts = Counter(int(line) for text in texts for line in line_hashes(text, code=False))
    recurring = {line for line, count in counts.items() if count >= NUM_LICENSED // 4}
    stripped = [remove_lines(text, recurring, code=False) for text in texts]
    return [Case("licence", texts, set()), Case("licence, lines removed", stripped, set())]


def _sentence(words: Sequence[str], generator: random.Random) -> str:
    return " ".join(generator.choices(words, k=12)).capitalize() + "."


# ---- tools


def ours(texts: Sequence[str]) -> Found:
    """Bands in two processes, clusters in this one."""
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    chunks = [order[start :: 4 * NUM_PROCESSES] for start in range(4 * NUM_PROCESSES)]
    with ProcessPoolExecutor(NUM_PROCESSES) as pool:
        # The table of foldings, 0.1 s a process.
        warm_up = ["warm up " * 9 + "é"]
        list(pool.map(_bands, [warm_up] * 2 * NUM_PROCESSES))
        _bands(warm_up)
        started, cpu_started = time.monotonic(), time.process_time()
        bands = np.zeros((NUM_BANDS, len(texts)), dtype=np.uint64)
        cpu_seconds = 0.0
        parts = pool.map(_bands, [[texts[index] for index in chunk] for chunk in chunks])
        for chunk, (part, part_seconds) in zip(chunks, parts, strict=True):
            bands[:, chunk] = part
            cpu_seconds += part_seconds
        roots = _clusters(texts, bands)
        cpu_seconds += time.process_time() - cpu_started
        return Found(roots, time.monotonic() - started, cpu_seconds)


def _bands(texts: Sequence[str]) -> tuple[np.ndarray, float]:
    """(bands, processor time)."""
    started = time.process_time()
    return band_hashes(texts), time.process_time() - started


def _clusters(texts: Sequence[str], bands: np.ndarray) -> list[int]:
    def give(indices: Sequence[int]) -> Iterator[tuple[int, str]]:
        return ((index, texts[index]) for index in indices)

    lengths = np.array([len(text) for text in texts])
    clusters = find_near_duplicates(
        [bands], lengths, give, min_similarity=MIN_SIMILARITY, memory_bytes=MEMORY_BYTES
    )
    roots: list[int] = clusters.root.tolist()
    return roots


def peer(name: str, python: Path, texts: Sequence[str]) -> Found:
    """What another tool finds."""
    with tempfile.TemporaryDirectory() as directory:
        documents = Path(directory) / "documents.jsonl"
        documents.write_text("\n".join(map(json.dumps, texts)), encoding="utf-8")
        script = Path(__file__).with_name("near_duplicate_peers.py")
        output = subprocess.run(
            [python, script, name, documents], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        ).stdout
    result = json.loads(output.decode().splitlines()[-1])
    return Found(**result)


# ---- tables


def precision_and_recall(truth: Pairs, roots: Sequence[int]) -> tuple[float, float]:
    """As the module says; 1 where there is nothing to be right or wrong about."""
    true_roots = list(range(len(roots)))
    for first, second in sorted(truth):
        old, new = true_roots[second], true_roots[first]
        if old != new:
            true_roots = [new if root == old else root for root in true_roots]
    members: dict[int, list[int]] = {}
    for index, root in enumerate(roots):
        members.setdefault(root, []).append(index)
    found = [pair for cluster in members.values() for pair in combinations(cluster, 2)]
    right = sum(true_roots[first] == true_roots[second] for first, second in found)
    recalled = sum(roots[first] == roots[second] for first, second in truth)
    return right / len(found) if found else 1.0, recalled / len(truth) if truth else 1.0


def print_truth_table(cases: Sequence[Case], tools: dict[str, Callable[[Sequence[str]], Found]]) -> None:
    print("\n| case | documents | true pairs | tool | left | precision | recall | MB/s | MB/cpu-s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        for name, tool in tools.items():
            found = tool(case.texts)
            precision, recall = precision_and_recall(case.truth, found.roots)
            megabytes = case.num_bytes / 1e6
            speeds = [f"{megabytes / seconds:.2f}" for seconds in (found.seconds, found.cpu_seconds)]
            print(
                f"| {case.name} | {len(case.texts)} | {len(case.truth)} | {name} | {len(set(found.roots))} "
                f"| {precision:.4f} | {recall:.4f} | {' | '.join(speeds if megabytes > 1 else '––')} |",
                flush=True,
            )


def print_steps(cases: Sequence[Case]) -> None:
    """By processor time of each step, one after another in this process: bytes of all documents, also where only those
    with a candidate are read again, as for the clusters. The last column has the bands in two processes."""
    print(
        "\n| MB/cpu-s of | MB | words | + shingles | + bands | sets of shingles | clusters | all, on two cores |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for case in cases:
        seconds = [
            _least_cpu_seconds(partial(_each, word_hashes, case.texts)),
            _least_cpu_seconds(partial(_each, shingle_hashes, case.texts)),
            _least_cpu_seconds(partial(band_hashes, case.texts)),
            _least_cpu_seconds(partial(_each, shingle_set, case.texts)),
        ]
        seconds.append(_least_cpu_seconds(partial(_clusters, case.texts, _bands(case.texts)[0])))
        seconds.append(seconds[2] / 2 + seconds[4])
        cells = [f"{case.num_bytes / 1e6 / elapsed:.0f}" for elapsed in seconds]
        print(f"| {case.name} | {case.num_bytes / 1e6:.1f} | {' | '.join(cells)} |", flush=True)


def _each(step: Callable[[str], object], texts: Sequence[str]) -> None:
    for text in texts:
        step(text)


def _least_cpu_seconds(step: Callable[[], object], repetitions: int = 3) -> float:
    times = []
    for _ in range(repetitions):
        started = time.process_time()
        step()
        times.append(time.process_time() - started)
    return min(times)


def print_recall_curve(text: str) -> None:
    """How often edited copies of 300 and of 3000 words share a band, beside the probability in theory."""
    print("\n| similarity | theory | 300 words | 3000 words |\n|---|---|---|---|")
    words = text.split()
    curves = [
        _shared_by_similarity(words, length, num_pairs=4000 if length < 1000 else 1500)
        for length in (300, 3000)
    ]
    for tenth in range(6, 20):
        low, high = tenth / 20, (tenth + 1) / 20
        # The mean over the interval, as the measured similarities lie all over it.
        theory = np.mean(1 - (1 - np.linspace(low, high, 100) ** ROWS_PER_BAND) ** NUM_BANDS)
        cells = []
        for similarities, shared in curves:
            inside = shared[(similarities >= low) & (similarities < high)]
            cells.append(f"{np.mean(inside):.3f} of {len(inside)}" if len(inside) else "–")
        print(f"| {low:.2f}–{high:.2f} | {theory:.4f} | {' | '.join(cells)} |")


def _shared_by_similarity(
    words: Sequence[str], length: int, *, num_pairs: int
) -> tuple[np.ndarray, np.ndarray]:
    """(similarities, whether a band is shared) of passages of `length` words and copies with words replaced."""
    generator = random.Random(length)
    similarities, shared = [], []
    for _ in range(num_pairs):
        start = generator.randrange(len(words) - length)
        original = words[start : start + length]
        copy = list(original)
        for place in generator.sample(range(length), generator.randrange(1, length // 8)):
            copy[place] = f"new{generator.getrandbits(40)}"
        first, second = (shingle_set(" ".join(both)) for both in (original, copy))
        similarities.append(jaccard(first, second))
        bands = bands_of_shingles(np.concatenate((first, second)), np.array([len(first), len(second)]))
        shared.append(bool((bands[:, 0] == bands[:, 1]).any()))
    return np.array(similarities), np.array(shared)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--books", type=Path, help="directory of files BOOK__EDITION.txt")
    parser.add_argument(
        "--libraries",
        type=Path,
        nargs="+",
        default=[Path(json.__file__).parent.parent],
        help="directories of Python files, one a version; default: that of this interpreter, and edited versions of it",
    )
    parser.add_argument("--megabytes", type=float, default=20.0, help="size of the files of libraries")
    parser.add_argument("--peer-python", type=Path, help="interpreter with datatrove, datasketch, rensa")
    parser.add_argument("--peers", nargs="*", default=["rensa", "rensa-words", "datasketch", "datatrove"])
    parser.add_argument("--peer-megabytes", type=float, default=5.0, help="the same, when peers run too")
    flags = parser.parse_args()

    large = libraries(flags.libraries, flags.megabytes)
    cases = [large, *licensed(flags.books)]
    if flags.books:
        cases.insert(0, books(flags.books))
    tools: dict[str, Callable[[Sequence[str]], Found]] = {"bloomery": ours}
    print_truth_table(cases, tools)
    if flags.peer_python:
        for name in flags.peers:
            tools[name] = lambda texts, name=name: peer(name, flags.peer_python, texts)  # type: ignore[misc]
        small = libraries(flags.libraries, flags.peer_megabytes)
        print_truth_table([small if case is large else case for case in cases], tools)
    print_steps([case for case in cases if case.num_bytes > 1_000_000])
    print_recall_curve(max(cases[0].texts, key=len))


if __name__ == "__main__":
    main()
