"""Whether a step fits into memory, found by carrying one out before the first; if not, in how many parts it does.

Knows the trainer and what running out of memory looks like. Knows no data: rows all have the context's length.
"""

import contextlib
import dataclasses
import gc
import itertools
import logging
import mmap
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from core.errors import ConfigError
from core.memory import give_back_freed_memory
from core.training_config import OptimizationConfig
from training.batches import BatchSource, ReplayingBatches, RowBatches
from training.losses import IGNORED_LABEL, Batch
from training.optimizer import Optimizers, create_optimizers, take_step
from training.step_batch import StepBatch
from training.trainer import Trainer

logger = logging.getLogger(__name__)

_ALLOCATION_FAILED = (
    "DefaultCPUAllocator",
    "can't allocate memory",
    "std::bad_alloc",
    "could not create a memory",
)
"""What a RuntimeError says where memory ran out: torch's allocator for the CPU, C++, oneDNN."""


ADDRESSES_FOR_THREADS = 2**27
"""Bytes, mapped and not touched: a thread that begins later, to save or check data, has a heap of its own, for which
glibc maps 128 MB at first. Where the address space is limited, runs that fitted ended with the first checkpoint
otherwise. Mapped as glibc does it: a tensor would find room in what earlier attempts left free in the heap."""


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that there was no memory left, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _ALLOCATION_FAILED)


