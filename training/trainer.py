"""The loop: micro-batches → one step → hooks. It knows batches and losses, but neither files of text nor stages.

`step` counts optimizer updates. Everything random in a step is seeded from the step, so a run that goes on from a
checkpoint draws the same numbers as one that was never interrupted.
"""

import dataclasses
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from core.device_manager import DeviceManager
from core.distributed import ALONE, World
from core.errors import BloomeryError, DataError
from core.seeds import derive_seed
from core.training_config import OptimizationConfig
from models.transformer_lm import TransformerLM
from training.batches import BatchSource, check_batch
from training.losses import IGNORED_LABEL, Batch, count_target_bytes, count_targets, next_token_loss
from training.optimizer import create_optimizers, set_course
from training.parallel import ParallelModel, choose_kind
from training.schedules import Horizon, learning_rate
from training.stability import Stability
from training.step_batch import StepBatch, share_step

logger = logging.getLogger(__name__)

MAX_BAD_STEPS = 10
"""This many updates in a row without a finite gradient end a run that cannot go back (arbitrary)."""


@dataclasses.dataclass(frozen=True)
class StepReport:
    """What one update did."""

    step: int
    """Updates done, this one included."""
    loss_nats: float
    """Mean loss of a supervised token."""
    learning_rate: float
    gradient_norm: float
    """L2 norm before clipping."""
    num_tokens: int
    """Input tokens of this step."""
    elapsed_seconds: float
    skipped: bool
    """The gradient was not finite, so nothing was updated."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How well the model predicts held-out batches."""

    loss_nats: float
    """Mean loss of a supervised token."""
    bits_per_byte: float | None
    """Bits for each UTF-8 byte of the supervised text: comparable between tokenizers. None without byte lengths."""
    num_targets: int

    @property
    def perplexity(self) -> float:
        """exp(loss), infinite where that overflows."""
        return math.exp(self.loss_nats) if self.loss_nats < 700 else math.inf


@dataclasses.dataclass
class Progress:
    """What must be kept to go on exactly: counters only, because order, dropout and schedule follow from them."""

    step: int = 0
    num_tokens: int = 0
    best_validation_loss: float | None = None
    evaluations_without_gain: int = 0
    bad_steps: int = 0
    active_seconds: float = 0.0
    """Time that the run has used in all its processes; kept for runs with a time budget only."""
    initial_validation: dict[str, float] | None = None
    last_validation: dict[str, float] | None = None
    stability: Stability = dataclasses.field(default_factory=Stability)


Hook = Callable[["Trainer", StepReport], None]
LossFunction = Callable[..., torch.Tensor]


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
        loss_function: `(model, batch, document_masking=…) -> summed loss`.
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
        self.world = world
        self.step_batch = step_batch or share_step(
            config, context=model.config.max_position_embeddings, num_processes=world.size
        )
        self.progress = Progress()
        self.should_stop: str | None = None
        model.gradient_checkpointing = config.gradient_checkpointing
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
        numbers = self.step_batch.numbers(rank=self.world.rank, first_step=self.progress.step)
        micro_batches = batches.micro_batches(numbers)
        # The caller's random state is his own: what dropout draws in here is seeded step by step.
        with torch.random.fork_rng(devices=self._cuda_devices()):
            while self.progress.step < self.total_steps and self.should_stop is None:
                report = self.train_step(self._next_step_batches(micro_batches))
                for hook in hooks:
                    hook(self, report)

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
        loss = torch.full((), 0.0 if num_targets else math.nan, device=self.device_manager.device)
        for number, batch in enumerate(batches if num_targets else ()):
            with self.parallel.accumulating(last=number == len(batches) - 1):
                # Processes take the mean of their gradients, so each has to count as many times as there are.
                share = self._summed_loss(batch) / (num_targets / self.world.size)
                share.backward()  # type: ignore[no-untyped-call]
            loss += share.detach()
        norm = self.parallel.clip_gradient(self.config.max_gradient_norm or math.inf)
        # All processes skip, or none does.
        loss_nats, num_bad = self.world.sum(float(loss) / self.world.size, not math.isfinite(norm))
        skipped = bool(num_targets == 0 or num_bad)
        if not skipped:
            for optimizer in self.optimizers:
                optimizer.step()
        self.model.zero_grad(set_to_none=True)

        num_tokens = self.world.size * sum(batch["input_ids"].numel() for batch in batches)
        self.progress.step += 1
        self.progress.num_tokens += num_tokens
        self._note_bad_step(skipped, num_targets)
        return StepReport(
            step=self.progress.step,
            loss_nats=loss_nats,
            learning_rate=rate,
            gradient_norm=norm,
            num_tokens=num_tokens,
            elapsed_seconds=time.monotonic() - started,
            skipped=skipped,
        )

    def evaluate(self, batches: Iterable[Any]) -> Evaluation:
        """Loss over at most `eval_batches` of `batches`, without dropout and without touching random state."""
        self.model.eval()
        # A shuffled loader would draw from the caller's random state, and other batches each time.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self.config.seed, "evaluation"))
            some = itertools.islice(batches, self.config.eval_batches)
            mine = share_of(self.world, some)
            result = mean_loss(self._summed_loss, mine, self.token_byte_lengths, add_up=self.world.sum)
        self.model.train()
        return result

    def _summed_loss(self, batch: Batch) -> torch.Tensor:
        on_device = {key: tensor.to(self.device_manager.device) for key, tensor in batch.items()}
        with self.device_manager.autocast(self.compute_dtype):
            return self.parallel.summed_loss(on_device, document_masking=self.config.document_masking)

    def _next_step_batches(self, micro_batches: Iterator[Batch]) -> list[Batch]:
        return list(itertools.islice(micro_batches, self.step_batch.micro_batches_each))

    def _note_bad_step(self, skipped: bool, num_targets: int) -> None:
        if not skipped:
            self.progress.bad_steps = 0
            return
        self.progress.bad_steps += 1
        what = "the gradient is not finite" if num_targets else "nothing to learn in it (labels -100)"
        logger.warning("step %d: %s; the update is skipped", self.progress.step, what)
        if self.progress.bad_steps >= MAX_BAD_STEPS and num_targets == 0:
            raise DataError(
                f"step {self.progress.step}: {MAX_BAD_STEPS} steps in a row have nothing to learn (all labels -100)"
            )
        if self.progress.bad_steps >= MAX_BAD_STEPS:
            raise BloomeryError(
                f"{MAX_BAD_STEPS} updates in a row had no finite gradient (step {self.progress.step}): the run "
                f"diverged; resume from the last checkpoint with a learning_rate below {self.config.learning_rate}"
            )

    def _cuda_devices(self) -> list[int]:
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
