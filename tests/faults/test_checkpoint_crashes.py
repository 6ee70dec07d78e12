"""The checkpoint code on disks that lose, tear and refuse what is written to them, at every single operation."""

import errno
import itertools
import random
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import DiskError
from core.files import Disk
from core.training_config import ModelConfig
from models.transformer_lm import TransformerLM, create_model_from_config
from tests.faults.simulated_disk import FailingDisk, Image, SimulatedDisk, write_image
from training.checkpoint import (
    clear_away_leftovers,
    delete_old_checkpoints,
    latest_checkpoint,
    list_checkpoints,
    load_optimizer_state,
    load_trainer_state,
    save_checkpoint,
    step_directory,
    verify_checkpoint,
)

pytestmark = pytest.mark.fault

SHAPE = ModelConfig(
    hidden_size=8, num_layers=1, num_attention_heads=1, vocab_size=8, max_position_embeddings=8
)

FAST_DISK = FailingDisk(-1)
"""Neither fails nor syncs: for what is not under test."""


def model_at(step: int) -> TransformerLM:
    return create_model_from_config(SHAPE, seed=step)


def save_step(root: Path, step: int, disk: Disk) -> None:
    save_checkpoint(
        step_directory(root, step),
        model_at(step),
        None,
        facts={"step": step},
        trainer_state={"step": step},
        optimizer_state={"exp_avg/x": torch.full((3,), float(step))},
        disk=disk,
    )


def save_best(root: Path, step: int, disk: Disk) -> None:
    save_checkpoint(root / "best", model_at(step), None, facts={"step": step}, disk=disk)


class Promises:
    """What was said to be saved, and whether what a power cut leaves keeps to it."""

    def __init__(self) -> None:
        self.newest = 0
        self.best = 0
        self.violations: list[str] = []
        self.num_images = 0
        self._seen: set[int] = set()

    def check(self, image: Image, scratch: Path) -> None:
        key = hash((self.newest, self.best, tuple(image.items())))
        if key in self._seen:
            return
        self._seen.add(key)
        self.num_images += 1
        write_image(image, scratch)
        try:
            self._check(scratch)
        except (AssertionError, ValueError, OSError) as error:
            self.violations.append(f"after step {self.newest}: {error}")
        shutil.rmtree(scratch)

    def _check(self, root: Path) -> None:
        clear_away_leftovers(root, disk=FAST_DISK)
        intact = len(list_checkpoints(root))
        latest = latest_checkpoint(root)
        found = 0 if latest is None else int(latest.name.removeprefix("step_"))
        assert not list(root.glob("*.corrupt-*")), "a torn checkpoint was to be seen"
        assert found >= self.newest, f"step {self.newest} was saved, the newest is {found}"
        assert intact >= min(2, self.newest), f"{intact} are left of {self.newest}"
        for path in list_checkpoints(root):
            step = verify_checkpoint(path)["step"]
            state, tensors = load_trainer_state(path), load_optimizer_state(path)
            assert path.name == f"step_{state['step']}" == f"step_{step}"
            assert tensors["exp_avg/x"].tolist() == [step] * 3
        if self.best:
            assert verify_checkpoint(root / "best")["step"] >= self.best


def run_with_power_cuts(
    tmp_path: Path, *, num_steps: int, random_cuts: int, ignoring: Collection[str] = ()
) -> Promises:
    """Save, replace `best` and delete old ones on a disk that loses its power before every operation."""
    root, scratch = tmp_path / "disk", tmp_path / "after"
    root.mkdir()
    generator = random.Random(7)
    promises = Promises()

    def cut() -> None:
        for kinds in ((), ("name", "content"), ("name",), ("content",)):
            image = disk.after_power_cut(persists=lambda what, kinds=kinds: what in kinds)
            promises.check(image, scratch)
        for _ in range(random_cuts):
            share = generator.choice([0.2, 0.5, 0.9])
            image = disk.after_power_cut(
                persists=lambda _, share=share: generator.random() < share, torn=generator
            )
            promises.check(image, scratch)

    disk = SimulatedDisk(root, before_each=cut, ignoring=ignoring)
    for step in range(1, num_steps + 1):
        save_best(root, step, disk)
        promises.best = step
        save_step(root, step, disk)
        promises.newest = step
        delete_old_checkpoints(root, 2, disk=disk)
    cut()
    return promises


