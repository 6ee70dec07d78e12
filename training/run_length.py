"""How long a run is: by steps, passes, a time budget or a rule; decided once and kept. Knows no text."""

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from core.config_files import LENGTHS
from core.device_manager import DeviceManager
from core.errors import ConfigError, CorruptArtifactError
from core.files import write_json
from core.json_files import json_object
from core.progress import progress
from core.training_config import OptimizationConfig
from models.counting import count_parameters
from models.transformer_lm import TransformerLM
from training.batches import BatchSource
from training.compiling import should_compile
from training.dry_run import fit_into_memory, split_source
from training.losses import next_token_loss
from training.run_log import PLAN_FILE
from training.schedules import Horizon
from training.step_batch import StepBatch
from training.stored_values import Positive, stored
from training.trainer import LargestBatch, LossFunction, Trainer

logger = logging.getLogger(__name__)

TOKENS_PER_PARAMETER = 20
"""Hoffmann et al. 2022 (Chinchilla): about the compute-optimal number of training tokens for each parameter."""

MAX_DEFAULT_EPOCHS = 4.0
"""Muennighoff et al. 2023: up to four passes over the same data are worth nearly as much as new data."""

BUDGET_SHARE_FOR_STEPS = 0.95
"""Of a time budget in the first guess; the rest is for checkpoints."""

PROBE_STEPS = 6

LENGTH_SETTINGS = frozenset(LENGTHS)

COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
"""Names, in torch, of what products can be computed in."""


@dataclasses.dataclass(frozen=True)
class RunLength:
    """How long a run is and in which precision, fixed at its first start."""

    total_steps: Positive
    compute_dtype: str
    because: str
    settings: Mapping[str, Any]
    compiled: bool
    rows_per_step: Positive
    """Of all processes together; kept whatever the run goes on with."""
    most_rows_at_a_time: Positive | None = None
    """Of a micro-batch, because more did not fit into memory; None = as the settings say."""


def read_length(values: Any, *, origin: str) -> RunLength:
    """The length that `dataclasses.asdict` made `values` of.

    Raises:
        CorruptArtifactError: it is none that `fix_length` could have found; the message begins with `origin`.
    """
    length = stored(RunLength, values, origin=origin)
    if length.compute_dtype not in COMPUTE_DTYPES:
        raise CorruptArtifactError(
            f"{origin}: compute_dtype is {length.compute_dtype!r:.80}, expected one of {', '.join(COMPUTE_DTYPES)}"
        )
    if lacking := LENGTH_SETTINGS - length.settings.keys():
        raise CorruptArtifactError(f"{origin}: settings lacks {', '.join(sorted(lacking))}")
    return length


def resolve_total_steps(
    config: OptimizationConfig, *, steps_per_epoch: float, tokens_per_step: int, num_parameters: int
) -> tuple[int, str]:
    """Length of a run without a time budget, in steps, and the reason in words."""
    if config.total_steps is not None:
        return config.total_steps, f"{config.total_steps / steps_per_epoch:.2f} passes over the data"
    if config.epochs is not None:
        return max(1, math.ceil(config.epochs * steps_per_epoch)), f"{config.epochs:g} passes over the data"
    wanted = TOKENS_PER_PARAMETER * num_parameters / tokens_per_step
    if wanted > MAX_DEFAULT_EPOCHS * steps_per_epoch:
        steps = max(1, math.ceil(MAX_DEFAULT_EPOCHS * steps_per_epoch))
        return steps, f"{MAX_DEFAULT_EPOCHS:g} passes over the data, which is what it is worth reading it"
    return max(1, math.ceil(wanted)), f"{TOKENS_PER_PARAMETER} tokens a parameter"


def fix_length(
    model: TransformerLM,
    config: OptimizationConfig,
    device_manager: DeviceManager,
    source: BatchSource,
    step_batch: StepBatch,
    output_dir: Path,
    loss_function: LossFunction = next_token_loss,
    largest_batch: LargestBatch | None = None,
) -> RunLength:
    """The length of a run that starts, written to `plan.json`; or what stands there, if the settings are the same.

    Args:
        loss_function, largest_batch: As `training.trainer.Trainer`.
    """
    settings = config.fingerprint_settings()
    path = output_dir / PLAN_FILE
    if path.exists():
        # A run that was killed before its first checkpoint keeps its length, or it would not be the same run.
        stored = _stored_length(path)
        # Where each process adds rows of its own, another number of processes makes another run of it.
        if stored is not None and (stored.settings, stored.rows_per_step) == (settings, step_batch.rows):
            return stored
    dtype = device_manager.compute_dtype(config.mixed_precision)
    if config.time_budget_seconds is not None:
        compiled = should_compile(
            config.compile, device_manager.device, expected_seconds=config.time_budget_seconds
        )
        total, because = _steps_within_budget(
            model,
            config,
            device_manager,
            source,
            step_batch,
            dtype,
            loss_function,
            largest_batch,
            compiled=compiled,
        )
    else:
        total, because = _steps_without_budget(model, config, source, step_batch)
        seconds = _expected_seconds(model, step_batch, device_manager, dtype, total)
        compiled = should_compile(config.compile, device_manager.device, expected_seconds=seconds)
    length = RunLength(total, str(dtype).removeprefix("torch."), because, settings, compiled, step_batch.rows)
    write_json(path, dataclasses.asdict(length))
    return length


