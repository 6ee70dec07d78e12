"""The account of a collection."""

import json
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from data_processing.document import Document, Dropped
from data_processing.reports.report import REASONS, SAMPLES_PER_REASON, Kept, Ledger, group_of


def fill(ledger: Ledger) -> Ledger:
    document = Document.of(
        "Café \n", source="a.txt", metadata={"format": ".txt", "encoding": "windows-1252"}, num_bytes=6
    )
    ledger.keep(document, "Café")
    for n in range(5):
        ledger.drop(Dropped(f"{n}.md", "too_short", "2 characters", "hi", 2, ".md"))
    ledger.drop(Dropped("e.txt", "empty"))
    ledger.skip_directory(".git", "hidden")
    return ledger


def filled() -> Ledger:
    return fill(Ledger())


def test_documents_and_bytes_add_up():
    ledger = filled()
    ledger.check()
    assert (ledger.documents_in, ledger.kept, dict(ledger.dropped)) == (7, 1, {"too_short": 5, "empty": 1})
    # "Café \n" has 7 bytes in UTF-8, 6 in the file; cleaning takes 2.
    assert (ledger.bytes_in, ledger.bytes_kept, ledger.bytes_removed, ledger.bytes_around) == (16, 5, 2, -1)
    assert ledger.removed_by == {"cleaning": 2}
    assert ledger.formats[".md"] == {"documents_in": 5, "bytes_in": 10, "kept": 0, "bytes_kept": 0}


def test_only_the_first_samples_of_a_reason_are_kept():
    samples = filled().samples["too_short"]
    assert [sample["source"] for sample in samples] == ["0.md", "1.md", "2.md"]
    assert samples[0] == {"source": "0.md", "detail": "2 characters", "sample": "hi"}
    assert len(samples) == SAMPLES_PER_REASON


def test_adding_two_accounts_is_the_same_as_keeping_one():
    double = filled()
    double.add(filled())
    assert double.to_dict() == fill(filled()).to_dict()


def test_the_account_is_json_and_sorted():
    values = filled().to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert list(values["dropped"]) == sorted(values["dropped"])


def test_an_account_that_does_not_add_up_is_a_bug():
    ledger = filled()
    ledger.kept += 1
    with pytest.raises(AssertionError, match="documents do not add up"):
        ledger.to_dict()
    ledger.kept -= 1
    ledger.bytes_in += 1
    with pytest.raises(AssertionError, match="bytes do not add up: 17 in, 16 accounted"):
        ledger.check()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda ledger: ledger.groups.pop("."), "groups do not add up"),
        (lambda ledger: ledger.groups["."].dropped.clear(), r"group \. does not add up: .*'documents_in': 7"),
        (lambda ledger: ledger.groups["."].bytes_dropped.clear(), r"group \. does not add up"),
        (lambda ledger: ledger.languages.clear(), "languages do not add up"),
        (lambda ledger: ledger.lengths.clear(), "lengths do not add up"),
    ],
)
def test_parts_that_do_not_add_up_are_a_bug(spoil: Callable[[Ledger], object], message: str):
    ledger = filled()
    spoil(ledger)
    with pytest.raises(AssertionError, match=message):
        ledger.check()


def test_what_the_steps_removed_must_be_what_is_missing():
    document = Document.of("0123456789", source="a.txt")
    ledger = Ledger()
    ledger.keep(document, "01234", {"wrapper": 7, "personal_data": -2}, {"email": 1})
    assert ledger.removed_by == {"wrapper": 7, "personal_data": -2}
    assert (ledger.bytes_removed, ledger.counts) == (5, {"email": 1})
    ledger.check()
    with pytest.raises(AssertionError, match=r"a\.txt: \{'wrapper': 4\} removed of 10 bytes, 5 kept"):
        Ledger().keep(document, "01234", {"wrapper": 4})


