"""Which rows are in which micro-batch: a pure function of (seed, number of the micro-batch), known without state."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader

from core.errors import ConfigError, DataError, MismatchError
from core.files import sha256_json
from core.seeds import derive_seed
from core.training_config import OptimizationConfig
from data_processing.rows.joined_rows import JoinedRows
from data_processing.rows.token_rows import TokenRows
from training.losses import Batch
from training.step_batch import StepBatch, share_step

BATCH_KEYS = ("input_ids", "labels", "position_ids")


class BatchSource(Protocol):
    """Micro-batches without end, from any point on."""

    @property
    def batches_per_epoch(self) -> float:
        """Micro-batches in one pass over the data; may be fractional."""

    @property
    def is_repeatable(self) -> bool:
        """Whether another process is known to get the same batches."""

    def micro_batches(self, numbers: Iterable[int]) -> Iterator[Batch]:
        """The micro-batches of these rising numbers, the same ones in every process."""


class ShuffledRows:
    """The endless order of so many rows, shuffled anew each epoch: a function of the seed and the position."""

    def __init__(self, number: int, *, seed: int) -> None:
        self._number = number
        self._seed = seed
        self._epoch: tuple[int, np.ndarray[Any, Any]] | None = None

    def row_at(self, position: int) -> int:
        """Which row comes at this position."""
        epoch, offset = divmod(position, self._number)
        if self._epoch is None or self._epoch[0] != epoch:
            generator = np.random.Generator(np.random.PCG64(derive_seed(self._seed, "order", epoch)))
            self._epoch = epoch, generator.permutation(self._number)
        return int(self._epoch[1][offset])


class RowBatches:
    """Rows in an order that is shuffled anew each epoch; a batch may span two epochs, so no row is left out.

    Args:
        rows: What to draw from.
        batch_size: Rows in a micro-batch.
        seed: Decides the order.
    """

    def __init__(self, rows: TokenRows, *, batch_size: int, seed: int) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self._order = ShuffledRows(len(rows), seed=seed)

    @property
    def batches_per_epoch(self) -> float:
        """Micro-batches in one pass over the data; may be fractional."""
        return len(self.rows) / self.batch_size

    @property
    def is_repeatable(self) -> bool:
        """True: the order is computed."""
        return True

    def micro_batches(self, numbers: Iterable[int]) -> Iterator[Batch]:
        """The micro-batches of these numbers."""
        for number in numbers:
            yield to_tensors(self.rows.batch(self.row_numbers(number)))

    def row_numbers(self, micro_batch: int) -> list[int]:
        """Which rows are in the micro-batch of this number."""
        start = micro_batch * self.batch_size
        return [self.row_at(position) for position in range(start, start + self.batch_size)]

    def in_micro_batches_of(self, num_rows: int) -> "RowBatches":
        """The same rows in the same order, so many at a time."""
        return RowBatches(self.rows, batch_size=num_rows, seed=self.seed)

    @property
    def fingerprint(self) -> str:
        """Changes with any byte of the rows."""
        return self.rows.fingerprint

    def row_at(self, position: int) -> int:
        """Which row comes at this position of the endless order."""
        return self._order.row_at(position)


class ReplayingBatches:
    """Rows to be learned, with rows of earlier training among them so that less of it is forgotten.

    Of the first n positions of the endless order floor(n x share) are replayed, for every n: each step has its share,
    to a row, and whose turn it is follows from the position alone. Both kinds are shuffled by themselves.

    Args:
        batches: What is to be learned; a pass over these rows is a pass.
        replayed: Splits of rows of the same length and vocabulary.
        share: Of all rows, above 0 and below 1.

    Raises:
        MismatchError: the rows are of another length or another tokenizer.
    """

    def __init__(self, batches: RowBatches, replayed: Sequence[TokenRows], *, share: float) -> None:
        for split in replayed:
            _check_alike(batches.rows, split)
        self._batches = batches
        self._share = share
        self.rows = batches.rows
        self.replayed_rows = JoinedRows(replayed)
        self._replayed = ShuffledRows(len(self.replayed_rows), seed=derive_seed(batches.seed, "replay"))
        self.batch_size = batches.batch_size

    @property
    def batches_per_epoch(self) -> float:
        """Micro-batches in one pass over the rows to be learned."""
        return self._batches.batches_per_epoch / (1.0 - self._share)

    @property
    def is_repeatable(self) -> bool:
        """True: the order is computed."""
        return True

    @property
    def fingerprint(self) -> str:
        """Changes with any byte of the rows, and with how they are mixed."""
        return sha256_json([self._batches.fingerprint, self.replayed_rows.fingerprint, self._share])

    def micro_batches(self, numbers: Iterable[int]) -> Iterator[Batch]:
        """The micro-batches of these numbers."""
        for number in numbers:
            yield self._micro_batch(number)

    def row_numbers(self, micro_batch: int) -> tuple[list[int], list[int]]:
        """Which rows to be learned, and which replayed ones, are in the micro-batch of this number."""
        return _by_kind(self._turns(micro_batch))

    def in_micro_batches_of(self, num_rows: int) -> "ReplayingBatches":
        """The same rows in the same order, so many at a time."""
        batches = self._batches.in_micro_batches_of(num_rows)
        return ReplayingBatches(batches, self.replayed_rows.parts, share=self._share)

    def _turns(self, micro_batch: int) -> list[tuple[bool, int]]:
        """For each row of a micro-batch, whether it is replayed, and its number among its kind."""
        turns = []
        for position in range(micro_batch * self.batch_size, (micro_batch + 1) * self.batch_size):
            num_replayed = math.floor(position * self._share)
            is_replayed = math.floor((position + 1) * self._share) > num_replayed
            row = (
                self._replayed.row_at(num_replayed)
                if is_replayed
                else self._batches.row_at(position - num_replayed)
            )
            turns.append((is_replayed, row))
        return turns

    def _micro_batch(self, number: int) -> Batch:
        turns = self._turns(number)
        is_replayed = np.array([kind for kind, _ in turns])
        new, replayed = _by_kind(turns)
        parts = self.rows.batch(new), self.replayed_rows.batch(replayed)
        columns = {}
        for key in BATCH_KEYS:
            columns[key] = np.empty((self.batch_size, self.rows.metadata.max_length), dtype=np.int64)
            columns[key][~is_replayed], columns[key][is_replayed] = parts[0][key], parts[1][key]
        return to_tensors(columns)


def _by_kind(turns: Sequence[tuple[bool, int]]) -> tuple[list[int], list[int]]:
    new, replayed = ([row for kind, row in turns if kind is wanted] for wanted in (False, True))
    return new, replayed


def _check_alike(train: TokenRows, replayed: TokenRows) -> None:
    one, other = train.metadata, replayed.metadata
    for what, wanted, found in (
        ("rows of {} tokens", one.max_length, other.max_length),
        ("the tokenizer {:.12}", one.tokenizer_fingerprint, other.tokenizer_fingerprint),
    ):
        if wanted != found:
            raise MismatchError(
                f"{replayed.directory}: cannot be replayed, it has {what.format(found)} and the rows to be learned "
                f"have {what.format(wanted)}; name the dataset that this model was trained on"
            )


class LoaderBatches:
    """A plain DataLoader as a source that can go forward to any micro-batch, exactly as if it had run through.

    Each epoch begins under random numbers that depend on the seed and the epoch alone: the loader's sampler draws
    its order from them, so a new process meets the same order. Generators of the loader and of torch's own samplers
    are reseeded; of a sampler from elsewhere nothing is known, and `is_repeatable` says so.

    Raises:
        DataError: the loader has no length or no batches.
        ConfigError: it keeps its workers, and with them random state, from one epoch to the next.
    """

    def __init__(self, loader: "DataLoader[Any]", *, seed: int) -> None:
        try:
            num_batches = len(loader)
        except TypeError:
            raise DataError(
                "the training loader has no length (an iterable dataset, or a sampler without __len__), so a run could "
                "not be resumed; give a dataset that can be indexed, such as DatasetBuilder's splits"
            ) from None
        if num_batches == 0:
            raise DataError(
                "the training loader has no batches: its dataset is empty or smaller than a batch"
            )
        if loader.persistent_workers:
            raise ConfigError(
                "the training loader has persistent_workers=True: workers that live on draw other orders than new "
                "ones, and a resumed run would differ; leave it at False"
            )
        self.loader = loader
        self.seed = seed
        samplers = [loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]
        self._generators = [
            generator
            for generator in (
                loader.generator,
                *(getattr(sampler, "generator", None) for sampler in samplers),
            )
            if isinstance(generator, torch.Generator)
        ]
        self._is_repeatable = all(
            sampler is None or type(sampler).__module__ == "torch.utils.data.sampler" for sampler in samplers
        )

    @property
    def batches_per_epoch(self) -> float:
        """Micro-batches in one pass over the loader."""
        return float(len(self.loader))

    @property
    def is_repeatable(self) -> bool:
        """Whether the order comes from torch's own samplers."""
        return self._is_repeatable

    def micro_batches(self, numbers: Iterable[int]) -> Iterator[Batch]:
        """The micro-batches of these numbers; those between are loaded too, and dropped."""
        running: Iterator[tuple[int, Batch]] = iter(())
        epoch = -1
        for number in numbers:
            wanted_epoch, offset = divmod(number, len(self.loader))
            if wanted_epoch != epoch:
                epoch, running = wanted_epoch, enumerate(self._one_epoch(wanted_epoch))
            yield next(batch for index, batch in running if index == offset)

    def _one_epoch(self, epoch: int) -> Iterator[Batch]:
        seed = derive_seed(self.seed, "order", epoch)
        for generator in self._generators:
            generator.manual_seed(seed)
        # Samplers draw their order when the first batch is asked for; after that nothing global is drawn.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            batches = iter(self.loader)
            first = next(batches)
        for batch in itertools.chain([first], batches):
            yield check_batch(batch)


