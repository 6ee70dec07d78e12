"""The account of a collection."""

import json

import pytest

from data_processing.document import Document, Dropped
from data_processing.report import SAMPLES_PER_REASON, Ledger


def filled() -> Ledger:
    ledger = Ledger()
    document = Document.of(
        "Café \n", source="a.txt", metadata={"format": ".txt", "encoding": "windows-1252"}, num_bytes=6
    )
    ledger.keep(document, "Café")
    for n in range(5):
        ledger.drop(Dropped(f"{n}.md", "too_short", "2 characters", "hi", 2, ".md"))
    ledger.drop(Dropped("e.txt", "empty"))
    ledger.skip_directory(".git", "hidden")
    return ledger


def test_documents_and_bytes_add_up():
    ledger = filled()
    ledger.check()
    assert (ledger.documents_in, ledger.kept, dict(ledger.dropped)) == (7, 1, {"too_short": 5, "empty": 1})
    # "Café \n" has 7 bytes in UTF-8, 6 in the file; cleaning takes 2.
    assert (ledger.bytes_in, ledger.bytes_kept, ledger.bytes_removed, ledger.bytes_around) == (16, 5, 2, -1)
    assert ledger.formats[".md"] == {"documents_in": 5, "bytes_in": 10, "kept": 0, "bytes_kept": 0}


def test_only_the_first_samples_of_a_reason_are_kept():
    samples = filled().samples["too_short"]
    assert [sample["source"] for sample in samples] == ["0.md", "1.md", "2.md"]
    assert samples[0] == {"source": "0.md", "detail": "2 characters", "sample": "hi"}
    assert len(samples) == SAMPLES_PER_REASON


def test_adding_two_accounts_is_the_same_as_keeping_one():
    double = filled()
    double.add(filled())
    one = filled()
    document = Document.of(
        "Café \n", source="a.txt", metadata={"format": ".txt", "encoding": "windows-1252"}, num_bytes=6
    )
    one.keep(document, "Café")
    for n in range(5):
        one.drop(Dropped(f"{n}.md", "too_short", "2 characters", "hi", 2, ".md"))
    one.drop(Dropped("e.txt", "empty"))
    one.skip_directory(".git", "hidden")
    assert double.to_dict() == one.to_dict()


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


def test_the_summary_says_what_was_left_out_and_what_changes_it():
    summary = filled().summary()
    assert "kept 1 of 7 documents" in summary
    assert "too_short 5 (fewer characters than data.min_text_length)" in summary
    assert "directories not entered: hidden 1" in summary
