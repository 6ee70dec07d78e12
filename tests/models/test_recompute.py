import shutil

import pytest
import torch
from model_shapes import SHAPES, random_ids, random_model

from models.recompute import Recompute

HAS_COMPILER = any(map(shutil.which, ("g++", "clang++")))


def gradients(mode: Recompute, *, compiled: bool) -> dict[str, torch.Tensor]:
    config = SHAPES["qwen3"]
    model = random_model(config).train()
    model.gradient_checkpointing = mode
    if compiled:
        model.compile_blocks()
    model(random_ids(config, 2, 16)).float().square().mean().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {name: gradient for name, gradient in found.items() if gradient is not None}


@pytest.mark.filterwarnings("ignore")  # torch warns of the inside of its compiler
@pytest.mark.slow
@pytest.mark.skipif(not HAS_COMPILER, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("mode", ["selective", "full"])
def test_compiled_blocks_compute_again_to_the_same_gradients(mode: Recompute) -> None:
    expected = gradients("none", compiled=False)
    found = gradients(mode, compiled=True)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        # float32; fused sums are rounded in another order.
        assert (gradient - expected[name]).norm() <= 1e-5 * expected[name].norm(), name


def test_the_mode_in_force_is_seen() -> None:
    model = random_model(SHAPES["qwen3"])
    assert model.gradient_checkpointing == "none"
    model.gradient_checkpointing = "selective"
    assert model.gradient_checkpointing == "selective"
    assert {block.recompute for block in model.blocks} == {"selective"}
