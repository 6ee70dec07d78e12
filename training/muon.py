"""Muon: the step of a matrix is its momentum made orthogonal. Knows no schedule, no model and no other parameters.

Shapes: K matrices of one shape, m rows (output features), n columns (input features).
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from training.parallel import local
from training.whole_matrices import of_whole_matrices

POLAR_EXPRESS = (
    (7.606990990474454, -21.232347001235453, 15.260711524260403),
    (3.174318437183906, -2.33351311825629, 0.4762221499404578),
    (2.189706149456639, -1.5410967514007885, 0.39018160069706054),
)
"""(a, b, c) of each iteration X ← aX + b(XXᵀ)X + c(XXᵀ)²X: Amsel et al. 2025 (Polar Express), Algorithm 1 with a safety
factor of 1.01, for singular values of 0.02 to 1. Three suffice, because matrices are scaled by a bound that is nearly
tight; scaled by their Frobenius norm, which can be sqrt(m) times too large, they need five (docs/experiments.md)."""

NORM_MARGIN = 1.02
"""The bound is raised by this, because rounding to bfloat16 may lift a singular value above it, where the iteration
diverges (ibid., section 3.4)."""


@torch.no_grad()
def orthogonalize(matrices: Tensor, *, compute_dtype: torch.dtype) -> Tensor:
    """UVᵀ of each UΣVᵀ, but for its singular values, which are not quite 1: what Muon steps along.

    Those above a fiftieth of the largest come within 0.15 of 1; smaller ones rise fiftyfold.

    Args:
        matrices: (K, m, n), any float type.
        compute_dtype: Type of the products and of the result; bfloat16 is precise enough (Jordan et al. 2024).
    """
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices  # XXᵀ is then the smaller of the two products
    # The norm in float32: squares of small gradients vanish in fewer bits.
    norms = torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True, dtype=torch.float32)
    x = (x / norms.clamp(min=1e-20)).to(compute_dtype, memory_format=torch.contiguous_format)
    (a, b, c), *others = POLAR_EXPRESS
    gram = x @ x.mT
    square = gram @ gram
    # (Σσ⁸)^(1/8) is the largest singular value or little more, and the iteration needs this product anyway.
    bound = torch.linalg.vector_norm(square, dim=(-2, -1), keepdim=True, dtype=torch.float32) ** 0.25
    scale = 1.0 / (NORM_MARGIN * bound).clamp(min=1e-4)  # matrices of zeros have no bound
    polynomial = (gram * (b * scale**3)).add_(square * (c * scale**5)).to(compute_dtype)
    # aI within the polynomial instead of aX beside it: one pass over the larger X less.
    polynomial.diagonal(dim1=-2, dim2=-1).add_(a * scale[..., 0])
    x = polynomial @ x
    for a, b, c in others:
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        x = polynomial @ x
    directions: Tensor = x.mT if is_tall else x
    return directions


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) with Nesterov momentum, for matrices only.

    Matrices of one shape are orthogonalized together. A step is scaled by sqrt(max(1, m / n)), so that features change
    equally much whatever the width (Bernstein 2025, "Deriving Muon"). Decay is decoupled and cautious: only where it
    pulls in the direction of the step (Chen et al. 2025, "Cautious Weight Decay").

    The state is one momentum a matrix. `lr`, `momentum` and `weight_decay` of the groups may be set before each step.
    Where `found_inf`, a scalar set before a step, is not zero, that step changes nothing.

    Args:
        parameters: Matrices, with gradients when `step` is called.
        compute_dtype: Of the orthogonalization.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        compute_dtype: torch.dtype,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.compute_dtype = compute_dtype
        self._step_supports_amp_scaling = True
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update each matrix by its gradient."""
        assert closure is None
        for group in self.param_groups:
            for matrices in _of_one_shape(group["params"]):
                self._step_together(matrices, group)

    def _step_together(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        # Of matrices that are spread over processes, each works on its own part, but for the orthogonalization.
        gradients = [local(_gradient(matrix)) for matrix in matrices]
        momenta = [local(self._momentum(matrix)) for matrix in matrices]
        if self.found_inf is not None:
            skip = self.found_inf > 0
            # A mean does not move towards itself, whatever the gradient is.
            gradients = [torch.where(skip, m, g) for m, g in zip(momenta, gradients, strict=True)]
        torch._foreach_lerp_(momenta, gradients, 1.0 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov
        together = functools.partial(orthogonalize, compute_dtype=self.compute_dtype)
        directions = of_whole_matrices(together, torch.stack(ahead), like=matrices[0])
        m, n = matrices[0].shape
        steps = directions.to(matrices[0].dtype).mul_(group["lr"] * max(1.0, m / n) ** 0.5)
        if group["weight_decay"]:
            weights = torch.stack([local(matrix) for matrix in matrices])
            steps.addcmul_(weights, weights * steps > 0, value=group["lr"] * group["weight_decay"])
        if self.found_inf is not None:
            steps = torch.where(self.found_inf > 0, 0.0, steps)
        torch._foreach_sub_([local(matrix) for matrix in matrices], list(steps))

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum"]
        return momentum


def _of_one_shape(matrices: list[Tensor]) -> Iterator[list[Tensor]]:
    by_shape: dict[torch.Size, list[Tensor]] = {}
    for matrix in matrices:
        by_shape.setdefault(matrix.shape, []).append(matrix)
    yield from by_shape.values()


def _gradient(matrix: Tensor) -> Tensor:
    assert matrix.grad is not None, "every matrix of the model takes part in every step"
    return matrix.grad
