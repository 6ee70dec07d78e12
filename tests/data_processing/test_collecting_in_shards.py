"""Collecting in shards: the same corpus however it is carried out, and only what a change reaches is done again."""

import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import core.progress
from core.data_config import DataConfig
from core.errors import ConfigError, DataError, LockedError
from data_processing.collecting import found_files, shard_plan
from data_processing.data_collector import DataCollector
from data_processing.document import Document
from data_processing.formats import readers
from data_processing.sources.raw_files import RawFile
from tests.small_texts import make_documents, make_text

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PLAIN = [n for n in range(120) if n % 4 and n % 30 != 7 and n % 20 != 3]
"""Numbers of the texts that stand in their files alone."""
FOOTER = "This text was made for tests and may be copied by everybody who likes to read it again."
EVERYTHING: dict[str, Any] = {
    "quality": {
        "rules": ["gopher_repetition"],
        "gopher_max_duplicate_ngrams": {},
        "gopher_max_top_ngrams": {},
    },
    "duplicates": {"paragraphs": True, "paragraph_min_characters": 40},
    "privacy": {"emails": "replace"},
}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of a dozen files, so that a small directory makes several."""
    monkeypatch.setattr(shard_plan, "MEAN_ITEMS", 12)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """150 files with copies, near copies, shared lines and paragraphs, addresses."""
    root = tmp_path / "raw"
    generator = random.Random(3)
    texts = make_documents(120, seed=11)
    shared = make_text(generator, 3)
    for number, text in enumerate(texts):
        directory = root / f"{number // 50}"
        directory.mkdir(parents=True, exist_ok=True)
        extra = f"\n\n{FOOTER}" if number % 4 == 0 else ""
        extra += f"\n\n{shared}" if number % 30 == 7 else ""
        extra += f"\n\nWrite to somebody{number}@bloom-works.org." if number % 20 == 3 else ""
        (directory / f"{number:03}.txt").write_text(text + extra)
    copies = root / "copies"
    copies.mkdir()
    long_text = "\n\n".join(make_documents(6, seed=77))
    for number in PLAIN[:20]:
        (copies / f"same{number:03}.txt").write_text(texts[number])
    for number in range(10):
        words = long_text.split(" ")
        words[10 * number] = "changed"
        (copies / f"near{number}.txt").write_text(" ".join(words))
    return root


def collect(raw: Path, out: Path, **settings: Any) -> DataCollector:
    collector = DataCollector(out, config=DataConfig.from_dict({**EVERYTHING, "num_workers": 1, **settings}))
    collector.collect_from_directory(raw)
    return collector


def results(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir()) if path.is_file()}


def shards(out: Path, kind: str) -> dict[str, int]:
    """Shards by name, with the time at which each was written."""
    return {
        path.name: path.stat().st_mtime_ns
        for path in (out / ".cache" / "shards").rglob("*.items")
        if kind in path.parts
    }


def test_everything_is_found_and_accounted_for(raw: Path, tmp_path: Path) -> None:
    collector = collect(raw, tmp_path / "out", num_workers=1)
    ledger = collector.ledger
    assert ledger.documents_in == 150
    assert ledger.dropped == {"duplicate": 20, "near_duplicate": 9}
    assert ledger.removed_by["recurring_lines"] >= 25 * len(FOOTER)
    assert ledger.removed_by["earlier_paragraphs"] > 0
    assert ledger.counts["email"] >= 6
    assert ledger.bytes_on_disk == sum(path.stat().st_size for path in raw.rglob("*.txt"))
    lines = [json.loads(line) for line in results(tmp_path / "out")["duplicates.jsonl"].splitlines()]
    assert [len(line["members"]) for line in lines] == [10]
    assert all(member["similarity"] > 0.8 for member in lines[0]["members"])
    files = [json.loads(line) for line in results(tmp_path / "out")["files.jsonl"].splitlines()]
    assert len(files) == 150
    assert sum(file["documents_in"] for file in files) == 150
    dropped = [json.loads(line) for line in results(tmp_path / "out")["dropped.jsonl"].splitlines()]
    assert len(dropped) == 29
    assert {record["detail"] for record in dropped if record["source"] == "copies/same005.txt"} == {
        "the same text as 0/005.txt"
    }


@pytest.mark.parametrize("num_workers", [2, 5])
def test_the_result_does_not_depend_on_the_number_of_workers(
    raw: Path, tmp_path: Path, num_workers: int
) -> None:
    collect(raw, tmp_path / "one", num_workers=1)
    collect(raw, tmp_path / "many", num_workers=num_workers, memory_bytes=10**10)
    assert results(tmp_path / "one") == results(tmp_path / "many")
    assert len(shards(tmp_path / "many", "read")) > 5


def test_the_result_does_not_depend_on_the_engine(raw: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    collect(raw, tmp_path / "one", num_workers=1)
    # In a process of its own: Dask leaves threads behind, and its warnings are not ours.
    code = (
        "import sys; from pathlib import Path;"
        "from data_processing.collecting import shard_plan; shard_plan.MEAN_ITEMS = 12;"
        "from tests.data_processing.test_collecting_in_shards import collect;"
        "collect(Path(sys.argv[1]), Path(sys.argv[2]), engine='dask', num_workers=2)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(raw), str(tmp_path / "cluster")],
        cwd=REPOSITORY,
        check=True,
        timeout=120,
    )
    assert results(tmp_path / "one") == results(tmp_path / "cluster")


def test_a_repeated_collection_makes_no_shard_again(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    collect(raw, out)
    before = (shards(out, "read"), shards(out, "judged"), results(out))
    collect(raw, out)
    assert (shards(out, "read"), shards(out, "judged"), results(out)) == before


def test_a_file_added_or_removed_costs_its_shard_and_gives_what_collecting_anew_gives(
    raw: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    collect(raw, out)
    added = raw / "1" / "060-more.txt"
    for action in (lambda: added.write_text(make_text(random.Random(99), 5)), added.unlink):
        before = {**shards(out, "read"), **shards(out, "judged")}
        action()
        collect(raw, out)
        new = {**shards(out, "read"), **shards(out, "judged")}.items() - before.items()
        assert 1 <= len(new) <= 4
        collect(raw, tmp_path / "anew")
        assert results(out) == results(tmp_path / "anew")


def test_another_threshold_judges_anew_and_reads_nothing(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    collect(raw, out)
    before = shards(out, "read")
    collect(raw, out, max_urls_per_document=3)
    assert shards(out, "read") == before


def test_unused_shards_are_deleted_unless_the_place_was_named(raw: Path, tmp_path: Path) -> None:
    out, named = tmp_path / "out", str(tmp_path / "named")
    for settings in ({}, {"max_urls_per_document": 3}):
        collect(raw, out, **settings)
        collect(raw, tmp_path / "other", cache_dir=named, **settings)
    count = len(list((Path(named) / "shards" / "judged").glob("*.items")))
    assert count == 2 * len(shards(out, "judged"))


def test_a_file_that_could_not_be_read_is_read_when_it_can(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", readers.open_raw

    def refuse(file: RawFile) -> Any:
        if file.source == "0/005.txt":
            raise PermissionError(13, "Permission denied")
        return real(file)

    with monkeypatch.context() as patched:
        patched.setattr(readers, "open_raw", refuse)
        assert collect(raw, out, num_workers=1).ledger.dropped["unreadable"] == 1
    assert collect(raw, out, num_workers=1).ledger.dropped["unreadable"] == 0
    collect(raw, tmp_path / "anew", num_workers=1)
    assert results(out) == results(tmp_path / "anew")


@pytest.mark.fault
def test_after_a_kill_at_any_moment_the_result_is_that_of_an_undisturbed_run(
    raw: Path, tmp_path: Path
) -> None:
    collect(raw, tmp_path / "undisturbed")
    code = (
        "import sys; from pathlib import Path;"
        "from data_processing.collecting import shard_plan; shard_plan.MEAN_ITEMS = 12;"
        "from tests.data_processing.test_collecting_in_shards import collect;"
        "collect(Path(sys.argv[1]), Path(sys.argv[2]), num_workers=2)"
    )
    command = [sys.executable, "-c", code, str(raw), str(tmp_path / "out")]
    generator = random.Random(5)
    for _ in range(int(os.environ.get("BLOOMERY_KILLS", "4"))):
        process = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
        time.sleep(generator.uniform(0.3, 2.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    written = shards(tmp_path / "out", "read") if (tmp_path / "out").exists() else {}
    subprocess.run(command, cwd=REPOSITORY, check=True)
    assert results(tmp_path / "out") == results(tmp_path / "undisturbed")
    # What was finished before the last kill was not made again; each worker may have been at the end of one.
    assert len(written.items() - shards(tmp_path / "out", "read").items()) <= 2


def test_what_is_forgotten_is_gone_and_a_copy_of_it_that_was_not_named_stays(
    raw: Path, tmp_path: Path
) -> None:
    records = raw / "records.jsonl"
    records.write_text("".join(json.dumps({"text": text}) + "\n" for text in make_documents(3, seed=21)))
    out = tmp_path / "out"
    collect(raw, out)
    before = shards(out, "judged")
    forgetting = DataCollector(
        out,
        config=DataConfig.from_dict({**EVERYTHING, "num_workers": 1}),
        forgotten={"0/005.txt", "records.jsonl:2", "not there.txt"},
    )
    path = forgetting.collect_from_directory(raw)
    sources = [json.loads(line)["source"] for line in path.read_text().splitlines()]
    assert not {"0/005.txt", "records.jsonl:2"} & set(sources)
    assert {"copies/same005.txt", "records.jsonl:1", "records.jsonl:3"} <= set(sources)
    assert forgetting.ledger.dropped["forgotten"] == 2
    assert "sample" not in forgetting.ledger.samples["forgotten"][0]
    assert len(shards(out, "judged").items() - before.items()) <= 4


def test_near_duplicates_can_be_kept_and_share_a_key(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    collector = collect(raw, out, duplicates={"near": "group"})
    assert collector.ledger.dropped == {"duplicate": 20}
    records = [json.loads(line) for line in results(out)["collected_texts.jsonl"].splitlines()]
    clusters = {record["metadata"].get("cluster") for record in records if "near" in record["source"]}
    assert len(clusters) == 1
    assert None not in clusters
    assert sum("cluster" in record["metadata"] for record in records) == 10


def test_a_cluster_keeps_its_key_when_another_member_comes_to_stand_for_it(tmp_path: Path) -> None:
    texts = ["\n\n".join(make_documents(8, seed=31)) + end for end in ("", " More.", " And still more.")]

    def key_of(texts: list[str]) -> str:
        collector = DataCollector(tmp_path / str(len(texts)))
        path = collector.collect_from_texts(texts)
        [record] = [json.loads(line) for line in path.read_text().splitlines()]
        return str(record["metadata"]["cluster"])

    keys = {key_of(texts[:2]), key_of(texts)}
    assert len(keys) == 1 or key_of(texts) < key_of(texts[:2])


def test_handed_in_documents_and_files_make_one_corpus(raw: Path, tmp_path: Path) -> None:
    documents = [Document.of(text, source=f"given/{n}") for n, text in enumerate(make_documents(40, seed=50))]
    out = tmp_path / "out"
    for _ in range(2):
        collector = DataCollector(out, config=DataConfig.from_dict({**EVERYTHING, "num_workers": 1}))
        collector.collect_documents(documents)
        path = collector.collect_from_directory(raw)
        sources = [json.loads(line)["source"] for line in path.read_text().splitlines()]
        assert sources[:40] == [document.source for document in documents]
        assert collector.ledger.documents_in == 190


def test_a_large_file_of_records_is_read_in_ranges_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = [json.dumps({"text": text}) for text in make_documents(80, seed=61)]
    (raw / "records.jsonl").write_text("\n".join([*lines[:40], "", "{", *lines[40:]]) + "\n\n")
    whole = collect(raw, tmp_path / "whole")
    monkeypatch.setattr(found_files, "RANGE_BYTES", 5_000)
    monkeypatch.setattr(shard_plan, "MEAN_BYTES", 1)
    ranges = collect(raw, tmp_path / "ranges")
    assert len(shards(tmp_path / "ranges", "read")) > 3
    assert results(tmp_path / "whole") == results(tmp_path / "ranges")
    assert whole.ledger == ranges.ledger
    [file] = [json.loads(line) for line in results(tmp_path / "ranges")["files.jsonl"].splitlines()]
    assert (file["num_bytes"], file["documents_in"]) == ((raw / "records.jsonl").stat().st_size, 81)


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of a few lines, each a shard of its own."""
    monkeypatch.setattr(found_files, "RANGE_BYTES", 5_000)
    monkeypatch.setattr(shard_plan, "MEAN_BYTES", 1)


