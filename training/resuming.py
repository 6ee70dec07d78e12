"""Going on from a checkpoint: whether it is this run's, what is put back, and how exactly. Knows no hooks, no loop."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from core.distributed import World
from core.errors import CorruptArtifactError, DataError, MismatchError
from core.files import sha256_file
from core.manifest import MANIFEST_NAME
from core.training_config import OptimizationConfig
from data_processing.rows.token_rows import TokenRows
from models.hf_layout import load_model
from models.lora import is_of_adapter
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer
from training.batches import BatchSource
from training.checkpoint import (
    OPTIMIZER_FILE,
    latest_checkpoint,
    load_adapter_state,
    load_optimizer_state,
    load_trainer_state,
    optimizer_shapes,
    verify_checkpoint,
)
from training.compiling import should_compile
from training.events import record_event
from training.optimizer import check_optimizer_shapes, load_optimizer_tensors
from training.parallel import load_weights
from training.run_length import LENGTH_SETTINGS, RunLength
from training.trainer import LossFunction, Trainer
from training.trainer_state import check_state, read_progress

logger = logging.getLogger(__name__)


VISIBLE_AFTER_SECONDS = 60.0
"""Network file systems show a new directory to other machines after a while, by default up to this (NFS: acdirmax)."""


def agreed_checkpoint(
    world: World,
    directory: Path,
    *,
    find: Callable[[Path], Path | None] = latest_checkpoint,
    wait_seconds: float = VISIBLE_AFTER_SECONDS,
) -> Path | None:
    """The newest intact checkpoint in `directory`, found by the main process and the same one in all.

    Args:
        find: What finds it there.

    Raises:
        CorruptArtifactError: there are checkpoints, and none is intact.
        MismatchError: this process sees another file system than the main one.
    """

    def found_by_main() -> list[str] | None:
        path = find(directory)
        return None if path is None else [path.name, sha256_file(path / MANIFEST_NAME)]

    found = world.from_main(found_by_main)
    if found is None:
        return None
    name, digest = found
    checkpoint = directory / str(name)
    manifest = checkpoint / MANIFEST_NAME
    deadline = time.monotonic() + wait_seconds
    while not (manifest.is_file() and sha256_file(manifest) == digest):
        if time.monotonic() > deadline:
            raise MismatchError(
                f"{manifest}: the main process goes on from it (SHA-256 {digest[:12]}…), but here it "
                f"{'is another one' if manifest.is_file() else 'is not there'}; all machines of a run need one shared "
                "directory"
            )
        time.sleep(0.2)
    return checkpoint


def numerics(trainer: Trainer) -> dict[str, Any]:
    """What, besides settings and data, the last bit of the weights depends on."""
    return {
        "torch": torch.__version__,
        "device": trainer.device_manager.get_device_info()["name"],
        "threads": torch.get_num_threads(),
        "compiled": trainer.model.is_compiled,
        "processes": trainer.world.size,
        "parallel": trainer.parallel.kind,
        "micro_batch_rows": trainer.step_batch.micro_batch_rows,
        # Eager gradients are the same to the last bit whatever is computed again; compiled ones are fused otherwise.
        "gradient_checkpointing": trainer.model.gradient_checkpointing if trainer.model.is_compiled else None,
    }


def name_of(loss_function: LossFunction) -> str:
    """What a checkpoint calls the loss that it was trained with: of an object that is called, its class."""
    return getattr(loss_function, "__qualname__", type(loss_function).__qualname__)


def read_state(
    checkpoint: Path,
    config: OptimizationConfig,
    model: TransformerLM,
    tokenizer: Tokenizer | None,
    rows: TokenRows | None,
    loss_function: LossFunction,
    *,
    data: str | None,
    base_weights: str | None,
) -> dict[str, Any]:
    """The trainer's state in a checkpoint of this run.

    Args:
        data: Fingerprint of what it learns from now.
        base_weights: `models.lora.fingerprint_of_base` of what adapters were added to; None = there are none.

    Raises:
        DataError: there is no such checkpoint, or it is none to go on from.
        CorruptArtifactError: it is damaged.
        MismatchError: it is of another run; each difference is named.
    """
    if not checkpoint.is_dir():
        raise DataError(f"resume_from_checkpoint={str(checkpoint)!r}: no such directory")
    facts = verify_checkpoint(checkpoint)
    state = load_trainer_state(checkpoint)
    check_state(state, checkpoint)
    old, new = state["length"]["settings"], config.fingerprint_settings()
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    differences = [
        f"{key:.80}: was {old.get(key)!s:.80}, now {new.get(key)!s:.80}"
        for key in changed
        if key not in LENGTH_SETTINGS
    ]
    shape_then, shape_now = state["model"], model.config.to_dict()
    differences += [
        f"model {key}: was {shape_then.get(key)!s:.80}, now {shape_now[key]}"
        for key in shape_now
        if shape_then.get(key) != shape_now[key]
    ]
    if (base_then := facts.get("base_weights")) != base_weights:
        differences.append(
            f"the weights that adapters are added to: were {str(base_then)[:12]}, now {str(base_weights)[:12]}"
        )
    if state["loss_function"] != name_of(loss_function):
        differences.append(f"loss_function: was {state['loss_function']:.80}, now {name_of(loss_function)}")
    then = state["tokenizer_fingerprint"]
    if then is not None and tokenizer is not None and then != tokenizer.fingerprint:
        differences.append(f"the tokenizer: was {then[:12]}, now {tokenizer.fingerprint[:12]}")
    elif then is not None and rows is not None and then != rows.metadata.tokenizer_fingerprint:
        # Whatever may change of the data: the ids of another vocabulary mean other texts.
        differences.append(
            f"the tokenizer of the rows: was {then[:12]}, now {rows.metadata.tokenizer_fingerprint[:12]}"
        )
    if data is not None and is_other_data(state, data) and not config.allow_data_change:
        differences.append(
            f"the data: was {state['data_fingerprint'][:12]}, now {data[:12]}, which allow_data_change "
            "(--allow-data-change) would permit"
        )
    if differences:
        raise MismatchError(
            f"{checkpoint}: cannot go on exactly, because settings changed ({'; '.join(differences)}); set them "
            "back, or start a new run from its weights"
        )
    return state


def carried_out_as_asked(length: RunLength, config: OptimizationConfig, device: torch.device) -> RunLength:
    """The length of a run that is gone on from, compiled if that is said; where it is left to us, as it began."""
    if config.compile == "auto":
        return length
    compiled = should_compile(config.compile, device, expected_seconds=math.inf)
    return dataclasses.replace(length, compiled=compiled)


def is_other_data(state: Mapping[str, Any], data_fingerprint: str | None) -> bool:
    then = state["data_fingerprint"]
    return None not in (then, data_fingerprint) and then != data_fingerprint


def note_data_change(trainer: Trainer, state: Mapping[str, Any], data_fingerprint: str | None) -> None:
    step = trainer.progress.step
    if trainer.world.is_main:
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


def restore(trainer: Trainer, checkpoint: Path, state: Mapping[str, Any]) -> None:
    load_weights(trainer.model, _learned_weights(trainer.model, checkpoint))
    # Before anything is read: the header of a file may promise what no memory holds.
    check_optimizer_shapes(trainer.model, trainer.optimizers, optimizer_shapes(checkpoint))
    tensors = load_optimizer_state(checkpoint)
    load_optimizer_tensors(trainer.model, trainer.optimizers, tensors)
    trainer.progress = read_progress(state["progress"])
    if not tensors and trainer.progress.step > trainer.progress.bad_steps:
        raise CorruptArtifactError(f"{checkpoint / OPTIMIZER_FILE}: is empty; resume from another checkpoint")
    patience = trainer.config.early_stopping_patience
    if patience is not None and trainer.progress.evaluations_without_gain >= patience:
        trainer.should_stop = f"had stopped early at step {trainer.progress.step}"


def _learned_weights(model: TransformerLM, checkpoint: Path) -> Mapping[str, torch.Tensor]:
    if model.adapters is None:
        return load_model(checkpoint).state_dict()
    shapes = {name: p.shape for name, p in model.named_parameters() if is_of_adapter(name)}
    return load_adapter_state(checkpoint, shapes)


def say_how_exact(
    state: Mapping[str, Any], trainer: Trainer, source: BatchSource, *, has_other_data: bool
) -> None:
    then, now = state["numerics"], numerics(trainer)
    reasons = [f"{key} was {then.get(key)!s:.80}, is {now[key]}" for key in now if then.get(key) != now[key]]
    if has_other_data:
        reasons.append("the data changed")
    is_cuda = trainer.device_manager.device.type == "cuda"
    if trainer.device_manager.device.type != "cpu" and not (is_cuda and trainer.config.deterministic):
        reasons.append(f"{trainer.device_manager.device.type} kernels may add in another order")
    if not source.is_repeatable:
        reasons.append("the loader's sampler is not one of torch's, so its order may differ")
    exactness = "not bit-exact because " + "; ".join(reasons) if reasons else "bit-exact"
    logger.info("going on from step %d (%s)", trainer.progress.step, exactness)