def training_batches(loader: "BatchSource | DataLoader[Any]", *, seed: int) -> BatchSource:
    """`loader` as a source of micro-batches."""
    return LoaderBatches(loader, seed=seed) if isinstance(loader, DataLoader) else loader


def divide_steps(
    config: OptimizationConfig, source: BatchSource, *, context: int, num_processes: int, rows: int | None
) -> tuple[StepBatch, BatchSource]:
    """How each step is divided, and the source in the micro-batches that it takes.

    Args:
        rows: Of a step, where a run is under way; None = as the settings say.

    Raises:
        ConfigError: the step cannot be divided, or not into the batches of a DataLoader.
    """
    fixed = source.loader.batch_size if isinstance(source, LoaderBatches) else None
    if fixed is not None:
        config = config.replace(batch_size=fixed)
    step_batch = share_step(config, context=context, num_processes=num_processes, rows=rows)
    if step_batch.micro_batch_rows == config.batch_size:
        return step_batch, source
    if isinstance(source, RowBatches | ReplayingBatches):
        return step_batch, source.in_micro_batches_of(step_batch.micro_batch_rows)
    raise ConfigError(
        f"a step has {step_batch.rows} rows, which {num_processes} processes share in micro-batches of at most "
        f"{step_batch.micro_batch_rows}, but the training loader gives {config.batch_size} at a time; give a loader "
        f"with batch_size={step_batch.micro_batch_rows}"
    )


