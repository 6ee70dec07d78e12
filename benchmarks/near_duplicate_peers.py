"""Clusters of near duplicates as other tools find them. Runs in the interpreter where they are installed.

    python benchmarks/near_duplicate_peers.py NAME DOCUMENTS

DOCUMENTS has one JSON string a line. Prints one JSON object: `roots` (for each document the number of one that stands
for its cluster), `seconds` and `cpu_seconds`, without those of starting and importing. Imports nothing of this
project, so that it needs none of its packages.
"""

import json
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

THRESHOLD = 0.8
NUM_PERMUTATIONS = 128
"""As in the documentation of datasketch and of rensa."""
SHINGLE_WORDS = 5
NUM_WORKERS = 2


def shingles(text: str) -> list[str]:
    """Runs of five words between white space, in lower case; words as they are in a text with fewer."""
    words = text.lower().split()
    count = len(words) - SHINGLE_WORDS + 1
    return [" ".join(words[place : place + SHINGLE_WORDS]) for place in range(count)] if count > 0 else words


class Links:
    """Which documents are linked, directly or through others."""

    def __init__(self, num_documents: int) -> None:
        self._parents = list(range(num_documents))

    def root(self, index: int) -> int:
        while self._parents[index] != index:
            self._parents[index] = index = self._parents[self._parents[index]]
        return index

    def join(self, first: int, second: int) -> None:
        low, high = sorted((self.root(first), self.root(second)))
        self._parents[high] = low

    def roots(self) -> list[int]:
        return [self.root(index) for index in range(len(self._parents))]


def datasketch(texts: list[str]) -> list[int]:
    """MinHash and MinHashLSH of datasketch, on shingles; what the index answers is taken for a duplicate, as its
    documentation does."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=THRESHOLD, num_perm=NUM_PERMUTATIONS)
    links = Links(len(texts))
    for number, text in enumerate(texts):
        sketch = MinHash(num_perm=NUM_PERMUTATIONS)
        sketch.update_batch([shingle.encode() for shingle in set(shingles(text))])
        for other in index.query(sketch):
            links.join(number, int(other))
        index.insert(str(number), sketch)
    return links.roots()


def rensa(texts: list[str]) -> list[int]:
    """The deduplicator of rensa on shingles."""
    return _rensa(texts, shingles)


def rensa_words(texts: list[str]) -> list[int]:
    """The deduplicator of rensa on single words, as in its documentation."""
    return _rensa(texts, str.split)


def _rensa(texts: list[str], tokens_of: Callable[[str], list[str]]) -> list[int]:
    from rensa import RMinHash, RMinHashDeduplicator

    deduplicator = RMinHashDeduplicator(threshold=THRESHOLD, num_perm=NUM_PERMUTATIONS, use_lsh=True)
    sketches = RMinHash.from_token_sets((tokens_of(text) for text in texts), NUM_PERMUTATIONS, 42)
    links = Links(len(texts))
    for number, sketch in enumerate(sketches):
        if not deduplicator.add(str(number), sketch):
            # It keeps the first of a cluster alone, so the most similar candidate is the one that it took this for.
            candidates = [int(other) for other in deduplicator.get_duplicates(sketch)]
            links.join(number, max(candidates, key=lambda other: sketch.jaccard(sketches[other])))
    return links.roots()


def datatrove(texts: list[str]) -> list[int]:
    """The first three stages of datatrove, up to the clusters, with its default configuration (5-grams of spaCy words,
    14 buckets of 8), in two worker processes where a stage allows it."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.readers import JsonlReader

    with tempfile.TemporaryDirectory() as name:
        names = [f"{name}/{part}" for part in ("input", "signatures", "buckets", "clusters")]
        inputs, signatures, buckets, clusters = names
        Path(inputs).mkdir()
        for worker in range(NUM_WORKERS):
            lines = [json.dumps({"text": text}) for text in texts[worker::NUM_WORKERS]]
            Path(inputs, f"{worker}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        config = MinhashConfig()
        stages = (
            (NUM_WORKERS, [JsonlReader(inputs), MinhashDedupSignature(signatures, config)]),
            (config.num_buckets, [MinhashDedupBuckets(signatures, buckets, config=config)]),
            (1, [MinhashDedupCluster(buckets, clusters, config=config, save_cluster_id=True)]),
        )
        for number, (tasks, steps) in enumerate(stages):
            logs = f"{name}/logs/{number}"
            # Forked, which saves the 5 seconds that its fresh processes take to import.
            LocalPipelineExecutor(
                steps, tasks=tasks, workers=NUM_WORKERS, logging_dir=logs, start_method="fork"
            ).run()
        return _roots_of_clusters(Path(clusters), len(texts))


def _roots_of_clusters(folder: Path, num_documents: int) -> list[int]:
    """From the files in which datatrove has, for each worker, (document, cluster) as two 32-bit numbers."""
    roots = list(range(num_documents))
    first_of: dict[int, int] = {}
    for path in sorted(folder.glob("*.clusters")):
        for document, cluster in struct.iter_unpack("<2I", path.read_bytes()):
            number = document * NUM_WORKERS + int(path.stem)
            roots[number] = first_of.setdefault(cluster, number)
    return roots


PEERS = {"datasketch": datasketch, "rensa": rensa, "rensa-words": rensa_words, "datatrove": datatrove}


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """Run one peer."""
    name, documents = sys.argv[1:]
    texts = [json.loads(line) for line in Path(documents).read_text(encoding="utf-8").splitlines()]
    PEERS[name](texts[:2])  # imports, tables and just-in-time compilation
    started, cpu_started = time.monotonic(), cpu_seconds()
    roots = PEERS[name](texts)
    result = {
        "roots": roots,
        "seconds": time.monotonic() - started,
        "cpu_seconds": cpu_seconds() - cpu_started,
    }
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
