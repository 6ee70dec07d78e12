"""One training run from its parts: length, resuming, hooks, checkpoints. Every stage that trains goes through here.

Knows how a run is carried out; what a step does is the trainer's business.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from core.device_manager import DeviceManager
from core.errors import ConfigError, CorruptArtifactError, DataError, MismatchError, Preempted
from core.files import explain_disk_errors
from core.memory import keep_freed_memory
from core.training_config import ModelConfig, OptimizationConfig
from data_processing.rows.token_rows import TokenRows
from models.hf_layout import load_model
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer
from training.batches import BatchSource, RowBatches, rows_in_order, training_batches
from training.checkpoint import (
    OPTIMIZER_FILE,
    clear_away_leftovers,
    list_checkpoints,
    load_trainer_state,
    save_checkpoint,
    set_aside_later_checkpoints,
    step_directory,
    verify_checkpoint,
)
from training.data_check import CheckDataBeside
from training.events import record_event
from training.hooks import (
    EvaluateAndKeepBest,
    LogSteps,
    SaveEvery,
    StopOnSignal,
    evaluation_values,
    open_metrics,
)
from training.optimizer import load_optimizer_tensors, optimizer_tensors
from training.rollback import GoBack, WatchStability, WithoutWindows
from training.run_length import LENGTH_SETTINGS, RunLength, fix_length, with_new_end
from training.samples import WriteSamples
from training.saving import CheckpointSaver
from training.schedules import Horizon
from training.status_line import ShowProgress
from training.time_budget import KeepTimeBudget
from training.trainer import Hook, Trainer
from training.trainer_state import check_state, read_progress
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


def row_loaders(
    train: TokenRows, validation: TokenRows | None, config: OptimizationConfig
) -> tuple[RowBatches, Any]:
    """The training source and the validation batches for two splits of a dataset."""
    source = RowBatches(train, batch_size=config.batch_size, seed=config.seed)
    held_out = rows_in_order(validation, batch_size=config.batch_size) if validation is not None else None
    return source, held_out


def train_model(
    model: TransformerLM,
    config: OptimizationConfig,
    device_manager: DeviceManager,
    train_loader: "BatchSource | DataLoader[Any]",
    val_loader: Any = None,
    *,
    output_dir: Path,
    tokenizer: Tokenizer | None = None,
    resume_from_checkpoint: str | Path | None = None,
    description: str = "training",
    hooks: tuple[Hook, ...] = (),
) -> TrainingResult:
    """Train `model` to the end of its run and leave `step_N`, `best` and `final` in `output_dir`.

    Args:
        train_loader: A source of micro-batches, or a plain DataLoader over a split of a dataset.
        val_loader: Re-iterable batches to evaluate on, or None.
        tokenizer: Saved with every checkpoint; None = taken from the loader's dataset if it knows one.
        resume_from_checkpoint: A `step_N` directory to go on from, exactly.

    Raises:
        Preempted: SIGTERM or SIGINT came; everything is saved.
        ConfigError: `output_dir` already holds checkpoints and none was named to go on from.
        MismatchError: the checkpoint was made with other settings, another model or another tokenizer.
    """
    started = time.monotonic()
    source = training_batches(train_loader, seed=config.seed)
    tokenizer = tokenizer or _tokenizer_of(train_loader)
    with explain_disk_errors(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
    clear_away_leftovers(output_dir)
    checkpoint = Path(resume_from_checkpoint) if resume_from_checkpoint is not None else None
    if checkpoint is None and (found := list_checkpoints(output_dir)):
        raise ConfigError(
            f"{output_dir}: holds checkpoints of an earlier run (up to {found[-1].name}); go on with "
            f"resume_from_checkpoint={str(found[-1])!r}, or choose another output_dir"
        )
    if (
        checkpoint is not None
        and checkpoint.resolve().parent != output_dir.resolve()
        and list_checkpoints(output_dir)
    ):
        raise ConfigError(
            f"{output_dir}: holds checkpoints of its own, and {checkpoint} is another run's; choose an empty output_dir"
        )
    if device_manager.device.type == "cpu":
        keep_freed_memory()
    model.to(device_manager.device)
    data = _data_fingerprint(train_loader)
    rows = _rows_of(train_loader)
    state = _read_state(checkpoint, config, model, tokenizer, rows) if checkpoint is not None else None
    length = (
        RunLength(**state["length"])
        if state is not None
        else fix_length(model, config, device_manager, source, output_dir)
    )
    if state is not None:
        length = with_new_end(length, config, source, model, done=state["progress"]["step"])
    trainer = Trainer(
        model,
        config,
        device_manager,
        horizon=_horizon(config, length, state),
        compute_dtype=getattr(torch, length.compute_dtype),
        output_dir=output_dir,
        compiled=length.compiled,
        token_byte_lengths=_byte_lengths(tokenizer, model.config),
    )
    if checkpoint is not None and state is not None:
        _restore(trainer, checkpoint, state)
        is_other_data = _is_other_data(state, data)
        if is_other_data:
            _note_data_change(trainer, state, data)
        _say_how_exact(state, trainer, source, is_other_data=is_other_data)
    set_aside_later_checkpoints(output_dir, trainer.progress.step)
    logger.info(
        "%s: %s steps of %s rows x %d (%s), %s on %s",
        description,
        f"{length.total_steps:,}",
        config.batch_size,
        config.gradient_accumulation_steps,
        length.because,
        length.compute_dtype,
        device_manager.device,
    )
    origin = _Origin(
        length,
        tokenizer,
        data,
        started,
        trainer.progress.active_seconds,
        rows if config.verify_data else None,
    )
    on_signal = StopOnSignal()
    while True:
        try:
            return _run(trainer, source, val_loader, origin, description, hooks, on_signal)
        except GoBack as back:
            _go_back(trainer, back, length)


def _go_back(trainer: Trainer, back: GoBack, length: RunLength) -> None:
    """Put the trainer where it was at a checkpoint, as if a new process went on from there."""
    state, _ = load_trainer_state(back.checkpoint)
    trainer.horizon = _horizon(trainer.config, length, state)
    _restore(trainer, back.checkpoint, state)
    trainer.progress.stability.skipped_windows = back.windows
    trainer.progress.stability.num_rollbacks = back.num_rollbacks
    set_aside_later_checkpoints(trainer.output_dir, trainer.progress.step)


def _horizon(config: OptimizationConfig, length: RunLength, state: Mapping[str, Any] | None) -> Horizon:
    """Where the run ends: as its checkpoint has it, unless another length was asked for since."""
    if state is not None and state["length"] == dataclasses.asdict(length):
        return Horizon(**state["horizon"])
    return Horizon.of(config, length.total_steps)


@dataclasses.dataclass(frozen=True)
class _Origin:
    """What a run was made from, besides its settings."""

    length: RunLength
    tokenizer: Tokenizer | None
    data_fingerprint: str | None
    started: float
    """Of this process, by the monotonic clock."""
    earlier_seconds: float
    """What earlier processes used of a time budget."""
    rows_to_check: TokenRows | None


def _run(
    trainer: Trainer,
    source: BatchSource,
    val_loader: Any,
    origin: _Origin,
    description: str,
    extra_hooks: tuple[Hook, ...],
    on_signal: StopOnSignal,
) -> TrainingResult:
    tokenizer = origin.tokenizer
    output_dir = trainer.output_dir

    def facts(trainer: Trainer) -> dict[str, Any]:
        return {
            "stage": description,
            "step": trainer.progress.step,
            "total_steps": trainer.total_steps,
            "tokens_seen": trainer.progress.num_tokens,
            "best_validation_loss_nats": trainer.progress.best_validation_loss,
            "tokenizer_fingerprint": tokenizer.fingerprint if tokenizer is not None else None,
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
    )
    sinks = open_metrics(trainer, name=description)
    utilization = utilization_of(trainer)
    bar = ShowProgress(trainer, description, utilization)
    log = LogSteps(sinks, utilization, batches_per_epoch=source.batches_per_epoch)
    weights = WatchWeights(trainer, sinks)
    closing = contextlib.ExitStack()
    for close in (*(sink.close for sink in sinks), weights.close, bar.close):
        closing.callback(close)
    hooks: list[Hook] = []
    check = None
    if origin.rows_to_check is not None:
        # First, so that nothing learned from damaged rows is saved.
        check = CheckDataBeside(origin.rows_to_check, batches_per_epoch=source.batches_per_epoch)
        closing.callback(check.close)
        hooks.append(check)
    if trainer.config.time_budget_seconds is not None:
        # Before the others, because they ask whether this step is the last.
        spent = origin.earlier_seconds + time.monotonic() - origin.started
        hooks.append(KeepTimeBudget(trainer.config.time_budget_seconds, spent_seconds=spent))
    # Before what keeps results of the step: those of one that the run goes back from are none.
    watch = WatchStability(source, wait_for_saves=saver.wait)
    hooks += [bar, log, weights, watch]
    if val_loader is not None:
        if trainer.progress.step == 0:
            trainer.progress.initial_validation = evaluation_values(trainer.evaluate(val_loader))
            for sink in sinks:
                sink.write(0, trainer.progress.initial_validation)
        hooks.append(EvaluateAndKeepBest(val_loader, sinks, save_best, bar.show))
        if tokenizer is not None and trainer.config.num_samples:
            samples = WriteSamples(trainer, tokenizer, val_loader)
            hooks.append(samples)
            closing.callback(samples.close)
    hooks += [*extra_hooks, on_signal, SaveEvery(save), log.note_end_of_hooks]
    with closing, on_signal.listening(), saver:
        trainer.fit(WithoutWindows(source, trainer.progress.stability.skipped_windows), hooks)
    if check is not None:
        check.refuse_damage(trainer)
    if on_signal.received is not None:
        raise Preempted(
            f"{on_signal.received} at step {trainer.progress.step} of {trainer.total_steps}; saved in "
            f"{step_directory(output_dir, trainer.progress.step)}, the same command goes on from there"
        )
    if trainer.should_stop is not None:
        logger.info(trainer.should_stop)
    final = output_dir / "final"
    if not _is_current(final, trainer.progress.step):
        save_checkpoint(final, trainer.model, tokenizer, facts=facts(trainer))
    write_training_report(output_dir)
    best = output_dir / "best"
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


def _state(trainer: Trainer, origin: _Origin) -> dict[str, Any]:
    return {
        "progress": dataclasses.asdict(trainer.progress),
        "length": dataclasses.asdict(origin.length),
        "horizon": dataclasses.asdict(trainer.horizon),
        "model": trainer.model.config.to_dict(),
        "tokenizer_fingerprint": origin.tokenizer.fingerprint if origin.tokenizer is not None else None,
        "data_fingerprint": origin.data_fingerprint,
        "numerics": _numerics(trainer),
    }


def _numerics(trainer: Trainer) -> dict[str, Any]:
    """What, besides settings and data, the last bit of the weights depends on."""
    return {
        "torch": torch.__version__,
        "device": trainer.device_manager.get_device_info()["name"],
        "threads": torch.get_num_threads(),
        "compiled": trainer.model.is_compiled,
    }


def _read_state(
    checkpoint: Path,
    config: OptimizationConfig,
    model: TransformerLM,
    tokenizer: Tokenizer | None,
    rows: TokenRows | None,
) -> dict[str, Any]:
    if not checkpoint.is_dir():
        raise DataError(f"resume_from_checkpoint={str(checkpoint)!r}: no such directory")
    verify_checkpoint(checkpoint)
    state, _ = load_trainer_state(checkpoint)
    check_state(state, checkpoint)
    old, new = state["length"]["settings"], config.fingerprint_settings()
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    differences = [
        f"{key}: was {old.get(key)}, now {new.get(key)}" for key in changed if key not in LENGTH_SETTINGS
    ]
    shape_then, shape_now = state["model"], model.config.to_dict()
    differences += [
        f"model {key}: was {shape_then.get(key)}, now {shape_now[key]}"
        for key in shape_now
        if shape_then.get(key) != shape_now[key]
    ]
    then = state["tokenizer_fingerprint"]
    if then is not None and tokenizer is not None and then != tokenizer.fingerprint:
        differences.append(f"the tokenizer: was {then[:12]}, now {tokenizer.fingerprint[:12]}")
    elif then is not None and rows is not None and then != rows.metadata.tokenizer_fingerprint:
        # Whatever may change of the data: the ids of another vocabulary mean other texts.
        differences.append(
            f"the tokenizer of the rows: was {then[:12]}, now {rows.metadata.tokenizer_fingerprint[:12]}"
        )
    if rows is not None and _is_other_data(state, rows.fingerprint) and not config.allow_data_change:
        differences.append(
            f"the data: was {state['data_fingerprint'][:12]}, now {rows.fingerprint[:12]}, which allow_data_change "
            "(--allow-data-change) would permit"
        )
    if differences:
        raise MismatchError(
            f"{checkpoint}: cannot go on exactly, because settings changed ({'; '.join(differences)}); set them "
            "back, or start a new run from its weights"
        )
    return state


def _is_other_data(state: Mapping[str, Any], data_fingerprint: str | None) -> bool:
    then = state["data_fingerprint"]
    return None not in (then, data_fingerprint) and then != data_fingerprint


def _note_data_change(trainer: Trainer, state: Mapping[str, Any], data_fingerprint: str | None) -> None:
    step = trainer.progress.step
    record_event(
        trainer.output_dir,
        step=step,
        kind="data_changed",
        detail="the run goes on with other rows, as allow_data_change permits",
        was=state["data_fingerprint"],
        now=data_fingerprint,
    )
    # A loss on other held-out rows is not to be compared with the best so far.
    trainer.progress.best_validation_loss = None
    trainer.progress.evaluations_without_gain = 0
    logger.warning(
        "from step %d on the run learns from other data (%s instead of %s), as allow_data_change permits; it is no "
        "run that one of these alone would have given, and which weights are best is decided anew",
        step,
        str(data_fingerprint)[:12],
        state["data_fingerprint"][:12],
    )


def _restore(trainer: Trainer, checkpoint: Path, state: Mapping[str, Any]) -> None:
    weights = load_model(checkpoint).state_dict()
    trainer.model.load_state_dict(weights)
    _, tensors = load_trainer_state(checkpoint)
    load_optimizer_tensors(trainer.model, trainer.optimizers, tensors)
    trainer.progress = read_progress(state["progress"])
    if not tensors and trainer.progress.step > trainer.progress.bad_steps:
        raise CorruptArtifactError(f"{checkpoint / OPTIMIZER_FILE}: is empty; resume from another checkpoint")
    patience = trainer.config.early_stopping_patience
    if patience is not None and trainer.progress.evaluations_without_gain >= patience:
        trainer.should_stop = f"had stopped early at step {trainer.progress.step}"


def _say_how_exact(
    state: Mapping[str, Any], trainer: Trainer, source: BatchSource, *, is_other_data: bool
) -> None:
    then, now = state["numerics"], _numerics(trainer)
    reasons = [f"{key} was {then.get(key)}, is {now[key]}" for key in now if then.get(key) != now[key]]
    if is_other_data:
        reasons.append("the data changed")
    is_cuda = trainer.device_manager.device.type == "cuda"
    if trainer.device_manager.device.type != "cpu" and not (is_cuda and trainer.config.deterministic):
        reasons.append(f"{trainer.device_manager.device.type} kernels may add in another order")
    if not source.is_repeatable:
        reasons.append("the loader's sampler is not one of torch's, so its order may differ")
    exactness = "not bit-exact because " + "; ".join(reasons) if reasons else "bit-exact"
    logger.info("going on from step %d (%s)", trainer.progress.step, exactness)


def _is_current(final: Path, step: int) -> bool:
    if not final.is_dir():
        return False
    try:
        return bool(verify_checkpoint(final)["step"] == step)
    except CorruptArtifactError as error:
        logger.warning("%s; it is written again from the weights of step %d", error, step)
        return False


def _rows_of(loader: Any) -> TokenRows | None:
    if isinstance(loader, RowBatches):
        return loader.rows
    dataset: Any = loader.dataset if isinstance(loader, DataLoader) else None
    return dataset if isinstance(dataset, TokenRows) else None


def _data_fingerprint(loader: Any) -> str | None:
    rows = _rows_of(loader)
    return rows.fingerprint if rows is not None else None


def _tokenizer_of(loader: Any) -> Tokenizer | None:
    rows = _rows_of(loader)
    if rows is not None and rows.tokenizer_directory is not None:
        return Tokenizer.from_file(rows.tokenizer_directory)
    logger.warning("no tokenizer is known here, so checkpoints hold weights only; pass tokenizer=")
    return None


def _byte_lengths(tokenizer: Tokenizer | None, model_config: ModelConfig) -> torch.Tensor | None:
    if tokenizer is None:
        return None
    assert model_config.vocab_size is not None
    if tokenizer.vocab_size > model_config.vocab_size:
        raise MismatchError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model only {model_config.vocab_size} embeddings"
        )
    if not tokenizer.lossless:
        logger.info(
            "bits per byte are not measured: the tokenizer is lossy (%s)", "; ".join(tokenizer.losses)
        )
        return None
    padded = np.zeros(model_config.vocab_size, dtype=np.int64)
    padded[: tokenizer.vocab_size] = tokenizer.byte_lengths
    return torch.from_numpy(padded)