def rows_in_order(rows: TokenRows, *, batch_size: int) -> Sequence[Batch]:
    """All rows in order, as batches that are made when they are asked for; for evaluation."""
    return _RowsInOrder(rows, batch_size)


class _RowsInOrder(Sequence[Batch]):
    def __init__(self, rows: TokenRows, batch_size: int) -> None:
        self._rows = rows
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = index * self._batch_size
        return to_tensors(self._rows.batch(range(start, min(start + self._batch_size, len(self._rows)))))


def to_tensors(arrays: dict[str, np.ndarray[Any, Any]]) -> Batch:
    """The arrays as tensors that share their memory."""
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def check_batch(batch: Any) -> Batch:
    """The tensors of `batch`, if it has what the trainer reads; what else there is, is for the loss.

    Raises:
        DataError: it is no mapping of `input_ids`, `labels` and `position_ids` tensors of one (B, T) int64 shape.
    """
    if not isinstance(batch, dict) or not all(isinstance(batch.get(key), torch.Tensor) for key in BATCH_KEYS):
        found = sorted(batch) if isinstance(batch, dict) else type(batch).__name__
        raise DataError(
            f"a batch must be a mapping of the tensors {', '.join(BATCH_KEYS)} (labels already shifted, -100 = not "
            f"learned), found {found}; DatasetBuilder's splits give such batches"
        )
    shapes = {key: tuple(batch[key].shape) for key in BATCH_KEYS}
    if len(set(shapes.values())) != 1 or batch["input_ids"].ndim != 2:
        raise DataError(f"the tensors of a batch must have one shape (rows, tokens), found {shapes}")
    more = {key: value for key, value in batch.items() if isinstance(value, torch.Tensor)}
    return more | {key: batch[key].long() for key in BATCH_KEYS}
