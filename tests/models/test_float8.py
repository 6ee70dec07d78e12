import pytest
import torch
import torch.nn.functional as F
from model_shapes import SHAPES, random_ids
from torch import nn

from models.float8 import ACTIVATIONS, GRADIENTS, Float8Linear, quantized, use_float8
from models.transformer_lm import create_model_from_config

HALF_STEP = {ACTIVATIONS: 2.0**-4, GRADIENTS: 2.0**-3}
"""Half of the distance of neighbours, relative to the number: 3 and 2 bits of fraction."""


def numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [ACTIVATIONS, GRADIENTS])
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e6])
def test_what_is_quantized_comes_back_to_half_a_step_of_each_number(dtype: torch.dtype, size: float) -> None:
    x = numbers(64, 48, seed=1) * size
    x8, scale = quantized(x, dtype)
    assert x8.dtype == dtype
    assert quantized(x.T, dtype)[0].is_contiguous()
    assert quantized(x[:, :1].expand(64, 48), dtype)[0].is_contiguous()
    back = x8.float() * scale
    if size == 1e-30:  # below what a scale is made for: all zeros, and no NaN
        assert not back.any()
        return
    assert back.abs().max() == pytest.approx(float(x.abs().max()), rel=1e-6)
    large = x.abs() > x.abs().max() / 1000  # smaller ones may be among e4m3's subnormal numbers
    assert ((back - x).abs() <= HALF_STEP[dtype] * x.abs() * (1 + 1e-6))[large].all()


def test_the_products_are_those_of_the_quantized_factors() -> None:
    layer = Float8Linear(48, 32, bias=False)
    with torch.no_grad():
        layer.weight.copy_(numbers(32, 48, seed=2))
    x = numbers(4, 16, 48, seed=3).requires_grad_()
    d_y = numbers(4, 16, 32, seed=4)
    y = layer(x)
    y.backward(d_y)

    def rounded(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        scale = tensor.abs().max() / torch.finfo(dtype).max
        return (tensor / scale).to(dtype).float() * scale

    weight8, x8 = rounded(layer.weight.detach(), ACTIVATIONS), rounded(x.detach(), ACTIVATIONS)
    d_y8 = rounded(d_y, GRADIENTS)
    torch.testing.assert_close(y, x8 @ weight8.T, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(x.grad, d_y8 @ weight8, atol=1e-4, rtol=1e-5)
    expected = d_y8.flatten(0, 1).T @ x8.flatten(0, 1)
    torch.testing.assert_close(layer.weight.grad, expected, atol=1e-4, rtol=1e-5)


def test_the_error_is_that_of_rounding_and_not_more() -> None:
    """Relative errors of the factors are even on +-2^-4 and 2^-3 of a number's power of two, and independent."""
    layer = Float8Linear(1024, 64, bias=True)
    x = numbers(256, 1024, seed=5).requires_grad_()
    exact = F.linear(x, layer.weight, layer.bias)
    d_y = numbers(256, 64, seed=6)
    found = [layer(x), *torch.autograd.grad(layer(x), [x, layer.weight], d_y)]
    expected = [exact, *torch.autograd.grad(exact, [x, layer.weight], d_y)]
    for one, other, at_most in zip(found, expected, (0.045, 0.075, 0.075), strict=True):
        error = float(((one - other).norm() / other.norm()).detach())
        assert at_most / 3 < error < at_most


def test_a_model_keeps_its_names_and_learns_as_with_exact_products() -> None:
    config = SHAPES["qwen3"].replace(
        hidden_size=64, intermediate_size=128, num_attention_heads=4, head_dim=16
    )
    ids = random_ids(config, 4, 16)
    losses: list[list[float]] = []
    for is_fp8 in (False, True):
        model = create_model_from_config(config, seed=3)
        names = list(model.state_dict())
        if is_fp8:
            assert use_float8(model.blocks) == 7 * config.num_layers
            assert list(model.state_dict()) == names
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses.append([])
        for _ in range(30):
            logits = model(ids)[:, :-1]
            loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(float(loss.detach()))
    assert losses[1] != losses[0]
    assert losses[0][-1] < 0.8 * losses[0][0]
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


def test_an_evaluated_model_is_the_exported_one() -> None:
    config = SHAPES["qwen3"]
    model = create_model_from_config(config, seed=3)
    exact = model.eval()(random_ids(config, 2, 16))
    use_float8(model.blocks)
    assert torch.equal(model(random_ids(config, 2, 16)), exact)


def test_layers_and_batches_of_other_sizes_are_left_alone() -> None:
    layers = nn.Sequential(nn.Linear(24, 32), nn.Linear(32, 24), nn.Linear(32, 48))
    assert use_float8(layers) == 1
    assert [type(layer) for layer in layers] == [nn.Linear, nn.Linear, Float8Linear]
    x = numbers(5, 32, seed=7)  # five tokens are no multiple of 16
    assert torch.equal(layers[2](x), F.linear(x, layers[2].weight, layers[2].bias))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_does_not_get_lost(number: float) -> None:
    layer = Float8Linear(16, 16)
    x = numbers(16, 16, seed=8)
    x[3, 4] = number
    assert not layer(x).isfinite().all()
    d_y = torch.ones(16, 16)
    d_y[3, 4] = number
    x = numbers(16, 16, seed=8).requires_grad_()
    layer(x).backward(d_y)
    assert x.grad is not None
    assert not x.grad.isfinite().all()


def test_under_autocast_the_result_has_its_type_and_gradients_that_of_the_weights() -> None:
    layer = Float8Linear(32, 16)
    x = numbers(16, 32, seed=9).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert layer.weight.grad is not None
    assert x.grad is not None
    assert layer.weight.grad.dtype == x.grad.dtype == torch.float32