def test_groups_count_what_became_of_each_source():
    ledger = filled()
    ledger.drop(Dropped("books/a.zip!b/c.txt", "binary", num_bytes=9))
    assert set(ledger.groups) == {".", "books"}
    top = ledger.groups["."]
    assert (top.documents_in, top.bytes_in, top.kept, top.bytes_kept) == (7, 16, 1, 5)
    assert top.dropped == {"too_short": 5, "empty": 1}
    assert ledger.groups["books"].dropped == {"binary": 1}


@pytest.mark.parametrize(
    ("source", "group"),
    [
        ("notes.txt", "."),
        ("text[3]", "."),
        ("", "."),
        ("books/austen/emma.txt", "books"),
        ("a.zip!b/c.txt", "."),
        ("packed/a.tar.gz!b/c.txt", "packed"),
        ("a.zip!b/c.zip!d/e.txt", "."),
        ("hurrah!/a.txt", "hurrah!"),
        ("/home/me/a.txt", "/home"),
        ("/a.txt", "."),
        ("https://quotes.example/1/2", "https://quotes.example"),
        ("https://quotes.example", "https://quotes.example"),
    ],
)
def test_the_group_of_a_source_is_its_first_directory(source: str, group: str):
    assert group_of(source) == group


def test_languages_lengths_and_encodings_are_of_kept_documents():
    ledger = Ledger()
    for text, metadata in (
        ("x" * 63, {"language": "de", "encoding": "utf-8"}),
        ("x" * 64, {"language": "de"}),
        ("é" * 127, {}),
        ("y = 1\n", {"code": True, "language": "en"}),
        ("", {"language": ""}),
    ):
        ledger.keep(Document.of(text, source="a.txt", metadata=metadata), text)
    assert ledger.languages == {
        "de": {"documents": 2, "bytes": 127},
        "unknown": {"documents": 2, "bytes": 254},
        "code": {"documents": 1, "bytes": 6},
    }
    assert ledger.lengths == {32: 1, 64: 2, 4: 1, 0: 1}
    assert ledger.encodings == {"utf-8": 1}
    assert list(ledger.to_dict()["lengths"]) == ["0", "4", "32", "64"]


def test_bytes_on_the_disk_are_those_before_unpacking():
    ledger = filled()
    ledger.unpack(packed_bytes=3, unpacked_bytes=10)
    ledger.unpack(packed_bytes=5, unpacked_bytes=2)  # a tar file is larger than what is in it
    values = ledger.to_dict()
    assert values["bytes_unpacked"] == 4
    assert values["bytes_on_disk"] + values["bytes_unpacked"] == values["bytes_in"]


def test_a_kept_record_can_be_dropped_after_all():
    document = Document.of("Café", source="books/a.txt", metadata={"format": ".txt"}, num_bytes=9)
    dropped = Kept.of(document, "Café").dropped("near_duplicate", "like b.txt", "Café")
    assert dropped == Dropped("books/a.txt", "near_duplicate", "like b.txt", "Café", 9, ".txt")


def test_an_account_of_another_version_is_refused():
    values = filled().to_dict()
    del values["removed_by"]
    with pytest.raises(DataError, match="'removed_by' is missing; it was written by an earlier version"):
        Ledger.from_dict(values)


def test_the_summary_says_what_was_left_out_and_what_changes_it():
    summary = filled().summary()
    assert "kept 1 of 7 documents" in summary
    assert "too_short 5 (fewer characters than data.min_text_length)" in summary
    assert "directories not entered: hidden 1" in summary


def test_every_setting_that_a_reason_names_exists():
    from core.data_config import DataConfig

    known = {row.key for row in DataConfig.settings_help("data.")}
    sections = {key.rpartition(".")[0] for key in known}
    for reason, meaning in REASONS.items():
        for word in meaning.replace("=", " ").replace(",", " ").replace(";", " ").split():
            if word.startswith("data."):
                assert word in known or word in sections, f"{reason}: {word}"


