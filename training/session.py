"""One training run from its parts: length, resuming, hooks, checkpoints. Every stage that trains goes through here.

Knows how a run is carried out; what a step does is the trainer's business.
"""

import copy
import dataclasses
import json
import logging
import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from core.device_manager import DeviceManager
from core.errors import ConfigError, DataError, MismatchError, Preempted
from core.files import explain_disk_errors, write_json
from core.training_config import ModelConfig, OptimizationConfig
from data_processing.token_rows import TokenRows
from models.counting import count_parameters
from models.hf_layout import load_model
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer
from training.batches import BatchSource, RowBatches, rows_in_order, training_batches
from training.checkpoint import (
    delete_old_checkpoints,
    finish_replacements,
    list_checkpoints,
    load_trainer_state,
    save_checkpoint,
    step_directory,
    verify_checkpoint,
)
from training.hooks import (
    EvaluateAndKeepBest,
    LogSteps,
    SaveEvery,
    ShowProgress,
    StopOnSignal,
    evaluation_values,
    open_metrics,
)
from training.optimizer import load_optimizer_tensors, optimizer_tensors
from training.trainer import Hook, Progress, Trainer

logger = logging.getLogger(__name__)

PLAN_FILE = "plan.json"

TOKENS_PER_PARAMETER = 20
"""Hoffmann et al. 2022 (Chinchilla): about the compute-optimal number of training tokens for each parameter."""

MAX_DEFAULT_EPOCHS = 4.0
"""Muennighoff et al. 2023: up to four passes over the same data are worth nearly as much as new data."""

BUDGET_SHARE_FOR_STEPS = 0.93
"""Of a time budget; the rest is for checkpoints, the measurement itself and a machine that slows down a little."""

LENGTH_SETTINGS = frozenset({"total_steps", "epochs", "time_budget_seconds"})


