"""Why a file was left out or kept, and samples of a reason."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import CorruptArtifactError, DataError
from core.files import write_json
from data_processing.data_collector import DataCollector
from data_processing.reports.inspect_corpus import (
    Places,
    find_places,
    resolve_source,
    sample,
    why,
)
from tests.data_processing.reported_corpus import (
    BIDI_NAME,
    CLUSTER,
    HIDDEN_NAME,
    PIPE_NAME,
    SCRIPT_NAME,
    write_corpus_directory,
    write_lines,
)
from tests.small_texts import make_documents


@pytest.fixture
def places(tmp_path: Path) -> Places:
    write_corpus_directory(tmp_path / "corpus")
    return find_places(tmp_path)


# --- where things are ---


def test_a_run_and_its_corpus_stand_for_the_same_places(tmp_path: Path, places: Places):
    assert places == Places(tmp_path / "corpus", tmp_path, tmp_path / "dataset")
    assert find_places(tmp_path / "corpus") == places
    # The corpus that was named is the one that is meant, whatever the run beside it was told later.
    write_json(tmp_path / "settings.json", {"data": {"output_dir": "elsewhere"}})
    assert find_places(tmp_path / "corpus") == places


def test_a_corpus_somewhere_else_belongs_to_no_run(tmp_path: Path, places: Places):
    (tmp_path / "corpus").rename(tmp_path / "texts")
    assert find_places(tmp_path / "texts") == Places(tmp_path / "texts")


def test_the_places_that_a_runs_settings_name_are_taken(tmp_path: Path, places: Places):
    run = tmp_path / "run"
    run.mkdir()
    write_json(
        run / "settings.json",
        {"data": {"output_dir": str(tmp_path / "corpus"), "dataset_dir": str(tmp_path / "d")}},
    )
    assert find_places(run) == Places(tmp_path / "corpus", run, tmp_path / "d")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "expected the directory of a run or of a corpus .*, found nothing"),
        (lambda path: path.mkdir(), "found an empty directory"),
        (lambda path: path.write_text(""), "found a file"),
        (lambda path: (path / "x").mkdir(parents=True), "found x"),
        (
            lambda path: (path.mkdir(), write_json(path / "settings.json", {"data": {}})),
            r"no corpus was collected there yet; run the line first",
        ),
    ],
)
def test_a_directory_without_a_corpus_is_named(tmp_path: Path, make: Callable[[Path], object], message: str):
    make(tmp_path / "run")
    with pytest.raises(DataError, match=message):
        find_places(tmp_path / "run")


# --- why ---


def test_a_file_of_records_tells_what_became_of_each(places: Places):
    account = why(places, "records.jsonl")
    assert account.source == "records.jsonl"
    assert account.file is not None and account.file["dropped"] == {"too_short": 2}
    assert [dropped["source"] for dropped in account.dropped] == ["records.jsonl:1", "records.jsonl:2"]
    assert account.clusters == []


def test_a_document_of_it_tells_of_itself(places: Places):
    account = why(places, "records.jsonl:2")
    assert [dropped["detail"] for dropped in account.dropped] == ["3 characters, fewer than 50"]
    assert account.file is not None and account.file["source"] == "records.jsonl"
    assert why(places, "records.jsonl:3").dropped == []


def test_a_file_that_was_left_out_unread_is_known(places: Places):
    account = why(places, HIDDEN_NAME)
    assert account.file is not None
    assert (account.file["read"], account.file["dropped"]) == (False, {"hidden": 1})
    assert [dropped["reason"] for dropped in account.dropped] == ["hidden"]


def test_the_cluster_of_a_file_is_told(places: Places):
    assert [cluster["cluster"] for cluster in why(places, "books/iron-again.txt").clusters] == [CLUSTER]


def test_a_name_is_not_taken_for_the_beginning_of_another(places: Places):
    assert [d["source"] for d in why(places, "books/iron.txt").dropped] == []
    lines = [
        {"source": f"a.txt{rest}", "reason": "empty"}
        for rest in (".bak", ":7", "[0]", "#part=2", "!b.txt", "x:1")
    ]
    write_lines(places.corpus / "dropped.jsonl", lines)
    write_lines(places.corpus / "files.jsonl", [{**why(places, SCRIPT_NAME).file, "source": "a.txt"}])  # type: ignore[dict-item]
    assert [d["source"] for d in why(places, "a.txt").dropped] == [
        "a.txt:7",
        "a.txt[0]",
        "a.txt#part=2",
        "a.txt!b.txt",
    ]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        (SCRIPT_NAME, SCRIPT_NAME),
        (f"./{SCRIPT_NAME}", SCRIPT_NAME),
        (BIDI_NAME, BIDI_NAME),
        (PIPE_NAME, PIPE_NAME),
        ("iron.txt", "books/iron.txt"),
        ("/data/raw/books/iron.txt", "books/iron.txt"),
        ("/data/raw/records.jsonl:3", "records.jsonl:3"),
        ("only.txt", "lost/only.txt"),
    ],
)
def test_a_path_that_ends_like_one_file_alone_is_understood(places: Places, name: str, source: str):
    assert resolve_source(places, name) == source


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "iron.text",
            r"iron\.text: no file of .* is called so; did you mean 'iron\.txt'\?; names are relative",
        ),
        ("books/irn.txt", r"did you mean 'books/iron\.txt'\?"),
        ("on.txt", r"no file of .* is called so; names that hold it: books/iron\.txt; names are"),
        ("records.jsonl:9", r"records\.jsonl has no document :9; leave out the place"),
        ("", "the name of the file is empty"),
        ("/", "the name of the file is empty"),
        ("books/", r"books: no file of .* is called so; names that hold it: books/"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(places: Places, name: str, message: str):
    with pytest.raises(DataError, match=message):
        why(places, name)


def test_a_name_of_several_files_is_refused(places: Places):
    file = why(places, SCRIPT_NAME).file
    assert file is not None
    write_lines(places.corpus / "files.jsonl", [{**file, "source": f"{part}/a.txt"} for part in "pq"])
    with pytest.raises(DataError, match=r"a\.txt: 2 files are called so \(p/a\.txt, q/a\.txt\); name one"):
        why(places, "a.txt")


@pytest.fixture
def archives(tmp_path: Path) -> Places:
    """A corpus of two archives, one of which holds the other; one member holds two records."""
    texts = make_documents(4)
    inner, outer = tmp_path / "raw" / "inner.zip", tmp_path / "raw" / "more.zip"
    inner.parent.mkdir()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a/same.txt", texts[0])
        archive.writestr("a/only.txt", texts[1])
        archive.writestr("records.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts[2:]))
    with zipfile.ZipFile(outer, "w") as archive:
        archive.write(inner, "kept/nested.zip")
        archive.writestr("b/same.txt", "short")
        archive.writestr("b/notsame.txt", "short")
    DataCollector(tmp_path / "zipped").collect_from_directory(inner.parent)
    return find_places(tmp_path / "zipped")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("inner.zip!a/only.txt", "inner.zip!a/only.txt"),
        ("notsame.txt", "more.zip!b/notsame.txt"),
        ("b/same.txt", "more.zip!b/same.txt"),
        ("nested.zip", "more.zip!kept/nested.zip"),
        ("more.zip!kept/nested.zip", "more.zip!kept/nested.zip"),
        ("more.zip!kept/nested.zip!records.jsonl", "more.zip!kept/nested.zip!records.jsonl"),
        ("/home/me/raw/more.zip!b/same.txt", "more.zip!b/same.txt"),
        ("inner.zip", "inner.zip"),  # a file goes before members
    ],
)
def test_a_member_of_an_archive_is_known_by_its_own_name(archives: Places, name: str, source: str):
    account = why(archives, name)
    assert account.source == source
    assert account.file is not None and account.file["source"] == source.partition("!")[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "same.txt",
            r"several members of archives are called so; name one of them in full: ('\w+.zip![^']+same.txt',? ?){3}$",
        ),
        ("ame.txt", r"ame\.txt: no file of .* is called so"),
        ("more.zip!gone.txt", r"more\.zip has no document !gone\.txt"),
    ],
)
def test_a_member_that_is_not_alone_or_not_there_is_refused(archives: Places, name: str, message: str):
    with pytest.raises(DataError, match=message):
        why(archives, name)


def test_an_archive_lists_its_members_and_other_files_do_not(archives: Places, places: Places):
    account = why(archives, "inner.zip")
    assert account.kept == [
        *(
            "inner.zip!a/same.txt",
            "inner.zip!a/only.txt",
            "inner.zip!records.jsonl:1",
            "inner.zip!records.jsonl:2",
        )
    ]
    assert why(archives, "inner.zip!records.jsonl").kept == []
    assert why(places, "records.jsonl").kept == []


def test_what_is_to_be_forgotten_is_a_document_or_a_file_and_nothing_between(archives: Places):
    assert resolve_source(archives, "notsame.txt") == "more.zip!b/notsame.txt"
    with pytest.raises(
        DataError, match=r"more\.zip!kept/nested\.zip holds several documents; name them one by one"
    ):
        resolve_source(archives, "kept/nested.zip")
    with pytest.raises(DataError, match=r"more\.zip has no document !kept/nested\.zip"):
        resolve_source(archives, "more.zip!kept/nested.zip")


def test_a_corpus_without_lists_beside_it_is_refused(places: Places):
    (places.corpus / "files.jsonl").unlink()
    with pytest.raises(DataError, match=r"holds no files\.jsonl; it was collected by an earlier version"):
        why(places, "a.txt")


def test_a_damaged_list_is_named(places: Places):
    (places.corpus / "files.jsonl").write_text('{"source": "books/iron.txt"\n')
    with pytest.raises(CorruptArtifactError, match=r"files\.jsonl: a line is not JSON"):
        why(places, "books/iron.txt")


# --- samples ---


def test_samples_of_a_reason_are_the_same_every_time_and_from_all_over(places: Places):
    report = json.loads((places.corpus / "collection_report.json").read_text())
    write_json(
        places.corpus / "collection_report.json", {**report, "dropped": {"too_short": 1000, "empty": 10}}
    )
    write_lines(
        places.corpus / "dropped.jsonl",
        [
            # A text may talk of another reason.
            {
                "source": f"{n}.txt",
                "reason": "empty" if n % 100 == 0 else "too_short",
                "sample": '"too_short" "empty"',
            }
            for n in range(1000)
        ],
    )
    chosen = sample(places, "too_short", 8)
    assert sample(places, "too_short", 8) == chosen
    assert {one["reason"] for one in chosen} == {"too_short"}
    numbers = [int(one["source"].removesuffix(".txt")) for one in chosen]
    assert numbers == sorted(numbers) and numbers[0] < 500 < numbers[-1]
    assert len(sample(places, "empty", 50)) == 10


def test_a_reason_that_left_nothing_out_is_answered_with_those_that_did(places: Places):
    with pytest.raises(
        DataError, match=r"too_shrt: nothing .* did you mean 'too_short'\? \(reasons: empty, hidden"
    ):
        sample(places, "too_shrt", 3)


def test_a_document_that_came_from_no_file_is_known_by_its_own_name(tmp_path: Path):
    collector = DataCollector(tmp_path / "corpus")
    collector.collect_from_texts([*make_documents(2), "short"])
    places = find_places(tmp_path / "corpus")
    account = why(places, "text[1]")
    assert account.file is not None
    assert (account.file["kept"], account.dropped) == (1, [])
    assert why(places, "text[2]").dropped[0]["reason"] == "too_short"
    with pytest.raises(DataError, match=r"text has no document \[3\]"):
        why(places, "text[3]")


def test_files_of_one_name_from_two_directories_name_each_other(tmp_path: Path):
    collector = DataCollector(tmp_path / "corpus")
    for number, text in enumerate([*make_documents(1), "short"]):
        (tmp_path / f"raw{number}" / "letters").mkdir(parents=True)
        (tmp_path / f"raw{number}" / "letters" / "1998.txt").write_text(text)
        (tmp_path / f"raw{number}" / f"{number}.txt").write_text("short")
        collector.collect_from_directory(tmp_path / f"raw{number}")
    places = find_places(tmp_path / "corpus")
    first, second = (why(places, name) for name in ("letters/1998.txt", "(2)/letters/1998.txt"))
    assert (first.namesakes, second.namesakes) == (["(2)/letters/1998.txt"], ["letters/1998.txt"])
    assert (first.dropped, [one["reason"] for one in second.dropped]) == ([], ["too_short"])
    assert why(places, "0.txt").namesakes == []
    with pytest.raises(DataError, match=r"1998\.txt: 2 files are called so"):
        why(places, "1998.txt")
