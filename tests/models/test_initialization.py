import math

import pytest
import torch
from model_shapes import MAIN_SHAPES, SHAPES

from models.initialization import RESIDUAL_OUTPUTS
from models.transformer_lm import create_model_from_config


@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_equal_seeds_give_equal_weights_and_other_seeds_others(shape: str) -> None:
    first, again, other = (
        create_model_from_config(SHAPES[shape], seed=seed).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert all(not torch.equal(first[name], other[name]) for name in first if first[name].ndim == 2)


@pytest.mark.parametrize("shape", MAIN_SHAPES)
@pytest.mark.parametrize("seed", [1, None])
def test_the_global_generator_is_not_touched(shape: str, seed: int | None) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    create_model_from_config(SHAPES[shape], seed=seed)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_do_not_depend_on_the_state_of_the_global_generator() -> None:
    torch.manual_seed(7)
    first = create_model_from_config(SHAPES["qwen3"], seed=1)
    torch.manual_seed(8)
    second = create_model_from_config(SHAPES["qwen3"], seed=1)
    assert torch.equal(first.embedding.weight, second.embedding.weight)


def test_without_a_seed_the_global_one_decides() -> None:
    torch.manual_seed(7)
    first = create_model_from_config(SHAPES["qwen3"])
    torch.manual_seed(7)
    second = create_model_from_config(SHAPES["qwen3"])
    torch.manual_seed(8)
    third = create_model_from_config(SHAPES["qwen3"])
    assert torch.equal(first.embedding.weight, second.embedding.weight)
    assert not torch.equal(first.embedding.weight, third.embedding.weight)


@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_every_parameter_has_the_size_that_its_place_asks_for(shape: str) -> None:
    config = SHAPES[shape].replace(hidden_size=96, num_layers=8, initializer_range=0.05)
    model = create_model_from_config(config, seed=0)
    num_residual = 0
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32 and parameter.device.type == "cpu"
        if name.endswith("bias"):
            assert torch.count_nonzero(parameter) == 0, name
        elif parameter.ndim == 1:
            assert torch.all(parameter == 1), name
        else:
            num_residual += name.endswith(RESIDUAL_OUTPUTS)
            expected = 0.05 / math.sqrt(2 * 8) if name.endswith(RESIDUAL_OUTPUTS) else 0.05
            # The estimate from n numbers is off by 1/sqrt(2n) of itself; four times that is never reached.
            off = 4 / math.sqrt(2 * parameter.numel())
            assert parameter.std().item() == pytest.approx(expected, rel=off), name
            assert abs(parameter.mean().item()) < 4 * expected / math.sqrt(parameter.numel()), name
    assert num_residual == 2 * 8


def test_an_untrained_model_is_about_as_wrong_as_guessing() -> None:
    config = SHAPES["qwen3"]
    model = create_model_from_config(config, seed=0)
    ids = torch.randint(97, (4, 64), generator=torch.Generator().manual_seed(0))
    loss = torch.nn.functional.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(97), abs=0.1)
