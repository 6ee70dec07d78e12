"""One training run from its parts: data, length, where it goes on. Every stage that trains goes through here.

Knows how a run begins and begins again; `training.carrying_out` knows the rest.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from core.device_manager import DeviceManager
from core.distributed import dump_stacks_of_hanging, joined
from core.errors import BloomeryError, ConfigError, MismatchError
from core.files import check_writable, explain_disk_errors, lock, write_json
from core.memory import keep_freed_memory
from core.training_config import ModelConfig, OptimizationConfig
from data_processing.rows.token_rows import TokenRows
from models.hf_settings import warn_of_foreign_parts
from models.lora import fingerprint_of_base
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer
from training.batches import (
    BatchSource,
    ReplayingBatches,
    RowBatches,
    divide_steps,
    rows_in_order,
    training_batches,
)
from training.carrying_out import Origin, TrainingResult, carry_out
from training.checkpoint import (
    clear_away_leftovers,
    list_checkpoints,
    load_trainer_state,
    set_aside_later_checkpoints,
)
from training.dry_run import (
    BatchesInParts,
    at_most,
    fit_into_memory,
    ran_out_of_memory,
    split_source,
)
from training.events import record_event
from training.hooks import (
    StopOnSignal,
)
from training.losses import next_token_loss
from training.resuming import (
    carried_out_as_asked,
    is_other_data,
    note_data_change,
    read_state,
    restore,
    say_how_exact,
)
from training.rollback import GoBack
from training.run_length import RunLength, fix_length, with_new_end
from training.run_log import PLAN_FILE
from training.saving import check_room
from training.schedules import Horizon
from training.trainer import Hook, LargestBatch, LossFunction, Measures, Trainer

logger = logging.getLogger(__name__)


def row_loaders(
    train: TokenRows,
    validation: TokenRows | None,
    config: OptimizationConfig,
    *,
    replayed: Sequence[TokenRows] = (),
    replay_share: float = 0.0,
) -> tuple[RowBatches | ReplayingBatches, Any]:
    """The training source and the validation batches for two splits of a dataset.

    Args:
        replayed: Rows of earlier training that `replay_share` of all rows are to come from.

    Raises:
        MismatchError: as `ReplayingBatches`.
    """
    batches = RowBatches(train, batch_size=config.batch_size, seed=config.seed)
    source = ReplayingBatches(batches, replayed, share=replay_share) if replayed else batches
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
    loss_function: LossFunction = next_token_loss,
    measures: Measures | None = None,
    largest_batch: LargestBatch | None = None,
    lineage: Mapping[str, str] = {},
) -> TrainingResult:
    """Train `model` to the end of its run and leave `step_N`, `best` and `final` in `output_dir`.

    Under torchrun every process calls this with the same arguments; the main one writes.

    Args:
        train_loader: A source of micro-batches, or a plain DataLoader over a split of a dataset.
        val_loader: Re-iterable batches to evaluate on, or None.
        tokenizer: Saved with every checkpoint; None = taken from the loader's dataset if it knows one.
        resume_from_checkpoint: A `step_N` directory to go on from, exactly.
        loss_function: What is learned and what evaluations measure; see `training.trainer.LossFunction`. Bits per byte
            are measured for `next_token_loss` only: of another loss nobody knows what its nats say.
        measures: What evaluations report besides.
        largest_batch: See `training.trainer.Trainer`.
        lineage: Facts that each checkpoint's manifest and README say of where `model` comes from.

    Raises:
        Preempted: SIGTERM or SIGINT came; everything is saved.
        ConfigError: `output_dir` already holds checkpoints and none was named to go on from.
        MismatchError: the checkpoint was made with other settings, another model, loss or tokenizer.
        LockedError: another process trains into `output_dir`.
        PeerLostError: another process of the run ended or hangs.
    """
    started = time.monotonic()
    source = training_batches(train_loader, seed=config.seed)
    tokenizer = tokenizer or tokenizer_of(train_loader)
    checkpoint = Path(resume_from_checkpoint) if resume_from_checkpoint is not None else None
    # Also on the way from a checkpoint, which was perhaps written on another machine.
    device_manager.check_precision(config.mixed_precision)
    numerics = device_manager.numerics(
        deterministic=config.deterministic, tf32=config.mixed_precision != "fp32"
    )
    on_signal = StopOnSignal()
    with (
        on_signal.listening(),
        joined() as world,
        dump_stacks_of_hanging(world) as note_that_it_moves,
        numerics,
        contextlib.ExitStack() as held,
    ):
        if world.is_main:
            # The line holds its stages' places by locks beside them; who trains from Python has none of these.
            held.enter_context(lock(output_dir / ".lock", held=output_dir))
            _prepare_directory(output_dir, checkpoint)
            check_room(output_dir, model)
        world.wait()
        if device_manager.device.type == "cpu":
            keep_freed_memory()
        if device_manager.device.type == "cuda":
            torch.cuda.set_device(device_manager.device)  # where NCCL puts what it needs itself
        if world.is_main:
            warn_of_foreign_parts(model.config)
        base_weights = None if model.adapters is None else fingerprint_of_base(model)
        model.to(device_manager.device)
        data = _data_fingerprint(train_loader)
        rows = _rows_of(train_loader)
        state = None
        if checkpoint is not None:
            state = read_state(
                checkpoint,
                config,
                model,
                tokenizer,
                rows,
                loss_function,
                data=data,
                base_weights=base_weights,
            )
        step_batch, source = divide_steps(
            config,
            source,
            context=model.config.max_position_embeddings,
            num_processes=world.size,
            rows=state["length"]["rows_per_step"] if state is not None else None,
        )
        if state is None:
            # Measured by the main process, for all.
            values = world.from_main(
                lambda: dataclasses.asdict(
                    fix_length(
                        model,
                        config,
                        device_manager,
                        source,
                        step_batch,
                        output_dir,
                        loss_function,
                        largest_batch,
                    )
                )
            )
            length = RunLength(**values)
        else:
            length = with_new_end(
                RunLength(**state["length"]),
                config,
                source,
                model,
                step_batch,
                done=state["progress"]["step"],
            )
            length = carried_out_as_asked(length, config, device_manager.device)
        trainer = Trainer(
            model,
            config,
            device_manager,
            horizon=_horizon(config, length, state),
            compute_dtype=getattr(torch, length.compute_dtype),
            output_dir=output_dir,
            compiled=length.compiled,
            token_byte_lengths=_byte_lengths(tokenizer, model.config, loss_function),
            loss_function=loss_function,
            measures=measures,
            largest_batch=largest_batch,
            world=world,
            # What was begun in smaller parts, because no more fitted, goes on in them.
            step_batch=at_most(step_batch, length.most_rows_at_a_time or step_batch.micro_batch_rows),
        )
        fitting = fit_into_memory(trainer)
        if fitting is not None:
            length = _note_smaller_parts(
                trainer, length, fitting, step=state["progress"]["step"] if state else 0
            )
        parts = step_batch.micro_batch_rows // trainer.step_batch.micro_batch_rows
        step_batch, source = trainer.step_batch, split_source(source, parts)
        if parts > 1 and val_loader is not None:
            val_loader = BatchesInParts(val_loader, parts)
            if config.eval_batches is not None:
                trainer.config = config.replace(eval_batches=config.eval_batches * parts)
        if checkpoint is not None and state is not None:
            restore(trainer, checkpoint, state)
            has_other_data = is_other_data(state, data)
            if has_other_data:
                note_data_change(trainer, state, data)
            say_how_exact(state, trainer, source, has_other_data=has_other_data)
        if world.is_main:
            set_aside_later_checkpoints(output_dir, trainer.progress.step)
        logger.info(
            "%s: %s steps of %s rows in %d micro-batches of %d%s (%s), %s on %s",
            description,
            f"{length.total_steps:,}",
            step_batch.rows,
            step_batch.num_micro_batches,
            step_batch.micro_batch_rows,
            f" on {world.size} processes ({trainer.parallel.kind})" if world.size > 1 else "",
            length.because,
            length.compute_dtype,
            device_manager.device,
        )
        origin = Origin(
            length,
            tokenizer,
            data,
            started,
            trainer.progress.active_seconds,
            _rows_to_check(train_loader, rows) if config.verify_data and world.is_main else (),
            {**lineage, **({"base_weights": base_weights} if base_weights is not None else {})},
        )
        hooks = (lambda _trainer, _report: note_that_it_moves(), *hooks)
        while True:
            try:
                return carry_out(trainer, source, val_loader, origin, description, hooks, on_signal)
            except GoBack as back:
                _go_back(trainer, back, length)
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
                peak = device_manager.peak_memory_bytes() / 1e9
                raise BloomeryError(
                    f"step {trainer.progress.step + 1}: memory ran out ({str(error).strip()[:200]}), although the "
                    f"largest batch fitted when the run began; the most held was {peak:.2f} GB; end what else uses "
                    "memory, or lower training.batch_size; the same command goes on from the last checkpoint"
                ) from error


def _note_smaller_parts(trainer: Trainer, length: RunLength, rows: int, *, step: int) -> RunLength:
    """The length of a run whose micro-batches did not fit, recorded."""
    length = dataclasses.replace(length, most_rows_at_a_time=rows)
    if trainer.world.is_main:
        write_json(trainer.output_dir / PLAN_FILE, dataclasses.asdict(length))
        record_event(
            trainer.output_dir,
            step=step,
            kind="micro_batch_halved",
            detail="a micro-batch did not fit into memory; the batch of a step is the same",
            rows=rows,
            micro_batches=trainer.step_batch.num_micro_batches,
        )
    return length


def _prepare_directory(output_dir: Path, checkpoint: Path | None) -> None:
    with explain_disk_errors(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
    check_writable(output_dir)
    clear_away_leftovers(output_dir)
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


def _go_back(trainer: Trainer, back: GoBack, length: RunLength) -> None:
    """Put the trainer where it was at a checkpoint, as if a new process went on from there."""
    state = load_trainer_state(back.checkpoint)
    trainer.horizon = _horizon(trainer.config, length, state)
    trainer.should_stop = None  # of a step that is undone; a signal asks again after the next one
    restore(trainer, back.checkpoint, state)
    trainer.progress.stability.skipped_windows = back.windows
    trainer.progress.stability.num_rollbacks = back.num_rollbacks
    trainer.world.wait()  # nobody reads any more what is moved now
    if trainer.world.is_main:
        set_aside_later_checkpoints(trainer.output_dir, trainer.progress.step)


def _horizon(config: OptimizationConfig, length: RunLength, state: Mapping[str, Any] | None) -> Horizon:
    """Where the run ends: as its checkpoint has it, unless another length was asked for since."""
    if state is not None and state["length"]["settings"] == length.settings:
        return Horizon(**state["horizon"])
    return Horizon.of(config, length.total_steps)


def _rows_of(loader: Any) -> TokenRows | None:
    if isinstance(loader, RowBatches | ReplayingBatches):
        return loader.rows
    dataset: Any = loader.dataset if isinstance(loader, DataLoader) else None
    return dataset if isinstance(dataset, TokenRows) else None


def _rows_to_check(loader: Any, rows: TokenRows | None) -> tuple[TokenRows, ...]:
    if isinstance(loader, ReplayingBatches):
        return loader.rows, *loader.replayed_rows.parts
    return () if rows is None else (rows,)


def _data_fingerprint(loader: Any) -> str | None:
    if isinstance(loader, ReplayingBatches):
        return loader.fingerprint
    rows = _rows_of(loader)
    return rows.fingerprint if rows is not None else None


def tokenizer_of(loader: Any) -> Tokenizer | None:
    """The tokenizer that the rows behind a loader were made with, if they say; otherwise a warning."""
    rows = _rows_of(loader)
    if rows is not None and rows.tokenizer_directory is not None:
        return Tokenizer.from_file(rows.tokenizer_directory)
    logger.warning("no tokenizer is known here, so checkpoints hold weights only; pass tokenizer=")
    return None


def _byte_lengths(
    tokenizer: Tokenizer | None, model_config: ModelConfig, loss_function: LossFunction
) -> torch.Tensor | None:
    if tokenizer is None:
        return None
    assert model_config.vocab_size is not None
    if tokenizer.vocab_size > model_config.vocab_size:
        raise MismatchError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model only {model_config.vocab_size} embeddings"
        )
    if loss_function is not next_token_loss:
        logger.info("bits per byte are not measured: the loss is not that of the next token")
        return None
    if not tokenizer.lossless:
        logger.info(
            "bits per byte are not measured: the tokenizer is lossy (%s)", "; ".join(tokenizer.losses)
        )
        return None
    padded = np.zeros(model_config.vocab_size, dtype=np.int64)
    padded[: tokenizer.vocab_size] = tokenizer.byte_lengths
    return torch.from_numpy(padded)
