"""Checkpoints: a directory that is a Hugging Face model, plus `trainer/` to go on from, manifest last.

Tensors are safetensors, everything else is JSON; nothing here reads or writes pickle. Knows no training loop.
"""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from core.errors import CorruptArtifactError, DataError
from core.files import (
    LOCAL_DISK,
    TEMPORARY_MARK,
    Disk,
    atomic_write,
    explain_disk_errors,
    move_aside,
    new_directory,
    remove,
    write_json,
)
from core.json_files import json_object
from core.manifest import MANIFEST_NAME, describe_files, read_manifest, verify_files, write_manifest
from models.hf_layout import save_model
from models.hf_settings import foreign_parts
from models.peft_layout import ADAPTER_DIRECTORY, Adapter, save_adapter
from models.safetensors_file import DTYPE_NAMES, read_shapes, read_tensors, write_safetensors
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

STEP_PATTERN = re.compile(r"step_(\d+)")
STATE_FILE = "trainer/state.json"
OPTIMIZER_FILE = "trainer/optimizer.safetensors"
ADAPTER_STATE_FILE = "trainer/adapter.safetensors"
"""The adapters by our names, to go on from; the directory for other tools is `models.peft_layout`'s."""

FEWEST_KEPT = 2
"""Of a run that has as many: should the newest turn out damaged, there is one before it."""


def step_directory(directory: Path, step: int) -> Path:
    """Where the checkpoint after `step` updates is."""
    return directory / f"step_{step}"


def save_checkpoint(
    final: Path,
    model: TransformerLM,
    tokenizer: Tokenizer | None,
    *,
    facts: Mapping[str, Any],
    trainer_state: Mapping[str, Any] | None = None,
    optimizer_state: Mapping[str, torch.Tensor] | None = None,
    adapter: Adapter | None = None,
    disk: Disk = LOCAL_DISK,
) -> Path:
    """Write a checkpoint directory, entirely or not at all.

    Args:
        final: The directory; if there is one already it is replaced when the new one is whole.
        tokenizer: Saved beside the weights, so that the directory can be talked to; None = weights only.
        facts: What the manifest and the README of the directory say of it (JSON values).
        trainer_state: With `optimizer_state`, what is needed to go on training; None = a model to use.
        adapter: What is merged in `model`, to be saved by itself too.

    Raises:
        DataError: a weight or a number of the optimizer is NaN or infinite; such are never committed.
        DiskError: the disk is full or failing; what was there before is untouched.
    """
    for name, tensor in [*model.named_parameters(), *(optimizer_state or {}).items()]:
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{final}: not written, because {name} holds NaN or infinity")
    with _replacing(final, disk) as out:
        if tokenizer is not None:
            tokenizer.save(out)
        save_model(
            model,
            out,
            bos_id=tokenizer.bos_id if tokenizer is not None else None,
            # A turn of a chat ends with <|end|>, a document with </s>; generation stops at either.
            eos_id=[tokenizer.eos_id, tokenizer.end_id] if tokenizer is not None else None,
            pad_id=tokenizer.pad_id if tokenizer is not None else None,
            disk=disk,
        )
        atomic_write(out / "README.md", _model_card(model, facts), disk=disk)
        if trainer_state is not None:
            (out / "trainer").mkdir()
            write_json(out / STATE_FILE, trainer_state, disk=disk)
            write_safetensors(out / OPTIMIZER_FILE, optimizer_state or {}, disk=disk)
            if adapter is not None:
                write_safetensors(out / ADAPTER_STATE_FILE, adapter.tensors, disk=disk)
        if adapter is not None:
            save_adapter(adapter, model.config, out / ADAPTER_DIRECTORY, disk=disk)
        files = describe_files(out, (path for path in out.rglob("*") if path.is_file()))
        write_manifest(out, {"status": "complete", **facts, "files": files}, disk=disk)
    return final


def copy_checkpoint(source: Path, final: Path, *, disk: Disk = LOCAL_DISK) -> None:
    """Put an intact checkpoint under another name too, entirely or not at all.

    Raises:
        CorruptArtifactError: it is damaged.
        DiskError: the disk is full or failing.
    """
    verify_checkpoint(source)
    with _replacing(final, disk) as out, explain_disk_errors(final):
        shutil.copytree(source, out, dirs_exist_ok=True)


