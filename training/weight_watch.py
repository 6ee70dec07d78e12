"""How far each update moves the weights, how large activations are, how much of a gradient is noise. Changes nothing.

A measurement costs, for N parameters and T tokens a step: reading 65,536 weights of each matrix twice (at most 4 N
operations), the norm of the momentum (2 N), and one pass over the last residual stream, against 6 N T of a step. Done
in one step out of `10 x logging_steps`, that is far below 1 % from T = 100 on.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from training.hooks import MetricSink
from training.parallel import local, whole
from training.step_report import StepReport
from training.trainer import Trainer

LINES_BETWEEN = 10
"""Lines of `metrics.jsonl` from one measurement to the next."""

SAMPLED_WEIGHTS = 65_536
"""Of each matrix: its root mean square is then known to about 0.3 %."""

SETTLED_STEPS = 60
"""Momentum has forgotten its beginning after so many steps, at the factors of 0.9 and 0.95 that are usual."""

GROUPS = {"embedding": "embedding", "attention": "attention", "feed_forward": "feed_forward", "head": "head"}
"""Group of parameters by a part of their names; norms and biases belong to none."""

MOMENTUM_NAMES = ("exp_avg", "momentum")
"""What AdamW and Muon call the running mean of the gradient."""


class WatchWeights:
    """Measures one step out of `LINES_BETWEEN x logging_steps` and writes to the sinks:

    - `train/update_to_weight/<group>`: root mean square of the update, divided by that of the weights;
    - `train/activation_rms`: root mean square of the residual stream after the last block;
    - `train/gradient_signal_share`: `signal_share`.
    """

    def __init__(self, trainer: Trainer, sinks: list[MetricSink]) -> None:
        self._sinks = sinks
        self._before: dict[str, Tensor] = {}
        self._activation: Tensor | None = None
        self._removable: Any = None
        self._prepare(trainer)

    def __call__(self, trainer: Trainer, report: StepReport) -> None:
        """Write what was measured in this step, and prepare the next if it is its turn."""
        if self._before and not report.skipped:
            values = self._values(trainer, report)
            for sink in self._sinks:
                sink.write(report.step, values)
        self.close()
        self._prepare(trainer)

    def close(self) -> None:
        """Leave the model as it was found."""
        if self._removable is not None:
            self._removable.remove()
        self._removable, self._before, self._activation = None, {}, None

    def _prepare(self, trainer: Trainer) -> None:
        if (trainer.progress.step + 1) % (LINES_BETWEEN * trainer.config.logging_steps):
            return
        self._before = {name: sampled(weight).clone() for name, weight in _grouped(trainer.model)}

        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if module.training:  # an evaluation may come between
                self._activation = inputs[0].detach().float().square().mean().sqrt()

        self._removable = trainer.model.final_norm.register_forward_pre_hook(note)

    def _values(self, trainer: Trainer, report: StepReport) -> dict[str, float]:
        values = {
            f"train/update_to_weight/{group}": ratio
            for group, ratio in self._update_to_weight(trainer).items()
        }
        if self._activation is not None:
            values["train/activation_rms"] = float(self._activation)
        share = signal_share(trainer, report.gradient_norm)
        if share is not None:
            values["train/gradient_signal_share"] = share
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def _update_to_weight(self, trainer: Trainer) -> dict[str, float]:
        sums: dict[str, list[float]] = {}
        for name, weight in _grouped(trainer.model):
            before = self._before[name]
            update = sampled(weight) - before
            of_group = sums.setdefault(_group(name), [0.0, 0.0])
            if num_here := local(weight).numel():  # of a small matrix a process may have no row
                of_group[0] += num_here * float(update.square().mean())
                of_group[1] += num_here * float(before.square().mean())
        # Copies in other processes are the same: adding them up changes no ratio.
        both = {group: trainer.world.sum(*values) for group, values in sums.items()}
        return {group: math.sqrt(moved / there) for group, (moved, there) in both.items() if there > 0}


def sampled(weight: Tensor) -> Tensor:
    """Some evenly spaced elements of a weight, or of this process' part of it, as a view without a gradient."""
    weight = local(weight)
    # An odd distance meets every column of a matrix whose width is a power of two.
    return weight.detach().flatten()[:: weight.numel() // SAMPLED_WEIGHTS | 1]


def signal_share(trainer: Trainer, gradient_norm: float) -> float | None:
    """How much of the squared gradient of a step is common to the last steps (0 to 1); the rest is noise of its batch.

    |g|² = G² + S for a gradient G and noise S of the batch. The running mean m with factor b keeps (1 - b) / (1 + b) of
    the noise: |m|² = G² + S (1 - b) / (1 + b). With both, G² / |g|² follows; S / G² is the critical batch size of
    McCandlish et al. 2018 ("An Empirical Model of Large-Batch Training", section 2.2), in batches. Where the gradient
    turns within 1 / (1 - b) steps, that counts as noise. None before the mean has settled.
    """
    limit = trainer.config.max_gradient_norm or math.inf
    squared = min(gradient_norm, limit) ** 2  # the optimizers see it clipped
    if trainer.progress.step < SETTLED_STEPS or squared == 0.0:
        return None
    means = [
        state[name]
        for optimizer in trainer.optimizers
        for state in optimizer.state.values()
        for name in MOMENTUM_NAMES
        if name in state
    ]
    if not means:  # an optimizer of somebody's own, which keeps no mean under a name that is known here
        return None
    squared_mean = float(whole(torch.nn.utils.get_total_norm(means))) ** 2
    kept = (1 - trainer.config.beta1) / (1 + trainer.config.beta1)
    return min(1.0, max(0.0, (squared_mean / squared - kept) / (1 - kept)))


def _grouped(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [(n, p) for n, p in model.named_parameters() if p.ndim >= 2 and any(part in n for part in GROUPS)]


def _group(name: str) -> str:
    return next(group for part, group in GROUPS.items() if part in name)
