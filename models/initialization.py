"""The weights that a model begins with. Knows nothing of training; draws from its own generator."""

import math

import torch
from torch import nn

from core.training_config import ModelConfig

RESIDUAL_OUTPUTS = ("attention.output.weight", "feed_forward.down.weight")
"""The matrices of a block that write to the residual stream."""


@torch.no_grad()
def initialize_weights(model: nn.Module, config: ModelConfig, *, seed: int) -> None:
    """Overwrite all parameters: matrices from N(0, initializer_range²), norms one, biases zero.

    The matrices that write to the residual stream are scaled by 1/sqrt(2 x num_layers), so that its size does not
    grow with depth (Radford et al. 2019, section 2.3). The numbers depend on the seed and the shape alone: they
    are drawn on the CPU, and torch's global generator is neither read nor advanced.
    """
    generator = torch.Generator().manual_seed(seed)
    residual_scale = 1.0 / math.sqrt(2 * config.num_layers)
    for name, parameter in model.named_parameters():
        assert parameter.device.type == "cpu", f"{name} is on {parameter.device}; initialize, then move"
        if name.endswith(".bias"):
            parameter.zero_()
        elif parameter.ndim == 1:
            parameter.fill_(1.0)
        else:
            scale = residual_scale if name.endswith(RESIDUAL_OUTPUTS) else 1.0
            parameter.normal_(0.0, config.initializer_range * scale, generator=generator)