@contextlib.contextmanager
def _replacing(final: Path, disk: Disk) -> Iterator[Path]:
    """A directory to write to, which becomes `final` at the end of the block, in the place of one that is there."""
    place = final.with_name(f".{final.name}.new") if os.path.lexists(final) else final
    remove(place, disk=disk)
    with new_directory(place, disk=disk) as out:
        yield out
    if place != final:
        with explain_disk_errors(final):
            _replace(final, place, disk)


def _replace(final: Path, new: Path, disk: Disk) -> None:
    old = final.with_name(f".{final.name}.old")
    remove(old, disk=disk)
    disk.rename(final, old)
    try:
        disk.rename(new, final)
    except OSError:
        old.rename(final)
        raise
    disk.sync_directory(final.parent)
    remove(old, disk=disk)


def clear_away_leftovers(directory: Path, *, disk: Disk = LOCAL_DISK) -> None:
    """Put back or delete what a process that was killed while it saved left behind.

    Only for a directory that nobody else writes to.
    """
    for half in [*directory.glob(f".*{TEMPORARY_MARK}*"), *directory.glob(".*.new")]:
        remove(half, disk=disk)
    for old in directory.glob(".*.old"):
        final = old.with_name(old.name.removeprefix(".").removesuffix(".old"))
        if final.exists():
            remove(old, disk=disk)
        else:
            disk.rename(old, final)
            disk.sync_directory(directory)


