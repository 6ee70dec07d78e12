"""The part of a block that works on each token alone. Knows nothing of positions and other tokens."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from core.setting_names import named
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
        self.activation = named(
            config.activation,
            ACTIVATIONS,
            setting="model.activation",
            place="models.feed_forward.ACTIVATIONS",
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (..., D) to (..., D)."""
        y: Tensor = self.down(self.activation(self.up(x)))
        return y


FEED_FORWARDS: dict[str, Callable[[ModelConfig], nn.Module]] = {"swiglu": SwiGLU, "plain": PlainFeedForward}
"""Name -> what makes the part from the configuration. Its parameters get their first values from
`models.initialization`, which takes a matrix called `down` for the one that writes to the residual stream."""


def build_feed_forward(config: ModelConfig) -> nn.Module:
    """The feed-forward part that `config` chooses.

    Raises:
        ConfigError: it, or its activation, is not known.
    """
    make = named(
        config.feed_forward_name,
        FEED_FORWARDS,
        setting="model.feed_forward",
        place="models.feed_forward.FEED_FORWARDS",
    )
    return make(config)
