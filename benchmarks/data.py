"""The data engine, measured: speed of each step, memory, what a small change costs, whether workers and engines agree.

    python benchmarks/data.py                                  # 200 MB of generated text, a few minutes
    python benchmarks/data.py --gigabytes 10 --only memory     # memory on a large corpus
    python benchmarks/data.py --peer-python ENV/bin/python     # with datatrove beside it, on the same documents

Text is generated below --directory and removed afterwards. Figures of speed are megabytes of raw text a second of wall
clock, and a second of processor time; take ratios within one run, machines differ.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.generated_corpus import write_corpus
from core.data_config import DataConfig, QualityConfig
from core.files import sha256_file
from data_processing.collecting.collection import judge_parts, read_files
from data_processing.collecting.engine import open_engine
from data_processing.collecting.found_files import fingerprinted
from data_processing.collecting.judge_shard import JudgeSettings
from data_processing.collecting.read_shard import ReadSettings
from data_processing.collecting.shard_store import ShardStore
from data_processing.data_collector import DataCollector
from data_processing.formats.raw_input import Reading
from data_processing.rules.quality import quality_step
from data_processing.sources.default_corpus import documents, instruction_records
from data_processing.sources.raw_files import RawFile, find_files
from data_processing.text_cleaner import TextCleaner

PROSE_RULES = ("gopher_quality", "gopher_repetition", "c4", "fineweb")
SIZES = (6_000, 25_000)
"""Mean bytes of a document: of a typical web page, and of a long one."""
SAMPLE_SECONDS = 0.1
ANY_OF = ("default_corpus", "sizes", "speed", "change", "invariance", "memory", "peers")
PEERS = Path(__file__).with_name("data_peers.py")


@dataclass
class Usage:
    """What a piece of work took, the processes that it started included."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0


@contextlib.contextmanager
def measured() -> Iterator[Usage]:
    """Wall clock, processor time and the highest memory (proportional set size) of this process and its children."""
    usage = Usage()
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            usage.peak_bytes = max(usage.peak_bytes, sum(map(_resident, _family(os.getpid()))))

    thread = threading.Thread(target=sample, daemon=True)
    before, started = os.times(), time.perf_counter()
    thread.start()
    try:
        yield usage
    finally:
        usage.seconds = time.perf_counter() - started
        after = os.times()
        usage.cpu_seconds = sum(after[:4]) - sum(before[:4])
        done.set()
        thread.join()


def _family(process: int) -> Iterator[int]:
    yield process
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))


def _resident(process: int) -> int:
    # Pss counts a page that n processes share as 1/n page, so the sum is what is really taken.
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return 0


def collect(raw: Path, out: Path, settings: dict[str, Any]) -> DataCollector:
    """Collect a directory anew and return the collector."""
    shutil.rmtree(out, ignore_errors=True)
    collector = DataCollector(out, config=DataConfig.from_dict(settings))
    collector.collect_from_directory(raw)
    return collector


def judge(raw: Path, out: Path, settings: dict[str, Any]) -> int:
    """Carry out the passes up to judged shards (Parquet, and what duplicates are found by), and return their number."""
    shutil.rmtree(out, ignore_errors=True)
    config, cleaner = DataConfig.from_dict(settings), TextCleaner()
    store = ShardStore(str(out / "shards"))
    found = [file for file in find_files(raw) if isinstance(file, RawFile)]
    files = fingerprinted(found, database=out / "raw_files.sqlite")
    with open_engine(config) as mapper:
        read = ReadSettings(Reading(config.text_field, config.reading), cleaner)
        parts = read_files(files, read, store, mapper, num_bytes=sum(file.num_bytes for file in found))
        judging = JudgeSettings.of(config, cleaner)
        memory_bytes = config.memory_bytes // 4
        return len(judge_parts(parts, judging, config.boilerplate, store, mapper, memory_bytes=memory_bytes))


def default_corpus() -> dict[str, Any]:
    """How long the standard library takes, which is read in place: the corpus, and the questions about it."""
    rows: dict[str, Any] = {}
    for name, read in (("documents", documents), ("instruction records", instruction_records)):
        with measured() as usage:
            number = sum(1 for _ in read())
        rows[name] = {"number": number, "seconds": usage.seconds, "cpu_seconds": usage.cpu_seconds}
        print(f"  {number:6,} {name:27} {usage.seconds:7.2f} s {usage.cpu_seconds:7.2f} cpu-s", flush=True)
    return rows


