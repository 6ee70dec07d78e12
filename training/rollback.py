"""Going back when a run goes wrong: to which checkpoint, without which data, and when to give up. Knows no model."""

import collections
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from core.errors import CorruptArtifactError, DataError
from core.files import write_json
from training.batches import BatchSource, ReplayingBatches, RowBatches
from training.checkpoint import list_checkpoints, step_of, verify_checkpoint
from training.events import record_event
from training.losses import Batch
from training.resuming import agreed_checkpoint
from training.stability import Stability, Trouble, Window, add_window, number_at
from training.step_report import StepReport, arrived
from training.trainer import Trainer

logger = logging.getLogger(__name__)

NUM_REPORTS_KEPT = 100
"""Of the last steps, for who looks into what went wrong."""


class GoBack(Exception):  # noqa: N818 - a request to who carries out the run, not an error
    """The run goes on from `checkpoint`, and without the data of `windows`."""

    def __init__(self, checkpoint: Path, windows: list[Window], num_rollbacks: int) -> None:
        super().__init__(f"go back to {checkpoint.name}")
        self.checkpoint = checkpoint
        self.windows = windows
        self.num_rollbacks = num_rollbacks


class WithoutWindows:
    """A source of micro-batches that leaves out those of some steps of another's.

    Args:
        windows: Of steps, in order, without overlap.
        num_each: Micro-batches of a step, of all processes together.
    """

    def __init__(self, source: BatchSource, windows: list[Window], *, num_each: int) -> None:
        self._source = source
        self._windows = windows
        self._num_each = num_each

    @property
    def batches_per_epoch(self) -> float:
        """Micro-batches in one pass over the data, those that are left out included."""
        return self._source.batches_per_epoch

    @property
    def is_repeatable(self) -> bool:
        """Whether another process is known to get the same batches."""
        return self._source.is_repeatable

    def micro_batches(self, numbers: Iterable[int]) -> Iterator[Batch]:
        """The micro-batches at these positions among those that are left."""
        yield from self._source.micro_batches(map(self._number, numbers))

    def _number(self, position: int) -> int:
        step, within = divmod(position, self._num_each)
        return number_at(step, self._windows) * self._num_each + within