# --- accounts of shards ---

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
small = st.integers(0, 2000)
kept_records = st.builds(
    lambda source, format, language, kept, around, removed, counts: Kept(
        source,
        format,
        "utf-8",
        language,
        bytes_in=kept + sum(removed.values()) + around,
        bytes_read=kept + sum(removed.values()),
        bytes_kept=kept,
        characters=kept,
        removed=removed,
        counts=counts,
    ),
    st.sampled_from(["a.txt", "books/a.txt", "books/b.zip!c", "web/1"]) | names,
    st.sampled_from([".txt", ".md", ""]),
    st.sampled_from(["en", "de", "unknown", "code"]),
    small,
    st.integers(-5, 20),
    st.dictionaries(st.sampled_from(["cleaning", "wrapper"]), st.integers(-9, 99)),
    st.dictionaries(st.sampled_from(["email", "phone"]), st.integers(0, 9)),
)
dropped_records = st.builds(
    Dropped,
    st.sampled_from(["a.txt", "books/a.txt", "lost/x"]) | names,
    st.sampled_from(["empty", "too_short", "house_rule"]),
    names,
    names,
    small,
    st.sampled_from([".txt", ""]),
)
directories = st.tuples(names, st.sampled_from(["hidden", "symlink"]))
unpackings = st.tuples(small, small)
entries = st.one_of(kept_records, dropped_records, directories, unpackings)


def enter(ledger: Ledger, entry: object) -> None:
    if isinstance(entry, Kept | Dropped):
        ledger.enter(entry)
    elif isinstance(entry, tuple) and isinstance(entry[0], str):
        ledger.skip_directory(entry[0], entry[1])
    elif isinstance(entry, tuple):
        ledger.unpack(packed_bytes=entry[0], unpacked_bytes=entry[1])


@given(st.lists(st.lists(entries, max_size=8), max_size=5))
def test_accounts_of_shards_added_in_order_are_the_account_of_the_whole(shards: list[list[object]]):
    whole, sum_of_shards = Ledger(), Ledger()
    for shard in shards:
        part = Ledger()
        for entry in shard:
            enter(part, entry)
            enter(whole, entry)
        # Through a file, as between processes.
        sum_of_shards.add(Ledger.from_dict(json.loads(json.dumps(part.to_dict()))))
    assert sum_of_shards.to_dict() == whole.to_dict()
    assert sum_of_shards == whole


@given(st.lists(entries, max_size=20))
def test_an_account_survives_being_written_down(values: list[object]):
    ledger = Ledger()
    for entry in values:
        enter(ledger, entry)
    written = json.dumps(ledger.to_dict())
    read = Ledger.from_dict(json.loads(written))
    assert read == ledger
    assert json.dumps(read.to_dict()) == written


@given(st.lists(st.one_of(kept_records, dropped_records), max_size=20))
def test_the_parts_of_an_account_are_the_sums_over_its_records(records: list[Kept | Dropped]):
    ledger = Ledger()
    for record in records:
        ledger.enter(record)
    kept = [record for record in records if isinstance(record, Kept)]
    dropped = [record for record in records if isinstance(record, Dropped)]
    assert ledger.bytes_kept == sum(record.bytes_kept for record in kept)
    assert ledger.dropped == Counter(record.reason for record in dropped)
    assert ledger.bytes_in == sum(r.bytes_in for r in kept) + sum(r.num_bytes for r in dropped)
    assert ledger.counts.total() == sum(sum(record.counts.values()) for record in kept)
    for name, group in ledger.groups.items():
        mine = [record for record in kept if group_of(record.source) == name]
        assert (group.kept, group.bytes_kept) == (len(mine), sum(record.bytes_kept for record in mine))
        assert group.bytes_removed == sum(record.bytes_read - record.bytes_kept for record in mine)
        out = [record for record in dropped if group_of(record.source) == name]
        assert group.bytes_dropped.total() == sum(record.num_bytes for record in out)
        assert group.bytes_in == sum(record.bytes_in for record in mine) + group.bytes_dropped.total()
    ledger.check()
