"""Collecting: one corpus, one account."""

import doctest
import errno
import functools
import gzip
import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.data_config import DataConfig
from core.errors import DataError, DiskError
from core.files import Disk
from data_processing import data_collector
from data_processing.data_collector import DataCollector as AnyDataCollector
from data_processing.document import Document, Dropped
from data_processing.formats import readers, text_readers
from data_processing.sources.raw_files import RawFile
from data_processing.text_cleaner import TextCleaner

# The texts of these tests differ in one word and would be near duplicates.
DataCollector = functools.partial(
    AnyDataCollector,
    config=DataConfig.from_dict({"duplicates": {"near": "off"}, "num_workers": 1}),
    cleaner=TextCleaner(),
)

TEXT = "A sentence that is long enough to be kept by the default limits of the cleaner, number {}."


def corpus(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def report(collector: AnyDataCollector) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(collector.report_path.read_text(encoding="utf-8"))
    return result


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A directory with something of everything."""
    root = tmp_path / "raw"
    (root / "sub").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "a.txt").write_bytes(TEXT.format(1).encode() + b"  \r\n\r\n\r\n\r\n\r\nThe end.\r\n")
    (root / "b.md").write_bytes("\ufeff# Titel\n".encode() + TEXT.format(2).encode())
    (root / "latin.txt").write_bytes((TEXT.format("trois, déjà vu à l'été") + " ").encode("latin-1"))
    (root / "code.py").write_text("def f(x):  \n\n\n\n\n\n    return x + 1  # " + TEXT.format(3) + "\n")
    (root / "same.txt").write_text(TEXT.format(1) + "\n\n\nThe end.")
    (root / "short.txt").write_text("short")
    (root / "blank.txt").write_text(" \n\t")
    (root / "empty.txt").write_text("")
    (root / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (root / "binary.txt").write_bytes(b"\x00" * 100)
    (root / "sub" / "lines.jsonl").write_text(
        json.dumps({"text": TEXT.format(4), "url": "u"})
        + '\n{"text": \n'
        + json.dumps({"body": "x"})
        + "\n\n"
    )
    (root / "sub" / "array.json").write_text(json.dumps([TEXT.format(5), {"text": TEXT.format(6)}], indent=1))
    (root / ".git" / "config.txt").write_text(TEXT.format(7))
    os.mkfifo(root / "pipe.txt")
    (root / "link.txt").symlink_to("/etc/passwd")
    return root


def test_a_directory_becomes_a_corpus_in_order_of_path(raw: Path, tmp_path: Path):
    path = DataCollector(tmp_path / "out").collect_from_directory(raw)
    assert path == tmp_path / "out" / "collected_texts.jsonl"
    records = corpus(path)
    assert [record["source"] for record in records] == [
        *(
            "a.txt",
            "b.md",
            "code.py",
            "latin.txt",
            "sub/array.json[0]",
            "sub/array.json[1]",
            "sub/lines.jsonl:1",
        ),
    ]
    assert list(records[0]) == ["text", "id", "source", "metadata"]
    assert records[0]["text"] == TEXT.format(1) + "\n\n\nThe end."
    assert records[2]["text"] == (raw / "code.py").read_text()
    assert records[3]["text"] == TEXT.format("trois, déjà vu à l'été")
    assert records[6]["metadata"]["fields"] == {"url": "u"}


def test_documents_in_are_kept_or_dropped_for_a_reason_and_every_byte_on_disk_is_accounted_for(
    raw: Path, tmp_path: Path
):
    collector = DataCollector(tmp_path / "out")
    path = collector.collect_from_directory(raw)
    account = report(collector)
    assert account["dropped"] == {
        "binary": 2,
        "duplicate": 1,
        "empty": 2,
        "link_outside": 1,
        "malformed_json": 1,
        "no_text_field": 1,
        "not_a_file": 1,
        "too_short": 1,
    }
    assert account["directories_skipped"] == {"hidden": 1}
    assert account["documents_in"] == account["kept"] + sum(account["dropped"].values())
    files = [f for f in raw.rglob("*") if f.is_file() and not f.is_symlink() and ".git" not in f.parts]
    assert account["bytes_in"] == sum(f.stat().st_size for f in files)
    assert account["bytes_kept"] == sum(len(record["text"].encode()) for record in corpus(path))
    assert account["bytes_in"] == (
        account["bytes_kept"]
        + sum(account["bytes_dropped"].values())
        + account["bytes_removed"]
        + account["bytes_around"]
    )
    assert account["encodings"] == {"utf-8": 6, "windows-1252": 1}
    assert account["samples"]["too_short"] == [
        {"source": "short.txt", "detail": "5 characters, fewer than 50", "sample": "short"}
    ]
    assert account["samples"]["malformed_json"][0]["source"] == "sub/lines.jsonl:2"


def files_of(collector: AnyDataCollector) -> list[dict[str, Any]]:
    return corpus(collector.output_dir / "files.jsonl")


def assert_files_add_up(collector: AnyDataCollector) -> None:
    """Each line of files.jsonl adds up, the lines of a source give its account, and all lines that of everything."""
    account, files = report(collector), files_of(collector)
    parts = {".": [f for f in files if "/" not in f["source"]]}
    for file in files:
        assert file["documents_in"] == file["kept"] + sum(file["dropped"].values())
        around = file["bytes_removed"] + file["bytes_around"]
        assert file["bytes_in"] == file["bytes_kept"] + sum(file["bytes_dropped"].values()) + around
        if "/" in file["source"]:
            parts.setdefault(file["source"].partition("/")[0], []).append(file)
    for lines, whole in [
        (files, account),
        *((parts[name], group) for name, group in account["groups"].items()),
    ]:
        for name in ("documents_in", "bytes_in", "kept", "bytes_kept"):
            assert sum(file[name] for file in lines) == whole[name]
        for name in ("dropped", "bytes_dropped"):
            added = sum((Counter(file[name]) for file in lines), Counter())
            assert added == +Counter(whole[name])
    assert sum(file["num_bytes"] for file in files) == account["bytes_on_disk"]


def test_each_file_that_was_found_has_a_line_read_or_not_and_all_lines_are_the_account(
    raw: Path, tmp_path: Path
):
    (raw / "sub" / "no.log").write_text(TEXT.format(8))
    (raw / "sub" / "ignored.txt").write_text(TEXT.format(9))
    (raw / "sub" / ".gitignore").write_text("ignored.txt\n")
    (raw / "gone.txt").symlink_to("nowhere")
    (raw / "packed.txt.gz").write_bytes(gzip.compress(TEXT.format(10).encode() * 50))
    config = DataConfig.from_dict(
        {"exclude": ["*.log"], "respect_gitignore": True, "num_workers": 1, "duplicates": {"near": "off"}}
    )
    collector = AnyDataCollector(tmp_path / "out", config=config, forgotten={"b.md"})
    collector.collect_from_directory(raw)
    files = files_of(collector)
    names = [
        os.path.relpath(os.path.join(place, name), raw)  # noqa: PTH118
        for place, _, inside in os.walk(raw)
        for name in inside
        if ".git" not in Path(place).parts
    ]
    assert sorted(file["source"] for file in files) == sorted(names)
    unread = {file["source"]: next(iter(file["dropped"])) for file in files if not file["read"]}
    assert unread == {
        "b.md": "forgotten",
        "empty.txt": "empty",
        "gone.txt": "broken_link",
        "link.txt": "link_outside",
        "pipe.txt": "not_a_file",
        "sub/.gitignore": "hidden",
        "sub/ignored.txt": "ignored_by_git",
        "sub/no.log": "excluded",
    }
    assert_files_add_up(collector)


def test_files_of_the_same_name_from_two_directories_are_told_apart(tmp_path: Path):
    collector = DataCollector(tmp_path / "out", forgotten={"(2)/letters/gone.txt"})
    for number in range(3):
        letters = tmp_path / f"raw{number}" / "letters"
        letters.mkdir(parents=True)
        (letters / "1998.txt").write_text(TEXT.format(number) * (number + 1))
        (letters / "gone.txt").write_text(TEXT.format(f"of {number} that is gone"))
        (letters / f"only{number}.txt").write_text("short")
        (letters / "empty.txt").write_text("")
        collector.collect_from_directory(letters.parent)
    prefixes = ["", "(2)/", "(3)/"]
    own = [f"{prefix}letters/{name}.txt" for prefix in prefixes for name in ("1998", "empty", "gone")]
    only = [f"letters/only{number}.txt" for number in range(3)]
    files = {file["source"]: file for file in files_of(collector)}
    assert len(files_of(collector)) == 12
    assert sorted(files) == sorted(own + only)
    sizes = [files[f"{prefix}letters/1998.txt"]["num_bytes"] for prefix in prefixes]
    assert sizes == [len(TEXT.format(0)) * times for times in (1, 2, 3)]
    gone = [source for source, file in files.items() if file["dropped"].get("forgotten")]
    assert gone == ["(2)/letters/gone.txt"]
    assert report(collector)["bytes_unpacked"] == 0
    assert_files_add_up(collector)


def test_a_file_that_is_named_twice_has_two_lines(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text(TEXT.format(1))
    collector = DataCollector(tmp_path / "out")
    collector.collect_from_files([path, path])
    assert [file["source"] for file in files_of(collector)] == [str(path), f"(2){path}"]
    assert [file["dropped"] for file in files_of(collector)] == [{}, {"duplicate": 1}]
    assert report(collector)["bytes_unpacked"] == 0


def test_the_same_data_gives_the_same_bytes_wherever_it_lies(raw: Path, tmp_path: Path):
    first = DataCollector(tmp_path / "one")
    first.collect_from_directory(raw)
    moved = raw.rename(tmp_path / "elsewhere")
    second = DataCollector(tmp_path / "two")
    second.collect_from_directory(moved)
    assert first.corpus_path.read_bytes() == second.corpus_path.read_bytes()
    assert first.report_path.read_bytes() == second.report_path.read_bytes()


def test_several_calls_make_one_corpus_without_duplicates_between_them(raw: Path, tmp_path: Path):
    collector = DataCollector(tmp_path / "out")
    collector.collect_from_directory(raw)
    before = corpus(collector.corpus_path)
    path = collector.collect_from_texts([TEXT.format(2), TEXT.format("new"), TEXT.format(4)])
    collector.collect_from_texts([TEXT.format("newer")])
    after = corpus(path)
    assert after[: len(before)] == before
    assert [record["source"] for record in after[len(before) :]] == ["text[0]", "text[1]", "text[3]"]
    account = report(collector)
    assert (account["kept"], account["dropped"]["duplicate"]) == (len(after), 2)
    assert account["bytes_kept"] == sum(len(record["text"].encode()) for record in after)


def test_a_new_collector_on_the_same_directory_starts_anew(tmp_path: Path):
    DataCollector(tmp_path).collect_from_texts([TEXT.format(1)])
    path = DataCollector(tmp_path).collect_from_texts([TEXT.format(2)])
    assert [record["text"] for record in corpus(path)] == [TEXT.format(2)]


def test_duplicates_stay_when_they_are_wanted(tmp_path: Path):
    path = AnyDataCollector(tmp_path, remove_duplicates=False).collect_from_texts([TEXT.format(1)] * 3)
    assert len(corpus(path)) == 3
    assert len({record["id"] for record in corpus(path)}) == 3


def test_named_files_and_a_jsonl_file_of_any_name_are_read(raw: Path, tmp_path: Path):
    collector = DataCollector(tmp_path / "out", text_field="body")
    collector.collect_from_files([raw / "b.md", str(raw / "a.txt")])
    data = tmp_path / "records.data"
    data.write_text(json.dumps({"body": TEXT.format(9)}))
    path = collector.collect_from_jsonl(data)
    sources = [record["source"].rpartition("/")[2] for record in corpus(path)]
    assert sources == ["b.md", "a.txt", "records.data:1"]


def test_a_corpus_inside_the_raw_directory_is_not_collected_again(raw: Path):
    first = DataCollector(raw)
    first.collect_from_directory(raw)
    second = DataCollector(raw)
    second.collect_from_directory(raw)
    assert report(second) == report(first) == json.loads(first.report_path.read_text())
    assert second.ledger.kept == 7


@pytest.mark.parametrize("broken", ["caller", "disk"])
def test_a_call_that_fails_changes_nothing_and_can_be_repeated(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
):
    collector = DataCollector(tmp_path / "out")
    collector.collect_from_texts([TEXT.format(1)])
    before = (collector.corpus_path.read_bytes(), collector.report_path.read_bytes())

    def fails() -> Iterator[Document]:
        yield Document.of(TEXT.format(2), source="x")
        if broken == "caller":
            raise RuntimeError("broken")

    if broken == "disk":

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Disk, "sync_file", full)
    with pytest.raises(DiskError if broken == "disk" else RuntimeError):
        collector.collect_documents(fails())
    assert (collector.corpus_path.read_bytes(), collector.report_path.read_bytes()) == before
    assert sorted(path.name for path in collector.output_dir.iterdir() if path.name != ".cache") == [
        *("collected_texts.jsonl", "collection_report.json", "dropped.jsonl", "duplicates.jsonl"),
        "files.jsonl",
    ]
    monkeypatch.undo()
    path = collector.collect_documents([Document.of(TEXT.format(2), source="x")])
    assert len(corpus(path)) == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "unreadable"),
        (FileNotFoundError(2, "gone"), "vanished"),
        (OSError(5, "Input/output error"), "unreadable"),
    ],
)
def test_a_file_that_the_system_refuses_is_counted_and_the_rest_goes_on(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, reason: str
):
    real = readers.open_raw

    def refuse(file: RawFile) -> Any:
        if file.source == "b.md":
            raise error
        return real(file)

    monkeypatch.setattr(readers, "open_raw", refuse)
    collector = DataCollector(tmp_path / "out")
    collector.collect_from_directory(raw)
    assert (collector.ledger.dropped[reason], collector.ledger.kept) == (1, 6)
    assert collector.ledger.bytes_dropped[reason] == (raw / "b.md").stat().st_size
    assert collector.ledger.samples[reason][0]["source"] == "b.md"


def test_a_pipe_in_the_directory_does_not_block(raw: Path, tmp_path: Path):
    worker = threading.Thread(
        target=DataCollector(tmp_path / "out").collect_from_directory, args=(raw,), daemon=True
    )
    worker.start()
    worker.join(timeout=20)
    assert not worker.is_alive()


def test_special_token_text_is_ordinary_text(tmp_path: Path):
    text = (
        "<s> <|im_end|> <|user|> are only characters in a text that somebody wrote about language models </s>"
    )
    assert corpus(DataCollector(tmp_path).collect_from_texts([text]))[0]["text"] == text


def test_hostile_characters_give_lines_that_every_json_reader_takes(tmp_path: Path):
    generator = random.Random(0)
    texts = [
        "".join(
            chr(generator.choice([0x2028, 0x85, 0xD800, 0xDC00, 0, 0x41, 0x1F600, 0x300])) for _ in range(300)
        )
        for _ in range(20)
    ]
    documents = [Document.of(t, source=f"s{n}", metadata={"note": "\ud800"}) for n, t in enumerate(texts)]
    path = DataCollector(tmp_path).collect_documents(documents)
    import pyarrow.json

    assert pyarrow.json.read_json(path).num_rows == 20


def test_nothing_kept_says_what_was_searched_what_was_found_and_which_setting_to_change(tmp_path: Path):
    raw = tmp_path / "raw"
    raw.mkdir()
    collector = DataCollector(tmp_path / "out")
    with pytest.raises(
        DataError,
        match=r"raw: nothing was found, expected .* put raw files there \(.*\.jsonl .*\.pdf .*, source code, and "
        r"archives .*\), or set data\.raw_dir",
    ):
        collector.collect_from_directory(raw)
    (raw / "a.txt").write_text("short")
    (raw / "b.exe").write_bytes(b"MZ\0\0")
    with pytest.raises(DataError) as caught:
        collector.collect_from_directory(raw)
    message = str(caught.value)
    assert "too_short 1 (fewer characters than data.min_text_length)" in message
    assert "too_short: a.txt (5 characters, fewer than 50)" in message
    assert not collector.corpus_path.exists()
    assert report(collector)["dropped"] == {"binary": 1, "too_short": 1}


def test_only_skipped_directories_are_named_when_nothing_was_found(tmp_path: Path):
    (tmp_path / "raw" / "sub").mkdir(parents=True)
    with pytest.raises(DataError, match="directories not entered: not_recursive 1"):
        DataCollector(tmp_path / "out").collect_from_directory(tmp_path / "raw", recursive=False)


def test_mistakes_of_the_caller_are_named_before_anything_is_written(tmp_path: Path):
    collector = DataCollector(tmp_path / "out")
    with pytest.raises(DataError, match="no such directory"):
        collector.collect_from_directory(tmp_path / "missing")
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError, match="is a file, expected a directory"):
        collector.collect_from_directory(tmp_path / "file.txt")
    with pytest.raises(DataError, match="no such file"):
        collector.collect_from_files([tmp_path / "missing.txt"])
    with pytest.raises(DataError, match="no such file"):
        collector.collect_from_jsonl(tmp_path / "missing.jsonl")
    with pytest.raises(DataError, match="texts is a single str, expected several"):
        collector.collect_from_texts("one text")
    with pytest.raises(DataError, match="paths is a single str"):
        collector.collect_from_files("a.txt")
    with pytest.raises(DataError, match="define collect_from_api"):
        collector.collect_from_api()
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=r"texts\[1\] is int, expected str"):
        collector.collect_from_texts([TEXT, 7])  # type: ignore[list-item]
    with pytest.raises(DataError, match=r"s: metadata is not JSON .*set"):
        collector.collect_documents([Document.of(TEXT, source="s", metadata={"x": {1}})])


def test_a_damaged_jsonl_file_stops_the_collection(tmp_path: Path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "bad.jsonl").write_text("{\n" * 30)
    with pytest.raises(DataError, match=r"bad\.jsonl:1: .*30 malformed records among 30"):
        DataCollector(tmp_path / "out").collect_from_directory(tmp_path / "raw")


def test_a_dropped_item_from_a_subclass_is_counted_with_its_own_reason(tmp_path: Path):
    collector = DataCollector(tmp_path)
    collector.collect_documents([Document.of(TEXT, source="a"), Dropped("b", "my_reason", num_bytes=3)])
    assert report(collector)["dropped"] == {"my_reason": 1}


def test_a_cleaner_of_ones_own_decides(tmp_path: Path):
    class NoQuestions(TextCleaner):
        def reason_to_drop(self, text: str) -> str | None:
            return "question" if text.endswith("?") else super().reason_to_drop(text)

    collector = DataCollector(tmp_path, cleaner=NoQuestions(min_length=1))
    collector.collect_from_texts(["Why?", "Because."])
    assert report(collector)["dropped"] == {"question": 1}


def test_the_example_in_the_docstring_works(tmp_path: Path):
    globs = {"DataCollector": AnyDataCollector, "Document": Document, "output_dir": tmp_path}
    [test] = doctest.DocTestFinder(recurse=False).find(AnyDataCollector, globs=globs)
    result = doctest.DocTestRunner().run(test)
    assert (result.failed, result.attempted) == (0, 3)
    assert len(corpus(tmp_path / "collected_texts.jsonl")) == 2


def test_collecting_needs_no_tensor_library():
    code = (
        "import sys, data_processing.data_collector, data_processing.sources.default_corpus;"
        "print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    root = Path(data_collector.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.fault
def test_a_text_of_200_megabytes_in_one_line_passes_in_bounded_memory(tmp_path: Path):
    (tmp_path / "raw").mkdir()
    with (tmp_path / "raw" / "line.txt").open("wb") as file:
        for _ in range(200):
            file.write(b"one long line, " * 66_667)
    code = (
        "import sys; from core.data_config import DataConfig;"
        "from data_processing.data_collector import DataCollector;"
        "config = DataConfig.from_dict({'num_workers': 1, 'duplicates': {'near': 'off'}});"
        "DataCollector(sys.argv[1] + '/out', config=config).collect_from_directory(sys.argv[1] + '/raw');"
        "status = open('/proc/self/status').read();"
        "print(status.partition('VmHWM:')[2].split()[0])"
    )
    root = Path(data_collector.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=root, check=True, capture_output=True, text=True
    )
    # Not a limit of the address space, of which libraries reserve a gigabyte and use none; and not ru_maxrss, which a
    # child takes over from the process that started it.
    assert int(done.stdout) < 600_000, "kilobytes; the text has 200,000"
    size = (tmp_path / "raw" / "line.txt").stat().st_size
    assert len(corpus(tmp_path / "out" / "collected_texts.jsonl")) == -(-size // text_readers.PART_BYTES)


@pytest.mark.skipif("BLOOMERY_REAL_DATA" not in os.environ, reason="needs the real data")
def test_the_real_data_is_read_whole(tmp_path: Path):
    root = Path(os.environ["BLOOMERY_REAL_DATA"])
    config = DataConfig.from_dict({"duplicates": {"near": "off"}})
    collector = AnyDataCollector(tmp_path, TextCleaner(max_urls=None), config=config)
    for name in ("books", "markdown", "text"):
        collector.collect_from_directory(root / name)
    assert set(collector.ledger.dropped) <= {"too_short"}
    assert collector.ledger.encodings["windows-1252"] >= 1
    files = [f for name in ("books", "markdown", "text") for f in (root / name).rglob("*") if f.is_file()]
    assert collector.ledger.bytes_in == sum(f.stat().st_size for f in files)