class WatchStability:
    """After each step: asks whether the run went wrong, and if so, sends it back or ends it.

    Where there is no checkpoint from before the trouble, training goes on: the trainer's own limit ends a run whose
    gradients stay infinite.

    Args:
        source: All micro-batches, those that are left out included.
        wait_for_saves: Returns when every checkpoint is written.

    Raises:
        GoBack: the run went wrong.
        DataError: it did once more than `max_rollbacks` allows.
    """

    def __init__(self, source: BatchSource, *, wait_for_saves: Callable[[], None]) -> None:
        self._source = source
        self._wait_for_saves = wait_for_saves
        self._reports: collections.deque[StepReport] = collections.deque(maxlen=NUM_REPORTS_KEPT)
        self._unjudged: collections.deque[StepReport] = collections.deque()

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        """Judge one step; on a GPU, which still works on it, the one before."""
        self._unjudged.append(report)
        self.settle(trainer, at_most_late=1)

    def settle(self, trainer: Trainer, *, at_most_late: int = 0) -> None:
        """Judge what was not yet judged: what is saved next must know of it.

        Raises:
            GoBack, DataError: as above.
        """
        for report in arrived(self._unjudged, at_most_late=at_most_late):
            self._judge(trainer, report)

    def _judge(self, trainer: Trainer, report: StepReport) -> None:
        self._reports.append(report)
        trouble = find_trouble(trainer.progress.stability, report, sigmas=trainer.config.loss_spike_sigmas)
        if trouble is None or trainer.config.max_rollbacks is None:
            return
        self._wait_for_saves()
        checkpoint = agreed_checkpoint(
            trainer.world,
            trainer.output_dir,
            find=lambda directory: newest_intact(directory, at_most=trouble.first_step),
        )
        if checkpoint is None:
            logger.warning(
                "%s; no checkpoint of step %d or before to go back to", trouble.reason, trouble.first_step
            )
            return
        self._go_back(trainer, report.step, trouble, checkpoint)

    def _go_back(self, trainer: Trainer, step: int, trouble: Trouble, checkpoint: Path) -> None:
        stability, config = trainer.progress.stability, trainer.config
        assert config.max_rollbacks is not None
        if stability.num_rollbacks >= config.max_rollbacks:
            place = trainer.output_dir / f"unstable_step_{step}"
            if trainer.world.is_main:
                self._write_evidence(trainer, step, trouble, checkpoint, place)
            raise DataError(
                f"{trouble.reason}, after the run went back {stability.num_rollbacks} times (max_rollbacks); {place} "
                f"names the rows and settings; try a learning_rate below {config.learning_rate}, look at the rows, or "
                "go on with a larger max_rollbacks (with loss_spike_sigmas=null whatever the loss does)"
            )
        windows = add_window(stability.skipped_windows, first=trouble.first_step, end=step)
        if trainer.world.is_main:
            record_event(
                trainer.output_dir,
                step=step,
                kind="rollback",
                to_step=step_of(checkpoint),
                reason=trouble.reason,
                skipped_steps=windows,
            )
        logger.warning(
            "%s; going back to %s, and on without the data of steps %d to %d",
            trouble.reason,
            checkpoint.name,
            trouble.first_step + 1,
            step,
        )
        raise GoBack(checkpoint, windows, stability.num_rollbacks + 1)

    def _write_evidence(
        self, trainer: Trainer, step: int, trouble: Trouble, checkpoint: Path, place: Path
    ) -> None:
        """Into the directory `place`, what is needed to see the trouble again."""
        windows, num_each = trainer.progress.stability.skipped_windows, trainer.step_batch.num_micro_batches
        numbers = [
            number_at(done, windows) * num_each + within
            for done in range(trouble.first_step, step)
            for within in range(num_each)
        ]
        write_json(
            place / "report.json",
            {
                "reason": trouble.reason,
                "from_checkpoint": checkpoint.name,
                "skipped_steps": windows,
                "micro_batches": [
                    {"number": number, **_rows_of_micro_batch(self._source, number)} for number in numbers
                ],
                "last_steps": [_as_json(report.values()) for report in self._reports],
            },
        )
        settings = {"training": trainer.config.to_dict(), "model": trainer.model.config.to_dict()}
        write_json(place / "settings.json", settings)


def _rows_of_micro_batch(source: BatchSource, number: int) -> dict[str, list[int] | None]:
    """Which rows are in a micro-batch; of a loader from elsewhere nobody knows."""
    if isinstance(source, ReplayingBatches):
        new, replayed = source.row_numbers(number)
        return {"rows": new, "replayed_rows": replayed}
    return {"rows": source.row_numbers(number) if isinstance(source, RowBatches) else None}


def find_trouble(stability: Stability, report: StepReport, *, sigmas: float | None) -> Trouble | None:
    """What `stability` says to one more step.

    Args:
        sigmas: As in `Stability.note_loss`; None = losses are not looked at.
    """
    # A step without targets is skipped too, with a gradient of zero: that is no trouble of this kind.
    is_finite = math.isfinite(report.gradient_norm) or report.is_overflow
    trouble = stability.note_gradient(is_finite=is_finite, step=report.step)
    if report.skipped or sigmas is None:
        return trouble
    return stability.note_loss(report.loss_nats, step=report.step, sigmas=sigmas)


def newest_intact(directory: Path, *, at_most: int) -> Path | None:
    """The newest `step_N` with N of `at_most` or less whose every file is what was written, or None."""
    for path in reversed(list_checkpoints(directory)):
        if step_of(path) <= at_most:
            try:
                verify_checkpoint(path)
            except CorruptArtifactError as error:
                logger.warning("%s; looking at the one before", error)
            else:
                return path
    return None


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has neither NaN nor infinity; here they are what is looked for."""
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }
