"""What happens between steps: metrics, evaluation, checkpoints, stopping. Each hook is a callable (trainer, report)."""

import contextlib
import json
import logging
import math
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from core.errors import MissingDependencyError
from core.files import atomic_write, explain_disk_errors, open_append
from training.run_log import METRICS_FILE
from training.step_report import StepReport
from training.trainer import Evaluation, Trainer
from training.utilization import Utilization

logger = logging.getLogger(__name__)


class MetricSink(Protocol):
    """Somewhere that numbers go, by step."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Keep `values` under `step`."""

    def close(self) -> None:
        """Bring everything out."""


class JsonlMetrics:
    """`metrics.jsonl`: one JSON object a line with `step` and the values. Lines past `first_step` are dropped, because
    the run that wrote them was interrupted after its last checkpoint and these steps are done again."""

    def __init__(self, path: Path, *, first_step: int) -> None:
        kept = []
        # A run that starts over has no step behind it, and writes its step 0 again.
        if path.exists() and first_step > 0:
            # A kill can leave half a line at the end, a power cut anything: lines are not synced.
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    if json.loads(line)["step"] <= first_step:
                        kept.append(line.rstrip() + b"\n")
        atomic_write(path, b"".join(kept))
        self._path = path
        with explain_disk_errors(path):
            self._file: IO[str] = open_append(path)
        self._warned = False

    def write(self, step: int, values: Mapping[str, float | str]) -> None:
        """Append one line of the values that are finite, as JSON has them.

        A full disk does not end the training for it: that is said once, and lines are lost.
        """
        there = {name: v for name, v in values.items() if isinstance(v, str) or math.isfinite(v)}
        if not there:
            return
        try:
            self._file.write(json.dumps({"step": step, **there}, allow_nan=False) + "\n")
        except OSError as error:
            if not self._warned:
                logger.warning("%s: not written any more (%s); training goes on", self._path, error.strerror)
            self._warned = True

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # of a write that failed before and was warned of
            self._file.close()


