import collections
import itertools
import math

import pytest
import torch
from late_numbers import LateNumbers

from training.batches import RowBatches
from training.step_report import Numbers, StepReport, arrived


def report(step: int, numbers: Numbers) -> StepReport:
    return StepReport(step, 1e-3, 64, 60, 0.1, numbers)


def test_a_report_reads_its_numbers_once_and_says_what_follows_from_them() -> None:
    numbers = LateNumbers(torch.tensor([2.5, 0.75]))
    one = report(3, numbers)
    assert not numbers.was_read
    assert (one.loss_nats, one.gradient_norm, one.skipped, one.is_overflow) == (2.5, 0.75, False, False)
    assert numbers.was_read
    assert one.values()["gradient_norm"] == 0.75
    assert report(3, Numbers(torch.tensor([2.5, math.nan]))).skipped
    nothing_to_learn = StepReport(3, 1e-3, 64, 0, 0.1, Numbers(torch.tensor([math.nan, 0.0])))
    assert nothing_to_learn.skipped


def test_all_but_the_last_ones_are_waited_for() -> None:
    late = [LateNumbers(torch.zeros(2)) for _ in range(4)]
    reports = collections.deque(report(n, numbers) for n, numbers in enumerate(late))
    assert [one.step for one in arrived(reports, at_most_late=1)] == [0, 1, 2]
    assert [one.step for one in arrived(reports, at_most_late=1)] == []
    # One that happens to be there is not taken for it: processes would differ in that.
    late[3].read()
    assert [one.step for one in arrived(reports, at_most_late=1)] == []
    assert [one.step for one in arrived(reports)] == [3]


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done with the numbers of each step, in order."""
    order: list[str] = []

    class Noted(LateNumbers):
        def __init__(self, values: torch.Tensor) -> None:
            super().__init__(values)
            self.number = sum(line.startswith("made") for line in order) + 1
            order.append(f"made {self.number}")

        def read(self) -> list[float]:
            order.append(f"read {self.number}")
            return super().read()

    monkeypatch.setattr("training.trainer.Numbers", Noted)
    return order


def test_no_step_waits_for_its_own_numbers(kit, order: list[str]) -> None:
    """The host asks for the numbers of a step when the next one has been launched, and not before."""
    trainer = kit.trainer(total_steps=4)
    trainer.fit(RowBatches(kit.dataset["train"], batch_size=4, seed=1), [])
    assert order == ["made 1", "made 2", "read 1", "made 3", "read 2", "made 4", "read 3", "read 4"]


def test_between_lines_of_the_log_no_hook_waits_for_the_step_either(kit, order: list[str]) -> None:
    trainer = kit.pretraining(total_steps=9, logging_steps=5, save_steps=100)
    trainer.train(RowBatches(kit.dataset["train"], batch_size=4, seed=1))
    assert sorted(order) == sorted(f"{what} {step}" for what in ("made", "read") for step in range(1, 10))
    at_once = [step for step in range(1, 9) if order.index(f"read {step}") < order.index(f"made {step + 1}")]
    assert at_once == [5]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_selection_on_the_device_trains_as_a_decision_of_the_host(kit, same_weights, optimizer: str) -> None:
    """The loop as it would be written with `if`: bit for bit the same weights, through steps that are skipped."""
    from core.seeds import derive_seed
    from training.losses import count_targets
    from training.optimizer import set_course
    from training.schedules import learning_rate

    poisoned = {0, 5, 6}
    now = 0

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.ones_like(gradient) > 0, math.nan, gradient) if now in poisoned else gradient

    ours, plain = (kit.trainer(optimizer=optimizer, weight_decay=0.1) for _ in range(2))
    source = RowBatches(kit.dataset["train"], batch_size=4, seed=1).micro_batches(itertools.count())
    for trainer in (ours, plain):
        trainer.model.blocks[1].attention.output.weight.register_hook(poison)
    for step in range(12):
        now = step
        batches = [next(source), next(source)]
        report = ours.train_step(batches)

        torch.manual_seed(derive_seed(plain.config.seed, "dropout", step))
        rate = learning_rate(step, plain.config, plain.horizon)
        set_course(plain.optimizers, learning_rate_share=rate / plain.config.learning_rate, step=step)
        num_targets = sum(map(count_targets, batches))
        loss = 0.0
        for batch in batches:
            share = plain.summed_loss(batch) / num_targets
            share.backward()
            loss += share.detach()
        norm = float(torch.nn.utils.clip_grad_norm_(plain.model.parameters(), 1.0))
        if math.isfinite(norm):
            for one in plain.optimizers:
                one.step()
        plain.model.zero_grad(set_to_none=True)
        assert report.skipped == (step in poisoned)
        assert report.loss_nats == float(loss)
        assert report.skipped or report.gradient_norm == norm
        assert same_weights(ours.model, plain.model)


def test_an_optimizer_that_cannot_select_is_not_called_for_a_step_that_is_skipped(kit, same_weights) -> None:
    trainer, untouched = kit.trainer(), kit.trainer()
    trainer.optimizers = [torch.optim.SGD(trainer.model.parameters(), lr=0.1, weight_decay=0.1)]
    trainer.optimizers[0].param_groups[0]["peak_lr"] = 0.1
    batch = next(RowBatches(kit.dataset["train"], batch_size=4, seed=1).micro_batches([0]))
    handle = trainer.model.final_norm.weight.register_hook(lambda g: g * math.nan)
    assert trainer.train_step([batch]).skipped
    assert same_weights(trainer.model, untouched.model)
    handle.remove()
    assert not trainer.train_step([batch]).skipped
    assert not same_weights(trainer.model, untouched.model)
