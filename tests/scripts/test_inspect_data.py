"""scripts/inspect_data.py: its functions called here, and as a process as users start it."""

import importlib.util
import json
import logging
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import core.progress
from core.errors import CorruptArtifactError, DataError, UsageError
from core.files import HASH_BLOCK_BYTES
from core.manifest import describe_files, write_manifest
from core.stage import Selection
from data_processing.data_collector import DataCollector
from data_processing.reports.forgetting import read_forgotten
from tests.data_processing.reported_corpus import (
    HIDDEN_NAME,
    PIPE_NAME,
    SENTENCE,
    write_corpus_directory,
    write_dataset_report,
)
from tests.line_kit import settings, write_inputs
from tests.small_texts import make_documents

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "inspect_data.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inspect_data_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


INSPECT = load()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The script sets up logging for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_corpus_directory(tmp_path / "run" / "corpus")
    return tmp_path / "run"


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert INSPECT.main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_the_summary_is_one_page_and_adds_up(run: Path, capsys: pytest.CaptureFixture[str]):
    write_dataset_report(run / "dataset")
    page = answer(capsys, run, "summary")
    rows = {tuple(re.split(r"\s{2,}", line)) for line in page.splitlines()}
    assert {("", "found", "10", "797 B"), ("", "kept", "5", "651 B"), ("", "left out", "5", "131 B")} <= rows
    assert ("", "taken from kept texts", "15 B") in rows and 797 == 651 + 131 + 15
    assert ("", "too_short", "2", "20.0 %", "34 B") in rows
    assert {("Splits", "documents", "tokens", "bytes/token"), ("", "train", "3", "100", "3.00")} <= rows
    assert "! 20.0 % of the documents were left out as too_short" in page
    assert ("", "in 1 cluster of near ones", "2") in rows
    assert all(len(line) <= 79 for line in page.splitlines())
    assert answer(capsys, run / "corpus", "summary") == page


def test_the_numbers_of_the_summary_stand_in_columns(run: Path, capsys: pytest.CaptureFixture[str]):
    write_dataset_report(run / "dataset")
    lines = [
        line for line in answer(capsys, run, "summary").splitlines() if line and not line.startswith("! ")
    ]
    tables = [line for line in lines if not line.startswith("  data.")]
    assert {len(line) for line in tables} <= {34 + 14 * columns for columns in (1, 2, 3)}


def test_why_tells_the_reasons_with_what_they_mean(run: Path, capsys: pytest.CaptureFixture[str]):
    page = answer(capsys, run, "why", "records.jsonl")
    assert "2 too_short: fewer characters than data.min_text_length" in page
    assert "records.jsonl:1  too_short: 2 characters, fewer than 50\n      “hi”" in page
    assert "1 in the corpus" in page
    assert "this document is in the corpus" in answer(capsys, run, "why", "records.jsonl:3")
    page = answer(capsys, run, "why", HIDDEN_NAME)
    assert page.startswith("books/.[U+202E]nedih\n  7 B; was left out before anything in it was read")
    page = answer(capsys, run, "why", "iron-again.txt")
    assert (
        "2 documents are alike; books/iron.txt stands for all" in page
        and "0.910  books/iron-again.txt" in page
    )


def test_why_lists_every_file_of_the_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    collector = DataCollector(tmp_path / "corpus")
    for name, text in (("one", make_documents(1)[0]), ("two", "short")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(text)
        collector.collect_from_directory(tmp_path / name)
    first, second = answer(capsys, tmp_path / "corpus", "why", "a.txt").split("\n\n(2)/a.txt\n")
    assert first.startswith("a.txt\n") and first.endswith("0 left out\n  of the same name: (2)/a.txt")
    assert "1 too_short: fewer characters" in second and "of the same name: a.txt" in second


def test_an_archive_tells_of_its_members_and_how_they_are_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "raw" / "letters.zip", "w") as archive:
        archive.writestr("one/long.txt", make_documents(1)[0])
        archive.writestr("one/it's.txt", "short")
    DataCollector(tmp_path / "corpus").collect_from_directory(tmp_path / "raw")
    page = answer(capsys, tmp_path / "corpus", "why", "letters.zip")
    assert "In the corpus:\n  letters.zip!one/long.txt\n" in page
    assert "Left out:\n  letters.zip!one/it's.txt  too_short" in page
    assert page.endswith("Of one of them alone: why 'letters.zip!one/long.txt'\n")
    page = answer(capsys, tmp_path / "corpus", "why", "long.txt")
    assert page.startswith("letters.zip!one/long.txt\n") and "this document is in the corpus" in page
    assert "Of one of them" not in page


