"""Weights laid out for the products of inference, in 32, 16 or 8 bits. Knows modules and products: no token, no cache.

Shapes: B rows, T tokens, D features in, O features out, N query heads, K key/value heads, H features of a head.

Where a token is made, time goes into reading weights once, so that fewer bytes are the speed: `docs/generating.md` has
what each format costs in bits per byte and gains in tokens a second.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import ConfigError
from inference.weight_formats import WEIGHT_FORMATS, WeightFormat
from models.attention import Attention, Documents, attend, attend_one
from models.blockwise_attention import LEAST_TOKENS
from models.feed_forward import SwiGLU
from models.kv_cache import LayerCache
from models.normalization import RMSNorm
from models.rotary import Rotation
from models.transformer_lm import Block, Blocks, TransformerLM

Product = Callable[[Tensor], Tensor]
"""x (..., D) to x W^T + b (..., O), float32."""

Make = Callable[[Tensor, Tensor | None], Product]
"""From W (O, D) and b (O,) or None."""

INT8_STEPS = 127
"""Of the largest element of a row, up and down: the scale is symmetric, and -128 is not used."""

LEAST = 1e-30
"""The largest element of a row of zeros."""


def prepare_weights(model: TransformerLM, weights: WeightFormat) -> None:
    """Lay out the linear layers of `model`, in place: it can be used for inference as before, and for nothing else.

    The weights are let go; the embedding stays as it is. All but products is computed in float32 in every format, and
    keys and values are float32 (in bfloat16, `LEAST_TOKENS` queries or more attend in that).

    Raises:
        ConfigError: this machine has no such products; the message says which to take.
    """
    device = model.embedding.weight.device
    check_weights(weights, device)
    make = _maker(weights, device)
    with torch.no_grad():
        model.head = Prepared(make(model.head_weight, None))
        dtype = torch.bfloat16 if weights == "bfloat16" else torch.float32
        for place, block in enumerate(model.blocks):  # one after the other, so that each lets its weights go
            model.blocks[place] = PreparedBlock(cast(Block, block), make, dtype=dtype)
        model.blocks = PreparedBlocks(model.blocks)
        model.final_norm = _prepared(model.final_norm, make)


def cast_weights(model: TransformerLM, dtype: torch.dtype) -> None:
    """Keep the weights of the linear layers in `dtype`, in place. Under autocast to it the products are the same to the
    last bit, but not cast anew for each token, which reads and writes four times as many bytes as the product."""
    with torch.no_grad():
        head = nn.Linear(1, 1, bias=False)
        head.weight = nn.Parameter(model.head_weight.detach().to(dtype), requires_grad=False)
        model.head = head
        for module in model.blocks.modules():
            if type(module) is nn.Linear:
                module.to(dtype)


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


class PreparedRMSNorm(nn.Module):
    """`models.normalization.RMSNorm` in five operations instead of nine: 4.8 microseconds a token instead of 8.4."""

    def __init__(self, weight: Tensor, *, epsilon: float) -> None:
        """
        Args:
            weight: (..., D), for as many vectors beside each other.
        """
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.epsilon = nn.Buffer(torch.tensor(epsilon, device=weight.device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) normalized over its last dimension, float32."""
        x = x.float()
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = torch.addcmul(self.epsilon, size, size, value=1 / x.shape[-1]).rsqrt_()
        return (x * scale).mul_(self.weight)