@dataclasses.dataclass(frozen=True)
class RunLength:
    """How long a run is and in which precision, fixed at its first start."""

    total_steps: int
    compute_dtype: str
    because: str
    settings: Mapping[str, Any]


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
    source = training_batches(train_loader, seed=config.seed)
    tokenizer = tokenizer or _tokenizer_of(train_loader)
    with explain_disk_errors(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
    finish_replacements(output_dir)
    checkpoint = Path(resume_from_checkpoint) if resume_from_checkpoint is not None else None
    if checkpoint is None and (found := list_checkpoints(output_dir)):
        raise ConfigError(
            f"{output_dir}: holds checkpoints of an earlier run (up to {found[-1].name}); go on with "
            f"resume_from_checkpoint={str(found[-1])!r}, or choose another output_dir"
        )
    model.to(device_manager.device)
    state = _read_state(checkpoint, config, model, tokenizer) if checkpoint is not None else None
    length = (
        RunLength(**state["length"])
        if state is not None
        else _fix_length(model, config, device_manager, source, output_dir)
    )
    if state is not None:
        length = _with_new_end(length, config, source, model)
    trainer = Trainer(
        model,
        config,
        device_manager,
        total_steps=length.total_steps,
        compute_dtype=getattr(torch, length.compute_dtype),
        output_dir=output_dir,
        token_byte_lengths=_byte_lengths(tokenizer, model.config),
    )
    if checkpoint is not None and state is not None:
        _restore(trainer, checkpoint, state)
        _say_how_exact(state, trainer)
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
    return _run(trainer, source, val_loader, tokenizer, length, description, hooks)


def _run(
    trainer: Trainer,
    source: BatchSource,
    val_loader: Any,
    tokenizer: Tokenizer | None,
    length: RunLength,
    description: str,
    extra_hooks: tuple[Hook, ...],
) -> TrainingResult:
    started = time.monotonic()
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
        place = step_directory(output_dir, trainer.progress.step)
        save_checkpoint(
            place,
            trainer.model,
            tokenizer,
            facts=facts(trainer),
            trainer_state=_state(trainer, length, tokenizer),
            optimizer_state=optimizer_tensors(trainer.model, trainer.optimizer),
        )
        delete_old_checkpoints(output_dir, trainer.config.save_total_limit)

    def save_best(trainer: Trainer) -> None:
        save_checkpoint(output_dir / "best", trainer.model, tokenizer, facts=facts(trainer))

    sinks = open_metrics(trainer, name=description)
    bar = ShowProgress(trainer, description)
    on_signal = StopOnSignal()
    hooks: list[Hook] = [bar, LogSteps(sinks)]
    if val_loader is not None:
        if trainer.progress.step == 0:
            trainer.progress.initial_validation = evaluation_values(trainer.evaluate(val_loader))
            for sink in sinks:
                sink.write(0, trainer.progress.initial_validation)
        hooks.append(EvaluateAndKeepBest(val_loader, sinks, save_best, bar.show))
    hooks += [*extra_hooks, on_signal, SaveEvery(save)]
    try:
        with on_signal.listening():
            trainer.fit(source, hooks)
    finally:
        bar.close()
        for sink in sinks:
            sink.close()
    if on_signal.received is not None and trainer.progress.step < trainer.total_steps:
        raise Preempted(
            f"{on_signal.received} at step {trainer.progress.step} of {trainer.total_steps}; saved in "
            f"{step_directory(output_dir, trainer.progress.step)}, the same command goes on from there"
        )
    if trainer.should_stop is not None:
        logger.info(trainer.should_stop)
    final = output_dir / "final"
    if not _is_current(final, trainer.progress.step):
        save_checkpoint(final, trainer.model, tokenizer, facts=facts(trainer))
    best = output_dir / "best"
    return TrainingResult(
        final_directory=final,
        best_directory=best if best.is_dir() else None,
        num_steps=trainer.progress.step,
        total_steps=trainer.total_steps,
        num_tokens=trainer.progress.num_tokens,
        elapsed_seconds=time.monotonic() - started,
        initial_validation=trainer.progress.initial_validation,
        final_validation=trainer.progress.last_validation,
        best_validation_loss=trainer.progress.best_validation_loss,
    )


def resolve_total_steps(
    config: OptimizationConfig, *, batches_per_epoch: float, tokens_per_step: int, num_parameters: int
) -> tuple[int, str]:
    """Length of a run without a time budget, in steps, and the reason in words."""
    steps_per_epoch = batches_per_epoch / config.gradient_accumulation_steps
    if config.total_steps is not None:
        return config.total_steps, f"{config.total_steps / steps_per_epoch:.2f} passes over the data"
    if config.epochs is not None:
        return max(1, math.ceil(config.epochs * steps_per_epoch)), f"{config.epochs:g} passes over the data"
    wanted = TOKENS_PER_PARAMETER * num_parameters / tokens_per_step
    if wanted > MAX_DEFAULT_EPOCHS * steps_per_epoch:
        steps = max(1, math.ceil(MAX_DEFAULT_EPOCHS * steps_per_epoch))
        return steps, f"{MAX_DEFAULT_EPOCHS:g} passes over the data, which is what it is worth reading it"
    return max(1, math.ceil(wanted)), f"{TOKENS_PER_PARAMETER} tokens a parameter"


def _fix_length(
    model: TransformerLM,
    config: OptimizationConfig,
    device_manager: DeviceManager,
    source: BatchSource,
    output_dir: Path,
) -> RunLength:
    settings = config.fingerprint_settings()
    path = output_dir / PLAN_FILE
    if path.exists():
        # A run that was killed before its first checkpoint keeps its length, or it would not be the same run.
        stored = RunLength(**json.loads(path.read_text(encoding="utf-8")))
        if stored.settings == settings:
            return stored
    dtype = device_manager.compute_dtype(config.mixed_precision)
    if config.time_budget_seconds is not None:
        total, because = _steps_within_budget(model, config, device_manager, source, dtype)
    else:
        total, because = _steps_without_budget(model, config, source)
    length = RunLength(total, str(dtype).removeprefix("torch."), because, settings)
    write_json(path, dataclasses.asdict(length))
    return length


def _steps_without_budget(
    model: TransformerLM, config: OptimizationConfig, source: BatchSource
) -> tuple[int, str]:
    return resolve_total_steps(
        config,
        batches_per_epoch=source.batches_per_epoch,
        tokens_per_step=config.batch_size
        * config.gradient_accumulation_steps
        * model.config.max_position_embeddings,
        num_parameters=count_parameters(model.config).total,
    )


def _steps_within_budget(
    model: TransformerLM,
    config: OptimizationConfig,
    device_manager: DeviceManager,
    source: BatchSource,
    dtype: torch.dtype,
) -> tuple[int, str]:
    """Measure steps of a copy of the model, for 4 % of the budget and at least four steps after a first one."""
    assert config.time_budget_seconds is not None
    probe = Trainer(
        copy.deepcopy(model),
        config,
        device_manager,
        total_steps=1_000_000,
        compute_dtype=dtype,
        output_dir=Path(),
    )
    batches = source.from_micro_batch(0)
    seconds: list[float] = []
    with torch.random.fork_rng(devices=[]):
        while len(seconds) < 5 or sum(seconds) < 0.04 * config.time_budget_seconds:
            step = [next(batches) for _ in range(config.gradient_accumulation_steps)]
            seconds.append(probe.train_step(step).elapsed_seconds)
    # The lower quartile, because what else runs on the machine slows down some steps and speeds up none.
    step_seconds = statistics.quantiles(seconds[1:], n=4)[0]
    # A forward pass costs a third of a step (Kaplan et al. 2020): forward 1, backward 2.
    evaluation = (config.eval_batches or 50) / 3 / config.gradient_accumulation_steps / config.eval_steps
    available = BUDGET_SHARE_FOR_STEPS * config.time_budget_seconds - sum(seconds)
    total = max(1, int(available / (step_seconds * (1 + evaluation))))
    return total, f"measured {step_seconds * 1000:.0f} ms a step for {config.time_budget_seconds:g} s"


def _with_new_end(
    length: RunLength, config: OptimizationConfig, source: BatchSource, model: TransformerLM
) -> RunLength:
    """The stored length, or the one that was newly asked for: a finished run can be extended by saying so."""
    asked = {name: getattr(config, name) for name in LENGTH_SETTINGS}
    if asked == {name: length.settings[name] for name in LENGTH_SETTINGS}:
        return length
    if config.time_budget_seconds is not None:
        raise ConfigError(
            "time_budget_seconds cannot be changed when a run is resumed; set total_steps or epochs instead"
        )
    total, because = _steps_without_budget(model, config, source)
    logger.warning(
        "the length was %d steps and is now %d: the schedule differs from a run that had it from the start",
        length.total_steps,
        total,
    )
    return dataclasses.replace(
        length, total_steps=total, because=because, settings=config.fingerprint_settings()
    )


def _state(trainer: Trainer, length: RunLength, tokenizer: Tokenizer | None) -> dict[str, Any]:
    return {
        "progress": dataclasses.asdict(trainer.progress),
        "length": dataclasses.asdict(length),
        "model": trainer.model.config.to_dict(),
        "tokenizer_fingerprint": tokenizer.fingerprint if tokenizer is not None else None,
        "numerics": _numerics(trainer),
    }


def _numerics(trainer: Trainer) -> dict[str, Any]:
    """What, besides settings and data, the last bit of the weights depends on."""
    return {
        "torch": torch.__version__,
        "device": trainer.device_manager.get_device_info()["name"],
        "threads": torch.get_num_threads(),
        "compile": trainer.config.compile,
    }


def _read_state(
    checkpoint: Path, config: OptimizationConfig, model: TransformerLM, tokenizer: Tokenizer | None
) -> dict[str, Any]:
    if not checkpoint.is_dir():
        raise DataError(f"resume_from_checkpoint={str(checkpoint)!r}: no such directory")
    verify_checkpoint(checkpoint)
    state, _ = load_trainer_state(checkpoint)
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
    if differences:
        raise MismatchError(
            f"{checkpoint}: cannot go on exactly, because settings changed ({'; '.join(differences)}); set them "
            "back, or start a new run from its weights"
        )
    return state


def _restore(trainer: Trainer, checkpoint: Path, state: Mapping[str, Any]) -> None:
    weights = load_model(checkpoint).state_dict()
    trainer.model.load_state_dict(weights)
    _, tensors = load_trainer_state(checkpoint)
    load_optimizer_tensors(trainer.model, trainer.optimizer, tensors)
    trainer.progress = Progress(**state["progress"])
    patience = trainer.config.early_stopping_patience
    if patience is not None and trainer.progress.evaluations_without_gain >= patience:
        trainer.should_stop = f"had stopped early at step {trainer.progress.step}"


def _say_how_exact(state: Mapping[str, Any], trainer: Trainer) -> None:
    then, now = state["numerics"], _numerics(trainer)
    reasons = [f"{key} was {then[key]}, is {now[key]}" for key in now if then.get(key) != now[key]]
    if trainer.device_manager.device.type != "cpu":
        reasons.append(f"{trainer.device_manager.device.type} kernels may add in another order")
    exactness = "not bit-exact because " + "; ".join(reasons) if reasons else "bit-exact"
    logger.info("going on from step %d (%s)", trainer.progress.step, exactness)


def _is_current(final: Path, step: int) -> bool:
    return final.is_dir() and verify_checkpoint(final)["step"] == step


def _tokenizer_of(loader: Any) -> Tokenizer | None:
    dataset: Any = None
    if isinstance(loader, RowBatches):
        dataset = loader.rows
    elif isinstance(loader, DataLoader):
        dataset = loader.dataset
    if isinstance(dataset, TokenRows) and dataset.tokenizer_directory is not None:
        return Tokenizer.from_file(dataset.tokenizer_directory)
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
    padded = np.zeros(model_config.vocab_size, dtype=np.int64)
    padded[: tokenizer.vocab_size] = tokenizer.byte_lengths
    return torch.from_numpy(padded)
