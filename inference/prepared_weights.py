"""Weights laid out for the products of inference, in 32, 16 or 8 bits. Knows modules and products: no token, no cache.

Shapes: B rows, T tokens, D features in, O features out, N query heads, K key/value heads, H features of a head.

Where a token is made, time goes into reading weights once, so that fewer bytes are the speed: `docs/generating.md` has
what each format costs in bits per byte and gains in tokens a second.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import ConfigError
from inference.weight_formats import WEIGHT_FORMATS, WeightFormat
from models.attention import Attention, Documents, attend
from models.feed_forward import SwiGLU
from models.kv_cache import KVCache
from models.rotary import Rotation, rotate
from models.transformer_lm import TransformerLM

Product = Callable[[Tensor], Tensor]
"""x (..., D) to x W^T + b (..., O)."""

INT8_STEPS = 127
"""Of the largest element of a row, up and down: the scale is symmetric, and -128 is not used."""


def prepare_weights(model: TransformerLM, weights: WeightFormat) -> torch.dtype:
    """Lay out the linear layers of `model`, in place: it can be used for inference as before, and for nothing else.

    Queries, keys and values become one product, and so do the two of SwiGLU that read the same features. The weights
    are let go; the embedding stays as it is. Returns the dtype of what the products return, keys and values among it.

    Raises:
        ConfigError: this machine has no such products; the message says which to take.
    """
    device = model.embedding.weight.device
    check_weights(weights, device)
    make = _maker(weights, device)
    with torch.no_grad():
        head = make(model.head_weight, None)
        dtype = head(torch.zeros(1, model.config.hidden_size, device=device)).dtype
        model.head = Prepared(head)
        _prepare_children(model, make)
    return dtype


def fast_weights(device: torch.device) -> WeightFormat | None:
    """The fastest format of those in which answers are as good as in float32; None = leave the weights as they are."""
    formats: tuple[WeightFormat, ...] = ("float16", "float32") if device.type == "cpu" else ()
    for weights in formats:
        with contextlib.suppress(ConfigError):
            check_weights(weights, device)
            return weights
    return None


def check_weights(weights: WeightFormat, device: torch.device) -> None:
    """Nothing, where the products of `weights` are there and right.

    Raises:
        ConfigError: they are not.
    """
    # Elements as large as they get: some processors add products of 8 bits up in 16, where these do not fit.
    weight = torch.full((32, 64), 1.0, device=device)
    try:
        with torch.no_grad():
            product = _maker(weights, device)(weight, None)
            found = [float(product(torch.ones(rows, 64, device=device))[0, 0]) for rows in (1, 2)]
        reason = f"64 products of 1 added up to {' and '.join(map(str, found))}"
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        found, reason = [], str(error).splitlines()[0]
    if not found or max(abs(each - 64.0) for each in found) > 0.5:
        others = [name for name in WEIGHT_FORMATS if name != weights and name != "int8"]
        raise ConfigError(
            f"weights: {weights} was asked for, but torch {torch.__version__} has no such products for {device} on "
            f"this machine ({reason}); choose {', '.join(others[:-1])} or {others[-1]}"
        )


class Prepared(nn.Module):
    """A linear layer whose weights only its product can read."""

    def __init__(self, product: Product) -> None:
        super().__init__()
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) to (..., O)."""
        return self.product(x)