def write_records(path: Path, *, bad: range, number: int = 400) -> None:
    path.parent.mkdir()
    lines = [json.dumps({"text": text}) for text in make_documents(number, seed=61)]
    for place in bad:
        lines[place] = "{"
    path.write_text("\n".join(lines) + "\n")


def test_bad_lines_in_one_range_are_judged_by_their_share_of_the_whole_file(
    tmp_path: Path, small_ranges: None
) -> None:
    raw = tmp_path / "raw"
    # Lines 101 to 120 fill more than half of the ranges that they are in.
    write_records(raw / "records.jsonl", bad=range(100, 120))
    collector = collect(raw, tmp_path / "out")
    assert len(shards(tmp_path / "out", "read")) > 10
    assert collector.ledger.dropped["malformed_json"] == 20


def test_a_file_read_in_ranges_is_refused_with_the_words_for_one_that_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    write_records(raw / "records.jsonl", bad=range(0, 400, 19))  # 22 of 400, hardly two in a range
    words = r"^records\.jsonl:1: .* \(the first of 22 malformed records among 400, more than 5%\)"
    with pytest.raises(DataError, match=words) as whole:
        collect(raw, tmp_path / "whole")
    monkeypatch.setattr(found_files, "RANGE_BYTES", 5_000)
    monkeypatch.setattr(shard_plan, "MEAN_BYTES", 1)
    for _ in range(2):  # the second time all shards are there already
        with pytest.raises(DataError, match=words) as ranges:
            collect(raw, tmp_path / "ranges")
        assert str(ranges.value) == str(whole.value)
    assert len(shards(tmp_path / "ranges", "read")) > 10


