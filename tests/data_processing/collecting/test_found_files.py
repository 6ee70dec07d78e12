"""What is found, before anything is read."""

import gc
import json
import os
import subprocess
import sys
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


REPOSITORY = Path(__file__).resolve().parents[3]


def memory_for(directory: Path, num_files: int) -> tuple[int, int]:
    """What is held for files that wait, and the most that listing them took."""
    settings, store = ReadSettings(Reading(), TextCleaner()), ShardStore(str(directory))

    def found() -> Iterator[RawFile]:
        for number in range(num_files):
            name = f"{number // 1000:05}/{number:08}.txt"
            yield RawFile(directory / name, name, 6000)  # vanished since: looking at it costs no disk

    tracemalloc.start()
    try:
        listed = PackedList(distinct_names(found(), set()))
        _, peak_of_listing = tracemalloc.get_traced_memory()
        tasks = list(read_tasks(fingerprinted(listed, database=None), settings, store))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(task.num_bytes for task in tasks) == 6000 * num_files
    assert len(tasks) > num_files // 5000
    return held, peak_of_listing


def print_memory(directory: str) -> None:
    memory_for(Path(directory), 1000)  # what is loaded and remembered once is, by now
    print(json.dumps([memory_for(Path(directory), num_files) for num_files in (NUM_FILES, NUM_FILES // 5)]))


def test_a_file_that_waits_to_be_read_takes_little_memory(tmp_path: Path):
    # In a process of its own: Python's table of the names that `pathlib` interns, which other tests have filled, may
    # happen to grow meanwhile, by 8 MB at once.
    module = "tests.data_processing.collecting.test_found_files"
    done = subprocess.run(
        [sys.executable, "-c", f"import {module} as test; test.print_memory({str(tmp_path)!r})"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (held, peak), (held_by_few, peak_of_few) = json.loads(done.stdout)
    more = NUM_FILES - NUM_FILES // 5
    # As objects they would take 900 bytes each. A difference: what libraries remember meanwhile is no file's.
    assert held - held_by_few < 150 * more
    assert peak - peak_of_few < 250 * more  # their names are held until all are found
