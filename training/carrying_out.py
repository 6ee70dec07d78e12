"""Carries out a training run that is prepared: hooks in their order, checkpoints, what is left at the end.

Knows neither how a run begins nor where it goes on from; what a step does is the trainer's business.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import CorruptArtifactError, Preempted
from core.files import move_aside
from data_processing.rows.token_rows import TokenRows
from tokenization.tokenizer import Tokenizer
from training.batches import BatchSource
from training.checkpoint import (
    copy_checkpoint,
    save_checkpoint,
    step_directory,
    verify_checkpoint,
)
from training.data_check import CheckDataBeside
from training.hooks import (
    EvaluateAndKeepBest,
    LogSteps,
    SaveEvery,
    StopOnSignal,
    evaluation_values,
    open_metrics,
)
from training.optimizer import optimizer_tensors
from training.resuming import (
    name_of,
    numerics,
)
from training.rollback import WatchStability, WithoutWindows
from training.run_length import RunLength
from training.samples import WriteSamples
from training.saving import CheckpointSaver, whole_adapter, whole_copy
from training.status_line import ShowProgress
from training.time_budget import KeepTimeBudget
from training.trainer import Evaluation, Hook, Trainer
from training.training_report import write_training_report
from training.utilization import utilization_of
from training.weight_watch import WatchWeights

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """What a finished training run leaves."""

    final_directory: Path
    best_directory: Path | None
    num_steps: int
    total_steps: int
    num_tokens: int
    elapsed_seconds: float
    """Of this process; an interrupted run took longer in all."""
    initial_validation: Mapping[str, float] | None
    final_validation: Mapping[str, float] | None
    best_validation_loss: float | None

    def metrics(self) -> dict[str, Any]:
        """The numbers, as JSON has them."""
        values = dataclasses.asdict(self)
        return {key: value for key, value in values.items() if not key.endswith("_directory")}


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a run was made from, besides its settings."""

    length: RunLength
    tokenizer: Tokenizer | None
    data_fingerprint: str | None
    started: float
    """Of this process, by the monotonic clock."""
    earlier_seconds: float
    """What earlier processes used of a time budget."""
    rows_to_check: Sequence[TokenRows]
    facts: Mapping[str, str]
    """What each checkpoint says of where its model comes from."""


