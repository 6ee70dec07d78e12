"""What is wrong in the directory of a run that is gone on with: nothing is lost for it, nothing older taken instead."""

import dataclasses
import errno
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from core import manifest as manifests
from core.errors import CorruptArtifactError, DiskError, MismatchError, NotWritableError
from core.files import check_writable, lock, sha256_file
from models.hf_layout import load_model
from training import saving
from training.batches import RowBatches, rows_in_order
from training.checkpoint import latest_checkpoint, list_checkpoints
from training.trainer import Trainer


def train(kit, resume: Path | None = None, **settings: Any):
    trainer = kit.pretraining(**{"total_steps": 4, "save_steps": 2, "eval_steps": 2, **settings})
    source = RowBatches(kit.dataset["train"], batch_size=4, seed=1)
    held_out = rows_in_order(kit.dataset["validation"], batch_size=4)
    return trainer.train(source, held_out, resume_from_checkpoint=resume)


def change_manifest(checkpoint: Path, **values: Any) -> None:
    path = checkpoint / "MANIFEST.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_checkpoint_of_a_newer_version_is_neither_read_nor_set_aside(kit) -> None:
    train(kit)
    out = kit.root / "checkpoints"
    change_manifest(out / "step_4", format_version=99)
    with pytest.raises(MismatchError, match=r"step_4.*newer version \(format 99") as caught:
        latest_checkpoint(out)
    assert caught.value.exit_code == 78
    assert (out / "step_4").is_dir()


def test_a_run_whose_manifests_are_all_gone_does_not_start_over(kit) -> None:
    train(kit)
    out = kit.root / "checkpoints"
    for path in list_checkpoints(out):
        (path / "MANIFEST.json").unlink()
    with pytest.raises(CorruptArtifactError, match=r"no checkpoint is intact \(.*step_4: no MANIFEST"):
        latest_checkpoint(out)


@pytest.mark.parametrize("files", [None, "x", [1], [{"path": "config.json"}]])
def test_a_manifest_that_lists_nothing_is_damage(kit, files: object) -> None:
    train(kit)
    out = kit.root / "checkpoints"
    change_manifest(out / "step_4", files=files)
    assert latest_checkpoint(out) == out / "step_2"
    assert (out / "step_4.corrupt-1").is_dir()


def test_a_newest_checkpoint_that_the_disk_cannot_read_is_set_aside(kit, monkeypatch) -> None:
    train(kit)
    out = kit.root / "checkpoints"

    def bad_sector(path: Path, **options: Any) -> str:
        if "step_4" in str(path) and path.name == "model.safetensors":
            raise OSError(errno.EIO, "Input/output error")
        return sha256_file(path, **options)

    monkeypatch.setattr(manifests, "sha256_file", bad_sector)
    assert latest_checkpoint(out) == out / "step_2"


def test_damage_of_what_is_not_gone_on_from_stops_nothing(kit, same_weights) -> None:
    """A manifest of `best` and of an older checkpoint that are torn, a log that holds no text, files of others."""
    straight = load_model(train(kit, output_dir=str(kit.root / "straight")).final_directory)
    train(kit, total_steps=4)
    out = kit.root / "checkpoints"
    (out / "best" / "MANIFEST.json").write_text("{")
    (out / "step_2" / "MANIFEST.json").write_text("{")
    (out / "step_4" / "notes.pt").write_bytes(b"\x80\x04not opened")
    log = out / "metrics.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole + b"\xff\xfe\x00\n7\n[]\n{}\n" + b'{"step": 4, "train/loss": 1.0}')
    result = train(kit, out / "step_4", total_steps=4)
    assert same_weights(load_model(result.final_directory), straight)
    assert (out / "best.corrupt-1").is_dir()
    lines = log.read_bytes().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [
        *(json.loads(line)["step"] for line in whole.splitlines()),
        4,
    ]


def test_a_validation_loss_that_is_no_number_ends_nothing_and_keeps_no_best(kit, monkeypatch, caplog) -> None:
    evaluate = Trainer.evaluate

    def broken(self: Trainer, batches: Any):
        return dataclasses.replace(evaluate(self, batches), loss_nats=math.nan, bits_per_byte=math.nan)

    monkeypatch.setattr(Trainer, "evaluate", broken)
    with caplog.at_level(logging.WARNING):
        result = train(kit)
    assert result.num_steps == 4 and result.best_directory is None and not result.final_validation
    assert "the validation loss is nan, which no weights are kept for" in caplog.text


def test_with_and_without_evaluations_and_samples_the_weights_are_the_same(kit, same_weights) -> None:
    watched = load_model(train(kit, num_samples=2, eval_steps=1).final_directory)
    trainer = kit.pretraining(total_steps=4, save_steps=2, num_samples=0, output_dir=str(kit.root / "alone"))
    alone = trainer.train(RowBatches(kit.dataset["train"], batch_size=4, seed=1))
    assert same_weights(load_model(alone.final_directory), watched)


@pytest.mark.parametrize(
    "name", ["events.jsonl", "metrics.jsonl", "samples.jsonl", "plan.json", "step_2", "final"]
)
def test_a_link_that_was_planted_leads_nowhere(kit, name: str) -> None:
    out, victim = kit.root / "checkpoints", kit.root / "victim"
    out.mkdir()
    if name in ("step_2", "final"):
        victim.mkdir()
        (victim / "precious").write_text("mine")
    else:
        victim.write_text("mine")
    (out / name).symlink_to(victim)
    train(kit)
    assert (victim / "precious" if victim.is_dir() else victim).read_text() == "mine"
    if victim.is_dir():
        assert [path.name for path in victim.iterdir()] == ["precious"]


def test_a_lock_is_never_taken_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(NotWritableError, match="is a link, which is not followed") as caught:  # noqa: SIM117
        with lock(tmp_path / ".lock", held=tmp_path):
            pass
    assert caught.value.exit_code == 73
    assert (tmp_path / "victim").read_text() == "mine"


def test_without_room_for_two_checkpoints_nothing_begins(kit, monkeypatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(saving.shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(DiskError, match=r"two checkpoints need .* MB and 0\.0 MB are free") as caught:
        train(kit)
    assert caught.value.exit_code == 74
    assert [path.name for path in (kit.root / "checkpoints").iterdir()] == [".lock"]


def test_a_place_is_tried_without_a_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "not" / "there")
    assert not list(tmp_path.iterdir())
