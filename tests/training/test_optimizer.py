import pytest
import torch

from core.errors import CorruptArtifactError, MismatchError
from training.optimizer import (
    Optimizers,
    create_optimizers,
    load_optimizer_tensors,
    optimizer_tensors,
    set_course,
)


def step(model: torch.nn.Module, optimizers: Optimizers, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    for optimizer in optimizers:
        optimizer.step()


def test_matrices_decay_and_norms_do_not(kit) -> None:
    model = kit.model()
    [optimizer] = create_optimizers(model, kit.config(optimizer="adamw", weight_decay=0.1))
    decayed, kept = optimizer.param_groups
    assert decayed["weight_decay"] == 0.1
    assert {p.ndim for p in decayed["params"]} == {2}
    assert kept["weight_decay"] == 0.0
    assert {p.ndim for p in kept["params"]} == {1}
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_the_update_is_adamw_as_published(kit) -> None:
    config = kit.config(optimizer="adamw", weight_decay=0.1, beta1=0.8, beta2=0.9, epsilon=1e-6)
    model = kit.model()
    name, parameter = next((n, p) for n, p in model.named_parameters() if p.ndim == 2)
    x = parameter.detach().double().clone()
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    [optimizer] = optimizers = create_optimizers(model, config)
    for t in range(1, 4):
        set_course(optimizers, learning_rate_share=0.01 * t / config.learning_rate, step=t)
        generator = torch.Generator().manual_seed(t)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        g = parameter.grad.double()
        optimizer.step()
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        x = x * (1 - 0.01 * t * 0.1) - 0.01 * t * (m / (1 - 0.8**t)) / ((v / (1 - 0.9**t)).sqrt() + 1e-6)
    torch.testing.assert_close(parameter.double(), x, atol=1e-6, rtol=1e-5, msg=name)


def test_saved_state_goes_on_bit_for_bit(kit, same_weights) -> None:
    straight, resumed = kit.model(), kit.model()
    one = create_optimizers(straight, kit.config())
    step(straight, one, 1)
    step(straight, one, 2)
    two = create_optimizers(resumed, kit.config())
    step(resumed, two, 1)
    fresh = create_optimizers(resumed, kit.config())
    load_optimizer_tensors(resumed, fresh, {k: v.clone() for k, v in optimizer_tensors(resumed, two).items()})
    step(resumed, fresh, 2)
    assert same_weights(straight, resumed)


def test_state_of_another_model_is_refused(kit) -> None:
    model = kit.model()
    optimizer = create_optimizers(model, kit.config())
    step(model, optimizer, 1)
    tensors = optimizer_tensors(model, optimizer)
    fresh = create_optimizers(model, kit.config())
    with pytest.raises(MismatchError, match="has no parameter 'nonsense'"):
        load_optimizer_tensors(model, fresh, {**tensors, "exp_avg/nonsense": torch.zeros(1)})
    some = {k: v for k, v in tensors.items() if not k.endswith("embedding.weight")}
    with pytest.raises(CorruptArtifactError, match=r"lacks 'exp_avg/embedding\.weight' \(3 tensors in all\)"):
        load_optimizer_tensors(model, fresh, some)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_state_that_lacks_a_kind_of_all_parameters_is_refused(kit, optimizer: str) -> None:
    model = kit.model()
    optimizers = create_optimizers(model, kit.config(optimizer=optimizer))
    step(model, optimizers, 1)
    tensors = optimizer_tensors(model, optimizers)
    for kind in sorted({key.partition("/")[0] for key in tensors}):
        some = {key: value for key, value in tensors.items() if not key.startswith(f"{kind}/")}
        fresh = create_optimizers(model, kit.config(optimizer=optimizer))
        with pytest.raises(CorruptArtifactError, match="the optimizer state lacks '"):
            load_optimizer_tensors(model, fresh, some)


def matrices_and_rest(model: torch.nn.Module) -> tuple[set[str], set[str]]:
    names = {name: p.ndim for name, p in model.named_parameters()}
    matrices = {n for n, ndim in names.items() if n.startswith("blocks.") and ndim == 2}
    return matrices, names.keys() - matrices


def test_muon_moves_the_matrices_of_blocks_and_adamw_everything_else(kit) -> None:
    model = kit.model()
    muon, adamw = create_optimizers(
        model, kit.config(optimizer="muon", matrix_learning_rate=0.05, learning_rate=0.003)
    )
    names = {id(p): n for n, p in model.named_parameters()}
    matrices, rest = matrices_and_rest(model)
    assert {names[id(p)] for g in muon.param_groups for p in g["params"]} == matrices
    assert {names[id(p)] for g in adamw.param_groups for p in g["params"]} == rest
    set_course([muon, adamw], learning_rate_share=0.5, step=150)
    assert [g["lr"] for g in muon.param_groups] == [0.025]
    assert {g["lr"] for g in adamw.param_groups} == {0.0015}
    assert muon.param_groups[0]["momentum"] == pytest.approx(0.9)


def test_the_saved_state_of_muon_goes_on_bit_for_bit(kit, same_weights) -> None:
    config = kit.config(optimizer="muon", weight_decay=0.1)
    straight, resumed = kit.model(), kit.model()
    one, two = create_optimizers(straight, config), create_optimizers(resumed, config)
    for seed in (1, 2):
        step(straight, one, seed)
    step(resumed, two, 1)
    fresh = create_optimizers(resumed, config)
    load_optimizer_tensors(resumed, fresh, {k: v.clone() for k, v in optimizer_tensors(resumed, two).items()})
    step(resumed, fresh, 2)
    assert same_weights(straight, resumed)
