"""Normalization of features to unit size, always in float32. Knows nothing of where in the model it is used."""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.setting_names import named
from core.training_config import ModelConfig


class RMSNorm(nn.Module):
    """Division by the root mean square (Zhang & Sennrich 2019), without mean and bias."""

    def __init__(self, size: int, *, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """x (..., size) normalized over its last dimension; shape and dtype stay."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.epsilon).to(x.dtype)


class LayerNorm(nn.Module):
    """Zero mean and unit variance (Ba et al. 2016), with weight and bias."""

    def __init__(self, size: int, *, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        """x (..., size) normalized over its last dimension; shape and dtype stay."""
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), weight.shape, weight, bias, self.epsilon).to(x.dtype)


class MakesNorm(Protocol):
    """What the list of norms holds."""

    def __call__(self, size: int, *, epsilon: float) -> nn.Module:
        """The norm of so many features."""


NORMS: dict[str, MakesNorm] = {"rms_norm": RMSNorm, "layer_norm": LayerNorm}


def build_norm(config: ModelConfig) -> nn.Module:
    """The norm of the residual stream that `config` chooses.

    Raises:
        ConfigError: it is not known.
    """
    make = named(config.norm_name, NORMS, setting="model.norm", place="models.normalization.NORMS")
    return make(config.hidden_size, epsilon=config.norm_epsilon)