def test_a_file_read_in_ranges_says_once_that_no_record_of_it_is_used(
    tmp_path: Path, small_ranges: None, caplog: pytest.LogCaptureFixture
) -> None:
    raw = tmp_path / "raw"
    write_records(raw / "records.jsonl", bad=range(0))
    with pytest.raises(DataError, match="no document is left"):
        collect(raw, tmp_path / "out", text_field="body")
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 1
    assert "records.jsonl: none of its 400 records is used: no field 'body'" in said[0]


def test_each_pass_says_how_far_it_is_how_fast_and_how_long_it_will_take(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(core.progress, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(core.progress, "LINE_SECONDS", 0.0)
    collect(raw, tmp_path / "out")
    said = capsys.readouterr().err
    for description, unit in {
        "reading and cleaning": "B",
        "recurring lines": "parts",
        "judging": "parts",
        "reading band hashes": "parts",
        "looking for near duplicates": "bands",
        "comparing near duplicates": "pairs",
        "naming duplicates": "parts",
        "writing the corpus": "parts",
    }.items():
        end = rf"^{description}: 100%\|#+\| \S+ \[\d\d:\d\d<\d\d:\d\d, .*{unit}/s\]$"
        assert re.search(end, said, re.MULTILINE), (description, said)


def test_two_collections_into_one_place_do_not_run_at_the_same_time(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    second = DataCollector(out)

    def documents() -> Iterator[Document]:
        with pytest.raises(LockedError, match="is in use by process"):
            second.collect_from_directory(raw)
        yield Document.of(make_documents(1)[0], source="one")

    DataCollector(out).collect_documents(documents())
    second.collect_from_directory(raw)


def test_a_gitignore_behind_an_address_is_not_promised(tmp_path: Path) -> None:
    collector = DataCollector(tmp_path, config=DataConfig(respect_gitignore=True))
    with pytest.raises(ConfigError, match="respect_gitignore has no effect behind an address"):
        collector.collect_from_directory("memory://raw")


def test_files_behind_an_address_give_the_corpus_of_plain_files(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    collect(raw, tmp_path / "plain")
    collector = DataCollector(
        tmp_path / "address",
        config=DataConfig.from_dict(
            {**EVERYTHING, "num_workers": 1, "cache_dir": f"file://{tmp_path / 'cache'}"}
        ),
    )
    with caplog.at_level(logging.INFO):
        collector.collect_from_directory(Path(f"file://{raw}"))  # pathlib makes one slash of two
    assert f"file://{raw}: kept " in caplog.text
    assert (
        results(tmp_path / "address")["collected_texts.jsonl"]
        == results(tmp_path / "plain")["collected_texts.jsonl"]
    )
    assert any((tmp_path / "cache" / "shards" / "read").iterdir())


def test_of_the_editions_of_each_real_book_one_stays_without_its_wrapper(
    real_data: Path, tmp_path: Path
) -> None:
    collector = DataCollector(tmp_path, config=DataConfig(num_workers=1))
    path = collector.collect_from_directory(real_data / "books")
    kept = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted(record["source"].partition("__")[0] for record in kept) == [
        "Adventures-of-Huckleberry-Finn_76",
        "Alice-s-Adventures-in-Wonderland_11",
        "The-Devil-s-Dictionary_972",
        "The-Little-Colonel-s-Hero_15122",
    ]
    assert collector.ledger.dropped == {"near_duplicate": 9}
    assert all("PROJECT GUTENBERG" not in record["text"][:300].upper() for record in kept)
    pages = collector.collect_from_directory(real_data / "markdown")
    assert len(pages.read_text(encoding="utf-8").splitlines()) == 4 + 112


@pytest.mark.fault
@pytest.mark.parametrize("damage", ["empty", "cut", "flip", "gone"])
def test_a_damaged_cache_is_made_anew_and_never_believed(raw: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    collect(raw, out)
    before = results(out)
    kinds = {path.suffix: path for path in sorted((out / ".cache" / "shards").rglob("*.*"))}
    assert len(kinds) >= 9
    for victim in kinds.values():
        if not victim.exists():  # healed under another name
            continue
        data = bytearray(victim.read_bytes())
        if damage == "gone":
            victim.unlink()
        elif damage == "flip":
            data[len(data) // 2] ^= 1
            victim.write_bytes(data)
        else:
            victim.write_bytes(data[: 0 if damage == "empty" else len(data) // 2])
        collect(raw, out)
        assert results(out) == before, victim.name


def test_a_file_that_is_written_to_between_looking_and_reading_is_not_believed(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, real = raw / "0" / "005.txt", readers.open_raw
    text = victim.read_text()

    def written_to(file: RawFile) -> Any:
        if file.source == "0/005.txt":
            victim.write_text(text.replace(".", "!"))
        return real(file)

    with monkeypatch.context() as patched:
        patched.setattr(readers, "open_raw", written_to)
        assert collect(raw, tmp_path / "out").ledger.dropped["changed"] == 1
    victim.write_text(text)
    collect(raw, tmp_path / "out")
    collect(raw, tmp_path / "anew")
    assert results(tmp_path / "out") == results(tmp_path / "anew")


def test_collections_that_share_a_named_place_leave_each_others_shards_alone(
    raw: Path, tmp_path: Path
) -> None:
    first = DataCollector(tmp_path / "a", cache_dir=tmp_path / "cache")
    first.collect_from_directory(raw / "0")
    DataCollector(tmp_path / "b", cache_dir=tmp_path / "cache").collect_from_directory(raw / "1")
    first.collect_from_directory(raw / "2")
    assert first.ledger.documents_in == 70
