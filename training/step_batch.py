"""How the rows of one step are shared among processes and micro-batches. Knows numbers, no rows."""

import dataclasses
import itertools
from collections.abc import Iterator

from core.errors import ConfigError
from core.training_config import OptimizationConfig


@dataclasses.dataclass(frozen=True)
class StepBatch:
    """One step's rows. How many there are belongs to the run; how they are divided, to the machines it runs on."""

    rows: int
    """Of all processes together."""
    micro_batch_rows: int
    """That one process takes at a time."""
    num_processes: int = 1

    def __post_init__(self) -> None:
        assert self.rows % (self.micro_batch_rows * self.num_processes) == 0

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches of one step, of all processes together."""
        return self.rows // self.micro_batch_rows

    @property
    def micro_batches_each(self) -> int:
        """Micro-batches of one step in one process."""
        return self.num_micro_batches // self.num_processes

    def numbers(self, *, rank: int, first_step: int) -> Iterator[int]:
        """The micro-batches of a process from a step on: of each step's, one stretch after the other by rank."""
        for step in itertools.count(first_step):
            start = step * self.num_micro_batches + rank * self.micro_batches_each
            yield from range(start, start + self.micro_batches_each)


def share_step(
    config: OptimizationConfig, *, context: int, num_processes: int, rows: int | None = None
) -> StepBatch:
    """The rows of a step, and the largest micro-batch of at most `batch_size` rows that divides them evenly.

    Args:
        context: Tokens in a row.
        rows: Of the step, where a run is under way that has settled it; None = as the settings say.

    Raises:
        ConfigError: the step cannot be divided.
    """
    if rows is None:
        rows = _rows_of_step(config, context=context, num_processes=num_processes)
    if rows % num_processes:
        can = [str(number) for number in range(1, rows + 1) if rows % number == 0]
        raise ConfigError(
            f"a step of this run has {rows} rows of {context} tokens, which {num_processes} processes cannot share "
            f"evenly; start one of {_listed(can)} processes"
            + ("" if config.global_batch_tokens is None else ", or change training.global_batch_tokens")
        )
    each = rows // num_processes
    micro = max(size for size in range(1, min(each, config.batch_size) + 1) if each % size == 0)
    return StepBatch(rows, micro, num_processes)


def _rows_of_step(config: OptimizationConfig, *, context: int, num_processes: int) -> int:
    tokens = config.global_batch_tokens
    if tokens is None:
        return config.batch_size * config.gradient_accumulation_steps * num_processes
    if tokens % context:
        below = tokens // context * context
        near = f"{below} or {below + context}" if below else str(context)
        raise ConfigError(
            f"global_batch_tokens: {tokens} tokens are no whole number of rows of {context} tokens "
            f"(max_position_embeddings); {near} would be"
        )
    return tokens // context


def _listed(numbers: list[str]) -> str:
    return ", ".join(numbers if len(numbers) < 12 else [*numbers[:6], "…", *numbers[-4:]])
