"""Downloads that are kept as they arrive."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import CorruptArtifactError
from data_processing.sources import record_spool
from data_processing.sources.record_spool import Spool, SpooledRow

ROWS = 23


class InterruptionError(Exception):
    """What ends a run half-way."""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_spool, "SHARD_BYTES", 100)


def record_of(number: int) -> dict[str, Any]:
    return {"text": "é" * (number % 5) + f"row {number}"}


def size_of(number: int) -> int:
    return len(record_of(number)["text"].encode())


def rows_from(
    position: dict[str, Any] | None, *, fail_at: int | None = None
) -> Callable[[], SpooledRow | None]:
    """A stream of `ROWS` rows from a position on, which is interrupted in place of the row `fail_at`."""
    place = 0 if position is None else position["next"]

    def next_row() -> SpooledRow | None:
        nonlocal place
        if place == fail_at:
            raise InterruptionError
        if place == ROWS:
            return None
        place += 1
        return SpooledRow(record_of(place - 1), size_of(place - 1), {"next": place})

    return next_row


def fetch(directory: Path, *, text_bytes: int | None = None, fail_at: int | None = None) -> Spool:
    """A run of the program: fetch what is missing."""
    spool = Spool(directory)
    if spool.state is None:
        spool.begin({"of": "rows"}, library="1")
    if not spool.is_enough(text_bytes):
        spool.drop_cut_shard()
    next_row = rows_from(spool.position, fail_at=fail_at)
    while not spool.is_enough(text_bytes):
        spool.fetch_shard(next_row, text_bytes=text_bytes)
    return spool


def records(spool: Spool) -> list[dict[str, Any]]:
    assert spool.state is not None
    return [record for number in range(len(spool.state.shards)) for record in spool.records(number)]


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_what_was_fetched_is_read_back_row_by_row(tmp_path: Path):
    spool = fetch(tmp_path)
    assert records(spool) == [record_of(number) for number in range(ROWS)]
    assert records(Spool(tmp_path)) == records(spool)
    state = spool.state
    assert state is not None
    assert (state.finished, state.facts, len(state.shards)) == (True, {"of": "rows"}, 5)
    assert state.text_bytes == sum(size_of(number) for number in range(ROWS))
    for number, shard in enumerate(state.shards):
        lines = (tmp_path / f"shard-{number:05d}.jsonl").read_bytes().splitlines(keepends=True)
        assert (len(lines), sum(map(len, lines))) == (shard.rows, shard.bytes)
        # Full with its last line and not before; only the last one may be short.
        assert sum(map(len, lines[:-1])) < 100
        assert sum(map(len, lines)) >= 100 or number == len(state.shards) - 1


@pytest.mark.parametrize("text_bytes", [None, 100])
def test_wherever_a_run_is_interrupted_the_next_one_ends_with_the_same_bytes(
    tmp_path: Path, text_bytes: int | None
):
    fetch(tmp_path / "whole", text_bytes=text_bytes)
    expected = content(tmp_path / "whole")
    for fail_at in range(ROWS):
        directory = tmp_path / str(fail_at)
        try:
            fetch(directory, text_bytes=text_bytes, fail_at=fail_at)
        except InterruptionError:
            assert not list(directory.glob("*.tmp*"))
            fetch(directory, text_bytes=text_bytes)
        assert content(directory) == expected


def test_shards_that_are_complete_are_not_fetched_again(tmp_path: Path):
    with pytest.raises(InterruptionError):
        fetch(tmp_path, fail_at=12)
    spool = Spool(tmp_path)
    assert spool.state is not None
    assert spool.position == {"next": sum(shard.rows for shard in spool.state.shards)}
    assert spool.position["next"] > 4
    finished = fetch(tmp_path)
    assert finished.is_enough(None)
    # Its stream fails at once; so nobody asks for a row.
    fetch(tmp_path, fail_at=0)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(targets=st.lists(st.none() | st.integers(1, 250), min_size=1, max_size=4))
def test_whatever_was_wanted_before_the_rows_are_those_of_one_run(
    tmp_path_factory: pytest.TempPathFactory, targets: list[int | None]
):
    directory = tmp_path_factory.mktemp("spool")
    for target in targets:
        spool = fetch(directory, text_bytes=target)
    found = records(spool)
    assert found == [record_of(number) for number in range(len(found))]
    wanted = sum(size_of(number) for number in range(ROWS)) if targets[-1] is None else targets[-1]
    assert sum(map(size_of, range(len(found)))) >= min(wanted, sum(map(size_of, range(ROWS))))
    # Nothing of the way there is left in the shards.
    direct = tmp_path_factory.mktemp("direct")
    largest = None if None in targets else max(target for target in targets if target is not None)
    fetch(direct, text_bytes=largest)
    assert content(directory) == content(direct)


def test_no_more_is_fetched_than_is_wanted(tmp_path: Path):
    spool = fetch(tmp_path, text_bytes=60)
    found = records(spool)
    sizes = [size_of(number) for number in range(len(found))]
    assert sum(sizes[:-1]) < 60 <= sum(sizes)
    assert spool.state is not None
    assert spool.state.shards[-1].cut
    assert not spool.state.finished


def test_a_stream_without_rows_is_finished_and_leaves_no_shard(tmp_path: Path):
    spool = Spool(tmp_path)
    spool.begin({}, library="1")
    spool.fetch_shard(lambda: None, text_bytes=None)
    assert spool.state is not None
    assert (spool.state.finished, spool.state.shards) == (True, ())
    assert list(content(tmp_path)) == ["state.json"]


def test_a_stream_whose_end_is_the_end_of_a_shard_gets_no_empty_shard(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr(record_spool, "SHARD_BYTES", 1)
    spool = fetch(tmp_path)
    assert spool.state is not None
    assert [shard.rows for shard in spool.state.shards] == [1] * ROWS
    assert len(content(tmp_path)) == ROWS + 1


def test_a_shard_ends_after_so_many_rows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(record_spool, "SHARD_ROWS", 2)
    spool = fetch(tmp_path)
    assert spool.state is not None
    assert [shard.rows for shard in spool.state.shards] == [2] * 11 + [1]


@pytest.mark.parametrize("damage", ["missing", "short", "long"])
def test_a_shard_that_is_not_there_as_a_whole_is_fetched_again_with_what_follows_it(
    tmp_path: Path, damage: str
):
    fetch(tmp_path)
    expected = content(tmp_path)
    shard = tmp_path / "shard-00003.jsonl"
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-1] if damage == "short" else shard.read_bytes() + b"{}\n")
    spool = Spool(tmp_path)
    assert spool.state is not None
    assert (len(spool.state.shards), spool.state.finished) == (3, False)
    fetch(tmp_path)
    assert content(tmp_path) == expected


@pytest.mark.parametrize("place", [3, 20, -2])
def test_a_shard_that_was_changed_is_noticed_while_it_is_read(tmp_path: Path, place: int):
    spool = fetch(tmp_path)
    shard = tmp_path / "shard-00001.jsonl"
    data = bytearray(shard.read_bytes())
    data[place] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match=r"shard-00001.jsonl: not as it was written; delete it"):
        list(spool.records(1))


def test_what_a_killed_run_left_is_removed(tmp_path: Path):
    spool = Spool(tmp_path)
    spool.begin({}, library="1")
    (tmp_path / ".shard-00000.jsonl.tmp-0123").write_bytes(b"half a sh")
    fetch(tmp_path)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("{", "not valid JSON"),
        ('{"format_version": 1}', "facts"),
        ('{"format_version": 2, "facts": {}, "library": "1"}', "format_version 2, this version reads 1"),
    ],
)
def test_a_state_that_makes_no_sense_is_an_error_that_says_what_to_delete(
    tmp_path: Path, state: str, message: str
):
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(CorruptArtifactError, match=rf"{message}.*delete {tmp_path}") as caught:
        Spool(tmp_path)
    assert caught.value.exit_code == 65


def test_the_state_is_json_that_names_every_shard(tmp_path: Path):
    fetch(tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    assert [shard["position"]["next"] for shard in state["shards"]][-1] == ROWS