class PreparedAttention(nn.Module):
    """`models.attention.Attention` without dropout, with one product for queries, keys and values."""

    def __init__(self, attention: Attention, make: Callable[[Tensor, Tensor | None], Product]) -> None:
        super().__init__()
        self.layer, self.features_per_head = attention.layer, attention.features_per_head
        linears = (attention.query, attention.key, attention.value)
        self.heads = [linear.out_features // self.features_per_head for linear in linears]
        self.projection = _together(linears, make)
        self.output = make(attention.output.weight, attention.output.bias)
        self.query_norm, self.key_norm = attention.query_norm, attention.key_norm

    def forward(
        self, x: Tensor, rotation: Rotation | None, mask: Tensor | Documents | None, cache: KVCache | None
    ) -> Tensor:
        """As `Attention.forward`."""
        B, T, _ = x.shape
        heads = self.projection(x).view(B, T, -1, self.features_per_head)
        query, key, value = torch.split(heads, self.heads, dim=2)
        query, key = self.query_norm(query).transpose(1, 2), self.key_norm(key).transpose(1, 2)
        value = value.transpose(1, 2)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if cache is not None:
            key, value = cache.append(self.layer, key, value)
        return self.output(attend(query, key, value, mask).reshape(B, T, -1))


class PreparedSwiGLU(nn.Module):
    """`models.feed_forward.SwiGLU` with one product for gate and up."""

    def __init__(self, swiglu: SwiGLU, make: Callable[[Tensor, Tensor | None], Product]) -> None:
        super().__init__()
        self.gate_and_up = _together((swiglu.gate, swiglu.up), make)
        self.down = make(swiglu.down.weight, swiglu.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) to (..., D)."""
        gate, up = self.gate_and_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


def _prepare_children(module: nn.Module, make: Callable[[Tensor, Tensor | None], Product]) -> None:
    for name, child in module.named_children():
        if type(child) is Attention:
            setattr(module, name, PreparedAttention(child, make))
        elif type(child) is SwiGLU:
            setattr(module, name, PreparedSwiGLU(child, make))
        elif type(child) is nn.Linear:
            setattr(module, name, Prepared(make(child.weight, child.bias)))
        else:
            _prepare_children(child, make)


def _together(linears: tuple[nn.Linear, ...], make: Callable[[Tensor, Tensor | None], Product]) -> Product:
    """One product for layers that read the same features; their results stand side by side."""
    weight = torch.cat([linear.weight for linear in linears])
    has_bias = linears[0].bias is not None
    return make(weight, torch.cat([linear.bias for linear in linears]) if has_bias else None)


def _maker(weights: WeightFormat, device: torch.device) -> Callable[[Tensor, Tensor | None], Product]:
    if weights == "int8":
        return _int8_product
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        dtype = getattr(torch, weights)
        return lambda weight, bias: _plain_product(weight, bias, dtype)
    if weights == "float16":
        return _float16_product
    dtype = getattr(torch, weights)
    return lambda weight, bias: _packed_product(weight, bias, dtype)


def _plain_product(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Product:
    weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    return lambda x: F.linear(x.to(dtype), weight, bias)


def _packed_product(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Product:
    """By oneDNN, which then need not lay the weights out anew for every product.

    One core of an EPYC with bf16, 3,072 x 768, microseconds for 1, 8 and 256 rows: float32 114, 501 and 11,531 by
    `F.linear`, packed 110, 187 and 4,955; bfloat16 133, 177 and 2,573, packed 63, 101 and 2,377. For how many rows it
    is packed makes no difference.
    """
    operators: Any = torch.ops.mkldnn
    packed = operators._reorder_linear_weight(weight.to(dtype).contiguous(), None)
    bias = None if bias is None else bias.to(dtype)

    def product(x: Tensor) -> Tensor:
        y: Tensor = operators._linear_pointwise(x.to(dtype), packed, bias, "none", [], "")
        return y

    return product


def _float16_product(weight: Tensor, bias: Tensor | None) -> Product:
    """By FBGEMM, which reads weights in float16 and computes in float32: 79, 152 and 4,731 microseconds as above."""
    operators: Any = torch.ops.quantized
    packed = operators.linear_prepack_fp16(
        weight.float().contiguous(), None if bias is None else bias.float()
    )

    def product(x: Tensor) -> Tensor:
        y: Tensor = operators.linear_dynamic_fp16(x.float(), packed)
        return y

    return product


def _int8_product(weight: Tensor, bias: Tensor | None) -> Product:
    """By oneDNN: 48, 66 and 1,218 microseconds as above, and 10, 14 and 165 for rounding the left side.

    Each token has a scale of its own: with one for all, as in torch's dynamic quantization, what a row gets would
    depend on its neighbours.

    A single row is multiplied by `_int_mm` in 23 microseconds, where the other spends as long on its preparations; it
    reads weights as they are, which are therefore kept twice. A token of 12 layers of width 768: 7.6 ms, and 5.7 so.
    """
    operators: Any = torch.ops.onednn
    scale = weight.float().abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / INT8_STEPS
    rounded = (weight.float() / scale[:, None]).round().to(torch.int8)
    packed, columns = operators.qlinear_prepack(rounded, None), rounded.T
    # The product's scale is 1 for all tokens; the 127th that theirs is of their largest element comes in here.
    scale, no_offset = scale / INT8_STEPS, torch.zeros(len(weight), dtype=torch.int64)

    def product(x: Tensor) -> Tensor:
        largest = x.abs().amax(dim=-1, keepdim=True).clamp_min_(1e-30)
        steps = (x * (INT8_STEPS / largest)).round_()
        if steps.numel() == steps.shape[-1]:
            y = torch._int_mm(steps.view(1, -1).to(torch.int8), columns).float().mul_(scale)
            y = y.view(*x.shape[:-1], -1)
        else:
            # From 128 on, because oneDNN is fast for unsigned left sides only.
            y = operators.qlinear_pointwise(
                steps.add_(128).to(torch.uint8),
                *(1.0, 128, packed, scale, no_offset, None),
                *(1.0, 0, torch.float32, "none", [], ""),
            )
        y *= largest
        return y if bias is None else y.add_(bias)

    return product
