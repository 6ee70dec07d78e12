"""Checkpoints written beside the training: copied at a step boundary, written by one thread. Knows no losses."""

import functools
import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch

from core.distributed import ALONE, World, explain_lost_peers
from core.errors import DiskError
from core.files import LOCAL_DISK, Disk
from models.lora import is_of_adapter, merged
from models.peft_layout import Adapter
from models.transformer_lm import TransformerLM
from tokenization.tokenizer import Tokenizer
from training.checkpoint import delete_old_checkpoints, save_checkpoint
from training.parallel import is_spread, whole

logger = logging.getLogger(__name__)

MAX_MISSED_SAVES = 3
"""This many checkpoints in a row that could not be written end the run (arbitrary): more work would be lost than it
takes a person to make room."""


CHECKPOINTS_AT_A_TIME = 2.2
"""The one that is written, the one that it follows, and some room."""


def check_room(directory: Path, model: TransformerLM) -> None:
    """Refuse to begin what could not be saved: a run may save once only, at its end.

    Raises:
        DiskError: the disk has less room than two checkpoints take.
    """
    # float32 weights and two numbers of AdamW for each.
    needed = CHECKPOINTS_AT_A_TIME * 12 * sum(parameter.numel() for parameter in model.parameters())
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise DiskError(
            f"{directory}: two checkpoints need {needed / 1e6:,.1f} MB and {free / 1e6:,.1f} MB are free; make "
            "room, or choose another output directory"
        )


class CheckpointSaver:
    """Writes checkpoints, at most one at a time; as a context, it leaves when the last one is written.

    A full or failing disk costs a checkpoint and an alarm, not the run, until `MAX_MISSED_SAVES` failed in a row. All
    other errors of a write are raised by the next call.

    Args:
        tokenizer: Saved beside the weights, or None.
        keep: Number of `step_N` checkpoints that are kept; None = all.
        in_background: Copy what is saved and write it while the training goes on; otherwise it waits.
        world: The processes that hold the model; each has a saver, and the main one's writes.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | None,
        *,
        keep: int | None,
        in_background: bool,
        disk: Disk = LOCAL_DISK,
        world: World = ALONE,
    ) -> None:
        self._tokenizer = tokenizer
        self._keep = keep
        self._in_background = in_background
        self._disk = disk
        self._world = world
        self._under_way: _Write | None = None
        self._num_missed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._settle(most_missed=0)  # the last one must not be missing
        elif issubclass(kind, Exception):
            self._finish_quietly()
        # Ctrl-C for the second time: not waited for. What is half written is no checkpoint.

    def save(
        self,
        place: Path,
        model: TransformerLM,
        *,
        facts: Mapping[str, Any],
        trainer_state: Mapping[str, Any] | None = None,
        optimizer_state: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Save what `training.checkpoint.save_checkpoint` is given, as it is now.

        Raises:
            DataError: what was to be saved the last time, or is now, holds NaN or infinity.
            DiskError: one checkpoint too many in a row could not be written.
        """
        self.wait()
        self._world.wait()  # for the main process, which may still have been writing
        adapter: Adapter | None = None
        if self._in_background or self._world.size > 1 or model.adapters is not None:
            copy, adapter = whole_copy(model, self._world), whole_adapter(model, self._world)
            copies = whole_copies(optimizer_state or {}, self._world)
            if copy is None:
                return
            model, optimizer_state = copy, copies
        tensors = [*model.state_dict().values(), *(optimizer_state or {}).values()]
        write = functools.partial(
            self._write,
            place,
            model,
            facts=facts,
            trainer_state=trainer_state,
            optimizer_state=optimizer_state,
            adapter=adapter,
        )
        outcome: Future[None] = Future()
        # A daemon: the interpreter does not wait for it when a second Ctrl-C ends the process.
        thread = threading.Thread(target=_run, args=(write, outcome), daemon=True, name=f"save {place.name}")
        self._under_way = _Write(
            place, sum(tensor.nbytes for tensor in tensors), trainer_state is not None, outcome, thread
        )
        try:
            thread.start()
        except RuntimeError as error:  # what Python says where memory or a limit allows no thread more
            logger.warning("%s: training waits for the checkpoint %s", error, place)
            self._under_way = self._under_way._replace(thread=None)
            _run(write, outcome)
        if not self._in_background:
            self.wait()

    def wait(self) -> None:
        """Return when nothing is being written any more; raises what `save` raises."""
        self._settle(most_missed=MAX_MISSED_SAVES - 1)

    def _settle(self, *, most_missed: int) -> None:
        if self._under_way is None:
            return
        write, self._under_way = self._under_way, None
        error = write.result()
        if error is None:
            # `best` is smaller and may fit where nothing can be gone on from.
            self._num_missed = 0 if write.is_resumable else self._num_missed
            return
        if not isinstance(error, DiskError):
            raise error
        self._num_missed += 1
        message = f"{write.says(error)}; checkpoints missed in a row: {self._num_missed}"
        if self._num_missed > most_missed:
            raise DiskError(message) from error
        logger.warning("%s of at most %d; training goes on", message, most_missed)

    def _finish_quietly(self) -> None:
        """Another error is on its way to the user; what was to be saved before it is still saved."""
        if self._under_way is not None and (error := self._under_way.result()) is not None:
            logger.warning("%s", self._under_way.says(error))
        self._under_way = None

    def _write(self, place: Path, model: TransformerLM, **values: Any) -> None:
        save_checkpoint(place, model, self._tokenizer, **values, disk=self._disk)
        try:
            delete_old_checkpoints(place.parent, self._keep, disk=self._disk)
        except DiskError as error:
            logger.warning("%s; old checkpoints stay where they are", error)