def carry_out(
    trainer: Trainer,
    source: BatchSource,
    val_loader: Any,
    origin: Origin,
    description: str,
    extra_hooks: tuple[Hook, ...],
    on_signal: StopOnSignal,
) -> TrainingResult:
    tokenizer, world = origin.tokenizer, trainer.world
    output_dir = trainer.output_dir

    def facts(trainer: Trainer) -> dict[str, Any]:
        return {
            "stage": description,
            "step": trainer.progress.step,
            "total_steps": trainer.total_steps,
            "tokens_seen": trainer.progress.num_tokens,
            "best_validation_loss_nats": trainer.progress.best_validation_loss,
            "tokenizer_fingerprint": tokenizer.fingerprint if tokenizer is not None else None,
            **origin.facts,
        }

    def save(trainer: Trainer) -> None:
        trainer.settle()
        watch.settle(trainer)
        saver.save(
            step_directory(output_dir, trainer.progress.step),
            trainer.model,
            facts=facts(trainer),
            trainer_state=_state(trainer, origin),
            optimizer_state=optimizer_tensors(trainer.model, trainer.optimizers),
        )

    def save_best(trainer: Trainer) -> None:
        saver.save(output_dir / "best", trainer.model, facts=facts(trainer))

    saver = CheckpointSaver(
        tokenizer,
        keep=trainer.config.save_total_limit,
        in_background=trainer.config.save_in_background,
        world=world,
    )
    sinks = open_metrics(trainer, name=description) if world.is_main else []
    closing = contextlib.ExitStack()
    for sink in sinks:
        closing.callback(sink.close)
    weights = WatchWeights(trainer, sinks)
    closing.callback(weights.close)
    hooks: list[Hook] = []
    check = None
    if origin.rows_to_check:
        # First, so that nothing learned from damaged rows is saved.
        check = CheckDataBeside(origin.rows_to_check, batches_per_epoch=source.batches_per_epoch)
        closing.callback(check.close)
        hooks.append(check)
    if trainer.config.time_budget_seconds is not None:
        # Before the others, because they ask whether this step is the last.
        spent = origin.earlier_seconds + time.monotonic() - origin.started
        hooks.append(KeepTimeBudget(trainer.config.time_budget_seconds, spent_seconds=spent))
    show: Callable[[Evaluation], None] = _show_nothing
    last_hooks: list[Hook] = []
    if world.is_main:
        utilization = utilization_of(trainer)
        bar = ShowProgress(trainer, description, utilization)
        closing.callback(bar.close)
        show = bar.show
        log = LogSteps(sinks, utilization, batches_per_epoch=source.batches_per_epoch)
        hooks += [bar, log]
        last_hooks = [log.note_end_of_hooks]
    # Before what keeps results of the step: those of one that the run goes back from are none.
    watch = WatchStability(source, wait_for_saves=saver.wait)
    hooks += [weights, watch]
    if val_loader is not None:
        if trainer.progress.step == 0:
            trainer.progress.initial_validation = evaluation_values(trainer.evaluate(val_loader))
            for sink in sinks:
                sink.write(0, trainer.progress.initial_validation)
        hooks.append(EvaluateAndKeepBest(val_loader, sinks, save_best, show))
        if tokenizer is not None and trainer.config.num_samples:
            samples = WriteSamples(trainer, tokenizer, val_loader)
            hooks.append(samples)
            closing.callback(samples.close)
    hooks += [*extra_hooks, on_signal, SaveEvery(save), *last_hooks]
    without = WithoutWindows(
        source,
        trainer.progress.stability.skipped_windows,
        num_each=trainer.step_batch.num_micro_batches,
    )
    with closing:
        with saver:
            trainer.fit(without, hooks)
        on_signal.stop_listening()
    world.wait()  # a launcher that sees one process end soon ends the one that still writes
    if check is not None:
        check.refuse_damage(trainer)
    # Asked of all once more: a signal after the last step would part those who go on from those who leave.
    if world.any(on_signal.received is not None):
        by = on_signal.received or "a signal to another process"
        raise Preempted(
            f"{by} at step {trainer.progress.step} of {trainer.total_steps}; saved in "
            f"{step_directory(output_dir, trainer.progress.step)}, the same command goes on from there"
        )
    if trainer.should_stop is not None:
        logger.info(trainer.should_stop)
    final, best = output_dir / "final", output_dir / "best"
    stops_early = trainer.config.early_stopping_patience is not None
    copied = stops_early and world.from_main(lambda: _could_copy(best, final))
    if not copied and world.from_main(lambda: not _is_current(final, trainer.progress.step)):
        model, adapter = whole_copy(trainer.model, world), whole_adapter(trainer.model, world)
        if model is not None:
            save_checkpoint(final, model, tokenizer, facts=facts(trainer), adapter=adapter)
    if world.is_main:
        write_training_report(output_dir)
    world.wait()
    return TrainingResult(
        final_directory=final,
        best_directory=best if best.is_dir() else None,
        num_steps=trainer.progress.step,
        total_steps=trainer.total_steps,
        num_tokens=trainer.progress.num_tokens,
        elapsed_seconds=time.monotonic() - origin.started,
        initial_validation=trainer.progress.initial_validation,
        final_validation=trainer.progress.last_validation,
        best_validation_loss=trainer.progress.best_validation_loss,
    )


def _show_nothing(_result: Evaluation) -> None:
    """Of several processes one talks."""


def _state(trainer: Trainer, origin: Origin) -> dict[str, Any]:
    return {
        "progress": dataclasses.asdict(trainer.progress),
        "length": dataclasses.asdict(origin.length),
        "horizon": dataclasses.asdict(trainer.horizon),
        "model": trainer.model.config.to_dict(),
        "tokenizer_fingerprint": origin.tokenizer.fingerprint if origin.tokenizer is not None else None,
        "data_fingerprint": origin.data_fingerprint,
        "loss_function": name_of(trainer.loss_function),
        "numerics": numerics(trainer),
    }


def _could_copy(best: Path, final: Path) -> bool:
    """Whether the best weights are `final` too now; damaged ones are moved aside, and what is left is the last ones."""
    if not best.is_dir():
        return False
    try:
        copy_checkpoint(best, final)
    except CorruptArtifactError as error:
        aside = move_aside(best, "corrupt")
        logger.warning("%s; moved to %s, and final gets the weights of the last step instead", error, aside)
        return False
    return True


def _is_current(final: Path, step: int) -> bool:
    if not final.is_dir():
        return False
    try:
        return bool(verify_checkpoint(final)["step"] == step)
    except CorruptArtifactError as error:
        logger.warning("%s; it is written again from the weights of step %d", error, step)
        return False