def _stored_length(path: Path) -> RunLength | None:
    try:
        return read_length(json_object(path, mistake=CorruptArtifactError), origin=str(path))
    except CorruptArtifactError as error:
        # Without a checkpoint nothing was done yet that another length would contradict.
        logger.warning("%s; the length of the run is decided anew", error)
        return None


def _steps_without_budget(
    model: TransformerLM, config: OptimizationConfig, source: BatchSource, step_batch: StepBatch
) -> tuple[int, str]:
    return resolve_total_steps(
        config,
        steps_per_epoch=source.batches_per_epoch / step_batch.num_micro_batches,
        tokens_per_step=_tokens_per_step(model, step_batch),
        num_parameters=count_parameters(model.config).total,
    )


def _tokens_per_step(model: TransformerLM, step_batch: StepBatch) -> int:
    return step_batch.rows * model.config.max_position_embeddings


def _expected_seconds(
    model: TransformerLM,
    step_batch: StepBatch,
    device_manager: DeviceManager,
    dtype: torch.dtype,
    total_steps: int,
) -> float:
    # Six operations a parameter and token (Kaplan et al. 2020), at 0.4 of the speed of plain products.
    tokens = _tokens_per_step(model, step_batch) * total_steps / step_batch.num_processes
    return 6 * count_parameters(model.config).total * tokens / (0.4 * device_manager.measured_flops(dtype))


def _steps_within_budget(
    model: TransformerLM,
    config: OptimizationConfig,
    device_manager: DeviceManager,
    source: BatchSource,
    step_batch: StepBatch,
    dtype: torch.dtype,
    loss_function: LossFunction,
    largest_batch: LargestBatch | None,
    *,
    compiled: bool,
) -> tuple[int, str]:
    """A first guess from a few steps of a copy of the model; `KeepTimeBudget` corrects it on the way."""
    assert config.time_budget_seconds is not None
    started = time.monotonic()
    probe = Trainer(
        copy.deepcopy(model),
        config,
        device_manager,
        horizon=Horizon.of(config, 1_000_000),
        compute_dtype=dtype,
        output_dir=Path(),
        compiled=compiled,
        loss_function=loss_function,
        largest_batch=largest_batch,
        step_batch=step_batch,
    )
    fit_into_memory(probe)
    parts = step_batch.micro_batch_rows // probe.step_batch.micro_batch_rows
    batches = split_source(source, parts).micro_batches(probe.step_batch.numbers(rank=0, first_step=0))
    seconds: list[float] = []
    with torch.random.fork_rng(devices=[]):
        for _ in progress(range(PROBE_STEPS), description="measuring the speed", unit="step"):
            step = [next(batches) for _ in range(probe.step_batch.micro_batches_each)]
            seconds.append(probe.train_step(step).elapsed_seconds)
    # The first one compiles and fills caches. What else runs on the machine slows down some steps, speeds up none.
    step_seconds = min(seconds[1:])
    # A forward pass costs a third of a step (Kaplan et al. 2020): forward 1, backward 2.
    evaluation = (config.eval_batches or 50) / 3 / step_batch.num_micro_batches / config.eval_steps
    available = BUDGET_SHARE_FOR_STEPS * config.time_budget_seconds - (time.monotonic() - started)
    total = max(1, int(available / (step_seconds * (1 + evaluation))))
    passes = total * step_batch.num_micro_batches / source.batches_per_epoch
    return total, (
        f"{step_seconds * 1000:.0f} ms a step at first, to end after {config.time_budget_seconds:g} s; about "
        f"{passes:.2f} passes over the data"
    )


def with_new_end(
    length: RunLength,
    config: OptimizationConfig,
    source: BatchSource,
    model: TransformerLM,
    step_batch: StepBatch,
    *,
    done: int,
) -> RunLength:
    """The stored length, or the one that was newly asked for: a finished run can be extended by saying so.

    Raises:
        ConfigError: the new length is a time budget, or less than the `done` steps.
    """
    asked = {name: getattr(config, name) for name in LENGTH_SETTINGS}
    if asked == {name: length.settings[name] for name in LENGTH_SETTINGS}:
        return length
    if config.time_budget_seconds is not None:
        raise ConfigError(
            "time_budget_seconds cannot be changed when a run is resumed; set total_steps or epochs instead"
        )
    total, because = _steps_without_budget(model, config, source, step_batch)
    if total < done:
        raise ConfigError(
            f"the length is now {total} steps, but the checkpoint has {done} behind it; resume from an earlier one, or "
            "give a larger total_steps"
        )
    logger.warning(
        "the length was %d steps and is now %d: the schedule differs from a run that had it from the start",
        length.total_steps,
        total,
    )
    return dataclasses.replace(
        length, total_steps=total, because=because, settings=config.fingerprint_settings()
    )