class _Write(NamedTuple):
    place: Path
    num_bytes: int
    is_resumable: bool
    outcome: "Future[None]"
    thread: threading.Thread | None
    """None where no thread could begin, and the outcome is known."""

    def result(self) -> BaseException | None:
        """What went wrong; returns when the thread has ended.

        With the outcome known it still frees tensors. An interpreter that ends meanwhile ends it within C++, which
        aborts the process: one SIGTERM in fifteen gave exit code -6 instead of 75.
        """
        error = self.outcome.exception()
        if self.thread is not None:
            self.thread.join()
        return error

    def says(self, error: BaseException) -> str:
        free = shutil.disk_usage(self.place.parent).free
        return (
            f"{self.place} is not saved: {error} (it needs {self.num_bytes / 1e6:,.1f} MB, "
            f"{free / 1e6:,.1f} MB are free)"
        )


def _run(write: Callable[[], None], outcome: "Future[None]") -> None:
    try:
        write()
    except BaseException as error:  # noqa: BLE001 - raised again by `wait`, in the thread that trains
        outcome.set_exception(error)
    else:
        outcome.set_result(None)


def whole_copy(model: TransformerLM, world: World = ALONE) -> TransformerLM | None:
    """The model as it is now, whole and on the CPU, in the main process; training `model` on does not change it.
    Adapters are merged in it.

    Every process of `world` has to call this at the same step; the others get None.
    """
    tensors = merged(whole_copies(model.state_dict(), world), model.adapters)
    if not world.is_main:
        return None
    with torch.device("meta"):
        copy = TransformerLM(model.config)
    copy.load_state_dict(tensors, assign=True)
    return copy


def whole_adapter(model: TransformerLM, world: World = ALONE) -> Adapter | None:
    """The adapters of a model, as `whole_copy`; None where it has none."""
    if model.adapters is None:
        return None
    tensors = {name: tensor for name, tensor in model.state_dict().items() if is_of_adapter(name)}
    return Adapter(model.adapters, whole_copies(tensors, world))


def whole_copies(tensors: Mapping[str, torch.Tensor], world: World) -> dict[str, torch.Tensor]:
    """Copies of tensors that may be spread, whole and on the CPU; nothing in other processes than the main one."""
    copies = {}
    for name, tensor in tensors.items():
        # One after the other: the whole of each is there for a moment only where it is not kept.
        with explain_lost_peers():
            full = whole(tensor.detach()) if world.is_main or is_spread(tensor) else None
        if world.is_main and full is not None:
            copies[name] = full.to("cpu", copy=True)
    return copies
