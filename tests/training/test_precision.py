import math

import pytest
import torch

from training.batches import RowBatches, rows_in_order
from training.precision import (
    FIRST_LOSS_SCALE,
    LARGEST_LOSS_SCALE,
    LEAST_LOSS_SCALE,
    STEPS_TO_GROW,
    next_loss_scale,
)
from training.stability import BAD_STEPS
from training.step_report import Numbers, StepReport
from training.trainer import MAX_BAD_STEPS


def test_the_scale_follows_that_of_torch() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=FIRST_LOSS_SCALE, growth_interval=STEPS_TO_GROW)
    scaler.scale(torch.ones(()))  # its scale is made with the first use
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.0)
    parameter = optimizer.param_groups[0]["params"][0]
    scale, good = FIRST_LOSS_SCALE, 0
    overflows = {3, 4, 10, 2500, 4600, 4601}
    for step in range(5000):
        overflow = step in overflows
        parameter.grad = torch.full((1,), math.inf if overflow else 1.0)
        scaler.step(optimizer)
        scaler.update()
        scale, good = next_loss_scale(scale, good, overflow=overflow)
        assert scale == scaler.get_scale()


def test_the_scale_stays_within_its_bounds() -> None:
    scale = FIRST_LOSS_SCALE
    for _ in range(100):
        scale, good = next_loss_scale(scale, 7, overflow=True)
        assert good == 0
    assert scale == LEAST_LOSS_SCALE
    assert next_loss_scale(LARGEST_LOSS_SCALE, STEPS_TO_GROW - 1, overflow=False)[0] == LARGEST_LOSS_SCALE


def trainer_in_fp16(kit, **settings):
    trainer = kit.trainer(mixed_precision="fp32", **settings)
    trainer.compute_dtype = torch.float16
    trainer.progress.loss_scale = FIRST_LOSS_SCALE
    return trainer


@pytest.mark.parametrize("scale", [1.0, 1024.0, FIRST_LOSS_SCALE])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_in_float32_the_scale_changes_no_bit(kit, same_weights, optimizer: str, scale: float) -> None:
    plain, scaled = kit.trainer(optimizer=optimizer), kit.trainer(optimizer=optimizer)
    scaled.progress.loss_scale = scale
    batches = list(rows_in_order(kit.dataset["train"], batch_size=4))[:4]
    for pair in (batches[:2], batches[2:]):
        one, other = plain.train_step(pair), scaled.train_step(pair)
        assert one.loss_nats == other.loss_nats
        assert one.gradient_norm == other.gradient_norm
    assert same_weights(plain.model, scaled.model)


def test_gradients_of_float16_are_those_of_float32_but_for_rounding(kit) -> None:
    kit.shape = kit.shape.replace(dropout=0.0)
    batch = next(iter(rows_in_order(kit.dataset["train"], batch_size=4)))
    caught = []
    for trainer in (kit.trainer(), trainer_in_fp16(kit)):
        gradients: dict[str, torch.Tensor] = {}
        trainer.optimizers[0].step = lambda g=gradients, t=trainer: g.update(  # type: ignore[method-assign]
            {n: p.grad.clone() for n, p in t.model.named_parameters()}
        )
        assert not trainer.train_step([batch]).skipped
        caught.append(gradients)
    for name, exact in caught[0].items():
        error = (caught[1][name] - exact).norm() / exact.norm()
        assert 0 < error < 0.01, name


def test_a_run_in_float16_learns_and_keeps_its_scale_in_its_state(kit) -> None:
    trainer = trainer_in_fp16(kit, total_steps=60, learning_rate=1e-2)
    losses: list[float] = []
    source = RowBatches(kit.dataset["train"], batch_size=8, seed=1)
    trainer.fit(source, [lambda _t, report: losses.append(report.loss_nats)])
    assert losses[-1] < 0.7 * losses[0]
    assert trainer.progress.loss_scale == FIRST_LOSS_SCALE
    assert trainer.progress.steps_at_loss_scale == 60