def fit_into_memory(trainer: Trainer) -> int | None:
    """Let the micro-batches of `trainer` be so small that they fit, and return how many rows they have then; None =
    they fitted as they were.

    Half of the rows do with half of the activations; there are twice as many micro-batches, so a step's rows stay. Not
    tried is a loss of which nobody knows the largest batch, and a model that is spread over processes (fsdp, hsdp): one
    of them alone cannot stop.

    Raises:
        ConfigError: not even one row fits.
    """
    if trainer.largest_batch is None or trainer.parallel.kind in ("fsdp", "hsdp"):
        return None
    context = trainer.model.config.max_position_embeddings
    row_tokens = trainer.largest_batch(1, context)["input_ids"].shape[1]
    begun_with = trainer.step_batch
    while True:
        rows = trainer.step_batch.micro_batch_rows
        problem = _problem_with(trainer, trainer.largest_batch(rows, context))
        if not trainer.world.sum(float(problem is not None))[0]:
            return rows if rows < begun_with.micro_batch_rows else None
        problem = problem or "in another process"
        gc.collect()  # a failed step leaves cycles of frames and tensors
        give_back_freed_memory()  # the heap has grown to the limit, and smaller parts would find no room beside it
        if rows == 1:
            raise ConfigError(_does_not_fit(trainer.config, row_tokens, problem))
        trainer.step_batch = at_most(trainer.step_batch, rows // 2)
        logger.warning(
            "a micro-batch of %d rows of %d tokens does not fit into memory (%s); going on with %d rows and %d "
            "micro-batches a step, which is the same batch",
            rows,
            row_tokens,
            problem,
            trainer.step_batch.micro_batch_rows,
            trainer.step_batch.num_micro_batches,
        )


def at_most(step_batch: StepBatch, rows: int) -> StepBatch:
    """The same step in micro-batches of the largest number of rows up to `rows` that divides what they have."""
    before = step_batch.micro_batch_rows
    return dataclasses.replace(
        step_batch, micro_batch_rows=next(n for n in range(rows, 0, -1) if before % n == 0)
    )


def _problem_with(trainer: Trainer, batch: Batch) -> str | None:
    """What ran out when steps of `batch` were carried out; None = nothing. Weights, state and random numbers stay."""
    model, on_device = trainer.model, trainer.device_manager.device
    try:
        optimizers = create_optimizers(model, trainer.config, compute_dtype=trainer.compute_dtype)
        held: list[torch.Tensor] = []
        with (
            _addresses_for_threads(on_device),
            torch.random.fork_rng(devices=trainer.cuda_devices()),
            trainer.parallel.accumulating(last=False),
        ):
            model.train()
            # The second step has the optimizer's state there while it computes, as all that follow.
            for _ in range(2):
                # With accumulation, the gradients of earlier micro-batches are there already.
                for _ in range(min(2, trainer.step_batch.micro_batches_each)):
                    trainer.summed_loss(batch).backward()  # type: ignore[no-untyped-call]
                # Chosen not to move anything, which takes the same memory.
                take_step(optimizers, skip=torch.ones((), dtype=torch.bool, device=on_device))
                held = held or _room_for_others(trainer, optimizers)
                model.zero_grad(set_to_none=True)
            if on_device.type == "cuda":
                torch.cuda.synchronize(on_device)
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    finally:
        model.zero_grad(set_to_none=True)
        if on_device.type == "cuda":
            torch.cuda.empty_cache()
    return None


@contextlib.contextmanager
def _addresses_for_threads(device: torch.device) -> Iterator[None]:
    if device.type != "cpu":
        yield
        return
    try:
        mapped = mmap.mmap(-1, ADDRESSES_FOR_THREADS)
    except OSError as error:
        raise MemoryError(f"no {ADDRESSES_FOR_THREADS >> 20} MB for a thread: {error.strerror}") from None
    with mapped:
        yield


def _room_for_others(trainer: Trainer, optimizers: Optimizers) -> list[torch.Tensor]:
    """As much as is held between and beside steps: weights from before a step, which are compared, and the copy that is
    written as a checkpoint while training goes on."""
    weights = list(trainer.model.parameters())
    room = [torch.empty_like(weight) for weight in weights]
    if trainer.config.save_in_background:
        state = [t for o in optimizers for values in o.state.values() for t in values.values()]
        room += [torch.empty_like(tensor, device="cpu") for tensor in [*weights, *state]]
    return room


def _does_not_fit(config: OptimizationConfig, row_tokens: int, problem: str) -> str:
    ways = [
        *(["gradient_checkpointing=full"] if config.gradient_checkpointing != "full" else []),
        "a shorter model.max_position_embeddings",
        "a smaller model (run.preset, model.hidden_size, model.num_layers)",
        *(["save_in_background=false"] if config.save_in_background else []),
    ]
    return (
        f"training.batch_size: a micro-batch of one row of {row_tokens} tokens does not fit into memory ({problem}); "
        "choose " + ", ".join(ways[:-1]) + f" or {ways[-1]}"
    )


def split_source(source: BatchSource, parts: int) -> BatchSource:
    """The micro-batches of `source`, each as `parts` of equally many rows, in the same order."""
    if parts == 1:
        return source
    if isinstance(source, RowBatches | ReplayingBatches):
        return source.in_micro_batches_of(source.batch_size // parts)
    return _InParts(source, parts)


@dataclasses.dataclass(frozen=True)
class _InParts:
    source: BatchSource
    parts: int

    @property
    def batches_per_epoch(self) -> float:
        return self.source.batches_per_epoch * self.parts

    @property
    def is_repeatable(self) -> bool:
        return self.source.is_repeatable

    def micro_batches(self, numbers: Iterable[int]) -> Iterator[Batch]:
        def whole(number: int) -> int:
            return number // self.parts

        wanted, again = itertools.tee(numbers)
        batches = self.source.micro_batches(number for number, _ in itertools.groupby(again, whole))
        for _, group in itertools.groupby(wanted, whole):
            pieces = split_batch(_of_rows_at_least(next(batches), self.parts), self.parts)
            yield from (pieces[number % self.parts] for number in group)


@dataclasses.dataclass(frozen=True)
class BatchesInParts:
    """Batches to evaluate on, each in parts; may be read as often as those that it is made of."""

    batches: Any
    parts: int

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.batches:
            yield from split_batch(batch, self.parts)


def _of_rows_at_least(batch: Batch, rows: int) -> Batch:
    """The last batch of a loader can be shorter than there are parts; rows that teach nothing make up for it."""
    missing = rows - len(batch["labels"])
    if missing <= 0:
        return batch
    longer = {key: torch.cat([tensor, tensor[-1:].expand(missing, -1)]) for key, tensor in batch.items()}
    longer["labels"][-missing:] = IGNORED_LABEL
    return longer


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """`batch` in `parts` of equally many rows, or as near as its rows allow."""
    pieces = {key: torch.tensor_split(tensor, parts) for key, tensor in batch.items()}
    split = [{key: pieces[key][number] for key in batch} for number in range(parts)]
    return [part for part in split if len(part["input_ids"])]
