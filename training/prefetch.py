"""Micro-batches on the device before they are asked for. Knows streams and memory, no model.

What the host has to know of a batch it counts before the batch leaves: asked of the device, it would wait.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from models.attention import document_offsets
from training.losses import Batch, count_targets

STAYS_ON_HOST = "num_targets"

Started = TypeVar("Started")
Ready = TypeVar("Ready")


def prepared(batch: Batch, *, with_documents: bool) -> Batch:
    """`batch`, a mapping of CPU tensors, with `num_targets` () int64, and `documents` if they are wanted (see
    `models.attention.document_offsets`); as it is, when it has them."""
    if STAYS_ON_HOST in batch:
        return batch
    result = {**batch, STAYS_ON_HOST: torch.tensor(count_targets(batch))}
    if with_documents:
        result["documents"] = document_offsets(batch["position_ids"])
    return result


def moved(batch: Batch, device: torch.device) -> Batch:
    """`batch` on the device, but for what stays on the host."""
    return {key: tensor if key == STAYS_ON_HOST else tensor.to(device) for key, tensor in batch.items()}


def prefetched(batches: Iterator[Batch], device: torch.device, *, with_documents: bool) -> Iterator[Batch]:
    """The same batches in the same order. On CUDA they are prepared and on the device, each copied beside the
    computation while the one before is used; elsewhere there is nothing to copy, and they are passed on."""
    if device.type != "cuda":
        return batches
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        pinned = {
            key: tensor.pin_memory() for key, tensor in prepared(batch, with_documents=with_documents).items()
        }
        with torch.cuda.stream(stream):
            copies = {
                key: tensor if key == STAYS_ON_HOST else tensor.to(device, non_blocking=True)
                for key, tensor in pinned.items()
            }
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        return copies, event

    def finish(started: tuple[Batch, torch.cuda.Event]) -> Batch:
        batch, event = started
        current = torch.cuda.current_stream(device)
        current.wait_event(event)
        for key, tensor in batch.items():
            if key != STAYS_ON_HOST:
                # Or the allocator of the side stream would give the memory away while it is read here.
                tensor.record_stream(current)
        return batch

    return one_ahead(batches, start=start, finish=finish)


def one_ahead(
    items: Iterator[Batch], *, start: Callable[[Batch], Started], finish: Callable[[Started], Ready]
) -> Iterator[Ready]:
    """`finish(start(item))` of each item; before one is given out, the next one is started."""
    ahead: list[Started] = []
    for item in items:
        ahead.append(start(item))
        if len(ahead) == 2:
            yield finish(ahead.pop(0))
    for last in ahead:
        yield finish(last)
