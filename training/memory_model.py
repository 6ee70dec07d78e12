"""How much memory training a shape needs, part by part: a step is carried out on tensors that have no data.

Knows the parts of a step and no machine. Follows whatever model, loss and optimizer do, because it runs them.
"""

import contextlib
import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from core.training_config import InstructionConfig, ModelConfig, OptimizationConfig
from models.lora import prepare_tuning
from models.transformer_lm import TransformerLM
from training.heap_model import heap_growth
from training.losses import Batch, summed_cross_entropy
from training.optimizer import create_optimizers


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """What training steps hold, in bytes. `peak_bytes` is the most at one time, not the sum of the parts."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    """Kept by the blocks for the backward pass."""
    loss: int
    """Scores of one part of the positions, with the gradients that the loss computes at once."""
    checkpoint_copy: int
    """Weights and optimizer state while a checkpoint is written beside the training; 0 where training waits."""
    peak_bytes: int
    heap_bytes: int
    """What the heap of a process on the CPU grows to for all of it: `peak_bytes` and holes."""

    def parts(self) -> dict[str, int]:
        """Each part by name."""
        values = dataclasses.asdict(self)
        del values["peak_bytes"], values["heap_bytes"]
        return values


NUM_STEPS = 3
"""The first has no state of the optimizer yet; after the third the heap is as large as it gets, to a few percent."""


def step_memory(
    shape: ModelConfig, config: OptimizationConfig, *, compute_dtype: torch.dtype, rows: int | None = None
) -> StepMemory:
    """The memory of steps of the model `shape` under `config`, without what libraries hold.

    Tensors without data go through the real model, loss and optimizer (1 s for 6 layers), as they would on a CPU
    without compiling; each storage is counted from when it is made to when the last reference is gone. What kernels
    hold inside is not seen. Compiled blocks need less.

    Args:
        rows: Of a micro-batch; None = `config.batch_size`.
    """
    with torch.device("meta"):
        model = TransformerLM(shape)
    with FakeTensorMode(), _Ledger() as ledger:
        _give_storage(model)
        model.gradient_checkpointing = config.gradient_checkpointing
        if isinstance(config, InstructionConfig):
            prepare_tuning(model, config)
        weights = ledger.alive_bytes
        optimizers = create_optimizers(model, config, compute_dtype=compute_dtype)
        batch = _batch_without_data(rows or config.batch_size, shape.max_position_embeddings)
        for _ in range(NUM_STEPS):
            # With accumulation, the gradients of earlier micro-batches are there while the next ones are computed.
            for _ in range(min(2, config.gradient_accumulation_steps)):
                before = ledger.alive_bytes
                with _autocast(compute_dtype):
                    features = model.features(
                        batch["input_ids"], batch["position_ids"] if config.document_masking else None
                    )
                    activations = ledger.alive_bytes - before
                    ledger.peak_since_mark = 0
                    loss = summed_cross_entropy(
                        features.flatten(0, 1), model.head_weight, batch["labels"].flatten()
                    )
                    loss_bytes = ledger.peak_since_mark - before - activations
                del features
                loss.backward()  # type: ignore[no-untyped-call]
                del loss
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            gradients = sum(
                p.grad.untyped_storage().nbytes() for p in model.parameters() if p.grad is not None
            )
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        state = ledger.alive_bytes - weights - _bytes_of(batch)
        blocks, peak = list(ledger.blocks), ledger.peak_bytes
    copy = weights + state if config.save_in_background else 0
    return StepMemory(
        weights, gradients, state, activations, loss_bytes, copy, peak + copy, heap_growth(blocks) + copy
    )


HELD_BY_LIBRARIES = {"cpu": 0.4e9, "mps": 0.6e9, "cuda": 0.7e9}
"""Bytes, before there is a model: on the CPU Python, torch and the code of its kernels (0.39 GB resident, torch 2.13);
on CUDA the context and the workspaces of cuBLAS (unmeasured here, as is all of CUDA)."""


def needed_bytes(memory: StepMemory, device_type: str) -> float:
    """What the process holds at most on the device: tensors, the heap's holes on the CPU, and libraries."""
    return HELD_BY_LIBRARIES[device_type] + above_libraries(memory, device_type)


def above_libraries(memory: StepMemory, device_type: str) -> float:
    """`needed_bytes` without what libraries hold: what a training adds to a process that has run a small one."""
    if device_type == "cpu":
        return memory.heap_bytes
    # The copy for a checkpoint is in the machine's memory, not in the device's.
    return memory.peak_bytes - memory.checkpoint_copy


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that are alive, and the most there ever were."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive_bytes = 0
        self.peak_bytes = 0
        self.peak_since_mark = 0
        self.blocks: list[tuple[int, int]] = []
        """(key, bytes) of each storage made, (key, -bytes) of each that is gone, in order."""
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.blocks.append((key, size))
        weakref.finalize(storage, self._forget, key, size)
        self.alive_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.alive_bytes)
        self.peak_since_mark = max(self.peak_since_mark, self.alive_bytes)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.blocks.append((key, -size))
        self.alive_bytes -= size


def _give_storage(model: nn.Module) -> None:
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(torch.empty(parameter.shape))


def _bytes_of(batch: Batch) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in batch.values())


def _batch_without_data(rows: int, context: int) -> Batch:
    return {
        key: torch.zeros(rows, context, dtype=torch.int64) for key in ("input_ids", "labels", "position_ids")
    }


@contextlib.contextmanager
def _autocast(dtype: torch.dtype) -> Iterator[None]:
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        yield
