import json
import logging
import re
import shutil
import threading
from pathlib import Path

import pytest

from core.errors import CorruptArtifactError
from data_processing.rows.token_dataset import TokenDataset, save_dataset
from data_processing.rows.token_rows import TokenRows
from training.batches import ReplayingBatches, RowBatches
from training.checkpoint import list_checkpoints


def rows_at(kit, name: str) -> TokenRows:
    place = kit.root / name
    save_dataset(kit.dataset, place)
    return TokenDataset(place)["validation"]


def flip(rows: TokenRows) -> Path:
    """A bit in the middle of a shard, with size and time as they were."""
    shard = rows.directory / rows.metadata.shards[-1].file
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    with shard.open("r+b") as file:
        file.write(data)
    return shard


def train(kit, rows: TokenRows, out: str, **settings: object):
    source = RowBatches(rows, batch_size=4, seed=1)
    return kit.pretraining(output_dir=str(kit.root / out), **settings).train(source)


def test_a_flipped_bit_ends_the_run_before_anything_learned_after_is_saved(kit) -> None:
    rows = rows_at(kit, "rows")
    shard = flip(rows)
    with pytest.raises(CorruptArtifactError) as caught:
        train(kit, rows, "out", total_steps=4000, save_steps=4000)
    assert str(shard) in str(caught.value)
    assert "verify --repair" in str(caught.value)
    [event] = [json.loads(line) for line in (kit.root / "out" / "events.jsonl").read_text().splitlines()]
    assert event["kind"] == "data_damaged" and str(shard) in event["detail"]
    assert list_checkpoints(kit.root / "out") == []
    assert not (kit.root / "out" / "final").exists()


def test_damage_that_comes_later_is_found_with_the_next_pass(kit) -> None:
    rows = rows_at(kit, "rows")
    steps_per_pass = len(rows) // 4 + 1

    def damage(trainer, report) -> None:
        if report.step == steps_per_pass // 2:
            flip(rows)

    trainer = kit.pretraining(
        output_dir=str(kit.root / "out"), total_steps=20 * steps_per_pass, save_steps=10**6
    )
    trainer.hooks = (damage,)
    with pytest.raises(CorruptArtifactError, match="is not what was written"):
        trainer.train(RowBatches(rows, batch_size=4, seed=1))


def test_checked_or_not_the_weights_are_the_same(kit) -> None:
    rows = rows_at(kit, "rows")
    weights = []
    for name, checked in (("one", True), ("two", False)):
        result = train(kit, rows, name, verify_data=checked)
        weights.append((result.final_directory / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_without_the_check_damage_goes_unnoticed(kit) -> None:
    """What the check is for: nothing else would have told."""
    rows = rows_at(kit, "rows")
    flip(rows)
    assert train(kit, rows, "out", verify_data=False).num_steps == 12


def test_damage_that_is_found_after_the_last_step_leaves_no_final(kit) -> None:
    rows = rows_at(kit, "rows")
    flip(rows)

    def wait_for_the_check(_trainer, _report) -> None:
        for thread in threading.enumerate():
            if thread.name == "check-data":
                thread.join()

    trainer = kit.pretraining(output_dir=str(kit.root / "out"), total_steps=1, warmup_steps=0)
    trainer.hooks = (wait_for_the_check,)
    with pytest.raises(CorruptArtifactError, match="is not what was written"):
        trainer.train(RowBatches(rows, batch_size=4, seed=1))
    assert not (kit.root / "out" / "final").exists()


def test_rows_that_are_deleted_under_the_training_are_no_damage(
    kit, caplog: pytest.LogCaptureFixture
) -> None:
    rows = rows_at(kit, "rows")
    shutil.rmtree(rows.directory)
    with caplog.at_level(logging.WARNING):
        assert train(kit, rows, "out").num_steps == 12
    assert "was deleted while it is in use, so it is not checked" in caplog.text


def test_no_thread_is_left_behind(kit) -> None:
    train(kit, rows_at(kit, "rows"), "out")
    assert "check-data" not in {thread.name for thread in threading.enumerate()}


def test_damage_of_replayed_rows_is_found_as_that_of_others(kit) -> None:
    replayed = rows_at(kit, "rows")
    shard = flip(replayed)
    source = ReplayingBatches(RowBatches(kit.dataset["train"], batch_size=4, seed=1), [replayed], share=0.25)
    trainer = kit.pretraining(output_dir=str(kit.root / "out"), total_steps=4000, save_steps=4000)
    with pytest.raises(CorruptArtifactError, match=re.escape(f"{shard}: is not what was written")):
        trainer.train(source)
