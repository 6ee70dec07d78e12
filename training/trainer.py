"""The loop: micro-batches → one step → hooks. It knows batches and losses, but neither files of text nor stages.

`step` counts optimizer updates. Everything random in a step is seeded from the step, so a run that goes on from a
checkpoint draws the same numbers as one that was never interrupted.
"""

import collections
import dataclasses
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge

from core.device_manager import DeviceManager
from core.distributed import ALONE, World
from core.errors import BloomeryError, DataError
from core.seeds import derive_seed
from core.training_config import OptimizationConfig
from models.attention import takes_documents
from models.float8 import use_float8
from models.transformer_lm import TransformerLM
from training.batches import BatchSource, check_batch
from training.losses import (
    IGNORED_LABEL,
    Batch,
    count_target_bytes,
    count_targets,
    next_token_loss,
    whole_batch,
)
from training.optimizer import create_optimizers, set_course, take_step
from training.parallel import ParallelModel, choose_kind, local
from training.precision import FIRST_LOSS_SCALE, LEAST_LOSS_SCALE, next_loss_scale
from training.prefetch import moved, prefetched, prepared
from training.schedules import Horizon, learning_rate
from training.stability import Stability
from training.step_batch import StepBatch, share_step
from training.step_report import Numbers, StepReport, arrived
from training.stored_values import Count

logger = logging.getLogger(__name__)

MAX_BAD_STEPS = 10
"""This many updates in a row without a finite gradient end a run that cannot go back (arbitrary)."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How well the model predicts held-out batches."""

    loss_nats: float
    """Mean loss of a supervised token."""
    bits_per_byte: float | None
    """Bits for each UTF-8 byte of the supervised text: comparable between tokenizers. None without byte lengths."""
    num_targets: int
    measures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """What else was asked for, by the name of the metric."""

    @property
    def perplexity(self) -> float:
        """exp(loss), infinite where that overflows."""
        return math.exp(self.loss_nats) if self.loss_nats < 700 else math.inf


@dataclasses.dataclass
class Progress:
    """What must be kept to go on exactly: counters only, because order, dropout and schedule follow from them."""

    step: Count = 0
    num_tokens: Count = 0
    best_validation_loss: float | None = None
    evaluations_without_gain: Count = 0
    bad_steps: Count = 0
    loss_scale: Annotated[float, Ge(LEAST_LOSS_SCALE)] | None = None
    """Of the next step, for float16; None without it."""
    steps_at_loss_scale: Count = 0
    """Updates in a row with a finite gradient at this scale."""
    active_seconds: float = 0.0
    """Time that the run has used in all its processes; kept for runs with a time budget only."""
    initial_validation: dict[str, float] | None = None
    last_validation: dict[str, float] | None = None
    stability: Stability = dataclasses.field(default_factory=Stability)


Hook = Callable[["Trainer", StepReport], None]
LossFunction = Callable[..., torch.Tensor]
"""`(model, batch, document_masking=…)` -> the sum of a batch's losses, a float32 scalar; the trainer divides it by the
number of labels that are not -100, over all micro-batches and processes of a step."""


LargestBatch = Callable[[int, int], Batch]
"""`(rows, context)` -> a micro-batch of so many rows for a model of this context, as full as one can be."""


@dataclasses.dataclass(frozen=True)
class Measures:
    """What evaluations report besides the loss."""

    names: tuple[str, ...]
    """Of metrics."""
    sums: LossFunction
    """Called as a loss function; gives a sum for each name, (M,) float32, to be divided as a loss is."""


