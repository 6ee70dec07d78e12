"""Each diagnosis on made-up logs that do and do not show the fault."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from training import diagnosis
from training.diagnosis import DIAGNOSES, diagnose
from training.run_log import TrainingLog, read_training
from training.session import row_loaders

LINES = 100


def curve(values: Sequence[float], every: int = 10) -> list[tuple[int, float]]:
    return [(every * (number + 1), value) for number, value in enumerate(values)]


def falling(first: float, last: float, number: int = LINES) -> list[float]:
    return [last + (first - last) * math.exp(-5 * n / number) for n in range(number)]


def cosine(number: int = LINES) -> list[float]:
    return [1e-3 * 0.5 * (1 + math.cos(math.pi * n / number)) for n in range(number)]


def log(curves: Mapping[str, Sequence[float]] | None = None, **facts: Any) -> TrainingLog:
    """A healthy, finished training of a vocabulary of 4,096, with some curves replaced."""
    healthy = {
        "train/loss": falling(8.3, 4.0),
        "train/learning_rate": cosine(),
        "train/gradient_norm": [1.0] * LINES,
        "train/tokens_per_second": [5000.0] * LINES,
        "train/data_wait_share": [0.001] * LINES,
        "train/process_seconds": [float(n) for n in range(1, LINES + 1)],
        "train/epochs": [n / LINES for n in range(LINES)],
    }
    shown = {name: curve(values) for name, values in {**healthy, **(curves or {})}.items()}
    for part, ratio in (("attention", 3e-3), ("feed_forward", 2e-3)):
        shown.setdefault(f"train/update_to_weight/{part}", curve([ratio] * 10, every=100))
    shown.setdefault("train/gradient_signal_share", curve([0.2] * 10, every=100))
    held_out = [(0, 8.32), (250, 5.5), (500, 4.8), (750, 4.5), (1000, 4.4)]
    shown["validation/loss"] = facts.pop("validation", held_out)
    base = TrainingLog(
        Path("runs/x/pretrain"),
        shown,
        settings={"learning_rate": 1e-3, "batch_size": 4, "gradient_accumulation_steps": 1},
        planned_steps=1000,
        rows_per_step=4,
        stage="pretraining",
        vocab_size=4096,
        is_finished=True,
        seconds_since_line=1.0,
        elapsed_seconds=100.0,
        checkpoint_bytes=10**8,
        free_bytes=10**11,
    )
    return replace(base, **facts)


def running(**facts: Any) -> TrainingLog:
    return log(is_finished=False, holder="process 7 on host", **facts)


RATIOS = ("train/update_to_weight/attention", "train/update_to_weight/feed_forward")

SHOWN: list[tuple[Callable[..., Any], TrainingLog, str]] = [
    (diagnosis.starts_wrong, log(validation=[(0, 11.0), (1000, 5.0)]), "worse than guessing"),
    (diagnosis.starts_wrong, log(validation=[(0, 3.0), (1000, 2.0)]), "labels can be seen in the input"),
    (diagnosis.diverged, log({"train/loss": [*falling(8.3, 4.0, 80), *[6.0] * 20]}), "6.00, after 4.04"),
    (diagnosis.skips_steps, log({"train/skipped_steps": [0.0] * 9 + [3.0]}), "3 steps were skipped"),
    (diagnosis.skips_steps, log(num_not_finite=4), "4 logged values are no numbers"),
    (diagnosis.does_not_learn, log({"train/loss": [8.3, *[8.25] * 99]}), "8.25, and was 8.30 at the start"),
    (
        diagnosis.has_a_plateau,
        log({"train/loss": [*falling(8.3, 5.0, 40), *[5.0] * 60], "train/learning_rate": [1e-3] * LINES}),
        "stays at 5.0",
    ),
    (diagnosis.waits_for_data, log({"train/data_wait_share": [0.4] * LINES}), "40% of the time"),
    (
        diagnosis.has_small_batches,
        log({"train/gradient_signal_share": [0.01] * 10}),
        "noise of a batch of 4 rows",
    ),
    (
        diagnosis.accumulates_too_much,
        log({"train/gradient_signal_share": [0.8] * 10}, settings={"gradient_accumulation_steps": 8}),
        "80% of a squared gradient",
    ),
    (
        diagnosis.accumulates_too_much,
        log({"train/gradient_signal_share": [0.8] * 10}, rows_per_step=64),  # by global_batch_tokens
        "half the gradient_accumulation_steps or global_batch_tokens",
    ),
    (
        diagnosis.memorises,
        log(
            {"train/loss": falling(6.0, 0.1), "train/epochs": [12.0] * LINES},
            validation=[(0, 6.0), (400, 3.1), (1000, 3.4)],
        ),
        "3.40 and was 3.10, the training loss is 0.1",
    ),
    (
        diagnosis.memorises,
        log(
            {"train/loss": falling(6.0, 0.1)},
            validation=[(0, 6.0), (400, 3.1), (1000, 3.4)],
            stage="instruction tuning",
        ),
        "or a smaller model; instruction.replay_share=0.25 keeps",
    ),
    (
        diagnosis.memorises,
        log(
            {"train/loss": falling(6.0, 0.1)},
            validation=[(0, 6.0), (400, 3.1), (1000, 3.4)],
            stage="instruction tuning",
            settings={"replay_share": 0.25},
        ),
        "nothing, if these very answers are to be known",
    ),
    (diagnosis.rate_is_high, log(dict.fromkeys(RATIOS, [0.2] * LINES)), "by 20.0%"),
    (diagnosis.rate_is_high, log({"train/loss": [5.0, 6.5] * 20}), "jumped up 20 times"),
    (diagnosis.rate_is_low, log(dict.fromkeys(RATIOS, [2e-5] * LINES)), "by 0.0020%"),
    (
        diagnosis.misses_its_budget,
        log(settings={"time_budget_seconds": 80.0}),
        "took 100 s of a budget of 80 s",
    ),
    (
        diagnosis.slows_down,
        log({"train/tokens_per_second": [5000.0] * 80 + [1000.0] * 20}),
        "1,000 tokens a second",
    ),
    (diagnosis.fills_the_disk, running(free_bytes=10**8), "0.1 GB are free"),
    (diagnosis.was_stopped, log(is_finished=False), "stands at step 1,000 of 1,000"),
    (
        diagnosis.is_silent,
        running(seconds_since_line=500.0),
        "process 7 on host has logged nothing for 500 s",
    ),
]

NOT_SHOWN: list[tuple[Callable[..., Any], TrainingLog]] = [
    # A tuned model starts below guessing, and a resumed log without its first lines starts anywhere.
    (diagnosis.starts_wrong, log(validation=[(0, 3.0), (1000, 2.0)], stage="instruction tuning")),
    (diagnosis.starts_wrong, log(validation=[(0, 3.0), (1000, 2.0)], begun_with="runs/mine/pretrain/final")),
    (diagnosis.starts_wrong, log(validation=[(500, 3.0)])),
    (diagnosis.starts_wrong, log(validation=[(0, 30.0)], vocab_size=None)),
    # Noise around a level is no divergence, and one bad line is none either.
    (diagnosis.diverged, log({"train/loss": [4.0 + 0.1 * (-1) ** n for n in range(LINES)]})),
    (diagnosis.diverged, log({"train/loss": [*[4.0] * 99, 4.8]})),
    # Little is left to learn.
    (diagnosis.does_not_learn, log({"train/loss": [0.5] * LINES})),
    # Flat because the rate has decayed, or still falling.
    (diagnosis.has_a_plateau, log({"train/loss": [*falling(8.3, 5.0, 40), *[5.0] * 60]})),
    (
        diagnosis.has_a_plateau,
        log({"train/loss": [8.0 - 0.02 * n for n in range(LINES)], "train/learning_rate": [1e-3] * LINES}),
    ),
    # The first line alone waited: files were opened.
    (diagnosis.waits_for_data, log({"train/data_wait_share": [0.9, *[0.01] * 99]})),
    # Without accumulation a large batch costs no time that a smaller one would not.
    (diagnosis.accumulates_too_much, log({"train/gradient_signal_share": [0.8] * 10})),
    (
        diagnosis.accumulates_too_much,
        log({"train/gradient_signal_share": [0.5] * 10}, settings={"gradient_accumulation_steps": 8}),
    ),
    # Held-out text that gets better, however far the training loss is below it.
    (
        diagnosis.memorises,
        log({"train/loss": falling(6.0, 0.1)}, validation=[(0, 6.0), (400, 3.4), (1000, 3.1)]),
    ),
    # Held-out text that gets worse together with the training text is divergence.
    (diagnosis.memorises, log({"train/loss": [6.0] * LINES}, validation=[(0, 6.0), (400, 4.0), (1000, 6.0)])),
    # At the end of the decay updates are tiny, as they should be.
    (
        diagnosis.rate_is_low,
        log(dict.fromkeys(RATIOS, [3e-3] * 50 + [1e-6] * 50)),
    ),
    (diagnosis.misses_its_budget, log(settings={"time_budget_seconds": 102.0})),
    (diagnosis.misses_its_budget, log(settings={"time_budget_seconds": 10.0}, is_finished=False)),
    (diagnosis.slows_down, log({"train/tokens_per_second": [5000.0, 3500.0] * 50})),
    (diagnosis.fills_the_disk, log(free_bytes=10**7)),  # finished: no further checkpoint
    (diagnosis.was_stopped, running()),
    (diagnosis.is_silent, running(seconds_since_line=30.0)),
    (diagnosis.is_silent, log(seconds_since_line=1e6)),
]


def test_a_healthy_training_is_told_nothing() -> None:
    assert diagnose(log()) == []
    assert diagnose(running()) == []


@pytest.mark.parametrize(("one", "shown", "words"), SHOWN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_fault_is_seen_and_a_remedy_named(one, shown: TrainingLog, words: str) -> None:
    finding = one(shown)
    assert finding is not None
    assert words in f"{finding.seen}; {finding.remedy}"
    assert finding in diagnose(shown)


@pytest.mark.parametrize(("one", "not_shown"), NOT_SHOWN, ids=lambda value: getattr(value, "__name__", ""))
def test_what_only_looks_like_it_is_no_fault(one, not_shown: TrainingLog) -> None:
    assert one(not_shown) is None


def test_every_diagnosis_is_in_the_list_and_shown_here() -> None:
    assert {one for one, _, _ in SHOWN} == set(DIAGNOSES)


@pytest.mark.parametrize("one", DIAGNOSES, ids=lambda one: one.__name__)
@pytest.mark.parametrize("num_lines", [0, 1, 2, 5])
def test_a_log_that_has_hardly_begun_is_no_error(one, num_lines: int) -> None:
    young = log()
    cut = {name: points[:num_lines] for name, points in young.curves.items() if num_lines}
    one(replace(young, curves=cut, settings={}, planned_steps=None, is_finished=False))


def test_a_rate_that_is_far_too_high_is_seen_in_a_real_training(kit) -> None:
    def seen(name: str, rate: float, optimizer: str = "adamw") -> str:
        trainer = kit.pretraining(
            total_steps=60,
            logging_steps=1,
            optimizer=optimizer,
            learning_rate=rate,
            warmup_ratio=0.0,
            schedule="constant",
            output_dir=str(kit.root / name),
            eval_steps=100,
            save_steps=100,
        )
        trainer.train(*row_loaders(kit.dataset["train"], kit.dataset["validation"], trainer.config))
        return "; ".join(finding.seen for finding in diagnose(read_training(kit.root / name)))

    assert "moves the weights of the blocks by" in seen("high", 1.0)
    assert "moves the weights of the blocks by" not in seen("sound", 3e-3)
    # Muon moves weights by percents, and rightly so.
    assert "moves the weights of the blocks by" not in seen("muon", 3e-3, "muon")
