"""The part of a block that works on each token alone. Knows nothing of positions and other tokens."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from core.training_config import ModelConfig


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by the tanh formula (Hendrycks & Gimpel 2016, section 2), as in GPT-2."""
    return F.gelu(x, approximate="tanh")


def relu_squared(x: Tensor) -> Tensor:
    """The square of ReLU (So et al. 2021)."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "relu": F.relu,
    "relu_squared": relu_squared,
}


class SwiGLU(nn.Module):
    """down(SiLU(gate(x)) x up(x)) (Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, inner_size, bias = config.hidden_size, config.feed_forward_size, config.use_bias
        self.gate = nn.Linear(size, inner_size, bias=bias)
        self.up = nn.Linear(size, inner_size, bias=bias)
        self.down = nn.Linear(inner_size, size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) to (..., D)."""
        y: Tensor = self.down(F.silu(self.gate(x)) * self.up(x))
        return y


class PlainFeedForward(nn.Module):
    """down(activation(up(x))) (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, inner_size, bias = config.hidden_size, config.feed_forward_size, config.use_bias
        self.up = nn.Linear(size, inner_size, bias=bias)
        self.down = nn.Linear(inner_size, size, bias=bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) to (..., D)."""
        y: Tensor = self.down(self.activation(self.up(x)))
        return y


FEED_FORWARDS: dict[str, type[SwiGLU] | type[PlainFeedForward]] = {
    "swiglu": SwiGLU,
    "plain": PlainFeedForward,
}


def build_feed_forward(config: ModelConfig) -> SwiGLU | PlainFeedForward:
    """The feed-forward part that `config` chooses."""
    return FEED_FORWARDS["swiglu" if config.use_swiglu else "plain"](config)
