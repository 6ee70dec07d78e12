"""Runs whose data goes wrong at known places, compared with runs that never saw these places."""

import functools
import itertools
import json
import math
import signal
import time
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from typing import Any

import pytest
import torch
from late_numbers import LateNumbers

from core.errors import BloomeryError, DataError, Preempted
from core.training_config import TrainingConfig
from models.hf_layout import load_model
from models.transformer_lm import TransformerLM
from training import stability
from training.batches import ReplayingBatches, RowBatches
from training.checkpoint import latest_checkpoint
from training.losses import Batch, next_token_loss
from training.step_report import Numbers
from training.trainer import Hook, Trainer


class Marked(RowBatches):
    """Micro-batches of which some are marked as poison, and some left out from the start."""

    poison: Set[int] = frozenset()
    absent: Set[int] = frozenset()

    def micro_batches(self, numbers: Iterable[int]) -> Iterator[Batch]:
        there = [number for number in range(1000) if number not in self.absent]
        for number in (there[position] for position in numbers):
            (batch,) = super().micro_batches([number])
            yield {**batch, "poison": torch.tensor(float(number in self.poison))}


def poisonous_loss(model: TransformerLM, batch: Batch, *, kind: str, **options: Any) -> torch.Tensor:
    loss = next_token_loss(model, batch, **options)
    if not batch.get("poison", False):
        return loss
    return loss * math.nan if kind == "nan" else loss + 5.0 * batch["input_ids"].numel()


