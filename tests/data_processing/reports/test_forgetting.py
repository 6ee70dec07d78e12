"""What is to be forgotten: the record of it, and what it does not reach."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import BloomeryError, CorruptArtifactError, DataError
from data_processing.data_collector import DataCollector
from data_processing.reports.forgetting import (
    FORGOTTEN_NAME,
    copies_of,
    forget,
    old_results,
    read_forgotten,
    undo_forget,
)
from data_processing.reports.inspect_corpus import find_places
from tests.data_processing.reported_corpus import BIDI_NAME
from tests.small_texts import make_documents


def test_what_is_forgotten_is_recorded_with_time_and_reason(tmp_path: Path):
    assert read_forgotten(tmp_path) == frozenset()
    assert forget(tmp_path, ["a.txt", BIDI_NAME, "a.txt"], "asked by its author") == ["a.txt", BIDI_NAME]
    assert read_forgotten(tmp_path) == {"a.txt", BIDI_NAME}
    first, _ = map(json.loads, (tmp_path / FORGOTTEN_NAME).read_text(encoding="utf-8").splitlines())
    assert first["source"] == "a.txt" and first["because"] == "asked by its author"
    assert first["time"].endswith("+00:00")


def test_forgetting_again_changes_nothing_and_undoing_takes_it_back(tmp_path: Path):
    forget(tmp_path, ["a.txt", "b.txt"], "because")
    before = (tmp_path / FORGOTTEN_NAME).read_bytes()
    assert forget(tmp_path, ["a.txt"], "again") == []
    assert (tmp_path / FORGOTTEN_NAME).read_bytes() == before
    assert undo_forget(tmp_path, ["a.txt"]) == ["a.txt"]
    assert read_forgotten(tmp_path) == {"b.txt"}
    assert forget(tmp_path, ["a.txt"], "after all") == ["a.txt"]
    assert read_forgotten(tmp_path) == {"a.txt", "b.txt"}
    assert (tmp_path / FORGOTTEN_NAME).read_bytes().startswith(before)  # the record is never rewritten


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (lambda run: forget(run, ["a.txt"], " "), DataError, "because: empty; say why"),
        (
            lambda run: undo_forget(run, ["b.txt"]),
            DataError,
            r"b\.txt: is not forgotten.* \(forgotten: a\.txt\)",
        ),
    ],
)
def test_mistakes_in_forgetting_are_named(
    tmp_path: Path, act: Callable[[Path], object], error: type[BloomeryError], message: str
):
    forget(tmp_path, ["a.txt"], "because")
    with pytest.raises(error, match=message):
        act(tmp_path)


@pytest.mark.parametrize("damage", ['{"source": "a.txt"', '{"source": "a.txt"}', "[]"])
def test_a_damaged_record_stops_instead_of_bringing_back_what_was_forgotten(tmp_path: Path, damage: str):
    forget(tmp_path, ["a.txt"], "because")
    with (tmp_path / FORGOTTEN_NAME).open("a") as file:
        file.write(damage + "\n")
    with pytest.raises(CorruptArtifactError, match=FORGOTTEN_NAME):
        read_forgotten(tmp_path)


def test_copies_that_would_take_the_place_of_what_is_forgotten_are_named(tmp_path: Path):
    text, other = make_documents(2)
    raw = tmp_path / "raw"
    raw.mkdir()
    long_text = text + " And one more sentence that makes this one the longest of all."
    for name, content in {"a.txt": text, "b.txt": long_text, "c.txt": long_text, "d.txt": other}.items():
        (raw / name).write_text(content)
    DataCollector(tmp_path / "corpus").collect_from_directory(raw)
    (tmp_path / "corpus.stale-1").mkdir()
    places = find_places(tmp_path / "corpus")
    assert copies_of(places, ["b.txt"]) == ["a.txt", "c.txt"]
    assert copies_of(places, ["b.txt", "a.txt"]) == ["c.txt"]
    assert copies_of(places, ["d.txt"]) == []
    assert old_results(places) == [tmp_path / "corpus.stale-1"]
