"""What a run keeps and nothing uses: results that newer ones replaced, and shards of collections that did not finish.

Deletes nothing that the run did not make, and nothing of which there is no newer, finished result.
"""

import contextlib
import glob
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import CorruptArtifactError
from core.files import explain_disk_errors, lock, remove
from core.manifest import read_manifest
from core.stage import Stage
from core.training_config import PipelineConfig
from data_processing.collecting.collection import unused_shards
from data_processing.collecting.shard_store import ShardStore
from data_processing.data_collector import CACHE_NAME
from data_processing.reports.shown import counted, size

logger = logging.getLogger(__name__)

Stages = Sequence[Stage[PipelineConfig]]


@dataclass(frozen=True)
class Unused:
    """Something that can be deleted.

    Attributes:
        place: A directory.
        shards: Names of the shards in it that are meant; empty = all of the directory.
        num_bytes: What deleting it frees.
        why: What it is, for people.
    """

    place: Path
    shards: tuple[str, ...]
    num_bytes: int
    why: str


def superseded_results(stages: Stages, config: PipelineConfig, run: Path) -> list[Unused]:
    """The results of a run that were moved aside (`<name>.stale-N`) and of which there is a newer, finished one.

    Where a stage's place lies outside of the run's directory, other runs may have used it too; what they made is not
    listed.

    Args:
        config: What the run was configured with.
        run: Where its directory is now.
    """
    found = []
    for stage in stages:
        place = where_now(stage.place(config), config, run)
        if not _is_result(place, stage.name, config, within=run):
            continue
        for old in sorted(place.parent.glob(f"{glob.escape(place.name)}.stale-*")):
            named = re.fullmatch(r"\.stale-\d+", old.name.removeprefix(place.name))
            if named and _is_result(old, stage.name, config, within=run, finished=False):
                found.append(Unused(old, (), _size(old), f"{stage.name}, replaced by a newer result"))
    return found


def unfinished_collections(run: Path) -> list[Unused]:
    """The shards in a run's cache that its corpus was not made from.

    A cache elsewhere may serve other runs, so nothing is said of it.
    """
    shards = run / CACHE_NAME / "shards"
    names = tuple(unused_shards(ShardStore(str(shards))))
    if not names:
        return []
    num_bytes = sum((shards / name).stat().st_size for name in names)
    why = f"{counted(len(names), 'file')} of collections that did not finish, which would go on from them"
    return [Unused(shards, names, num_bytes, why)]


def delete_unused(stages: Stages, config: PipelineConfig, run: Path) -> list[Unused]:
    """What was deleted: all that `superseded_results` and `unfinished_collections` find while nobody works in the run.

    Raises:
        LockedError: somebody does.
        DiskError: the disk is read-only or failing.
    """
    cache = run / CACHE_NAME
    with contextlib.ExitStack() as stack:
        stack.enter_context(explain_disk_errors(run))
        stack.enter_context(lock(run / ".lock", held=run))
        if cache.is_dir():
            stack.enter_context(lock(cache / ".lock", held=cache))
        found = [*superseded_results(stages, config, run), *unfinished_collections(run)]
        for unused in found:
            for name in unused.shards:
                ShardStore(str(unused.place)).delete(name)
            if not unused.shards:
                remove(unused.place)
    return found


def log_superseded(stages: Stages, config: PipelineConfig) -> None:
    """Say how much space replaced results take, and how to have it back."""
    run = config.run.directory
    if found := superseded_results(stages, config, run):
        logger.info(
            "results that newer ones replaced hold %s (%s); `python scripts/inspect_data.py %s clean` lists them, "
            "with --yes deletes them",
            size(sum(unused.num_bytes for unused in found)),
            counted(len(found), "result"),
            run,
        )


def where_now(place: Path, config: PipelineConfig, run: Path) -> Path:
    """A place, also when the run's directory was moved or is seen from another one."""
    then = config.run.directory
    return run / place.relative_to(then) if place.is_relative_to(then) else place


def _is_result(
    directory: Path, stage: str, config: PipelineConfig, *, within: Path, finished: bool = True
) -> bool:
    """Whether a directory holds what this run's stage made, as far as its manifest says."""
    if directory.is_symlink() or not directory.is_dir():
        return False
    try:
        manifest = read_manifest(directory)
    except CorruptArtifactError:
        return False
    if manifest is None or manifest.get("recipe", {}).get("stage") != stage:
        return False
    if finished and manifest.get("status") != "complete":
        return False
    made_by = manifest.get("config", {}).get("run")
    return directory.is_relative_to(within) or made_by == config.to_dict()["run"]


def _size(directory: Path) -> int:
    return sum(
        (Path(place) / name).lstat().st_size for place, _, names in os.walk(directory) for name in names
    )