@pytest.fixture(autouse=True, params=[Numbers, LateNumbers], ids=["at once", "one step late"])
def numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each decision is the same whenever the numbers of a step reach the host."""
    monkeypatch.setattr("training.trainer.Numbers", request.param)


@pytest.fixture
def nan_losses(kit) -> None:
    kit.loss_function = functools.partial(poisonous_loss, kind="nan")


@pytest.fixture
def high_losses(kit, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.loss_function = functools.partial(poisonous_loss, kind="high")
    for name, value in (("FIRST_JUDGED_LOSS", 4), ("HIGH_STEPS", 3), ("SMOOTHED_OVER", 1)):
        monkeypatch.setattr(stability, name, value)


def train(
    kit,
    name: str,
    *,
    poison: Set[int] = frozenset(),
    absent: Set[int] = frozenset(),
    until: int | None = None,
    resume: Path | None = None,
    hooks: tuple[Hook, ...] = (),
    **settings: Any,
):
    """A run of 20 steps of two micro-batches; `until` interrupts it like a signal when a step is done first."""
    trainer = kit.pretraining(
        output_dir=str(kit.root / name),
        **{"total_steps": 20, "save_steps": 3, "gradient_accumulation_steps": 2, **settings},
    )
    source = Marked(kit.dataset["train"], batch_size=4, seed=1)
    source.poison, source.absent = poison, absent
    seen: set[int] = set()

    def interrupt(_trainer: Trainer, report: Any) -> None:
        if report.step == until and until not in seen:
            signal.raise_signal(signal.SIGTERM)
        seen.add(report.step)

    trainer.hooks = (interrupt, *hooks)
    return trainer.train(source, resume_from_checkpoint=resume)


# Steps 8, 9 and 10 (from 1) read the micro-batches 14 to 19. Step 6 is the last checkpoint before them.
POISON = frozenset(range(14, 20))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_after_bad_steps_a_run_ends_as_one_that_never_had_their_data(
    kit, nan_losses: None, same_weights, optimizer: str
) -> None:
    result = train(kit, "poisoned", poison=POISON, optimizer=optimizer)
    clean = train(kit, "clean", absent=POISON, optimizer=optimizer)
    assert same_weights(load_model(result.final_directory), load_model(clean.final_directory))
    out = kit.root / "poisoned"
    [event] = map(json.loads, (out / "events.jsonl").read_text().splitlines())
    assert (event["kind"], event["step"], event["to_step"]) == ("rollback", 10, 6)
    assert event["skipped_steps"] == [[7, 3]]
    assert (out / "step_9.superseded-1").is_dir()
    state = json.loads((out / "step_20" / "trainer" / "state.json").read_text())["progress"]["stability"]
    assert (state["skipped_windows"], state["num_rollbacks"]) == ([[7, 3]], 1)
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    steps = [line["step"] for line in lines if "train/loss" in line]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize("until", [8, 9, 14])
def test_a_run_that_went_back_is_resumed_bit_for_bit(kit, nan_losses: None, same_weights, until: int) -> None:
    poison = POISON | frozenset(range(28, 36))
    straight = train(kit, "straight", poison=poison)
    with pytest.raises(Preempted):
        train(kit, "broken", poison=poison, until=until)
    # Where the last step's outcome is known only when it is to be saved, the run goes back first, and stops then.
    result = train(kit, "broken", poison=poison, resume=latest_checkpoint(kit.root / "broken"))
    assert same_weights(load_model(result.final_directory), load_model(straight.final_directory))
    states = [
        json.loads((kit.root / name / "step_20" / "trainer" / "state.json").read_text())["progress"]
        for name in ("straight", "broken")
    ]
    assert states[0]["stability"] == states[1]["stability"]
    assert states[0]["stability"]["num_rollbacks"] == 2


def test_a_signal_in_the_step_that_is_gone_back_from_is_not_lost(kit, nan_losses: None) -> None:
    trainer = kit.pretraining(total_steps=20, save_steps=3, gradient_accumulation_steps=2)
    source = Marked(kit.dataset["train"], batch_size=4, seed=1)
    source.poison = POISON
    real = source.micro_batches

    def with_signal(numbers: Iterable[int]) -> Iterator[Batch]:
        for number in numbers:
            if number == 19:
                signal.raise_signal(signal.SIGTERM)
            yield from real([number])

    source.micro_batches = with_signal  # type: ignore[method-assign]
    with pytest.raises(Preempted, match="SIGTERM at step 7 of 20"):
        trainer.train(source)


def test_a_loss_that_stays_high_sends_the_run_back(kit, high_losses: None, same_weights) -> None:
    poison = frozenset(range(20, 26))
    settings = {"gradient_accumulation_steps": 2, "save_steps": 2}
    result = train(kit, "poisoned", poison=poison, **settings)
    # The window begins SMOOTHED_OVER (here 1) step before the rise.
    clean = train(kit, "clean", absent=frozenset(range(18, 26)), **settings)
    assert same_weights(load_model(result.final_directory), load_model(clean.final_directory))
    ignored = train(kit, "ignored", poison=poison, loss_spike_sigmas=None, **settings)
    never = train(kit, "never", poison=poison, max_rollbacks=None, **settings)
    assert same_weights(load_model(ignored.final_directory), load_model(never.final_directory))
    assert not (kit.root / "ignored" / "events.jsonl").exists()


def test_a_run_that_goes_wrong_again_and_again_ends_with_the_evidence(kit, nan_losses: None) -> None:
    message = r"had no finite gradient \(step 10\), after the run went back 2 times"
    with pytest.raises(DataError, match=message) as caught:
        train(kit, "bad", poison=frozenset(range(14, 1000)), max_rollbacks=2)
    assert caught.value.exit_code == 65
    place = kit.root / "bad" / "unstable_step_10"
    assert str(place) in str(caught.value)
    report = json.loads((place / "report.json").read_text())
    assert report["from_checkpoint"] == "step_6"
    assert report["skipped_steps"] == [[7, 3], [10, 3]]
    assert [batch["number"] for batch in report["micro_batches"]] == list(range(26, 32))
    source = RowBatches(kit.dataset["train"], batch_size=4, seed=1)
    expected = next(source.micro_batches(itertools.count(26)))["input_ids"]
    rows = kit.dataset["train"].batch(report["micro_batches"][0]["rows"])["input_ids"]
    assert torch.equal(torch.from_numpy(rows), expected)
    assert report["last_steps"][-1]["gradient_norm"] == "nan"
    settings = json.loads((place / "settings.json").read_text())
    assert TrainingConfig.from_dict(settings["training"]).max_rollbacks == 2


def test_the_evidence_names_replayed_rows_by_themselves(kit) -> None:
    text = kit.dataset["test"]
    source = ReplayingBatches(RowBatches(kit.dataset["train"], batch_size=4, seed=1), [text], share=0.25)
    kit.loss_function = lambda model, batch, **options: (
        next_token_loss(model, batch, **options) * (1.0 if kit.good_steps > 0 else math.nan)
    )
    kit.good_steps = 6

    def count(_trainer: Trainer, _report: Any) -> None:
        kit.good_steps -= 1

    trainer = kit.pretraining(total_steps=20, save_steps=3, max_rollbacks=1)
    trainer.hooks = (count,)
    with pytest.raises(DataError, match="after the run went back 1 times"):
        trainer.train(source)
    (place,) = (kit.root / "checkpoints").glob("unstable_step_*")
    first, *_ = json.loads((place / "report.json").read_text())["micro_batches"]
    (batch,) = source.micro_batches([first["number"]])
    assert (len(first["rows"]), len(first["replayed_rows"])) == (3, 1)
    parts = kit.dataset["train"].batch(first["rows"]), text.batch(first["replayed_rows"])
    named = {tuple(row) for part in parts for row in part["input_ids"].tolist()}
    assert named == {tuple(row) for row in batch["input_ids"].tolist()}


def test_without_a_checkpoint_to_go_back_to_the_limit_of_bad_steps_holds(
    kit, nan_losses: None, caplog
) -> None:
    with pytest.raises(BloomeryError, match="10 updates in a row had no finite gradient"):
        train(kit, "early", poison=frozenset(range(2, 1000)), save_steps=5)
    assert "no checkpoint of step 1 or before to go back to" in caplog.text


def test_a_damaged_checkpoint_is_not_gone_back_to(kit, nan_losses: None, same_weights) -> None:
    out = kit.root / "poisoned"

    def damage(_trainer: Trainer, report: Any) -> None:
        if report.step == 9 and not (out / "events.jsonl").exists():
            while not (out / "step_6").exists():  # it is written in the background
                time.sleep(0.01)
            (out / "step_6" / "model.safetensors").write_bytes(b"x")

    result = train(kit, "poisoned", poison=POISON, hooks=(damage,))
    clean = train(kit, "clean", absent=POISON)
    assert same_weights(load_model(result.final_directory), load_model(clean.final_directory))
    [event] = map(json.loads, (out / "events.jsonl").read_text().splitlines())
    assert event["to_step"] == 3