def verify_checkpoint(directory: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose every file is what was written.

    Raises:
        CorruptArtifactError: no manifest, or a file that is missing, truncated or changed.
    """
    manifest = read_manifest(directory)
    if manifest is None:
        raise CorruptArtifactError(
            f"{directory}: no {MANIFEST_NAME}; it is no checkpoint, or one that was not finished"
        )
    if "files" not in manifest:
        raise CorruptArtifactError(f"{directory / MANIFEST_NAME}: does not list the files of a checkpoint")
    verify_files(directory, manifest["files"], full=True)
    return manifest


def load_trainer_state(directory: Path) -> dict[str, Any]:
    """The trainer's state of a verified checkpoint, without the optimizer's tensors.

    Raises:
        DataError: the checkpoint has none (`best` and `final` are models to use, not to go on from).
        CorruptArtifactError: it is no JSON object.
    """
    if not (directory / STATE_FILE).is_file():
        raise DataError(
            f"{directory}: has no {STATE_FILE}, so training cannot go on from it; resume from a step_N directory, "
            "or start anew from its weights"
        )
    return json_object(directory / STATE_FILE, mistake=CorruptArtifactError)


def optimizer_shapes(directory: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the optimizer's tensors, none of which is read: to be compared with the model before.

    Raises:
        CorruptArtifactError: the file is missing, no whole safetensors file, or holds types that no optimizer has.
    """
    file = directory / OPTIMIZER_FILE
    if not file.is_file():
        raise CorruptArtifactError(f"{file}: missing; resume from another checkpoint")
    found = read_shapes(file)
    for name, (dtype, _) in found.items():
        if dtype not in DTYPE_NAMES.values():
            raise CorruptArtifactError(
                f"{file}: {name!r:.80} is of type {dtype}, which is never written; resume from another checkpoint"
            )
    return {name: shape for name, (_, shape) in found.items()}


def load_optimizer_state(directory: Path) -> dict[str, torch.Tensor]:
    """The optimizer's tensors of a verified checkpoint, in memory of their own.

    Raises:
        CorruptArtifactError: the file is no whole safetensors file.
    """
    return read_tensors(directory / OPTIMIZER_FILE)


def load_adapter_state(directory: Path, shapes: Mapping[str, torch.Size]) -> dict[str, torch.Tensor]:
    """The adapters of a verified checkpoint.

    Args:
        shapes: Of all their matrices, by the names of parameters.

    Raises:
        CorruptArtifactError: the file is missing, or holds other ones.
    """
    file = directory / ADAPTER_STATE_FILE
    if not file.is_file():
        raise CorruptArtifactError(f"{file}: missing; resume from another checkpoint")
    found = {name: shape for name, (_, shape) in read_shapes(file).items()}
    wrong = [name for name in sorted(found.keys() | shapes.keys()) if found.get(name) != shapes.get(name)]
    if wrong:
        raise CorruptArtifactError(
            f"{file}: {wrong[0]:.200} is {found.get(wrong[0], 'missing')!s:.80}, expected "
            f"{tuple(shapes.get(wrong[0], ())) or 'no such tensor'} ({len(wrong)} differ); resume from another "
            "checkpoint"
        )
    return read_tensors(file)


def list_checkpoints(directory: Path) -> list[Path]:
    """The committed `step_N` checkpoints in a directory, oldest first."""
    return [path for path in _step_directories(directory) if (path / MANIFEST_NAME).is_file()]


def _step_directories(directory: Path) -> list[Path]:
    paths = directory.iterdir() if directory.is_dir() else ()
    found = [path for path in paths if STEP_PATTERN.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: (step_of(path), path.name))


def step_of(checkpoint: Path) -> int:
    """The number of updates in the name of a `step_N` directory."""
    return int(checkpoint.name.removeprefix("step_"))


def latest_checkpoint(directory: Path) -> Path | None:
    """The newest intact `step_N`, or None where none was ever written.

    Damaged ones are moved aside to `step_N.corrupt-K` with a warning, and the one before is taken.

    Raises:
        CorruptArtifactError: there are checkpoints, but none is intact: starting over silently would lose work.
        MismatchError: the newest was written by a newer version of the program.
    """
    damaged: list[tuple[Path, CorruptArtifactError]] = []
    # Those without a manifest too: what we write has one from the moment that it has its name.
    for path in reversed(_step_directories(directory)):
        try:
            verify_checkpoint(path)
        except CorruptArtifactError as error:
            damaged.append((path, error))
            continue
        # Moved only now that there is something to go on from: otherwise the next start would find nothing wrong.
        for place, reason in damaged:
            aside = move_aside(place, "corrupt")
            logger.warning("%s; moved to %s, going on from %s", reason, aside, path.name)
        return path
    if damaged:
        reasons = [str(error) for _, error in damaged]
        raise CorruptArtifactError(
            f"{directory}: no checkpoint is intact ({'; '.join(reasons)}); restore one from a backup, "
            "or start over with --rebuild"
        )
    return None


def set_aside_later_checkpoints(directory: Path, step: int) -> None:
    """Move checkpoints of steps after `step`, `best` and `final` among them, out of the way of a run that goes on
    from there again."""
    steps = {path: step_of(path) for path in list_checkpoints(directory)}
    for path in (directory / "best", directory / "final"):
        try:
            steps[path] = (read_manifest(path) or {}).get("step", 0)
        except CorruptArtifactError as error:
            logger.warning("%s; moved to %s", error, move_aside(path, "corrupt").name)
    for path, number in steps.items():
        if number > step:
            aside = move_aside(path, "superseded")
            logger.warning("%s: is of a later step than the run goes on from; moved to %s", path, aside.name)


def delete_old_checkpoints(directory: Path, keep: int | None, *, disk: Disk = LOCAL_DISK) -> None:
    """Keep the newest `keep` committed `step_N` checkpoints, and never fewer than `FEWEST_KEPT`.

    Raises:
        DiskError: the disk is full or failing.
    """
    if keep is not None:
        with explain_disk_errors(directory):
            for path in list_checkpoints(directory)[: -max(FEWEST_KEPT, keep)]:
                remove(path, disk=disk)


def _model_card(model: TransformerLM, facts: Mapping[str, Any]) -> str:
    parts = foreign_parts(model.config)
    rows: Sequence[tuple[str, Any]] = [
        ("architecture", model.config.architecture),
        *([("parts that other tools do not have", ", ".join(parts))] if parts else []),
        ("parameters", f"{sum(p.numel() for p in model.parameters()):,}"),
        ("context", f"{model.config.max_position_embeddings} tokens"),
        *facts.items(),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows if not isinstance(value, dict | list))
    return f"# A model trained from scratch with Bloomery\n\n| | |\n|---|---|\n{table}\n"
