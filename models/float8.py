"""Linear layers whose products run in fp8, one scale a tensor. Knows no model beyond its blocks, and no training.

Micikevicius et al. 2022 ("FP8 Formats for Deep Learning"): e4m3, with more bits of fraction, for activations and
weights; e5m2, with more range, for gradients. The scale is taken from the tensor itself each time (dynamic), so that
there is no state and nothing to warm up.

Shapes: M tokens (all rows end to end), K input features, N output features.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS, GRADIENTS = torch.float8_e4m3fn, torch.float8_e5m2

MULTIPLE = 16
"""Of every side of a matrix, for the kernels of cuBLAS in fp8."""

LEAST_LARGEST = 1e-12
"""A tensor of zeros is divided by this instead of by its largest element."""


class Float8Linear(nn.Linear):
    """A linear layer that trains with products in fp8. In evaluation mode it computes as it will after training."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., K) to (..., N), in autocast's type."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        if not self.training or (x.numel() // self.in_features) % MULTIPLE:
            return F.linear(x, self.weight, self.bias)
        rows = x.reshape(-1, self.in_features)
        y: Tensor = _Float8Product.apply(rows, self.weight, dtype)  # type: ignore[no-untyped-call]
        if self.bias is not None:
            y = y + self.bias.to(dtype)
        return y.view(*x.shape[:-1], self.out_features)


def use_float8(blocks: nn.Module) -> int:
    """Let those linear layers in `blocks` use fp8 whose sides allow it; how many they are. Names and weights stay."""
    parts = [
        (parent, name, layer)
        for parent in blocks.modules()
        for name, layer in parent.named_children()
        if type(layer) is nn.Linear and layer.in_features % MULTIPLE == layer.out_features % MULTIPLE == 0
    ]
    for parent, name, layer in parts:
        with torch.device("meta"):
            new = Float8Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        new.weight, new.bias = layer.weight, layer.bias
        new.train(layer.training)
        setattr(parent, name, new)
    return len(parts)


class _Float8Product(torch.autograd.Function):
    """x (M, K) and weight (N, K) to x weightᵀ (M, N). All three products of a step are in fp8, added up in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        x8, x_scale = quantized(x, ACTIVATIONS)
        weight8, weight_scale = quantized(weight, ACTIVATIONS)
        ctx.save_for_backward(x8, x_scale, weight8, weight_scale)
        ctx.dtypes = x.dtype, weight.dtype, dtype
        # What is added up in fewer bits here is not added up again, as gradients are.
        return _product(x8, weight8.T, x_scale, weight_scale, dtype, fast=True)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor, Tensor, None]:
        x8, x_scale, weight8, weight_scale = ctx.saved_tensors
        x_dtype, weight_dtype, dtype = ctx.dtypes
        d_y8, d_scale = quantized(d_y, GRADIENTS)
        d_x = _product(d_y8, _columns(weight8), d_scale, weight_scale, dtype)
        d_weight = _product(d_y8.T.contiguous(), _columns(x8), d_scale, x_scale, dtype)
        return d_x.to(x_dtype), d_weight.to(weight_dtype), None


def quantized(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x in fp8, its largest element at the largest number there is, and the () float32 factor that gives x back.

    NaN and infinity come out as NaN, so that the step is skipped for them.
    """
    largest = x.detach().abs().amax().float().clamp(min=LEAST_LARGEST)
    scale = largest / torch.finfo(dtype).max
    # By rows, which cuBLAS asks for: a gradient may come as a view of something else.
    return (x.float() / scale).to(dtype).contiguous(), scale


def _product(
    left: Tensor,
    right: Tensor,
    left_scale: Tensor,
    right_scale: Tensor,
    dtype: torch.dtype,
    *,
    fast: bool = False,
) -> Tensor:
    # cuBLAS wants rows on the left and columns on the right.
    y: Tensor = torch._scaled_mm(
        left, right, scale_a=left_scale, scale_b=right_scale, out_dtype=dtype, use_fast_accum=fast
    )
    return y


def _columns(x: Tensor) -> Tensor:
    """The same matrix, stored by columns."""
    return x.T.contiguous().T
