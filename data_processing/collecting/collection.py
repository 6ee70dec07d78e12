"""The passes of a collection, over shards that lie in a store: read, see what recurs, judge. Knows no public API.

Each shard is named by everything that decides it, so one that is there is right: a collection that was interrupted goes
on, and one that is repeated after a change redoes the shards that the change reaches.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from core.data_config import BoilerplateConfig
from core.files import sha256_json
from core.progress import progress
from core.workers import Mapper
from data_processing.collecting.assemble_part import AssembleTask, assemble_part
from data_processing.collecting.found_files import FingerprintedFile
from data_processing.collecting.judge_shard import JudgeSettings, JudgeTask, judge_shard
from data_processing.collecting.read_shard import (
    ReadSettings,
    ReadTask,
    finished_parts,
    range_counts,
    read_shard,
    shard_of_part,
)
from data_processing.collecting.shard_files import (
    DamagedShardError,
    read_array,
    read_record,
    size_of_shard,
    write_array,
    write_record,
)
from data_processing.collecting.shard_plan import shards
from data_processing.collecting.shard_store import ShardStore
from data_processing.collecting.verified_pairs import verified_prefix
from data_processing.duplicates.recurrence import recurring_lines
from data_processing.formats.records import RecordCounts

NAME_DIGITS = 32
"""Hexadecimal digits of the digest that names a shard: 128 bits."""


def read_files(
    files: Iterable[FingerprintedFile],
    settings: ReadSettings,
    store: ShardStore,
    mapper: Mapper[ReadTask, list[str]],
    *,
    num_bytes: int,
) -> list[str]:
    """The names of the parts that hold what is in the files, in their order.

    The files are gone through as workers need them, so that they read while the digests of others are computed.

    Args:
        num_bytes: Size of all files, for the progress.

    Raises:
        DataError: of the records of a file, read whole or in ranges, more are malformed than is allowed.
    """
    shards_in_order: list[str] = []
    parts_of: dict[str, list[str]] = {}
    with_ranges: list[str] = []
    under_way: deque[tuple[str, int]] = deque()

    with progress(total=num_bytes, description="reading and cleaning", unit="B") as bar:

        def missing() -> Iterator[ReadTask]:
            for task in read_tasks(files, settings, store):
                shards_in_order.append(task.name)
                if task.has_ranges:
                    with_ranges.append(task.name)
                if (parts := finished_parts(store, task.name)) is None:
                    under_way.append((task.name, task.num_bytes))
                    yield task
                else:
                    parts_of[task.name] = parts
                    bar.update(task.num_bytes)

        for parts in mapper(read_shard, missing()):
            name, size = under_way.popleft()
            parts_of[name] = parts
            bar.update(size)
    in_ranges: dict[str, RecordCounts] = {}
    for name in with_ranges:
        for source, counts in range_counts(store, name).items():
            in_ranges.setdefault(source, RecordCounts()).add(counts)
    for source, counts in in_ranges.items():
        counts.check_lines(source, settings.reading)
    return [part for name in shards_in_order for part in parts_of[name]]


def read_tasks(
    files: Iterable[FingerprintedFile], settings: ReadSettings, store: ShardStore
) -> Iterator[ReadTask]:
    """One task for each shard of the files, in their order."""
    fingerprint = settings.fingerprint()
    for stretch in shards(files, name=lambda file: file.name, num_bytes=lambda file: file.file.num_bytes):
        content = [fingerprint, [file.content for file in stretch]]
        name = f"read/{sha256_json(content)[:NAME_DIGITS]}"
        yield ReadTask.of(store, name, settings, [file.file for file in stretch])


def judge_parts(
    parts: Sequence[str],
    settings: JudgeSettings,
    boilerplate: BoilerplateConfig,
    store: ShardStore,
    mapper: Mapper[JudgeTask, str],
    *,
    forgotten: frozenset[str] = frozenset(),
    memory_bytes: int,
) -> list[str]:
    """The names of the judged parts, in their order."""
    recurring = np.empty(0, np.uint64)
    if boilerplate.recurring_lines:
        recurring = recurring_lines(
            store, parts, min_documents=boilerplate.recurring_min_documents, memory_bytes=memory_bytes
        )
    fingerprint = settings.fingerprint()

    tasks = []
    for part in progress(parts, description="recurring lines", unit="parts"):
        # Only what is in this part decides about it: a line that recurs elsewhere makes nothing stale here.
        lines = _common(read_array(store, f"{part}.lines"), recurring) if len(recurring) else recurring
        lines_here = _stored(lines, store)
        forgotten_here = _concerned(part, forgotten, store)
        decided_by = [fingerprint, part, lines_here, forgotten_here]
        name = f"judged/{sha256_json(decided_by)[:NAME_DIGITS]}"
        tasks.append(JudgeTask(store, part, name, settings, lines_here, frozenset(forgotten_here)))
    missing = [task for task in tasks if not store.exists(f"{task.name}.items")]
    # Large ones first: the last ones leave processes without work, and should be over soon.
    missing.sort(key=lambda task: size_of_shard(store, f"{task.part}.items"), reverse=True)
    there = len(tasks) - len(missing)
    judged = mapper(judge_shard, missing)
    for _ in progress(judged, total=len(tasks), initial=there, description="judging", unit="parts"):
        pass
    return [task.name for task in tasks]


def assemble_parts(
    tasks: Sequence[AssembleTask], store: ShardStore, mapper: Mapper[AssembleTask, str]
) -> Iterator[str]:
    """The names of the stretches of the corpus, in their order, as they are written."""
    is_there = [store.exists(f"{task.name}.record") for task in tasks]
    made = mapper(assemble_part, [task for task, there in zip(tasks, is_there, strict=True) if not there])
    for task, there in zip(tasks, is_there, strict=True):
        yield task.name if there else next(made)


def remove_unused(
    store: ShardStore, parts: Sequence[str], judged: Sequence[str], stretches: Sequence[str]
) -> None:
    """Delete every shard that the collection made of these does not use; `unused_shards` knows them from then on."""
    used = {*parts, *judged, *stretches, *map(shard_of_part, parts)}
    write_record(store, USED_NAME, sorted(used))
    unused = unused_shards(store)
    # What says that a shard is whole goes first: a kill in between must not leave it saying so.
    for name in sorted(
        unused, key=lambda name: (not name.endswith(".shard"), not name.endswith(_LAST_WRITTEN))
    ):
        store.delete(name)


def unused_shards(store: ShardStore) -> list[str]:
    """The names of what lies in the store of a collection of its own and was not used by the last that finished."""
    try:
        used = set(read_record(store, USED_NAME))
    except DamagedShardError:  # none has finished, or nobody knows what it used
        return []
    verified = verified_prefix()
    return [
        name
        for name in store.list()
        if name.rpartition(".")[0] not in used and name != USED_NAME and not name.startswith(verified)
    ]


USED_NAME = "used.names"
"""The list of the shards that the last collection was made of."""


def remove_damaged(store: ShardStore, name: str) -> None:
    """Delete the shard that a damaged file belongs to, so that it is made anew."""
    stem = name.rpartition(".")[0]
    if stem.startswith("read/"):
        store.delete(f"{shard_of_part(stem)}.shard")
    for suffix in (*_LAST_WRITTEN, *_WRITTEN_BEFORE):
        store.delete(stem + suffix)


_LAST_WRITTEN = (".shard", ".items", ".record")
_WRITTEN_BEFORE = (
    ".lines",
    ".line-counts",
    ".files",
    ".index",
    ".bands",
    ".paragraphs",
    ".corpus",
    ".dropped",
)


def _common(sorted_hashes: np.ndarray, sorted_others: np.ndarray) -> np.ndarray:
    places = np.searchsorted(sorted_others, sorted_hashes)
    places[places == len(sorted_others)] = 0
    return np.asarray(sorted_hashes[sorted_others[places] == sorted_hashes])


def _stored(hashes: np.ndarray, store: ShardStore) -> str | None:
    """The name under which an array of hashes lies, which stands for its content; None for an empty one."""
    if not len(hashes):
        return None
    name = f"hashes/{sha256_json(hashes.tolist())[:NAME_DIGITS]}"
    if not store.exists(name):
        write_array(store, name, hashes)
    return name


def _concerned(part: str, forgotten: frozenset[str], store: ShardStore) -> list[str]:
    """Those sources that may be in a part, by the files that it was made of."""
    if not forgotten:
        return []
    files = tuple(read_record(store, f"{part}.files"))
    return sorted(source for source in forgotten if source.startswith(files))
