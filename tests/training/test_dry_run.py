"""What does not fit into memory is carried out in parts, and is the same step."""

import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Subset

from core.errors import BloomeryError, ConfigError
from training.batches import LoaderBatches, RowBatches
from training.checkpoint import latest_checkpoint
from training.dry_run import (
    BatchesInParts,
    at_most,
    fit_into_memory,
    ran_out_of_memory,
    split_source,
)
from training.losses import Batch, whole_batch
from training.step_batch import StepBatch
from training.trainer import Trainer

ALLOCATION_FAILED = (
    "[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """A machine on which forward passes fail that have more rows than `room["rows"]`."""
    limit = {"rows": 2}
    summed_loss = Trainer.summed_loss

    def cramped_loss(self: Trainer, batch: Batch) -> torch.Tensor:
        if len(batch["input_ids"]) > limit["rows"]:
            raise RuntimeError(f"{ALLOCATION_FAILED} 12345 bytes")
        return summed_loss(self, batch)

    monkeypatch.setattr(Trainer, "summed_loss", cramped_loss)
    yield limit


def test_a_batch_that_fits_is_left_as_it_is(kit) -> None:
    trainer = kit.trainer()
    assert fit_into_memory(trainer) is None
    assert (trainer.step_batch.micro_batch_rows, trainer.step_batch.num_micro_batches) == (4, 1)


def test_the_dry_run_changes_neither_weights_nor_random_numbers(kit, same_weights) -> None:
    for settings in ({"optimizer": "adamw"}, {"optimizer": "muon", "gradient_accumulation_steps": 2}):
        trainer = kit.trainer(**settings)
        torch.manual_seed(7)
        fit_into_memory(trainer)
        drawn = torch.rand(3)
        torch.manual_seed(7)
        assert torch.equal(drawn, torch.rand(3))
        assert same_weights(trainer.model, kit.model())
        assert all(not optimizer.state for optimizer in trainer.optimizers)
        assert all(parameter.grad is None for parameter in trainer.model.parameters())


def test_what_does_not_fit_is_halved_and_the_global_batch_stays(kit, room, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        result = kit.pretraining(batch_size=8).train(
            DataLoader(kit.dataset["train"], batch_size=8, shuffle=True),
            DataLoader(kit.dataset["validation"], batch_size=2),
        )
    assert "a micro-batch of 8 rows of 32 tokens does not fit" in caplog.text
    assert "going on with 2 rows and 4 micro-batches a step" in caplog.text
    place = result.final_directory.parent
    assert json.loads((place / "plan.json").read_text())["most_rows_at_a_time"] == 2
    events = [json.loads(line) for line in (place / "events.jsonl").read_text().splitlines()]
    assert [(e["kind"], e["rows"], e["micro_batches"]) for e in events] == [("micro_batch_halved", 2, 4)]


def losses(directory: Path) -> list[float]:
    lines = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.mark.parametrize("as_rows", [True, False])
def test_losses_of_a_halved_run_are_those_of_the_whole_one(kit, room, tmp_path, as_rows: bool) -> None:
    def run(name: str, rows: int) -> list[float]:
        room["rows"] = rows
        place = tmp_path / name
        shape = kit.shape.replace(dropout=0.0)  # what is dropped is drawn a micro-batch
        kit.shape = shape
        data = kit.dataset["train"]
        source = (
            RowBatches(data, batch_size=8, seed=3)
            if as_rows
            else DataLoader(data, batch_size=8, shuffle=True)
        )
        held_out = DataLoader(kit.dataset["validation"], batch_size=8)
        result = kit.pretraining(batch_size=8, output_dir=str(place), logging_steps=1).train(source, held_out)
        return [*losses(place), result.final_validation["validation/loss"]]

    whole, halved = run("whole", 8), run("halved", 2)
    assert len(whole) == len(halved) == 13
    # float32 sums in another order; Adam makes of that, in twelve steps, less than this.
    assert halved == pytest.approx(whole, rel=2e-5)
    assert halved != whole


def test_a_halved_run_goes_on_exactly_where_it_was_stopped(kit, room, same_weights) -> None:
    def train(stop_after: int | None, name: str) -> Any:
        def stop(trainer: Any, report: Any) -> None:
            if report.step == stop_after:
                trainer.should_stop = "enough"

        place = kit.root / name
        pretraining = kit.pretraining(batch_size=8, output_dir=str(place))
        pretraining.hooks = (stop,)
        return pretraining, pretraining.train(
            RowBatches(kit.dataset["train"], batch_size=8, seed=3),
            resume_from_checkpoint=latest_checkpoint(place),
        )

    expected, _ = train(None, "at once")
    train(5, "in two")
    # Room enough for the whole batch now; what was begun in parts goes on in parts.
    room["rows"] = 8
    found, _ = train(None, "in two")
    assert same_weights(found.model, expected.model)


def test_less_room_than_before_is_no_bit_exact_resumption_and_says_why(kit, room, caplog) -> None:
    def train(rows: int, steps: int) -> None:
        room["rows"] = rows
        with caplog.at_level(logging.INFO):
            kit.pretraining(batch_size=8, total_steps=steps).train(
                RowBatches(kit.dataset["train"], batch_size=8, seed=3),
                resume_from_checkpoint=latest_checkpoint(kit.root / "checkpoints"),
            )

    train(4, 6)
    train(1, 12)
    assert "going on from step 6 (not bit-exact because micro_batch_rows was 4, is 1)" in caplog.text


def test_a_row_that_does_not_fit_ends_with_what_to_change(kit, room) -> None:
    room["rows"] = 0
    with pytest.raises(
        ConfigError,
        match=r"^training\.batch_size: a micro-batch of one row of 32 tokens does not fit .*DefaultCPUAllocator.*"
        r"gradient_checkpointing=full, a shorter model\.max_position_embeddings, .* or save_in_background=false$",
    ):
        kit.pretraining(batch_size=4).train(RowBatches(kit.dataset["train"], batch_size=4, seed=3))


def test_memory_that_runs_out_later_names_the_step_and_the_way_on(kit, room) -> None:
    room["rows"] = 8

    def shrink(trainer: Any, report: Any) -> None:
        room["rows"] = 0 if report.step == 5 else 8

    pretraining = kit.pretraining(batch_size=4)
    pretraining.hooks = (shrink,)
    with pytest.raises(
        BloomeryError, match=r"^step 6: memory ran out .* goes on from the last checkpoint$"
    ) as error:
        pretraining.train(RowBatches(kit.dataset["train"], batch_size=4, seed=3))
    assert error.value.exit_code == 70
    assert (kit.root / "checkpoints" / "step_4").is_dir()


def test_other_errors_of_a_step_are_not_taken_for_missing_memory(kit) -> None:
    assert not ran_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert ran_out_of_memory(MemoryError())
    assert ran_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        trainer = kit.trainer()
        trainer.summed_loss = lambda _: torch.ones(2, 3) @ torch.ones(2, 3)
        fit_into_memory(trainer)


@pytest.mark.parametrize("start", [0, 1, 5, 37])
def test_parts_of_a_source_are_its_rows_in_order(kit, start: int) -> None:
    def rows_of(source: Any, number: int, first: int) -> torch.Tensor:
        batches = source.micro_batches(itertools.count(first))
        return torch.cat([next(batches)["input_ids"] for _ in range(number)])

    rows = RowBatches(kit.dataset["train"], batch_size=6, seed=1)
    loader = LoaderBatches(
        DataLoader(kit.dataset["train"], batch_size=6, shuffle=True, drop_last=True), seed=1
    )
    for source in (rows, loader):
        assert torch.equal(rows_of(split_source(source, 3), 9, 3 * start), rows_of(source, 3, start))
        assert split_source(source, 3).batches_per_epoch == pytest.approx(3 * source.batches_per_epoch)


def test_a_short_last_batch_keeps_the_numbers_of_the_next_ones(kit) -> None:
    ten = Subset(kit.dataset["train"], range(10))
    source = LoaderBatches(DataLoader(ten, batch_size=9), seed=1)
    in_two = split_source(source, 3).micro_batches(itertools.count())
    pieces = [next(in_two) for _ in range(3 * len(source.loader) + 1)]
    # The last batch has one row; two that teach nothing make three parts of it.
    assert [(piece["labels"] != -100).any().item() for piece in pieces[-4:-1]] == [True, False, False]
    assert torch.equal(pieces[-1]["input_ids"], pieces[0]["input_ids"])


def test_evaluation_reads_the_same_rows_in_parts(kit) -> None:
    batches = [whole_batch(4, 8), whole_batch(3, 8)]
    parts = list(BatchesInParts(batches, 2))
    assert [len(part["input_ids"]) for part in parts] == [2, 2, 2, 1]
    assert torch.equal(torch.cat([p["labels"] for p in parts]), torch.cat([b["labels"] for b in batches]))


def test_parts_divide_what_they_are_parts_of() -> None:
    whole = StepBatch(rows=24, micro_batch_rows=12)
    assert [at_most(whole, rows).micro_batch_rows for rows in (12, 11, 5, 1)] == [12, 6, 4, 1]
    assert at_most(whole, 5).num_micro_batches == 6