class Trainer:
    """Holds what changes while a model is trained.

    Args:
        model: On the device already.
        config: Batch, schedule, precision.
        device_manager: Device and autocast.
        horizon: Where the run ends; may be moved between steps.
        compute_dtype: Type of the products; weights stay float32.
        compiled: Whether blocks and loss go through torch.compile.
        token_byte_lengths: (V,) integer; with it evaluations give bits per byte.
        loss_function: What is learned and what `evaluate` measures.
        measures: What it measures besides.
        largest_batch: Makes the largest micro-batch that `loss_function` may meet, to be tried before the first step;
            None = known for `next_token_loss` only.
        output_dir: Where hooks write.
        world: The processes that train `model` together, each with a trainer of its own.
        step_batch: How a step is divided; None = as the settings say.
    """

    def __init__(
        self,
        model: TransformerLM,
        config: OptimizationConfig,
        device_manager: DeviceManager,
        *,
        horizon: Horizon,
        compute_dtype: torch.dtype,
        output_dir: Path,
        compiled: bool = False,
        token_byte_lengths: torch.Tensor | None = None,
        loss_function: LossFunction = next_token_loss,
        measures: Measures | None = None,
        largest_batch: LargestBatch | None = None,
        world: World = ALONE,
        step_batch: StepBatch | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.device_manager = device_manager
        self.horizon = horizon
        self.compute_dtype = compute_dtype
        self.output_dir = output_dir
        self.token_byte_lengths = token_byte_lengths
        self.loss_function = loss_function
        self.measures = measures
        is_next_token = loss_function is next_token_loss
        self.largest_batch = largest_batch or (whole_batch if is_next_token else None)
        self.world = world
        self.step_batch = step_batch or share_step(
            config, context=model.config.max_position_embeddings, num_processes=world.size
        )
        self.progress = Progress(loss_scale=FIRST_LOSS_SCALE if compute_dtype == torch.float16 else None)
        self._with_documents = config.document_masking and takes_documents(
            device_manager.device, compute_dtype, model.config
        )
        self._unread: collections.deque[StepReport] = collections.deque()
        self.should_stop: str | None = None
        model.gradient_checkpointing = config.gradient_checkpointing
        if config.mixed_precision == "fp8":
            use_float8(model.blocks)
        if compiled:
            model.compile_blocks()
        self.parallel = ParallelModel(
            model,
            loss_function,
            kind=choose_kind(config.parallel, model, device_manager, world),
            world=world,
            device=device_manager.device,
            compute_dtype=compute_dtype,
        )
        # After the model is spread: its parameters are other tensors then.
        self.optimizers = create_optimizers(model, config, compute_dtype=compute_dtype)

    @property
    def total_steps(self) -> int:
        """Length of the run, as far as is known."""
        return self.horizon.total_steps

    def fit(self, batches: BatchSource, hooks: Sequence[Hook]) -> None:
        """Train until `total_steps`, or until a hook sets `should_stop`."""
        self._unread.clear()  # of steps that the run went back from
        numbers = self.step_batch.numbers(rank=self.world.rank, first_step=self.progress.step)
        micro_batches = prefetched(
            batches.micro_batches(numbers), self.device_manager.device, with_documents=self._with_documents
        )
        # The caller's random state is his own: what dropout draws in here is seeded step by step.
        with torch.random.fork_rng(devices=self.cuda_devices()):
            while self.progress.step < self.total_steps and self.should_stop is None:
                report = self.train_step(self._next_step_batches(micro_batches))
                for hook in hooks:
                    hook(self, report)
        self.settle()

    def train_step(self, batches: Sequence[Batch]) -> StepReport:
        """One optimizer update from this process' micro-batches of a step.

        Each micro-batch's summed loss is divided by the number of supervised tokens of the whole step, so any
        split into micro-batches and processes gives the gradient of the one big batch.

        Raises:
            BloomeryError: `MAX_BAD_STEPS` updates in a row had no finite gradient.
            DataError: as many steps in a row had nothing to learn from.
        """
        started = time.monotonic()
        step = self.progress.step
        # Processes drop out different features, each the same ones again when it is resumed.
        rank = (self.world.rank,) if self.world.size > 1 else ()
        torch.manual_seed(derive_seed(self.config.seed, "dropout", step, *rank))
        rate = learning_rate(step, self.config, self.horizon)
        set_course(self.optimizers, learning_rate_share=rate / self.config.learning_rate, step=step)
        num_targets = int(self.world.sum(sum(count_targets(batch) for batch in batches))[0])

        self.model.train()
        scale = self.progress.loss_scale
        loss = torch.full((), 0.0 if num_targets else math.nan, device=self.device_manager.device)
        norm = torch.zeros_like(loss)
        for number, batch in enumerate(batches if num_targets else ()):
            with self.parallel.accumulating(last=number == len(batches) - 1):
                # Processes take the mean of their gradients, so each has to count as many times as there are.
                share = self.summed_loss(batch) / (num_targets / self.world.size)
                (share if scale is None else share * scale).backward()  # type: ignore[no-untyped-call]
            loss += share.detach()
        if num_targets:
            loss, norm = self.parallel.agree_on(loss, self._clip_gradients(scale))
            take_step(self.optimizers, skip=~torch.isfinite(norm))
        self.model.zero_grad(set_to_none=True)

        num_tokens = self.world.size * sum(batch["input_ids"].numel() for batch in batches)
        self.progress.step += 1
        self.progress.num_tokens += num_tokens
        numbers = Numbers(torch.stack([loss, norm]))
        self.settle()  # on a GPU, where this step only begins, the host waits here for the one before
        report = StepReport(
            step=self.progress.step,
            learning_rate=rate,
            num_tokens=num_tokens,
            num_targets=num_targets,
            elapsed_seconds=time.monotonic() - started,
            numbers=numbers,
            loss_scale=scale,
        )
        self._unread.append(report)
        # The next loss scale depends on this step, so with float16 it is waited for.
        self.settle(at_most_late=1 if scale is None else 0)
        return report

    def settle(self, *, at_most_late: int = 0) -> None:
        """Take note of how the last steps came out, and wait for all of them but `at_most_late`.

        Raises:
            BloomeryError, DataError: as `train_step`.
        """
        for report in arrived(self._unread, at_most_late=at_most_late):
            self._note_outcome(report)

    def _clip_gradients(self, loss_scale: float | None) -> torch.Tensor:
        """The L2 norm of the gradient, which is clipped to `max_gradient_norm`; without the scale of the loss."""
        if loss_scale is not None:
            gradients = [local(p.grad) for p in self.model.parameters() if p.grad is not None]
            torch._foreach_mul_(gradients, 1.0 / loss_scale)
        return self.parallel.clip_gradient(self.config.max_gradient_norm or math.inf)

    def evaluate(self, batches: Iterable[Any]) -> Evaluation:
        """Loss over at most `eval_batches` of `batches`, without dropout and without touching random state."""
        self.model.eval()
        # A shuffled loader would draw from the caller's random state, and other batches each time.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.config.seed, "evaluation"))
            some = itertools.islice(batches, self.config.eval_batches)
            mine = share_of(self.world, some)
            result = mean_loss(self.summed_loss, mine, self.token_byte_lengths, add_up=self.world.sum)
            if self.measures is not None:
                some = itertools.islice(batches, self.config.eval_batches)
                measured = self._measure(self.measures, share_of(self.world, some))
                result = dataclasses.replace(result, measures=measured)
        self.model.train()
        return result

    @torch.no_grad()
    def _measure(self, measures: Measures, batches: Iterable[Batch]) -> dict[str, float]:
        sums, num_targets = [0.0] * len(measures.names), 0
        for batch in batches:
            with self.device_manager.autocast(self.compute_dtype):
                found = measures.sums(
                    self.model, self._on_device(batch), document_masking=self.config.document_masking
                )
            sums = [total + one for total, one in zip(sums, found.tolist(), strict=True)]
            num_targets += count_targets(batch)
        *totals, number = self.world.sum(*sums, num_targets)
        return {name: total / number for name, total in zip(measures.names, totals, strict=True)}

    def summed_loss(self, batch: Batch) -> torch.Tensor:
        """The loss of a micro-batch on the CPU, in nats: a float32 scalar on the device."""
        on_device = self._on_device(batch)
        with self.device_manager.autocast(self.compute_dtype):
            return self.parallel.summed_loss(on_device, document_masking=self.config.document_masking)

    def _on_device(self, batch: Batch) -> Batch:
        return moved(prepared(batch, with_documents=self._with_documents), self.device_manager.device)

    def _next_step_batches(self, micro_batches: Iterator[Batch]) -> list[Batch]:
        return list(itertools.islice(micro_batches, self.step_batch.micro_batches_each))

    def _note_outcome(self, report: StepReport) -> None:
        state = self.progress
        if state.loss_scale is not None and report.num_targets:
            state.loss_scale, state.steps_at_loss_scale = next_loss_scale(
                state.loss_scale, state.steps_at_loss_scale, overflow=report.skipped
            )
        if report.is_overflow:
            logger.info(
                "step %d: a gradient is too large for float16 at loss scale %g; the update is skipped",
                report.step,
                report.loss_scale,
            )
            return
        if not report.skipped:
            state.bad_steps = 0
            return
        state.bad_steps += 1
        what = "the gradient is not finite" if report.num_targets else "nothing to learn in it (labels -100)"
        logger.warning("step %d: %s; the update is skipped", report.step, what)
        if state.bad_steps >= MAX_BAD_STEPS and report.num_targets == 0:
            raise DataError(
                f"step {report.step}: {MAX_BAD_STEPS} steps in a row have nothing to learn (all labels -100)"
            )
        if state.bad_steps >= MAX_BAD_STEPS:
            raise BloomeryError(
                f"{MAX_BAD_STEPS} updates in a row had no finite gradient (step {report.step}): the run "
                f"diverged; resume from the last checkpoint with a learning_rate below {self.config.learning_rate}"
            )

    def cuda_devices(self) -> list[int]:
        """The GPUs whose random state training touches."""
        device = self.device_manager.device
        return [device.index or 0] if device.type == "cuda" else []


def share_of(world: World, batches: Iterable[Any]) -> Iterator[Batch]:
    """The batches of one process among `world`'s, as many for each: a spread model makes all of them compute together.

    Who would have one less gets one again, with nothing to predict.
    """
    batches = map(check_batch, batches)
    while group := list(itertools.islice(batches, world.size)):
        if world.rank < len(group):
            yield group[world.rank]
        else:
            yield {**group[0], "labels": torch.full_like(group[0]["labels"], IGNORED_LABEL)}


@torch.no_grad()
def mean_loss(
    summed_loss: Callable[[Batch], torch.Tensor],
    batches: Iterable[Any],
    token_byte_lengths: torch.Tensor | None,
    *,
    add_up: Callable[..., list[float]] = lambda *values: list(values),
) -> Evaluation:
    """Loss over all of `batches`, of whatever computes a summed loss.

    Args:
        add_up: Adds numbers of this process to those of others.

    Raises:
        DataError: the batches have nothing to predict.
    """
    loss_sum, num_targets, num_bytes = 0.0, 0, 0
    for raw in batches:
        batch = check_batch(raw)
        loss_sum += float(summed_loss(batch))
        num_targets += count_targets(batch)
        if token_byte_lengths is not None:
            num_bytes += count_target_bytes(batch, token_byte_lengths)
    loss_sum, *counts = add_up(loss_sum, num_targets, num_bytes)
    num_targets, num_bytes = map(int, counts)
    if num_targets == 0:
        raise DataError("the validation batches have nothing to predict; give more validation data or none")
    return Evaluation(
        loss_nats=loss_sum / num_targets,
        bits_per_byte=loss_sum / math.log(2) / num_bytes if num_bytes else None,
        num_targets=num_targets,
    )