def test_trace_shows_the_sentence_where_it_stands(run: Path, capsys: pytest.CaptureFixture[str]):
    write_dataset_report(run / "dataset")
    page = answer(capsys, run, "trace", SENTENCE)
    assert page.startswith("2 documents hold it:\n\nbooks/iron.txt\n  id ")
    assert "»“Iron,” said the smith — ‘the best there is’ — was hot.«" in " ".join(page.split())
    assert "nearly the same: books/iron-again.txt" in page and "  split " in page
    page = answer(capsys, run, "trace", 'A "sample" & with <lines>')
    assert page.startswith("No document of the corpus holds it, but something that was left out does:")
    assert "house_rule: shouts" in page
    assert "never have been there" in answer(capsys, run, "trace", "Nobody wrote this.")


def test_samples_are_shown_as_they_are_but_harmless(run: Path, capsys: pytest.CaptureFixture[str]):
    page = answer(capsys, run, "sample", "house_rule")
    assert page.splitlines() == [
        "house_rule",
        "",
        f"{PIPE_NAME} (90 B)  shouts",
        "  | A “sample” &",
        "  | with <lines> and [U+202E] marks",
    ]
    assert answer(capsys, run, "sample", "too_short", "-n", 1).count(" B)") == 1


def test_forget_records_and_says_what_it_does_not_do(run: Path, capsys: pytest.CaptureFixture[str]):
    page = answer(capsys, run, "forget", "iron.txt", "records.jsonl:3", "--because", "asked by its author")
    assert page.startswith(
        "recorded; left out the next time that the corpus is collected:\n  books/iron.txt\n"
    )
    assert "removes neither the raw file" in page and "models have learned" in page and "--plan" in page
    assert read_forgotten(run) == {"books/iron.txt", "records.jsonl:3"}
    page = answer(capsys, run, "forget", "iron.txt", "--because", "again")
    assert page.startswith("nothing changed: books/iron.txt is forgotten already")
    page = answer(capsys, run, "forget", "--undo", "books/iron.txt")
    assert page == "no longer forgotten, and collected again the next time:\n  books/iron.txt\n"
    assert read_forgotten(run) == {"records.jsonl:3"}


def test_forgetting_is_done_and_said_where_the_raw_directory_cannot_be_seen(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = settings(tmp_path, data={"raw_dir": "raw-of-elsewhere"}, run={"dir": str(run)})
    (run / "settings.json").write_text(json.dumps(config))
    page = answer(capsys, run, "forget", "iron.txt", "--because", "asked by its author")
    assert page.startswith("recorded; ")
    assert read_forgotten(run) == {"books/iron.txt"}
    last = page.splitlines()[-1]
    assert last.startswith("What becomes stale cannot be said from here (raw-of-elsewhere: no such directory")
    assert last.endswith("the command that made the run says it with --plan.")


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        ([], UsageError, "the following arguments are required: COMMAND"),
        (["wy", "a"], UsageError, "invalid choice: 'wy'"),
        (["why"], UsageError, "the following arguments are required: FILE"),
        (["why", "irn.txt"], DataError, "did you mean 'iron.txt'"),
        (["sample", "too_shrt"], DataError, "did you mean 'too_short'"),
        (["sample", "too_short", "-n", "0"], UsageError, "--number 0: expected 1 or more"),
        (["sample", "too_short", "--num", "3"], UsageError, "unrecognized arguments: --num 3"),
        (["trace", "”"], DataError, "nothing to look for"),
        (["forget", "iron.txt"], UsageError, "forget needs --because TEXT"),
        (["forget", "iron.txt", "--because", ""], DataError, "because: empty"),
        (["forget", "irn.txt", "--because", "x"], DataError, "did you mean 'iron.txt'"),
        (["forget", "--undo", "iron.txt"], DataError, "iron.txt: is not forgotten"),
        (["forget", "--undo", "iron.txt", "--because", "x"], UsageError, "exclude each other"),
    ],
    ids=str,
)
def test_a_mistake_on_the_command_line_is_named(
    run: Path, arguments: list[str], error: type[Exception], reason: str
):
    with pytest.raises(error, match=reason):
        INSPECT.main([str(run), *arguments])
    assert read_forgotten(run) == frozenset()


def test_a_name_that_the_run_does_not_have_may_be_that_of_an_update(run: Path):
    (run / "updates" / "1" / "corpus").mkdir(parents=True)
    with pytest.raises(
        DataError, match=r"no file of .* is called so.*; what an update brought is in .*updates/1$"
    ):
        INSPECT.main([str(run), "forget", "notes/new.md", "--because", "asked"])


