import pytest
import torch
from model_shapes import GPT2, SHAPES, SMALL, randomize

from core.training_config import ModelConfig
from models.normalization import LayerNorm, RMSNorm, build_norm

X = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(0)) * 3 + 1
ROUNDING = 1e-5  # of float32 numbers below 10


def test_rms_norm_is_its_formula() -> None:
    norm = RMSNorm(16, epsilon=0.01)
    randomize(norm, seed=1)
    x = X.double()
    expected = x / (x.square().mean(-1, keepdim=True) + 0.01).sqrt() * norm.weight.double()
    torch.testing.assert_close(norm(X).double(), expected, atol=ROUNDING, rtol=0)


def test_layer_norm_is_its_formula() -> None:
    norm = LayerNorm(16, epsilon=0.01)
    randomize(norm, seed=1)
    x = X.double()
    variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
    expected = (x - mean) / (variance + 0.01).sqrt() * norm.weight.double() + norm.bias.double()
    torch.testing.assert_close(norm(X).double(), expected, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("kind", [RMSNorm, LayerNorm])
def test_norms_of_bfloat16_are_computed_in_float32(kind: type[RMSNorm] | type[LayerNorm]) -> None:
    norm = kind(16, epsilon=1e-6)
    # Eight bits of precision would hold neither the mean nor the sum of the squares of such numbers.
    x = (X * 1000).to(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = norm(x)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, norm(x.float()).to(torch.bfloat16))
    cast = kind(16, epsilon=1e-6).to(torch.bfloat16)
    assert torch.equal(cast(x), got)


def test_the_configuration_chooses_the_norm() -> None:
    assert isinstance(build_norm(SHAPES["qwen3"]), RMSNorm)
    assert isinstance(build_norm(ModelConfig.from_dict({**SMALL, **GPT2})), LayerNorm)