def sizes(work: Path, gigabytes: float) -> dict[str, Any]:
    """From raw files to judged Parquet and to the finished corpus, all four rule sets, for two sizes of documents.

    In this process alone, too, which has everything loaded by then: what a document costs without starting anything.
    """
    rows = {}
    settings: dict[str, Any] = {"quality": {"rules": list(PROSE_RULES)}}
    few = work / "few"
    write_corpus(few, 1_000_000)
    judge(few, work / "out", {**settings, "num_workers": 1})
    for document_bytes in SIZES:
        raw = work / f"raw-{document_bytes}"
        write_corpus(raw, int(gigabytes * 1e9), mean_bytes=document_bytes)
        num_bytes = sum(path.stat().st_size for path in raw.rglob("*.txt"))
        steps: dict[str, Callable[[Path, Path, dict[str, Any]], object]] = {
            "judged Parquet": judge,
            "judged Parquet, one process": lambda raw, out, settings: judge(
                raw, out, {**settings, "num_workers": 1}
            ),
            "finished corpus": collect,
        }
        for name, carry_out in steps.items():
            with measured() as usage:
                carry_out(raw, work / "out", settings)
            row = rows[f"{document_bytes:,} bytes, {name}"] = {
                "mb_per_second": num_bytes / 1e6 / usage.seconds,
                "mb_per_cpu_second": num_bytes / 1e6 / usage.cpu_seconds,
                "peak_mb": usage.peak_bytes / 1e6,
            }
            print(
                f"  documents of {document_bytes:6,} bytes to {name:27} {row['mb_per_second']:7.1f} MB/s "
                f"{row['mb_per_cpu_second']:7.1f} MB/cpu-s  {row['peak_mb']:6.0f} MB",
                flush=True,
            )
        shutil.rmtree(raw)
    return rows


def speed(raw: Path, work: Path, num_bytes: int) -> dict[str, Any]:
    """Throughput as rules are added: what each costs is the difference between two rows."""
    plain = {
        "boilerplate": {"wrappers": False, "recurring_lines": False},
        "languages": {"detect": False},
        "duplicates": {"near": "off"},
    }
    variants: dict[str, dict[str, Any]] = {
        "read, clean, exact duplicates": plain,
        "+ boilerplate": {**plain, "boilerplate": {}},
        "+ language": {**plain, "boilerplate": {}, "languages": {}},
        "+ all four rule sets": {
            **plain,
            "boilerplate": {},
            "languages": {},
            "quality": {"rules": list(PROSE_RULES)},
        },
        "+ personal data": {
            **plain,
            "boilerplate": {},
            "languages": {},
            "quality": {"rules": list(PROSE_RULES)},
            "privacy": dict.fromkeys(("emails", "ip_addresses", "phone_numbers"), "replace"),
        },
        "everything, near duplicates too": {
            "quality": {"rules": list(PROSE_RULES)},
            "privacy": dict.fromkeys(("emails", "ip_addresses", "phone_numbers"), "replace"),
        },
        "defaults": {},
    }
    rows = {}
    for name, settings in variants.items():
        with measured() as usage:
            collector = collect(raw, work / "out", settings)
        rows[name] = {
            "mb_per_second": num_bytes / 1e6 / usage.seconds,
            "mb_per_cpu_second": num_bytes / 1e6 / usage.cpu_seconds,
            "peak_mb": usage.peak_bytes / 1e6,
            "kept": collector.ledger.kept,
            "documents": collector.ledger.documents_in,
        }
        print(
            f"  {name:34} {rows[name]['mb_per_second']:7.1f} MB/s {rows[name]['mb_per_cpu_second']:7.1f} MB/cpu-s  "
            f"{rows[name]['peak_mb']:6.0f} MB  kept {collector.ledger.kept:,} of {collector.ledger.documents_in:,}",
            flush=True,
        )
    return rows


def change(raw: Path, work: Path) -> dict[str, Any]:
    """What it costs to add one file to a collected corpus, and to remove it, beside collecting it."""
    out = work / "out"
    with measured() as first:
        collect(raw, out, {})
    rows = {"collect": first.seconds}
    added = next(raw.iterdir()) / "added-by-the-benchmark.txt"

    def again() -> None:
        DataCollector(out, config=DataConfig()).collect_from_directory(raw)

    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("repeat, nothing changed", lambda: None),
        ("one file added", lambda: added.write_text("A text that was not here before. " * 40)),
        ("that file removed", added.unlink),
    )
    for name, action in steps:
        action()
        with measured() as usage:
            again()
        rows[name] = usage.seconds
    for name, seconds in rows.items():
        print(f"  {name:34} {seconds:7.2f} s  {seconds / first.seconds:6.1%}", flush=True)
    return rows


def invariance(raw: Path, work: Path) -> dict[str, Any]:
    """Whether the corpus is the same to the byte for any number of workers and any engine."""
    everything = {
        "quality": {"rules": ["gopher_repetition"]},
        "duplicates": {"paragraphs": True},
        "memory_bytes": 4_000_000_000,
    }
    digests = {}
    engines = [("local", 1), ("local", 2), ("local", 5)]
    with contextlib.suppress(ImportError):
        import distributed  # noqa: F401

        engines.append(("dask", 2))
    for engine, num_workers in engines:
        with measured() as usage:
            collector = collect(
                raw, work / "out", {**everything, "engine": engine, "num_workers": num_workers}
            )
        files = sorted(path for path in (work / "out").iterdir() if path.is_file())
        digest = [f"{path.name} {sha256_file(path)[:16]}" for path in files]
        digests[f"{engine}, {num_workers} workers"] = digest
        print(
            f"  {engine:6} {num_workers} workers {usage.seconds:7.1f} s  "
            f"{sha256_file(collector.corpus_path)[:16]}",
            flush=True,
        )
    agree = len({tuple(digest) for digest in digests.values()}) == 1
    print(f"  the same bytes: {agree}", flush=True)
    return {"agree": agree, "digests": digests}


