"""What is found, before anything is read."""

import gc
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

from core.packed_list import PackedList
from data_processing.collecting.collection import read_tasks
from data_processing.collecting.found_files import distinct_names, fingerprinted
from data_processing.collecting.read_shard import ReadSettings
from data_processing.collecting.shard_store import ShardStore
from data_processing.formats.raw_input import Reading
from data_processing.sources.raw_files import RawFile
from data_processing.text_cleaner import TextCleaner

NUM_FILES = 50_000


def test_a_file_that_waits_to_be_read_takes_little_memory(tmp_path: Path):
    def found() -> Iterator[RawFile]:
        for number in range(NUM_FILES):
            name = f"{number // 1000:05}/{number:08}.txt"
            yield RawFile(tmp_path / name, name, 6000)  # vanished since: looking at it costs no disk

    settings, store = ReadSettings(Reading(), TextCleaner()), ShardStore(str(tmp_path))
    tasks = list(read_tasks(fingerprinted(PackedList(found()), database=None), settings, store))
    del tasks  # what is loaded and remembered once is, by now
    tracemalloc.start()
    try:
        listed = PackedList(distinct_names(found(), set()))
        _, peak_of_listing = tracemalloc.get_traced_memory()
        tasks = list(read_tasks(fingerprinted(listed, database=None), settings, store))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(task.num_bytes for task in tasks) == 6000 * NUM_FILES
    assert len(tasks) > 10
    # As objects they would take 900 bytes each; some memory is what libraries remember.
    assert held < 150 * NUM_FILES
    assert peak_of_listing < 250 * NUM_FILES  # their names are held until all are found