def overflowing(limit: float):
    """A gradient hook: float16 has no number above 65504; here the limit is another."""

    def hook(gradient: torch.Tensor) -> torch.Tensor:
        return torch.where(gradient.abs() > limit, math.inf, gradient)

    return hook


def test_overflows_halve_the_scale_until_none_is_left_and_change_nothing(kit, caplog) -> None:
    caplog.set_level("INFO")
    trainer = kit.trainer(total_steps=100)
    trainer.progress.loss_scale = FIRST_LOSS_SCALE
    batch = next(iter(rows_in_order(kit.dataset["train"], batch_size=4)))
    weights = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    weight = trainer.model.blocks[1].attention.output.weight
    weight.register_hook(overflowing(0.5))
    scales = []
    while True:
        report = trainer.train_step([batch])
        scales.append(report.loss_scale)
        if not report.skipped:
            break
        assert report.is_overflow
        assert all(torch.equal(weights[n], p) for n, p in trainer.model.named_parameters())
    assert len(scales) > MAX_BAD_STEPS  # more than would end a run whose gradients are really not finite
    assert scales == [FIRST_LOSS_SCALE / 2**n for n in range(len(scales))]
    assert trainer.progress.bad_steps == 0
    assert "too large for float16 at loss scale 65536; the update is skipped" in caplog.text


def test_backing_off_is_no_trouble_but_gradients_that_overflow_unscaled_are(kit) -> None:
    from training.rollback import find_trouble
    from training.stability import Stability

    def report(step: int, scale: float | None, loss: float = 2.0) -> StepReport:
        return StepReport(step, 1e-3, 8, 8, 0.1, Numbers(torch.tensor([loss, math.inf])), scale)

    stability = Stability()
    for step in range(1, 15):
        assert find_trouble(stability, report(step, FIRST_LOSS_SCALE / 2**step), sigmas=6.0) is None
    found = [find_trouble(stability, report(step, LEAST_LOSS_SCALE), sigmas=6.0) for step in range(15, 18)]
    assert [trouble is None for trouble in found] == [True] * (BAD_STEPS - 1) + [False]
    stability = Stability()
    found = [find_trouble(stability, report(n, FIRST_LOSS_SCALE, math.nan), sigmas=6.0) for n in (1, 2, 3)]
    assert found[-1] is not None  # a loss that is not finite is not a matter of scale


def test_an_interrupted_run_in_float16_goes_on_with_its_scale(kit, same_weights, monkeypatch) -> None:
    """The least scale that a run ends with depends on all overflows before, also those before a resume."""
    from core.device_manager import DeviceManager
    from models.hf_layout import load_model

    monkeypatch.setattr(DeviceManager, "check_precision", lambda *_: None)  # a CPU can, and gains nothing
    monkeypatch.setattr("training.precision.STEPS_TO_GROW", 5)

    def train(name: str, **settings):
        run = kit.pretraining(
            mixed_precision="fp16", total_steps=12, save_steps=4, output_dir=str(kit.root / name)
        )
        run.model.blocks[1].attention.output.weight.register_hook(overflowing(2000.0))
        return run.train(RowBatches(kit.dataset["train"], batch_size=4, seed=1), **settings)

    straight = train("straight")
    (kit.root / "resumed").mkdir()
    (kit.root / "straight" / "step_4").rename(kit.root / "resumed" / "step_4")
    resumed = train("resumed", resume_from_checkpoint=kit.root / "resumed" / "step_4")
    assert same_weights(load_model(straight.final_directory), load_model(resumed.final_directory))
    states = [
        (kit.root / name / "step_12" / "trainer" / "state.json").read_text().replace(name, "")
        for name in ("straight", "resumed")
    ]
    assert '"loss_scale": 65536.0' not in states[0]
    assert states[0] == states[1]