def test_a_power_cut_at_any_operation_loses_and_tears_nothing_that_was_saved(tmp_path: Path) -> None:
    promises = run_with_power_cuts(tmp_path, num_steps=5, random_cuts=8)
    assert promises.violations == []
    assert promises.num_images > 500, "the disk was hardly asked for anything"


@pytest.mark.parametrize("ignored", ["file", "directory", "parent"])
def test_without_one_kind_of_sync_a_power_cut_does_harm(tmp_path: Path, ignored: str) -> None:
    assert run_with_power_cuts(tmp_path, num_steps=1, random_cuts=0, ignoring=[ignored]).violations


FAILURES = [
    pytest.param({"error": errno.ENOSPC, "fails_for_ever": True}, id="full"),
    pytest.param({"error": errno.EIO}, id="failing once"),
]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("save", [save_step, save_best])
def test_an_error_of_the_disk_at_any_operation_leaves_the_old_or_the_new_whole(
    tmp_path: Path, save: Callable[[Path, int, Disk], None], failure: dict[str, Any]
) -> None:
    left = []
    for fail_at in itertools.count():
        root = tmp_path / str(fail_at)
        root.mkdir()
        save(root, 1, FAST_DISK)
        disk = FailingDisk(fail_at, **failure)
        try:
            save(root, 2, disk)
        except DiskError as error:
            assert str(root) in str(error)
        else:
            break
        visible = [path for path in root.iterdir() if not path.name.startswith(".")]
        steps = {verify_checkpoint(path)["step"] for path in visible}
        assert steps <= {1, 2}
        left.append(max(steps))
        # Nothing that failed is trusted or in the way: the same save again, on a disk that works.
        save(root, 2, FAST_DISK)
        clear_away_leftovers(root, disk=FAST_DISK)
        assert max(verify_checkpoint(path)["step"] for path in root.iterdir()) == 2
        assert not list(root.glob(".*"))
    # Only the syncs after the last rename, and the deletion of what it replaced, come too late to leave the old one.
    assert len(left) > 30
    assert left == sorted(left)
    assert left.count(2) <= 3


def test_writes_that_take_only_a_part_are_gone_on_with(tmp_path: Path) -> None:
    disk = FailingDisk(-1, most_bytes=7)
    save_step(tmp_path, 1, disk)
    verify_checkpoint(tmp_path / "step_1")
    assert disk.count > 200


def test_a_deletion_that_is_broken_off_leaves_no_checkpoint_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 5):
        save_step(tmp_path, step, FAST_DISK)

    def one_file_only(directory: Path) -> None:
        (directory / "config.json").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", one_file_only)
    with pytest.raises(KeyboardInterrupt):
        delete_old_checkpoints(tmp_path, 2)
    for path in list_checkpoints(tmp_path):
        verify_checkpoint(path)
    assert len(list_checkpoints(tmp_path)) == 3


def test_retention_leaves_two_and_what_another_run_wrote(tmp_path: Path) -> None:
    theirs, mine = tmp_path / "theirs", tmp_path / "mine"
    for root in (theirs, mine):
        root.mkdir()
        for step in (2, 3, 4):
            save_step(root, step, FAST_DISK)
    (mine / "step_1").symlink_to(theirs / "step_2")
    (mine / "step_9").mkdir()  # of a process that died: not committed, so it does not count
    delete_old_checkpoints(mine, 1)
    assert sorted(path.name for path in mine.iterdir()) == ["step_3", "step_4", "step_9"]
    for step in (2, 3, 4):
        verify_checkpoint(theirs / f"step_{step}")
