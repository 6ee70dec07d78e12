import errno
import itertools
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import torch

from core.errors import DataError, DiskError
from core.files import Disk
from models.hf_layout import load_model
from training.batches import RowBatches
from training.checkpoint import list_checkpoints, load_optimizer_state, verify_checkpoint
from training.optimizer import optimizer_tensors
from training.saving import MAX_MISSED_SAVES, CheckpointSaver


class SlowDisk(Disk):
    """Stands still before its first sync until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()
        self.threads: set[str] = set()

    def sync_file(self, file: IO[Any]) -> None:
        self.threads.add(threading.current_thread().name)
        self.reached.set()
        assert self.go.wait(timeout=60)
        super().sync_file(file)


@pytest.fixture
def slow_disk() -> Iterator[SlowDisk]:
    disk = SlowDisk()
    yield disk
    disk.go.set()


def saver_of(kit, disk: Disk, *, keep: int | None = None, in_background: bool = True) -> CheckpointSaver:
    return CheckpointSaver(kit.tokenizer, keep=keep, in_background=in_background, disk=disk)


def save(saver: CheckpointSaver, place: Path, trainer) -> None:
    saver.save(
        place,
        trainer.model,
        facts={"step": trainer.progress.step},
        trainer_state={"step": trainer.progress.step},
        optimizer_state=optimizer_tensors(trainer.model, trainer.optimizers),
    )


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_checkpoint_holds_the_bits_of_its_step_though_training_went_on(
    kit, slow_disk: SlowDisk, optimizer: str, same_weights
) -> None:
    trainer = kit.trainer(optimizer=optimizer)
    batches = RowBatches(kit.dataset["train"], batch_size=4, seed=1).micro_batches(itertools.count(0))
    trainer.train_step([next(batches)])
    weights = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    state = {k: v.clone() for k, v in optimizer_tensors(trainer.model, trainer.optimizers).items()}
    with saver_of(kit, slow_disk) as saver:
        save(saver, kit.root / "step_1", trainer)
        assert slow_disk.reached.wait(timeout=60)
        trainer.train_step([next(batches)])
        assert not (kit.root / "step_1").exists()
        slow_disk.go.set()
    loaded = load_model(kit.root / "step_1")
    assert all(torch.equal(p, weights[name]) for name, p in loaded.named_parameters())
    assert not same_weights(loaded, trainer.model)
    tensors = load_optimizer_state(kit.root / "step_1")
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[key], state[key]) for key in state)


def test_a_save_waits_for_the_one_before_and_leaving_waits_for_the_last(kit, slow_disk: SlowDisk) -> None:
    trainer = kit.trainer()
    with saver_of(kit, slow_disk) as saver:
        save(saver, kit.root / "step_1", trainer)
        threading.Timer(0.2, slow_disk.go.set).start()
        save(saver, kit.root / "step_2", trainer)
        verify_checkpoint(kit.root / "step_1")
    verify_checkpoint(kit.root / "step_2")
    assert slow_disk.threads == {"save step_1", "save step_2"}


def test_without_the_background_it_is_written_on_return(kit) -> None:
    saver = saver_of(kit, Disk(), in_background=False)
    save(saver, kit.root / "step_1", kit.trainer())
    verify_checkpoint(kit.root / "step_1")


def test_where_no_thread_can_begin_the_checkpoint_is_written_all_the_same(
    kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with saver_of(kit, Disk()) as saver:
        trainer = kit.trainer()
        monkeypatch.setattr(threading.Thread, "start", refuse)
        save(saver, kit.root / "step_1", trainer)
        verify_checkpoint(kit.root / "step_1")
        monkeypatch.undo()
        save(saver, kit.root / "step_2", trainer)
    verify_checkpoint(kit.root / "step_2")
    assert "can't start new thread: training waits for the checkpoint" in caplog.text


class FullDisk(Disk):
    """Has room again after so many checkpoints could not be written."""

    def __init__(self, num_failures: int) -> None:
        self.left = num_failures

    def sync_file(self, file: IO[Any]) -> None:
        if self.left > 0:
            self.left -= 1
            raise OSError(errno.ENOSPC, "injected")
        super().sync_file(file)


def test_a_full_disk_is_borne_with_an_alarm_each_until_too_many_are_missing(kit, caplog) -> None:
    trainer = kit.trainer()
    needed = sum(p.numel() for p in trainer.model.parameters()) * 4 / 1e6
    with caplog.at_level(logging.WARNING), pytest.raises(DiskError) as caught:  # noqa: SIM117
        with saver_of(kit, FullDisk(1000)) as saver:
            for step in range(1, 10):
                save(saver, kit.root / f"step_{step}", trainer)
    assert [record.message.split(" is not saved")[0] for record in caplog.records] == [
        str(kit.root / f"step_{step}") for step in range(1, MAX_MISSED_SAVES)
    ]
    for message in (caplog.records[0].message, str(caught.value)):
        assert "the disk is full" in message
        assert f"it needs {needed:,.1f} MB, " in message
        assert "MB are free)" in message
    assert f"step_{MAX_MISSED_SAVES} is not saved" in str(caught.value)
    assert caught.value.exit_code == 74
    assert not list(kit.root.iterdir())


def test_a_checkpoint_that_is_written_forgives_those_that_were_missed(kit, caplog) -> None:
    trainer = kit.trainer()
    disk = FullDisk(MAX_MISSED_SAVES - 1)
    with caplog.at_level(logging.WARNING), saver_of(kit, disk) as saver:
        for step in range(1, 2 * MAX_MISSED_SAVES + 1):
            if step == MAX_MISSED_SAVES + 1:
                disk.left = MAX_MISSED_SAVES - 1
            save(saver, kit.root / f"step_{step}", trainer)
            saver.wait()
    assert len(caplog.records) == 2 * (MAX_MISSED_SAVES - 1)
    assert len(list_checkpoints(kit.root)) == 2


def test_the_last_checkpoint_must_not_be_missing(kit) -> None:
    with pytest.raises(DiskError, match="step_1 is not saved"), saver_of(kit, FullDisk(1)) as saver:
        save(saver, kit.root / "step_1", kit.trainer())


def test_weights_that_are_not_finite_end_the_run_when_the_write_is_waited_for(kit) -> None:
    trainer = kit.trainer()
    with torch.no_grad():
        next(trainer.model.parameters())[0] = float("nan")
    saver = saver_of(kit, Disk())
    save(saver, kit.root / "step_1", trainer)
    with pytest.raises(DataError, match=r"step_1: not written, because .* holds NaN"):
        saver.wait()


def test_what_is_under_way_is_written_though_training_failed(kit, slow_disk: SlowDisk) -> None:
    def fail() -> None:
        with saver_of(kit, slow_disk) as saver:
            save(saver, kit.root / "step_1", kit.trainer())
            threading.Timer(0.2, slow_disk.go.set).start()
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fail()
    verify_checkpoint(kit.root / "step_1")


def test_a_second_interrupt_does_not_wait(kit, slow_disk: SlowDisk) -> None:
    def interrupt() -> None:
        with saver_of(kit, slow_disk) as saver:
            save(saver, kit.root / "step_1", kit.trainer())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert not (kit.root / "step_1").exists()


def test_a_run_bears_misses_and_ends_with_the_same_bits(kit, same_weights, monkeypatch, caplog) -> None:
    def train(out: Path) -> Path:
        trainer = kit.pretraining(output_dir=str(out), total_steps=12, save_steps=3, eval_steps=1000)
        source = RowBatches(kit.dataset["train"], batch_size=4, seed=1)
        return trainer.train(source).final_directory

    straight = load_model(train(kit.root / "a"))
    real, misses = Disk.sync_file, iter(range(2))

    def full_for_two(disk: Disk, file: IO[Any]) -> None:
        if "step_" in str(file.name) and next(misses, None) is not None:
            raise OSError(errno.ENOSPC, "injected")
        real(disk, file)

    monkeypatch.setattr(Disk, "sync_file", full_for_two)
    with caplog.at_level(logging.WARNING):
        broken = load_model(train(kit.root / "b"))
    assert same_weights(straight, broken)
    assert caplog.text.count("is not saved") == 2
    assert [p.name for p in list_checkpoints(kit.root / "b")] == ["step_9", "step_12"]
    state = json.loads((kit.root / "b" / "step_12" / "trainer" / "state.json").read_text())
    assert state["progress"]["step"] == 12