class PreparedAttention(nn.Module):
    """`models.attention.Attention` without dropout, with one product for queries, keys and values.

    The two features of a head that turn together stand side by side, in queries and keys alike, so that their products
    stay what they are: they are then complex numbers, and turn by one multiplication.
    """

    def __init__(self, attention: Attention, make: Make, *, dtype: torch.dtype) -> None:
        """
        Args:
            dtype: In which many tokens attend at once; a few do in float32, which is faster for them.
        """
        super().__init__()
        H = attention.features_per_head
        self.dtype = dtype
        order = sorted(range(H), key=lambda feature: feature % -(-H // 2))

        def in_pairs(x: Tensor) -> Tensor:
            return x.view(-1, H, *x.shape[1:])[:, order].flatten(0, 1)

        for parameter in (*attention.query.parameters(), *attention.key.parameters()):
            parameter.copy_(in_pairs(parameter))
        linears = (attention.query, attention.key, attention.value)
        query, key, _ = self.heads = [linear.out_features // H for linear in linears]
        self.projection = _together(linears, make)
        self.output = make(attention.output.weight, attention.output.bias)
        self.norm: nn.Module | None = None
        if isinstance(attention.query_norm, RMSNorm) and isinstance(attention.key_norm, RMSNorm):
            weights = (attention.query_norm.weight.expand(query, H), attention.key_norm.weight.expand(key, H))
            self.norm = PreparedRMSNorm(torch.cat(weights)[:, order], epsilon=attention.query_norm.epsilon)

    def forward(
        self, x: Tensor, turn: Tensor | None, mask: Tensor | Documents | None, cache: LayerCache | None
    ) -> Tensor:
        """As `Attention.forward`.

        Args:
            turn: The rotation as complex numbers of absolute value 1, (B or 1, T, 1, H/2).
        """
        B, T, _ = x.shape
        num_queries, num_keys, num_values = self.heads
        heads = self.projection(x).view(B, T, sum(self.heads), -1)
        turning, value = heads.split_with_sizes((num_queries + num_keys, num_values), 2)
        if self.norm is not None:
            turning = self.norm(turning)
        if turn is not None:
            torch.view_as_complex(turning.view(B, T, num_queries + num_keys, -1, 2)).mul_(turn)
        query, key = turning.transpose(1, 2).split_with_sizes((num_queries, num_keys), 1)
        value = value.transpose(1, 2)
        if cache is not None:
            key, value = cache.append(key, value)
        if T >= LEAST_TOKENS:
            query, key, value = query.to(self.dtype), key.to(self.dtype), value.to(self.dtype)
        attended = (attend_one if cache is not None and T == 1 else attend)(query, key, value, mask)
        return self.output(attended.reshape(B, T, -1))


class PreparedSwiGLU(nn.Module):
    """`models.feed_forward.SwiGLU` with one product for gate and up."""

    def __init__(self, swiglu: SwiGLU, make: Make) -> None:
        super().__init__()
        self.gate_and_up = _together((swiglu.gate, swiglu.up), make)
        self.down = make(swiglu.down.weight, swiglu.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) to (..., D)."""
        gate, up = self.gate_and_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate).mul_(up))


class PreparedBlock(nn.Module):
    """`models.transformer_lm.Block` without dropout."""

    def __init__(self, block: Block, make: Make, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.attention_norm = _prepared(block.attention_norm, make)
        self.attention = PreparedAttention(block.attention, make, dtype=dtype)
        self.feed_forward_norm = _prepared(block.feed_forward_norm, make)
        self.feed_forward = _prepared(block.feed_forward, make)

    def forward(
        self, x: Tensor, turn: Tensor | None, mask: Tensor | Documents | None, cache: LayerCache | None
    ) -> Tensor:
        """x (B, T, D) to (B, T, D); the other arguments are `PreparedAttention`'s."""
        x = x + self.attention(self.attention_norm(x), turn, mask, cache)
        x += self.feed_forward(self.feed_forward_norm(x))
        return x


class PreparedBlocks(Blocks):
    """`models.transformer_lm.Blocks` of `PreparedBlock`."""

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None,
        mask: Tensor | Documents | None,
        layers: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """As `Blocks.forward`; the rotation is turned into complex numbers once for all."""
        turn: Any = None if rotation is None else torch.complex(*rotation).transpose(1, 2)
        return super().forward(x, turn, mask, layers)


def _prepared(module: nn.Module, make: Make) -> nn.Module:
    """What takes the place of a module; of one that is not known here, what is in it is prepared, in place."""
    if type(module) is SwiGLU:
        return PreparedSwiGLU(module, make)
    if type(module) is RMSNorm:
        return PreparedRMSNorm(module.weight, epsilon=module.epsilon)
    if type(module) is nn.Linear:
        return Prepared(make(module.weight, module.bias))
    for name, child in module.named_children():
        setattr(module, name, _prepared(child, make))
    return module


def _together(linears: tuple[nn.Linear, ...], make: Make) -> Product:
    """One product for layers that read the same features; their results stand side by side."""
    weight = torch.cat([linear.weight for linear in linears])
    has_bias = linears[0].bias is not None
    return make(weight, torch.cat([linear.bias for linear in linears]) if has_bias else None)


def _maker(weights: WeightFormat, device: torch.device) -> Make:
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
    return lambda x: F.linear(x.to(dtype), weight, bias).float()


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
        return y.float()

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
    reads weights as they are, which are therefore kept twice. Products of a token of 12 layers of width 768: 3.3 ms
    instead of 4.0; of two rows, 9.2, so that neither does for both.
    """
    operators: Any = torch.ops.onednn
    scale = weight.float().abs().amax(dim=1).clamp(min=LEAST) / INT8_STEPS
    rounded = (weight.float() / scale[:, None]).round().to(torch.int8)
    packed, columns = operators.qlinear_prepack(rounded, None), rounded.T
    no_offset = torch.zeros(len(weight), dtype=torch.int64)
    num_steps = torch.tensor(float(INT8_STEPS))  # a number would be made a tensor for every product

    def product(x: Tensor) -> Tensor:
        step = x.abs().amax(dim=-1, keepdim=True).clamp_min_(LEAST).div_(num_steps)
        steps = (x / step).round_()
        if x.numel() == x.shape[-1]:
            y = torch._int_mm(steps.view(1, -1).char(), columns).mul(scale).view(*x.shape[:-1], -1)
        else:
            # From 128 on, because oneDNN is fast for unsigned left sides only. Its scale is 1 for all tokens; theirs
            # comes in below.
            y = operators.qlinear_pointwise(
                steps.add_(128).to(torch.uint8),
                *(1.0, 128, packed, scale, no_offset, None),
                *(1.0, 0, torch.float32, "none", [], ""),
            )
        y *= step
        return y if bias is None else y.add_(bias)

    return product
