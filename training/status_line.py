"""The line that a user watches while a model trains. Knows what is worth saying first, and how wide a terminal is."""

import collections
import math
import shutil
import sys
import time

from core.progress import progress, short_number
from training.step_report import StepReport, arrived
from training.trainer import Evaluation, Trainer
from training.utilization import Utilization

WIDTH = 100
"""Characters of the line, on wider terminals too."""

LINE = "{desc} {n_fmt}/{total_fmt} [{remaining} left{postfix}]"
FIXED_CHARACTERS = len(" / [1:00:00 left, ]")

TEXT_SECONDS = 0.1
"""The text is made anew no more often than it can be drawn."""

SMOOTHING = 0.95
"""Of the loss, from step to step: about the mean of 20 steps."""


class ShowProgress:
    """The line: steps, time left, loss, last evaluation, tokens a second, learning rate, use of the device, memory.

    What does not fit is left out from the end.
    """

    def __init__(self, trainer: Trainer, description: str, utilization: Utilization) -> None:
        self._name = description.split()[-1]  # "instruction tuning" would take the place of two numbers
        self._utilization = utilization
        self._bar = progress(
            total=trainer.total_steps,
            description=self._name,
            unit="step",
            initial=trainer.progress.step,
            bar_format=LINE,
        )
        self._loss: float | None = None
        self._unread: collections.deque[StepReport] = collections.deque()
        self._validation: list[str] = []
        self._next_text = 0.0

    def show(self, result: Evaluation) -> None:
        """Keep the outcome of the last evaluation in sight."""
        self._validation = [f"val {result.loss_nats:.2f}"]
        if result.bits_per_byte is not None:
            self._validation.append(f"bpb {result.bits_per_byte:.3f}")
        self._next_text = 0.0

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        """Move on by a step."""
        self._unread.append(report)
        for one in arrived(self._unread, at_most_late=1):
            if not one.skipped:
                old = one.loss_nats if self._loss is None else self._loss
                self._loss = SMOOTHING * old + (1 - SMOOTHING) * one.loss_nats
        if time.monotonic() >= self._next_text or report.step == trainer.total_steps:
            room = line_width() - FIXED_CHARACTERS - len(self._name) - 2 * len(str(trainer.total_steps))
            self._bar.set_postfix_str(fit(self._fields(trainer, report), room), refresh=False)
            self._next_text = time.monotonic() + TEXT_SECONDS
        self._bar.total = trainer.total_steps  # a time budget moves it
        self._bar.update(1)

    def close(self) -> None:
        """Leave the last state on the screen."""
        self._bar.close()

    def _fields(self, trainer: Trainer, report: StepReport) -> list[str]:
        """The most important first."""
        speed = report.num_tokens / max(report.elapsed_seconds, 1e-9)
        return [
            f"loss {math.nan if self._loss is None else self._loss:.2f}",
            *self._validation,
            f"{short_number(speed)} tok/s",
            f"lr {report.learning_rate:.0e}".replace("e-0", "e-"),
            f"{self._utilization.label} {self._utilization.of(speed):.0%}",
            f"{trainer.device_manager.peak_memory_bytes() / 1e9:.1f}GB",
        ]


def line_width() -> int:
    """Characters that the line may take: those of the terminal, at most `WIDTH`; `WIDTH` where there is none."""
    # The last column stays free: some terminals wrap when it is written.
    return min(WIDTH, shutil.get_terminal_size().columns - 1) if sys.stderr.isatty() else WIDTH


def fit(fields: list[str], room: int) -> str:
    """As many of the first fields as `room` characters hold."""
    text = ""
    for field in fields:
        longer = f"{text} {field}" if text else field
        if len(longer) > room:
            break
        text = longer
    return text