def test_a_corpus_of_no_run_cannot_forget(run: Path):
    (run / "corpus").rename(run / "texts")
    with pytest.raises(UsageError, match="is the corpus of no run; name the run"):
        INSPECT.main([str(run / "texts"), "forget", "iron.txt", "--because", "x"])


@pytest.mark.parametrize("with_update", [False, True])
def test_a_damaged_list_is_named(run: Path, with_update: bool):
    (run / "corpus" / "duplicates.jsonl").write_text("{\n")
    if with_update:
        (run / "updates" / "1" / "corpus").mkdir(parents=True)
    with pytest.raises(CorruptArtifactError, match=r"duplicates\.jsonl:1: not JSON(?!.*update)"):
        INSPECT.main([str(run), "summary"])


@pytest.mark.slow
def test_an_error_is_one_line_with_its_exit_code_and_torch_is_not_loaded(run: Path):
    command = [sys.executable, "-X", "importtime", str(SCRIPT), str(run), "why", "nobody.txt"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, encoding="utf-8")
    assert result.returncode == DataError.exit_code == 65
    lines = [line for line in result.stderr.splitlines() if not line.startswith("import time:")]
    assert len(lines) == 1 and lines[0].startswith("error[E020]: nobody.txt: no file of ")
    for heavy in ("torch", "pyarrow", "datasets", "numpy"):
        assert f"| {heavy}\n" not in result.stderr
    assert result.stdout == ""


def test_verify_finds_a_flipped_byte_that_nothing_else_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    corpus = tmp_path / "run" / "corpus"
    write_corpus_directory(corpus)
    with pytest.raises(UsageError, match="was not made by a run"):
        answer(capsys, tmp_path / "run", "verify")
    files = [path for path in corpus.iterdir() if path.is_file()]
    write_manifest(corpus, {"status": "complete", "files": describe_files(corpus, files)})
    (tmp_path / "run" / "settings.json").write_text("{}")
    dataset = tmp_path / "run" / "dataset"
    dataset.mkdir()
    write_manifest(dataset, {"status": "complete", "files": []})
    page = answer(capsys, tmp_path / "run", "verify")
    assert re.search(
        r"corpus: \d files, [\d.]+ kB, all as written\n.*dataset: 0 files, 0 B, all as written", page
    )
    victim = corpus / "collected_texts.jsonl"
    data = bytearray(victim.read_bytes())
    data[10] ^= 1
    victim.write_bytes(data)
    with pytest.raises(
        CorruptArtifactError, match=r"collected_texts.jsonl: its content changed .* makes corpus anew"
    ):
        answer(capsys, tmp_path / "run", "verify")


def test_verify_says_how_far_it_is_and_how_long_it_will_take(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    corpus = run / "corpus"
    (corpus / "large").write_bytes(bytes(3 * HASH_BLOCK_BYTES))
    files = [path for path in corpus.iterdir() if path.is_file()]
    write_manifest(corpus, {"status": "complete", "files": describe_files(corpus, files)})
    monkeypatch.setattr(core.progress, "SILENT_SECONDS", 0.0)
    monkeypatch.setattr(core.progress, "LINE_SECONDS", 0.0)
    assert INSPECT.main([str(corpus), "verify"]) == 0
    lines = re.findall(r"^checking corpus: +(\d+)%.*\[.*<.*B/s\]$", capsys.readouterr().err, re.MULTILINE)
    shares = list(map(int, lines))
    assert shares == sorted(shares) and shares[-1] == 100
    assert any(20 < share < 80 for share in shares)  # within the large file


@pytest.mark.parametrize("stage", ["dataset", "instructions"])
def test_verify_names_a_damaged_shard_and_how_to_repair_it_and_repair_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
):
    from pipeline.run import train_llm_from_scratch

    write_inputs(tmp_path)
    run = tmp_path / "run"
    train_llm_from_scratch(settings(tmp_path), selection=Selection(until="dataset"))
    train_llm_from_scratch(settings(tmp_path), selection=Selection(only="instructions"))
    shard = run / stage / "train" / "data-00000.arrow"
    written = shard.read_bytes()
    shard.write_bytes(written[:-9] + bytes([written[-9] ^ 1]) + written[-8:])
    with pytest.raises(
        CorruptArtifactError,
        match=rf"{stage}/train/data-00000\.arrow: its content .* verify --repair makes this",
    ):
        answer(capsys, run, "verify")
    page = answer(capsys, run, "verify", "--repair")
    assert page.startswith(f"{shard}: was damaged, made again\n{run / 'corpus'}: ")
    assert f"{run / stage}: " in page and page.count("all as written") == 3
    assert shard.read_bytes() == written
    assert answer(capsys, run, "verify", "--repair") == answer(capsys, run, "verify")