def memory(raw: Path, work: Path, num_bytes: int) -> dict[str, Any]:
    """The highest memory of a collection with the default budget, whatever the size of the corpus."""
    config = DataConfig()
    with measured() as usage:
        collector = collect(raw, work / "out", {"quality": {"rules": list(PROSE_RULES)}})
    row = {
        "raw_gb": num_bytes / 1e9,
        "documents": collector.ledger.documents_in,
        "peak_mb": usage.peak_bytes / 1e6,
        "budget_mb": config.memory_bytes / 1e6,
        "seconds": usage.seconds,
        "mb_per_second": num_bytes / 1e6 / usage.seconds,
    }
    print(
        f"  {row['raw_gb']:.2f} GB, {row['documents']:,} documents: {row['peak_mb']:,.0f} MB at most (budget "
        f"{row['budget_mb']:,.0f} MB), {row['mb_per_second']:.1f} MB/s",
        flush=True,
    )
    return row


def peers(raw: Path, work: Path, python: str, megabytes: float) -> dict[str, Any]:
    """datatrove's filters in its own interpreter, and ours, on the first files of the same documents."""
    some = work / "some"
    num_bytes = 0
    for path in sorted(raw.rglob("*.txt")):
        if num_bytes >= megabytes * 1e6:
            break
        num_bytes += path.stat().st_size
        (some / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, some / path.parent.name)
    done = subprocess.run([python, str(PEERS), str(some)], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  the peer failed: {done.stderr.strip().splitlines()[-1]}")
        return {}
    rows: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    rules = quality_step(QualityConfig(rules=PROSE_RULES))
    texts = [path.read_text(encoding="utf-8") for path in sorted(some.rglob("*.txt"))]
    rules(texts[0], {})
    with measured() as usage:
        kept = sum(rules(text, {}).reason is None for text in texts)
    rows["ours, the rules alone"] = {
        "mb_per_second": num_bytes / 1e6 / usage.seconds,
        "mb_per_cpu_second": num_bytes / 1e6 / usage.cpu_seconds,
        "kept": kept,
        "documents": len(texts),
    }
    for name, row in rows.items():
        print(
            f"  {name:36} {row['mb_per_second']:7.2f} MB/s {row['mb_per_cpu_second']:7.2f} MB/cpu-s  "
            f"kept {row['kept']:,} of {row['documents']:,}",
            flush=True,
        )
    return rows


def main() -> None:
    """Run what was asked for and print it as it comes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gigabytes", type=float, default=0.2, help="raw text to generate")
    parser.add_argument(
        "--directory", type=Path, help="where it is generated; default: a temporary directory"
    )
    parser.add_argument("--only", action="append", choices=ANY_OF, default=[])
    parser.add_argument("--document-bytes", type=int, default=6_000, help="mean size of a document")
    parser.add_argument("--peer-python", help="an interpreter that has datatrove")
    parser.add_argument("--peer-megabytes", type=float, default=5, help="how much of the text the peer gets")
    parser.add_argument("--json", type=Path, help="file for the figures")
    flags = parser.parse_args()
    wanted = flags.only or [name for name in ANY_OF if name != "peers" or flags.peer_python]
    work = Path(tempfile.mkdtemp(prefix="bloomery-data-", dir=flags.directory))
    results: dict[str, Any] = {"gigabytes": flags.gigabytes, "cores": os.cpu_count()}
    try:
        raw = work / "raw"
        num_files = write_corpus(raw, int(flags.gigabytes * 1e9), mean_bytes=flags.document_bytes)
        num_bytes = sum(path.stat().st_size for path in raw.rglob("*.txt"))
        print(f"{num_files:,} files, {num_bytes / 1e6:,.0f} MB, {os.cpu_count()} cores", flush=True)
        for name in wanted:
            print(f"{name}:", flush=True)
            match name:
                case "default_corpus":
                    results[name] = default_corpus()
                case "sizes":
                    results[name] = sizes(work, flags.gigabytes)
                case "speed":
                    results[name] = speed(raw, work, num_bytes)
                case "change":
                    results[name] = change(raw, work)
                case "invariance":
                    results[name] = invariance(raw, work)
                case "memory":
                    results[name] = memory(raw, work, num_bytes)
                case "peers":
                    results[name] = peers(raw, work, flags.peer_python, flags.peer_megabytes)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if flags.json:
        flags.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
