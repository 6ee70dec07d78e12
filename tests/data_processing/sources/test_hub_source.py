"""Public datasets as documents: from local files, and from a hub on this machine that fails on request."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.data_config import HubConfig
from core.errors import BloomeryError, ConfigError, DataError, LockedError, UnreachableError
from core.files import lock
from data_processing.document import Document, Dropped
from data_processing.sources import hub_source, hub_stream, record_spool
from data_processing.sources.hub_source import RECIPES, hub_documents, hub_fingerprint, hub_record
from tests.data_processing.fake_hub import EARLIER, NEWEST, FakeHub

ROWS_A_FILE = 60
FILES = 4


def text_of(number: int) -> str:
    return f"Report {number}. " + "The ore is red and the slag is black. " * (number % 5)


def rows(first: int, count: int = ROWS_A_FILE) -> list[dict[str, Any]]:
    return [
        {"text": text_of(number), "id": number, "url": "x" * 1001} for number in range(first, first + count)
    ]


def jsonl(records: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def expected(count: int = FILES * ROWS_A_FILE, name: str = "reports/train") -> list[Document]:
    return [
        Document.of(text_of(number), source=f"{name}[{number}]", metadata={"fields": {"id": number}})
        for number in range(count)
    ]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_spool, "SHARD_ROWS", 25)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited for between requests, none of which passed."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A dataset of three jsonl files on this machine."""
    path = tmp_path / "reports"
    path.mkdir()
    for number in range(FILES):
        (path / f"train-{number}.jsonl").write_bytes(jsonl(rows(number * ROWS_A_FILE)))
    return path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub with the dataset me/reports; the libraries know no other."""
    import datasets
    import huggingface_hub

    newest = {f"train-{number}.jsonl": jsonl(rows(number * ROWS_A_FILE)) for number in range(FILES)}
    earlier = {"train-0.jsonl": jsonl(rows(0, 7))}
    with FakeHub({"me/reports": {NEWEST: newest, EARLIER: earlier}}) as server:
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", server.url)
        huggingface_hub.close_session()
        huggingface_hub.HfFileSystem.clear_instance_cache()
        yield server
        huggingface_hub.close_session()
        huggingface_hub.HfFileSystem.clear_instance_cache()


def config(dataset: str | Path, **others: Any) -> HubConfig:
    return HubConfig(dataset=str(dataset), **{"target_tokens": None, "max_retries": 3, **others})


def shard_bytes(state_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(state_dir.glob("*/shard-*"))}


def no_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the dataset was opened")

    monkeypatch.setattr(hub_stream, "_load", refuse)
    monkeypatch.setattr(hub_source, "resolve_revision", refuse)


# --- datasets on this machine


def as_directory(path: Path) -> HubConfig:
    return config(path)


def as_builder(path: Path) -> HubConfig:
    return config("json", data_files=(f"{path}/*.jsonl",))


def as_parquet(path: Path) -> HubConfig:
    for number, file in enumerate(sorted(path.glob("*.jsonl"))):
        records = [json.loads(line) for line in file.read_text().splitlines()]
        pq.write_table(pa.Table.from_pylist(records), path / f"train-{number}.parquet", row_group_size=13)
        file.unlink()
    return config(path)


def as_saved(path: Path) -> HubConfig:
    import datasets

    records = [record for number in range(FILES) for record in rows(number * ROWS_A_FILE)]
    saved = datasets.DatasetDict({"train": datasets.Dataset.from_list(records)})
    with hub_stream.quiet_library():
        saved.save_to_disk(str(path.parent / "saved" / "reports"))
    return config(path.parent / "saved" / "reports")


@pytest.mark.parametrize("form", [as_directory, as_builder, as_parquet, as_saved])
def test_a_dataset_on_this_machine_is_read_row_by_row_and_without_any_connection(
    directory: Path, tmp_path: Path, form: Callable[[Path], HubConfig], monkeypatch: pytest.MonkeyPatch
):
    settings = form(directory)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    name = "json/train" if form is as_builder else "reports/train"
    found = list(hub_documents(settings, state_dir=tmp_path / "state"))
    assert found == expected(name=name)
    no_opening(monkeypatch)
    assert list(hub_documents(settings, state_dir=tmp_path / "state")) == found
    record = hub_record(settings, state_dir=tmp_path / "state")
    assert record is not None
    size = sum(len(text_of(number)) for number in range(FILES * ROWS_A_FILE))
    assert (record["rows"], record["documents"], record["text_bytes"]) == (240, 240, size)
    assert record["estimated_tokens"] == size // 4


@pytest.mark.parametrize("form", [as_directory, as_parquet, as_saved])
def test_a_download_that_ends_anywhere_goes_on_behind_its_last_shard(
    directory: Path, tmp_path: Path, form: Callable[[Path], HubConfig], monkeypatch: pytest.MonkeyPatch
):
    settings = form(directory)
    assert list(hub_documents(settings, state_dir=tmp_path / "whole")) == expected()
    whole = shard_bytes(tmp_path / "whole")
    assert len(whole) == 10

    original = hub_stream.RowStream.next_row
    for stop in (0, 24, 25, 61, 130, 239):
        state, left = tmp_path / str(stop), [stop]

        def interrupted(self: Any, left: list[int] = left) -> Any:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return original(self)

        monkeypatch.setattr(hub_stream.RowStream, "next_row", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(hub_documents(settings, state_dir=state))
        assert len(shard_bytes(state)) == stop // 25
        fetched: list[int] = []

        def counted(self: Any, fetched: list[int] = fetched) -> Any:
            row = original(self)
            fetched.append(1) if row is not None else None
            return row

        monkeypatch.setattr(hub_stream.RowStream, "next_row", counted)
        assert list(hub_documents(settings, state_dir=state)) == expected()
        assert len(fetched) == 240 - stop // 25 * 25
        assert shard_bytes(state) == whole


def test_reading_stops_at_the_row_that_reaches_the_target_and_a_larger_one_fetches_the_rest(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    state = tmp_path / "state"
    sizes = [len(text_of(number)) for number in range(240)]

    def read(target: int | None) -> int:
        found = list(hub_documents(config(directory, target_tokens=target), state_dir=state))
        assert found == expected(len(found))
        record = hub_record(config(directory, target_tokens=target), state_dir=state)
        assert record is not None
        assert (record["rows"], record["text_bytes"]) == (len(found), sum(sizes[: len(found)]))
        return len(found)

    first = read(1000)
    assert sum(sizes[: first - 1]) < 4000 <= sum(sizes[:first])
    assert first % 25  # the last shard is cut
    second = read(2000)
    assert sum(sizes[: second - 1]) < 8000 <= sum(sizes[:second])
    assert read(None) == 240
    no_opening(monkeypatch)
    assert read(1000) == first
    assert read(2000) == second


def test_a_dataset_on_this_machine_that_changes_is_another_one(directory: Path, tmp_path: Path):
    settings, state = config(directory), tmp_path / "state"
    before = hub_fingerprint(settings)
    list(hub_documents(settings, state_dir=state))
    assert hub_fingerprint(settings) == before
    (directory / "train-1.jsonl").write_bytes(jsonl(rows(ROWS_A_FILE, 5)))
    assert hub_fingerprint(settings)["sha256"] != before["sha256"]
    assert len(list(hub_documents(settings, state_dir=state))) == 185


def test_what_decides_the_rows_changes_the_fingerprint_and_patience_does_not(directory: Path):
    settings = config("me/reports")
    fingerprints = {
        hub_fingerprint(one)["sha256"]
        for one in (
            settings,
            settings.replace(subset="x"),
            settings.replace(split="test"),
            settings.replace(revision="v1"),
            settings.replace(text_field="body"),
            settings.replace(target_tokens=5000),
            settings.replace(data_files=["a.jsonl"]),
            settings.replace(dataset="me/others"),
            config(directory),
        )
    }
    assert len(fingerprints) == 9
    assert hub_fingerprint(settings.replace(max_retries=9)) == hub_fingerprint(settings)


def test_a_field_can_lie_within_another_and_what_is_no_text_is_left_out(tmp_path: Path):
    data = tmp_path / "odd"
    data.mkdir()
    records = [
        {"meta": {"body": "one"}, "day": "2024"},
        {"meta": {"body": None}, "day": "2024"},
        {"meta": None, "day": None},
        {"meta": {"body": ""}, "day": ""},
    ]
    (data / "train.jsonl").write_bytes(jsonl(records))
    found = list(hub_documents(config(data, text_field="meta.body"), state_dir=tmp_path / "state"))
    assert found == [
        Document.of("one", source="odd/train[0]", metadata={"fields": {"day": "2024"}}),
        Dropped("odd/train[1]", "no_text_field", "field 'meta.body' holds null, expected text"),
        Dropped("odd/train[2]", "no_text_field", "field 'meta.body' holds nothing, expected text"),
        Document.of("", source="odd/train[3]", metadata={"fields": {"day": ""}}),
    ]
    record = hub_record(config(data, text_field="meta.body"), state_dir=tmp_path / "state")
    assert record is not None
    assert (record["rows"], record["documents"], record["text_bytes"]) == (4, 2, 3)


def test_a_missing_field_is_an_error_at_the_first_row_that_names_the_others(directory: Path, tmp_path: Path):
    message = (
        r"text_field 'txt': .*reports has no such field; did you mean 'text'\? \(fields: text, id, url\)"
    )
    with pytest.raises(DataError, match=message):
        list(hub_documents(config(directory, text_field="txt"), state_dir=tmp_path / "state"))
    assert shard_bytes(tmp_path / "state") == {}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dataset": None}, ConfigError, r"data.hub.dataset is not set; set it to a recipe \(dolma, c4"),
        (
            {"dataset": "wikipdia"},
            ConfigError,
            r"'wikipdia' is none of the recipes .*did you mean 'wikipedia'\?",
        ),
        ({"dataset": "/nowhere/at/all"}, DataError, "/nowhere/at/all: no such directory"),
        ({"dataset": "json"}, ConfigError, "data.hub.data_files is empty, and json is a builder"),
        ({"dataset": "json", "data_files": ["no*.jsonl"]}, DataError, r"data_files no\*.jsonl: no such file"),
        ({"split": "test"}, DataError, r"split test: cannot be read .*Available splits: \['train'\]"),
        ({"subset": "german"}, DataError, r"subset german, .*'german' not found. Available: \['default'\]"),
    ],
)
def test_names_that_lead_nowhere_are_errors_with_what_is_there(
    directory: Path, tmp_path: Path, changes: dict[str, Any], error: type[BloomeryError], message: str
):
    with pytest.raises(error, match=message):
        list(hub_documents(config(directory).replace(**changes), state_dir=tmp_path / "state"))


def test_a_file_and_a_directory_without_data_are_errors(directory: Path, tmp_path: Path):
    with pytest.raises(DataError, match="is a file, expected a directory"):
        list(hub_documents(config(directory / "train-0.jsonl"), state_dir=tmp_path / "state"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"cannot be read .*doesn't contain any data files"):
        list(hub_documents(config(tmp_path / "empty"), state_dir=tmp_path / "state"))


def test_content_that_is_damaged_is_an_error_and_what_came_before_it_stays(directory: Path, tmp_path: Path):
    (directory / "train-2.jsonl").write_bytes(b'{"text": "a"\n' * 3)
    with pytest.raises(DataError, match=r"reports, subset \(none\), split train: cannot be read"):
        list(hub_documents(config(directory), state_dir=tmp_path / "state"))
    assert len(shard_bytes(tmp_path / "state")) == 4


def test_a_download_under_another_version_of_the_library_begins_again(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    state = tmp_path / "state"
    list(hub_documents(config(directory, target_tokens=1000), state_dir=state))
    monkeypatch.setattr(hub_source, "library_version", lambda: "99.0")
    assert len(list(hub_documents(config(directory, target_tokens=1000), state_dir=state))) < 240
    assert caplog.text == ""
    assert list(hub_documents(config(directory), state_dir=state)) == expected()
    assert "now 99.0 is installed" in caplog.text


def test_two_processes_do_not_fetch_the_same_and_both_read_what_is_there(directory: Path, tmp_path: Path):
    state = tmp_path / "state"
    reading = hub_documents(config(directory, target_tokens=1000), state_dir=state)
    next(reading)
    (download,) = state.iterdir()
    with pytest.raises(LockedError, match="is in use by process"), lock(download / "lock", held=download):
        pass
    reading.close()  # type: ignore[attr-defined]
    assert len(list(hub_documents(config(directory), state_dir=state))) == 240
    with lock(download / "lock", held=download):
        assert len(list(hub_documents(config(directory), state_dir=state))) == 240


def test_the_settings_of_the_library_are_as_before_afterwards(directory: Path, tmp_path: Path):
    import datasets

    names = ["STREAMING_READ_MAX_RETRIES", "STREAMING_OPEN_RETRY_INTERVAL", "HF_UPDATE_DOWNLOAD_COUNTS"]
    before = [getattr(datasets.config, name) for name in names]
    reading = hub_documents(config(directory), state_dir=tmp_path / "state")
    next(reading)
    assert [getattr(datasets.config, name) for name in names] == before
    assert not datasets.utils.are_progress_bars_disabled()
    with hub_stream.quiet_library():
        assert [getattr(datasets.config, name) for name in names] == [1, 0, False]


# --- a hub


def test_a_dataset_of_the_hub_is_read_once_at_one_commit(hub: FakeHub, tmp_path: Path, monkeypatch: Any):
    state = tmp_path / "state"
    assert list(hub_documents(config("me/reports"), state_dir=state)) == expected()
    record = hub_record(config("me/reports"), state_dir=state)
    assert record is not None
    assert (record["origin"]["dataset"], record["origin"]["revision"]) == ("me/reports", NEWEST)
    assert record["instead_of"] is None
    asked = len(hub.paths)
    assert list(hub_documents(config("me/reports"), state_dir=state)) == expected()
    assert len(hub.paths) == asked


def test_an_earlier_revision_is_read_by_its_name(hub: FakeHub, tmp_path: Path):
    found = list(hub_documents(config("me/reports", revision="v1"), state_dir=tmp_path))
    assert found == expected(7)
    record = hub_record(config("me/reports", revision="v1"), state_dir=tmp_path)
    assert record is not None
    assert record["origin"]["revision"] == EARLIER


def test_files_of_a_dataset_can_be_chosen(hub: FakeHub, tmp_path: Path):
    found = list(hub_documents(config("me/reports", data_files=("train-0*",)), state_dir=tmp_path))
    assert found == expected(60)
    assert set(hub.requests) == {"train-0.jsonl"}


def test_what_the_hub_is_told_of_us_is_no_telemetry(hub: FakeHub, tmp_path: Path):
    list(hub_documents(config("me/reports"), state_dir=tmp_path))
    assert not [path for path in hub.paths if "telemetry" in path or "agent" in path]
    assert {path.split()[0] for path in hub.paths} == {"GET", "HEAD"}


@pytest.mark.parametrize("failure", [503, 500, 429, "drop"])
def test_failures_that_pass_leave_no_trace_in_the_bytes(
    hub: FakeHub, tmp_path: Path, waits: list[float], failure: int | str
):
    list(hub_documents(config("me/reports"), state_dir=tmp_path / "whole"))
    # Enough for the library's own patience to end, several times.
    hub.failures = [failure] * 15
    assert list(hub_documents(config("me/reports"), state_dir=tmp_path / "state")) == expected()
    assert hub.failures == []
    assert shard_bytes(tmp_path / "state") == shard_bytes(tmp_path / "whole")
    assert waits


def test_a_hub_that_goes_on_failing_half_way_is_unreachable_and_the_next_run_goes_on(
    hub: FakeHub, tmp_path: Path, waits: list[float]
):
    state = tmp_path / "state"
    reading = hub_documents(config("me/reports"), state_dir=state)
    first = [next(reading) for _ in range(30)]
    hub.status = 503
    with pytest.raises(
        UnreachableError, match=r"fetching data.hub.dataset=me/reports from http.*: failed 4 times"
    ):
        first += list(reading)
    assert first == expected(len(first))
    kept = shard_bytes(state)
    assert len(kept) >= 2
    hub.status = None
    hub.requests.clear()
    assert list(hub_documents(config("me/reports"), state_dir=state)) == expected()
    assert kept.items() <= shard_bytes(state).items()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_not_repeated(hub: FakeHub, tmp_path: Path, waits: list[float], status: int):
    hub.status = status
    with pytest.raises(
        DataError, match=rf"data.hub.dataset me/reports, .*cannot be read \(.*{status}.*hf auth login"
    ):
        list(hub_documents(config("me/reports"), state_dir=tmp_path))
    assert waits == []
    assert len(hub.paths) == 1


def test_a_dataset_or_revision_that_the_hub_does_not_have_is_an_error(hub: FakeHub, tmp_path: Path):
    with pytest.raises(DataError, match=r"data.hub.dataset me/nothing.*cannot be read .*404"):
        list(hub_documents(config("me/nothing"), state_dir=tmp_path))
    with pytest.raises(DataError, match=r"me/reports \(revision v9\).*cannot be read .*404"):
        list(hub_documents(config("me/reports", revision="v9"), state_dir=tmp_path))


# --- recipes


def two_subsets(**files: str) -> dict[str, dict[str, bytes]]:
    """A dataset with subsets of one file each, as its card says."""
    subsets = "".join(f"- config_name: {subset}\n  data_files: {file}\n" for subset, file in files.items())
    card = f"---\nconfigs:\n{subsets}---\n".encode()
    return {NEWEST: {"README.md": card, "train-0.jsonl": jsonl(rows(0)), "x.jsonl": jsonl(rows(900))}}


def test_the_recipes_are_plain_data_that_name_each_other():
    assert set(RECIPES) == {"dolma", "c4", "fineweb-edu", "wikipedia"}
    for recipe in RECIPES.values():
        assert recipe.fallback is None or RECIPES[recipe.fallback].fallback is None


def test_dolma_falls_back_to_c4_and_says_why(hub: FakeHub, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    # As on the hub: a loading script and no data.
    hub.files["allenai/dolma"] = {NEWEST: {"dolma.py": b"raise SystemExit('code of strangers')"}}
    hub.files["allenai/c4"] = two_subsets(en="train-0.jsonl", de="x.jsonl")
    with caplog.at_level(logging.WARNING):
        found = list(hub_documents(config("dolma"), state_dir=tmp_path))
    assert found == expected(60, name="c4/en/train")
    assert "data.hub.dataset allenai/dolma" in caplog.text
    assert "Dataset scripts are no longer supported" in caplog.text
    assert "c4 is read instead (data.hub.dataset=c4 says so at once)" in caplog.text
    record = hub_record(config("dolma"), state_dir=tmp_path)
    assert record is not None
    assert record["instead_of"] == "allenai/dolma"
    assert "scripts are no longer supported" in record["because"]
    assert record["origin"]["dataset"] == "allenai/c4"
    # Decided once: what is there stays what it is.
    caplog.clear()
    asked = len(hub.paths)
    assert list(hub_documents(config("dolma"), state_dir=tmp_path)) == found
    assert (caplog.text, len(hub.paths)) == ("", asked)


def test_a_hub_that_is_away_is_no_reason_to_fall_back(
    hub: FakeHub, tmp_path: Path, waits: list[float], caplog: Any
):
    hub.status = 503
    with pytest.raises(UnreachableError, match=r"data\.hub\.dataset=dolma"):
        list(hub_documents(config("dolma"), state_dir=tmp_path))
    assert "instead" not in caplog.text


def test_the_subset_of_a_recipe_can_be_another(hub: FakeHub, tmp_path: Path):
    hub.files["allenai/c4"] = two_subsets(en="x.jsonl", de="train-0.jsonl")
    found = list(hub_documents(config("c4", subset="de"), state_dir=tmp_path))
    assert found == expected(60, name="c4/de/train")


# --- processes

CHILD = """
import sys, time
from pathlib import Path
from core.data_config import HubConfig
from core.errors import BloomeryError
from data_processing.sources import record_spool, retries
from data_processing.sources.hub_source import hub_documents
record_spool.SHARD_ROWS = 25
retries.FIRST_WAIT_SECONDS = 0.01
config = HubConfig(dataset=sys.argv[1], target_tokens=None, max_retries=2)
try:
    print(sum(1 for _ in hub_documents(config, state_dir=Path(sys.argv[2]))))
