"""What one update did. Knows numbers and when a device has computed them, no model.

On a GPU the host runs ahead of what it has asked for. It would have to wait at each step if it looked at the loss of
that step at once; so a report waits for its numbers when they are first asked for, and says whether they have arrived.
"""

import collections
import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from training.precision import LEAST_LOSS_SCALE


class Numbers:
    """Some numbers that a device computes, on their way to the host.

    Args:
        values: (n,) float32. Not to be written to any more.
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values
        self._copied: torch.cuda.Event | None = None
        if values.device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(values.device))  # the current device may be another

    def are_on_host(self) -> bool:
        """Whether `read` has no device to wait for. Whether one happens to be ready by now is not asked: several
        processes would get different answers, and go different ways."""
        return self._copied is None

    def read(self) -> list[float]:
        """The numbers, when they are there."""
        if self._copied is not None:
            self._copied.synchronize()
        numbers: list[float] = self._values.tolist()
        return numbers


@dataclasses.dataclass(frozen=True)
class StepReport:
    """What one update did. `loss_nats`, `gradient_norm` and what follows from them wait for the device."""

    step: int
    """Updates done, this one included."""
    learning_rate: float
    num_tokens: int
    """Input tokens of this step."""
    num_targets: int
    """Of these, supervised ones."""
    elapsed_seconds: float
    """Of the host. Steps that the device still works on are waited for in the next one, so sums and means are right."""
    numbers: Numbers
    """`loss_nats` and `gradient_norm`."""
    loss_scale: float | None = None
    """What the loss was multiplied by for the sake of float16, None without that."""

    @functools.cached_property
    def _read(self) -> list[float]:
        return self.numbers.read()

    @property
    def loss_nats(self) -> float:
        """Mean loss of a supervised token."""
        return self._read[0]

    @property
    def gradient_norm(self) -> float:
        """L2 norm before clipping."""
        return self._read[1]

    @property
    def skipped(self) -> bool:
        """The gradient was not finite, or there was nothing to learn, so nothing was updated."""
        return not (self.num_targets and math.isfinite(self.gradient_norm))

    @property
    def is_overflow(self) -> bool:
        """The scaled gradient was too large for float16, and a smaller scale is left to try: no trouble by itself."""
        return (
            self.loss_scale is not None
            and self.loss_scale > LEAST_LOSS_SCALE
            and math.isfinite(self.loss_nats)
            and not math.isfinite(self.gradient_norm)
        )

    def values(self) -> dict[str, Any]:
        """All of it, by name."""
        return {
            "step": self.step,
            "loss_nats": self.loss_nats,
            "learning_rate": self.learning_rate,
            "gradient_norm": self.gradient_norm,
            "num_tokens": self.num_tokens,
            "elapsed_seconds": self.elapsed_seconds,
            "skipped": self.skipped,
            "loss_scale": self.loss_scale,
        }


def arrived(reports: "collections.deque[StepReport]", *, at_most_late: int = 0) -> Iterator[StepReport]:
    """Take those reports off the left whose numbers are there, and wait for all but the last `at_most_late`."""
    while reports and (len(reports) > at_most_late or reports[0].numbers.are_on_host()):
        yield reports.popleft()
