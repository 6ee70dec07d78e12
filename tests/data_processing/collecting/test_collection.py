"""The passes of a collection: in which order work is given out, and when."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.data_config import DataConfig
from core.workers import map_here
from data_processing.collecting import shard_plan
from data_processing.collecting.collection import judge_parts, read_files
from data_processing.collecting.found_files import FingerprintedFile, fingerprinted
from data_processing.collecting.judge_shard import JudgeSettings, JudgeTask
from data_processing.collecting.read_shard import ReadSettings, ReadTask
from data_processing.collecting.shard_files import DamagedShardError
from data_processing.collecting.shard_store import ShardStore
from data_processing.formats.raw_input import Reading
from data_processing.sources.raw_files import RawFile, find_files
from data_processing.text_cleaner import TextCleaner
from tests.small_texts import make_documents

NUM_FILES = 20


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RawFile]:
    """Files of very different sizes, each of which becomes a shard."""
    monkeypatch.setattr(shard_plan, "MEAN_BYTES", 1)
    (tmp_path / "raw").mkdir()
    for number, text in enumerate(make_documents(NUM_FILES, seed=5)):
        (tmp_path / f"raw/{number:02}.txt").write_text(text * (1 + number * 7 % 11))
    return [file for file in find_files(tmp_path / "raw") if isinstance(file, RawFile)]


@pytest.fixture
def store(tmp_path: Path) -> ShardStore:
    return ShardStore(str(tmp_path / "shards"))


def read(files: Iterable[FingerprintedFile], store: ShardStore, mapper: Any = map_here) -> list[str]:
    return read_files(files, ReadSettings(Reading(), TextCleaner()), store, mapper, num_bytes=1)


def judge(parts: list[str], store: ShardStore, mapper: Any) -> list[str]:
    config = DataConfig()
    settings = JudgeSettings.of(config, TextCleaner())
    return judge_parts(parts, settings, config.boilerplate, store, mapper, memory_bytes=10**8)


def test_a_worker_reads_while_the_files_behind_are_still_looked_at(files: list[RawFile], store: ShardStore):
    looked_at: list[FingerprintedFile] = []
    seen_when_read: list[int] = []

    def looking() -> Iterator[FingerprintedFile]:
        for file in fingerprinted(files, database=None):
            looked_at.append(file)
            yield file

    def mapper(function: Callable[[ReadTask], list[str]], tasks: Iterable[ReadTask]) -> Iterator[list[str]]:
        for task in tasks:
            seen_when_read.append(len(looked_at))
            yield function(task)

    parts = read(looking(), store, mapper)
    assert seen_when_read == list(range(1, NUM_FILES + 1))
    assert len(parts) == NUM_FILES


def test_parts_come_in_the_order_of_the_files_whichever_are_there_already(
    files: list[RawFile], store: ShardStore
):
    whole = read(fingerprinted(files, database=None), store)
    for name in (whole[3], whole[4], whole[11]):
        store.delete(f"{name}.items")
    made: list[str] = []

    def mapper(function: Callable[[ReadTask], list[str]], tasks: Iterable[ReadTask]) -> Iterator[list[str]]:
        for task in list(tasks):  # run ahead of, as by processes
            made.append(task.name)
            yield function(task)

    assert read(fingerprinted(files, database=None), store, mapper) == whole
    assert len(made) == 3


def test_large_shards_are_judged_first_and_come_out_in_the_order_of_the_corpus(
    files: list[RawFile], store: ShardStore
):
    parts = read(fingerprinted(files, database=None), store)
    sizes: list[int] = []
    name_of: dict[str, str] = {}

    def mapper(function: Callable[[JudgeTask], str], tasks: Iterable[JudgeTask]) -> Iterator[str]:
        for task in tasks:
            sizes.append(store.num_bytes(f"{task.part}.items"))
            name_of[task.part] = function(task)
            yield name_of[task.part]

    judged = judge(parts, store, mapper)
    assert judged == [name_of[part] for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert list(name_of) != parts


def test_a_part_that_is_gone_before_it_is_judged_is_named(files: list[RawFile], store: ShardStore):
    parts = read(fingerprinted(files, database=None), store)
    store.delete(f"{parts[5]}.items")
    with pytest.raises(DamagedShardError) as caught:
        judge(parts, store, map_here)
    assert caught.value.name == f"{parts[5]}.items"
