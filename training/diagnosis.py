"""What is wrong with a training, told from what it logged. `DIAGNOSES` is the list; nothing here reads a file.

Each diagnosis is a function from a `TrainingLog` to a `Finding`, or None where it sees nothing. Thresholds without a
source are arbitrary, and wide: a finding should be worth reading.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import mean, median
from typing import NamedTuple

from training.run_log import TrainingLog, smoothed

SMOOTHING_LINES = 5
"""Lines of the log that are averaged before two stretches of a curve are compared."""


class Finding(NamedTuple):
    """What was seen, with its numbers, and what to do."""

    seen: str
    remedy: str


Diagnosis = Callable[[TrainingLog], Finding | None]


def starts_wrong(log: TrainingLog) -> Finding | None:
    """A model that knows nothing gives each of V tokens the same chance: its loss is ln V."""
    started = log.values("validation/loss")[:1] or log.values("train/loss")[:1]
    if not started or log.vocab_size is None:
        return None
    guess = math.log(log.vocab_size)
    seen = f"the first loss was {started[0]:.2f} nats; guessing among {log.vocab_size:,} tokens gives {guess:.2f}"
    if started[0] > 1.1 * guess:
        return Finding(
            seen,
            "worse than guessing: initial weights too large (model.initializer_range), or weights, vocabulary and data "
            "that do not belong together",
        )
    first_step = (log.curves.get("validation/loss") or log.curves["train/loss"])[0][0]
    is_untrained = log.stage == "pretraining" and log.begun_with is None and first_step == 0
    if is_untrained and started[0] < 0.9 * guess:
        return Finding(
            seen,
            "an untrained model cannot know that much: the labels can be seen in the input (labels of a loader of your "
            "own must be shifted), or the data are nearly constant",
        )
    return None


def diverged(log: TrainingLog) -> Finding | None:
    """The training loss is far above where it was."""
    loss = smoothed(log.values("train/loss"), SMOOTHING_LINES)
    if len(loss) < 2:
        return None
    lowest, now = min(loss), loss[-1]
    if now <= lowest + max(0.3, 0.1 * lowest):
        return None
    return Finding(
        f"the training loss is {now:.2f}, after {lowest:.2f} at its lowest: it diverges",
        f"go on from a checkpoint before that, with half the learning rate{_rate(log)} or a longer warm-up "
        "(warmup_ratio); keep max_gradient_norm at 1",
    )


def skips_steps(log: TrainingLog) -> Finding | None:
    """Gradients or logged numbers were NaN or infinite."""
    skipped = int(sum(log.values("train/skipped_steps")))
    if not skipped and not log.num_not_finite:
        return None
    return Finding(
        f"{skipped} steps were skipped for gradients that were not finite"
        + (f", {log.num_not_finite} logged values are no numbers" if log.num_not_finite else ""),
        f"a lower learning rate{_rate(log)} or mixed_precision=fp32; if it is always the same step, look at its data",
    )


def does_not_learn(log: TrainingLog) -> Finding | None:
    """The loss stands where it began."""
    loss = log.values("train/loss")
    if len(loss) < 2 * SMOOTHING_LINES or log.step < 200:
        return None
    first, now = loss[0], mean(loss[-SMOOTHING_LINES:])
    if now < 0.97 * first or now < 1.0:  # a tuned model may begin where there is little left to learn
        return None
    return Finding(
        f"after {log.step:,} steps the loss is {now:.2f}, and was {first:.2f} at the start: nothing is learned",
        f"a learning rate{_rate(log)} ten times as high, or ten times as low if gradient norms are above 10; look at "
        "what the data hold (scripts/inspect_data.py)",
    )


def has_a_plateau(log: TrainingLog) -> Finding | None:
    """The loss no longer falls, though the learning rate is still high."""
    loss, rates = smoothed(log.values("train/loss"), SMOOTHING_LINES), log.values("train/learning_rate")
    if len(loss) < 30 or rates[-1] < 0.3 * max(rates):
        return None
    stretch = loss[-int(0.4 * len(loss)) :]
    third = len(stretch) // 3
    before, now = mean(stretch[:third]), mean(stretch[-third:])
    if not 0 <= before - now < 0.003 * before or diverged(log) is not None or does_not_learn(log) is not None:
        return None
    return Finding(
        f"the training loss stays at {now:.3f} (was {before:.3f}) over the last 40 % of the steps, at a learning rate "
        f"of {rates[-1]:.1e}",
        "let the rate decay now (a shorter total_steps, or schedule=warmup_stable_decay); a larger model if it has "
        "decayed already; more varied data",
    )


def waits_for_data(log: TrainingLog) -> Finding | None:
    """Steps wait for their batches."""
    share = _settled(log, "train/data_wait_share")
    if share is None or share < 0.1:
        return None
    return Finding(
        f"{share:.0%} of the time passes between steps, waiting for batches",
        "num_workers of a DataLoader of your own; a dataset made by the pipeline on a local disk instead of a network",
    )


def has_small_batches(log: TrainingLog) -> Finding | None:
    """Nearly all of each gradient is noise of its batch, which is then below a thirtieth of the critical one.

    Measured: 0 to 1 % with one row of 256 tokens a step at 6 layers of width 256, 9 to 35 % in sound runs of tiny
    models.
    """
    share = _settled(log, "train/gradient_signal_share")
    if share is None or share > 0.03:
        return None
    rows = f" of {log.rows_per_step:,} rows" if log.rows_per_step is not None else ""
    return Finding(
        f"{share:.1%} of a squared gradient is common to successive steps, the rest is noise of a batch{rows}",
        "a larger batch_size, or gradient_accumulation_steps where memory is short, and with it a higher learning "
        "rate: fewer steps reach the same loss",
    )


def accumulates_too_much(log: TrainingLog) -> Finding | None:
    """Micro-batches are added up to a step that hardly has noise left: three times the critical batch and more.

    A step of b critical batches takes 1 + b times the fewest tokens for 1 + 1/b times the fewest steps (McCandlish et
    al. 2018, section 2.3), and b is the signal over the noise in the gradient.
    """
    share = _settled(log, "train/gradient_signal_share")
    accumulated, batch_size = (
        log.settings.get("gradient_accumulation_steps", 1),
        log.settings.get("batch_size"),
    )
    adds_up = accumulated > 1 or (
        log.rows_per_step is not None and log.rows_per_step > (batch_size or math.inf)
    )
    if share is None or share < 0.75 or not adds_up:
        return None
    return Finding(
        f"{share:.0%} of a squared gradient is common to successive steps: most of the micro-batches that are added up "
        "to a step say what the others say",
        "half the gradient_accumulation_steps or global_batch_tokens, for twice as many steps from the same tokens",
    )


def memorises(log: TrainingLog) -> Finding | None:
    """Held-out text gets worse while the training text gets better."""
    held_out, training = log.values("validation/loss"), log.values("train/loss")[-SMOOTHING_LINES:]
    if len(held_out) < 3 or not training:
        return None
    best, now, seen = min(held_out), held_out[-1], mean(training)
    if now < 1.02 * best or seen > 0.85 * now:
        return None
    epochs = log.last("train/epochs")
    passes = f" after {epochs:.1f} passes over the data" if epochs is not None else ""
    found = (
        f"the validation loss is {now:.2f} and was {best:.2f}, the training loss is {seen:.2f}{passes}: it learns "
        "by heart"
    )
    remedy = (
        "use the model in best/; fewer epochs (early_stopping_patience ends by itself), more data, model.dropout=0.1 "
        "or a smaller model"
    )
    if log.stage == "instruction tuning":  # of answers that are to be known, this is what was wanted
        remedy = f"nothing, if these very answers are to be known; where others count more, {remedy}"
        if log.settings.get("replay_share") is None:
            remedy += "; instruction.replay_share=0.25 keeps more of what pretraining taught"
    return Finding(found, remedy)


def rate_is_high(log: TrainingLog) -> Finding | None:
    """Updates are large beside the weights, or most gradients are cut."""
    ratios = _update_ratios_of_blocks(log)
    if ratios and max(ratios) > 0.05:
        return Finding(
            f"each step moves the weights of the blocks by {max(ratios):.1%}; 0.1 % to 1 % is usual",
            f"half the learning rate{_rate(log)}, until the loss falls less jerkily",
        )
    jumps = _jumps(log.values("train/loss"))
    if jumps < 3:
        return None
    return Finding(
        f"the training loss jumped up {jumps} times",
        f"half the learning rate{_rate(log)} or a longer warm-up (warmup_ratio)",
    )


def rate_is_low(log: TrainingLog) -> Finding | None:
    """Updates are tiny beside the weights."""
    ratios = _update_ratios_of_blocks(log)
    if not ratios or max(ratios) > 1e-4:
        return None
    return Finding(
        f"each step moves the weights of the blocks by {max(ratios):.4%}; 0.1 % to 1 % is usual",
        f"a learning rate{_rate(log)} three to ten times as high",
    )


def misses_its_budget(log: TrainingLog) -> Finding | None:
    """A finished training took clearly more or less time than it was given."""
    budget = log.settings.get("time_budget_seconds")
    if budget is None or not log.is_finished or not log.elapsed_seconds:
        return None
    share = log.elapsed_seconds / budget
    # The start (measuring, compiling) counts against the budget, but no step's clock sees it.
    if 0.7 < share < 1.05:
        return None
    return Finding(
        f"the steps took {log.elapsed_seconds:,.0f} s of a budget of {budget:,.0f} s",
        "the machine's speed changed too late to be made good: look for other work on it; a budget below a minute is "
        "mostly start-up",
    )


def slows_down(log: TrainingLog) -> Finding | None:
    """The last steps are much slower than the training once was."""
    speeds = log.values("train/tokens_per_second")
    if len(speeds) < 20:
        return None
    stretches = [median(speeds[i : i + 5]) for i in range(0, len(speeds) - 4, 5)]
    fastest, now = max(stretches), stretches[-1]
    if now > 0.6 * fastest:
        return None
    return Finding(
        f"{now:,.0f} tokens a second at the end, {fastest:,.0f} at the best",
        "look for other work on the machine, memory that is swapped, or a processor that is too hot",
    )


def fills_the_disk(log: TrainingLog) -> Finding | None:
    """The next checkpoint may not fit."""
    if log.is_finished or log.free_bytes is None or log.free_bytes >= 2 * log.checkpoint_bytes:
        return None
    return Finding(
        f"{log.free_bytes / 1e9:.1f} GB are free and a checkpoint takes {log.checkpoint_bytes / 1e9:.1f} GB",
        "make room before the next one is due, or lower save_total_limit",
    )


def was_stopped(log: TrainingLog) -> Finding | None:
    """It ended before its end."""
    if log.is_finished or log.holder is not None or not log.step:
        return None
    return Finding(
        f"it stands at step {log.step:,} of {log.total_steps or 0:,} and no process works on it",
        "the command that began it goes on from the last checkpoint",
    )


def is_silent(log: TrainingLog) -> Finding | None:
    """A process holds the run, but nothing is logged any more."""
    seconds = [value for _, value in log.curves.get("train/process_seconds", ())]
    usual = max((b - a for a, b in pairwise(seconds)), default=0.0)
    if log.is_finished or log.holder is None or log.seconds_since_line is None or not usual:
        return None
    if log.seconds_since_line < 60 + 5 * usual:
        return None
    return Finding(
        f"{log.holder} has logged nothing for {log.seconds_since_line:,.0f} s; the longest pause before was "
        f"{usual:,.0f} s",
        "it may be saving, swapping or hanging: look at it with top and py-spy; a kill costs the steps since the last "
        "checkpoint",
    )


DIAGNOSES: tuple[Diagnosis, ...] = (
    starts_wrong,
    diverged,
    skips_steps,
    does_not_learn,
    has_a_plateau,
    waits_for_data,
    has_small_batches,
    accumulates_too_much,
    memorises,
    rate_is_high,
    rate_is_low,
    misses_its_budget,
    slows_down,
    fills_the_disk,
    was_stopped,
    is_silent,
)


def diagnose(log: TrainingLog) -> list[Finding]:
    """Everything that is worth saying of a training."""
    return [finding for diagnosis in DIAGNOSES if (finding := diagnosis(log)) is not None]


def _rate(log: TrainingLog) -> str:
    rate = log.settings.get("learning_rate")
    return "" if rate is None else f" (it is {rate:g})"


def _settled(log: TrainingLog, name: str) -> float | None:
    """The mean of the second half of a curve of at least three values."""
    values = log.values(name)
    return mean(values[len(values) // 2 :]) if len(values) >= 3 else None


def _update_ratios_of_blocks(log: TrainingLog) -> list[float]:
    # Muon's steps have a size of their own, and weights grow until it is some percent of theirs, whatever the rate.
    if log.settings.get("optimizer") == "muon":
        return []
    return [r for part in ("attention", "feed_forward") if (r := _at_peak(log, part)) is not None]


def _at_peak(log: TrainingLog, part: str) -> float | None:
    """The usual update-to-weight ratio of a group while the learning rate was above half of its peak."""
    rates = dict(log.curves.get("train/learning_rate", ()))
    peak = max(rates.values(), default=0.0)
    ratios = [
        ratio
        for step, ratio in log.curves.get(f"train/update_to_weight/{part}", ())
        if rates.get(step, 0.0) > 0.5 * peak
    ]
    return median(ratios) if ratios else None


def _jumps(losses: Sequence[float]) -> int:
    """How often the loss rose by a fifth from one line to the next."""
    return sum(after > 1.2 * before and after > before + 0.5 for before, after in pairwise(losses))
