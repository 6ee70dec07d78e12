"""The rows that a run learns from, read whole beside it once in every pass: a flipped bit would go unnoticed otherwise.

Knows files and their digests; draws nothing at random and touches no tensor, so training gives the same bits.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from core.errors import BloomeryError, CorruptArtifactError
from core.files import explain_disk_errors
from data_processing.rows.arrow_rows import REPAIR
from data_processing.rows.token_rows import TokenRows
from training.events import record_event
from training.step_report import StepReport
from training.trainer import Trainer

logger = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20

REST = 49.0
"""After each piece the thread rests this many times as long as it worked: a fiftieth of one core at most, and still
20 MB a second (measured), more than the ids that a training reads."""


class CheckDataBeside:
    """After each step: begins a check of all shards with each pass over the data, and ends the run if one is damaged.

    The check runs in a thread of its own. Hashing lets other threads run; nothing is held in memory but a piece.

    Args:
        rows: What the run learns from, one or several splits.
        batches_per_epoch: Micro-batches in one pass.
    """

    def __init__(
        self,
        rows: Sequence[TokenRows],
        *,
        batches_per_epoch: float,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._rows = rows
        self._batches_per_epoch = batches_per_epoch
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait
        self._thread: threading.Thread | None = None
        self._error: BloomeryError | None = None
        self._checked_epoch = -1

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        """Raise what the check found, or begin one.

        Raises:
            CorruptArtifactError: a shard is not what was written; the checkpoints so far are kept, and none is added.
            DiskError: a shard cannot be read.
        """
        self.refuse_damage(trainer)
        epoch = int(report.step * trainer.step_batch.num_micro_batches / self._batches_per_epoch)
        idle = self._thread is None or not self._thread.is_alive()
        if epoch > self._checked_epoch and idle:
            self._checked_epoch = epoch
            self._thread = threading.Thread(target=self._check, name="check-data", daemon=True)
            self._thread.start()

    def refuse_damage(self, trainer: Trainer) -> None:
        """Raise what the check has found, if anything; also what it found after the last step.

        Raises:
            CorruptArtifactError, DiskError: as for a step.
        """
        if self._error is not None:
            record_event(
                trainer.output_dir,
                step=trainer.progress.step,
                kind="data_damaged",
                detail=str(self._error),
            )
            raise self._error

    def close(self) -> None:
        """End the check that is under way, if there is one."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _check(self) -> None:
        try:
            for rows in self._rows:
                for shard in rows.metadata.shards:
                    self._check_shard(rows.directory / shard.file, shard.sha256)
                    if self._closed.is_set():
                        return
        except BloomeryError as error:
            self._error = error

    def _check_shard(self, path: Path, expected: str) -> None:
        if not path.is_file():
            # No matter for the training, which has it mapped, and nothing that could be compared any more.
            logger.warning("%s: was deleted while it is in use, so it is not checked", path)
            return
        digest = hashlib.sha256()
        with explain_disk_errors(path), path.open("rb", buffering=0) as file:
            while True:
                started = time.monotonic()
                piece = file.read(PIECE_BYTES)
                digest.update(piece)
                if not piece or self._closed.is_set():
                    break
                self._sleep(REST * (time.monotonic() - started))
        if not self._closed.is_set() and digest.hexdigest() != expected:
            raise CorruptArtifactError(
                f"{path}: is not what was written (SHA-256 {digest.hexdigest()[:12]}…, expected {expected[:12]}…), "
                f"and the run learns from it; nothing is saved from here on, and checkpoints since the damage came may "
                f"have learned from it too; {REPAIR}, then resume"
            )