class TensorBoardMetrics:
    """TensorBoard event files.

    Raises:
        MissingDependencyError: the package is not installed.
    """

    def __init__(self, directory: Path, *, first_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingDependencyError(
                "tensorboard=true needs the package tensorboard: pip install -e '.[tensorboard]'"
            ) from None
        self._writer = SummaryWriter(str(directory), purge_step=first_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Close the files."""
        self._writer.close()


class WandbMetrics:
    """Weights & Biases; in offline mode it only writes files and needs neither account nor network.

    Raises:
        MissingDependencyError: the package is not installed.
    """

    def __init__(
        self, directory: Path, *, mode: str, project: str, name: str, config: Mapping[str, Any]
    ) -> None:
        try:
            import wandb
        except ImportError:
            raise MissingDependencyError(
                f"wandb={mode} needs the package wandb: pip install -e '.[wandb]'"
            ) from None
        # A resumed run goes on under the identity that it began with.
        identity = directory / "wandb_id"
        if not identity.exists():
            atomic_write(identity, secrets.token_hex(4))
        self._run = wandb.init(
            project=project,
            name=name,
            dir=str(directory),
            mode="offline" if mode == "offline" else "online",
            id=identity.read_text(encoding="utf-8"),
            resume="allow",
            config=dict(config),
            settings=wandb.Settings(console="off", silent=True),
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values under their step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class WhileThereIsRoom:
    """A sink that a full or failing disk ends, once it was said so, and not the training."""

    def __init__(self, sink: MetricSink, name: str) -> None:
        self._sink: MetricSink | None = sink
        self._name = name

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Pass the values on."""
        self._attempt(lambda sink: sink.write(step, values))

    def close(self) -> None:
        """Bring everything out."""
        self._attempt(lambda sink: sink.close())

    def _attempt(self, act: Callable[[MetricSink], None]) -> None:
        if self._sink is None:
            return
        try:
            act(self._sink)
        except OSError as error:
            self._sink = None
            logger.warning("%s: not written any more (%s); training goes on", self._name, error)


def open_metrics(trainer: Trainer, name: str) -> list[MetricSink]:
    """The sinks that the configuration asks for; `metrics.jsonl` always.

    Raises:
        MissingDependencyError: one of them needs a package that is not installed.
    """
    config, directory, step = trainer.config, trainer.output_dir, trainer.progress.step
    sinks: list[MetricSink] = [JsonlMetrics(directory / METRICS_FILE, first_step=step)]
    if config.tensorboard:
        place = directory / "tensorboard"
        sinks.append(WhileThereIsRoom(TensorBoardMetrics(place, first_step=step), str(place)))
    if config.wandb != "disabled":
        runs = WandbMetrics(
            directory, mode=config.wandb, project=config.wandb_project, name=name, config=config.to_dict()
        )
        sinks.append(WhileThereIsRoom(runs, "wandb"))
    return sinks


class LogSteps:
    """Sends the numbers of a step to the sinks every `logging_steps`, averaged over the steps between.

    Args:
        utilization: What the speed is compared with.
        batches_per_epoch: Micro-batches in one pass over the data.
    """

    def __init__(
        self, sinks: list[MetricSink], utilization: Utilization, *, batches_per_epoch: float
    ) -> None:
        self._sinks = sinks
        self._utilization = utilization
        self._batches_per_epoch = batches_per_epoch
        self._started = time.monotonic()
        self._hooks_ended: float | None = None
        self._begin_line()

    def _begin_line(self) -> None:
        self._reports: list[
            StepReport
        ] = []  # read when the line is written, so that no step is waited for before
        self._tokens = 0
        self._seconds = self._waited = 0.0

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        """Collect, and write when it is time."""
        self._reports.append(report)
        self._tokens += report.num_tokens
        self._seconds += report.elapsed_seconds
        if self._hooks_ended is not None:
            self._waited += max(0.0, time.monotonic() - report.elapsed_seconds - self._hooks_ended)
        if report.step % trainer.config.logging_steps and report.step != trainer.total_steps:
            return
        losses = [one.loss_nats for one in self._reports if not one.skipped]
        if not losses:  # every step since the last line was skipped
            return
        values = self._values(trainer, report, losses)
        for sink in self._sinks:
            sink.write(report.step, values)
        self._begin_line()

    def note_end_of_hooks(self, _trainer: Trainer, _report: StepReport) -> None:
        """To be the last hook: what passes from here to the next step is spent waiting for its batches."""
        self._hooks_ended = time.monotonic()

    def _values(self, trainer: Trainer, report: StepReport, losses: list[float]) -> dict[str, float]:
        speed = self._tokens / max(self._seconds, 1e-9)
        micro_batches = report.step * trainer.step_batch.num_micro_batches
        values = {
            "train/loss": sum(losses) / len(losses),
            "train/learning_rate": report.learning_rate,
            "train/tokens": float(trainer.progress.num_tokens),
            "train/epochs": micro_batches / self._batches_per_epoch,
            "train/total_steps": float(trainer.total_steps),
            "train/tokens_per_second": speed,
            self._utilization.metric: self._utilization.of(speed),
            "train/peak_memory_bytes": float(trainer.device_manager.peak_memory_bytes()),
            "train/data_wait_share": self._waited / max(self._waited + self._seconds, 1e-9),
            "train/process_seconds": time.monotonic() - self._started,
        }
        if len(losses) < len(self._reports):
            values["train/skipped_steps"] = float(len(self._reports) - len(losses))
        if report.loss_scale is not None:
            values["train/loss_scale"] = report.loss_scale
        if not report.skipped:
            values["train/gradient_norm"] = report.gradient_norm
        return values


class EvaluateAndKeepBest:
    """Every `eval_steps` and at the end: validation loss, the best weights so far, early stopping."""

    def __init__(
        self,
        batches: Any,
        sinks: list[MetricSink],
        save_best: Callable[[Trainer], None],
        show: Callable[[Evaluation], None],
    ) -> None:
        self._batches = batches
        self._sinks = sinks
        self._save_best = save_best
        self._show = show

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        """Evaluate when it is time."""
        if report.step % trainer.config.eval_steps and report.step != trainer.total_steps:
            return
        result = trainer.evaluate(self._batches)
        state = trainer.progress
        state.last_validation = evaluation_values(result)
        for sink in self._sinks:
            sink.write(report.step, state.last_validation)
        self._show(result)
        if not math.isfinite(result.loss_nats):
            logger.warning(
                "step %d: the validation loss is %s, which no weights are kept for",
                report.step,
                result.loss_nats,
            )
        elif state.best_validation_loss is None or result.loss_nats < state.best_validation_loss:
            state.best_validation_loss = result.loss_nats
            state.evaluations_without_gain = 0
            self._save_best(trainer)
            return
        state.evaluations_without_gain += 1
        patience = trainer.config.early_stopping_patience
        if patience is not None and state.evaluations_without_gain >= patience:
            reason = f"{patience} evaluations without a better validation loss"
            trainer.should_stop = f"stopped early at step {report.step}: {reason}"


def evaluation_values(result: Evaluation) -> dict[str, float]:
    """An evaluation as metrics; empty where the loss is not finite, which JSON has no number for."""
    if not math.isfinite(result.loss_nats):
        return {}
    values = {"validation/loss": result.loss_nats, **result.measures}
    # What is measured besides belongs to a loss that is not of tokens, of which there is no perplexity.
    if math.isfinite(result.perplexity) and not result.measures:
        values["validation/perplexity"] = result.perplexity
    if result.bits_per_byte is not None:
        values["validation/bits_per_byte"] = result.bits_per_byte
    return values


class SaveEvery:
    """A checkpoint every `save_steps` and at the end."""

    def __init__(self, save: Callable[[Trainer], None]) -> None:
        self._save = save

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        """Save when it is time."""
        last = report.step == trainer.total_steps or trainer.should_stop is not None
        if last or report.step % trainer.config.save_steps == 0:
            self._save(trainer)


class StopOnSignal:
    """Ends the run at the next step boundary after SIGTERM or SIGINT. A second SIGINT interrupts at once.

    It listens from before the first step on: a launcher that stops a run during each of its start-ups would otherwise
    start it for ever and get no step further.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        """Ask the trainer to stop if a signal came, to this process or to any that trains with it."""
        if trainer.world.any(self.received is not None):
            self.received = self.received or "a signal to another process"
            trainer.should_stop = self.received

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals during the block or until `stop_listening`; Python allows it in the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, _frame: object) -> None:
            # Only a flag: a save that is under way completes.
            self.received = signal.Signals(number).name
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.write(2, f"\n{self.received}: saving after this step (once more to stop at once)\n".encode())

        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, note)
        try:
            yield
        finally:
            self.stop_listening()

    def stop_listening(self) -> None:
        """Put back who listened before, to whom signals go from now on."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
