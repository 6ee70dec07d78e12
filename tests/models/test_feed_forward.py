import math

import pytest
import torch
from model_shapes import GPT2, SHAPES, SMALL, randomize

from core.training_config import ModelConfig
from models.feed_forward import ACTIVATIONS, PlainFeedForward, SwiGLU, build_feed_forward


def test_activations_are_their_formulas() -> None:
    def erf_gelu(z: float) -> float:
        return z * 0.5 * (1 + math.erf(z / math.sqrt(2)))

    def tanh_gelu(z: float) -> float:
        return 0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    formulas = {
        "gelu": erf_gelu,
        "gelu_tanh": tanh_gelu,
        "relu": lambda z: max(z, 0.0),
        "relu_squared": lambda z: max(z, 0.0) ** 2,
    }
    assert formulas.keys() == ACTIVATIONS.keys()
    for name, formula in formulas.items():
        for z in (-3.0, -0.7, 0.0, 0.3, 2.0):
            assert ACTIVATIONS[name](torch.tensor(z)).item() == pytest.approx(formula(z), abs=1e-6), (name, z)


def test_swiglu_is_its_formula() -> None:
    part = SwiGLU(SHAPES["llama-bias"])
    randomize(part, seed=2)
    x = torch.randn(2, SHAPES["llama-bias"].hidden_size, generator=torch.Generator().manual_seed(4))
    gate, up = part.gate(x).double(), part.up(x).double()
    hidden = gate / (1 + torch.exp(-gate)) * up
    expected = hidden @ part.down.weight.double().T + part.down.bias.double()
    torch.testing.assert_close(part(x).double(), expected, atol=1e-4, rtol=0)


def test_the_configuration_chooses_the_feed_forward_part() -> None:
    gpt2 = ModelConfig.from_dict({**SMALL, **GPT2, "activation": "relu_squared"})
    part = build_feed_forward(gpt2)
    assert isinstance(part, PlainFeedForward)
    assert part.activation is ACTIVATIONS["relu_squared"]
    assert isinstance(build_feed_forward(SHAPES["qwen3"]), SwiGLU)