except BloomeryError as error:
    print(f"error[{error.code}]: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


def child(dataset: str, state: Path, endpoint: str) -> "subprocess.Popen[str]":
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(state / "home"),
        "NO_PROXY": "127.0.0.1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CHILD, dataset, str(state)],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.fault
def test_a_process_that_is_killed_in_mid_stream_loses_one_shard_and_no_byte(hub: FakeHub, tmp_path: Path):
    list(hub_documents(config("me/reports"), state_dir=tmp_path / "whole"))
    whole = shard_bytes(tmp_path / "whole")
    hub.held = {"train-3.jsonl"}
    hub.requests.clear()
    state = tmp_path / "state"
    process = child("me/reports", state, hub.url)
    deadline = time.monotonic() + 60
    while "train-3.jsonl" not in hub.requests:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (download,) = state.glob("reports-*")
    # 180 rows had arrived: seven shards and a part of the eighth.
    assert list(shard_bytes(state)) == [f"shard-{number:05d}.jsonl" for number in range(7)]
    assert list(download.glob(".shard-00007*"))
    hub.release()
    hub.requests.clear()
    process = child("me/reports", state, hub.url)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "240\n"), errors
    assert shard_bytes(state) == whole
    assert not list(download.glob(".shard*"))
    # The first file is opened for its columns and not for its rows. The library goes back to the second, because the
    # position is in the first stretch of the third.
    assert hub.requests == [f"train-{number}.jsonl" for number in range(4)]


def test_an_unreachable_hub_is_an_error_within_seconds_that_says_what_to_do(tmp_path: Path):
    process = child("wikipedia", tmp_path, "http://127.0.0.1:9")
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (74, ""), errors
    message = errors.strip().splitlines()[-1]
    assert message.startswith(
        "error[E033]: fetching data.hub.dataset=wikipedia from http://127.0.0.1:9: failed 3 times (ConnectError: "
    )
    assert "Without a network, set data.hub.dataset to the directory of a copy" in message
    assert "data.raw_dir" in message


def test_importing_the_source_loads_neither_the_library_nor_torch():
    code = (
        "import sys, data_processing.sources.hub_source\n"
        "print([name for name in ('datasets', 'huggingface_hub', 'torch', 'fsspec') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
