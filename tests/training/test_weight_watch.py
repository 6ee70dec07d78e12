import itertools
import math

import pytest
import torch

from models.hf_layout import load_model
from training import weight_watch
from training.session import row_loaders
from training.weight_watch import SAMPLED_WEIGHTS, WatchWeights, sampled, signal_share


class Sink:
    def __init__(self) -> None:
        self.lines: dict[int, dict[str, float]] = {}

    def write(self, step: int, values: dict[str, float]) -> None:
        self.lines[step] = dict(values)

    def close(self) -> None:
        pass


def batches(kit, number: int):
    source = row_loaders(kit.dataset["train"], None, kit.config())[0]
    return [batch for batch, _ in zip(source.micro_batches(itertools.count(0)), range(number), strict=False)]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_watching_changes_no_bit_of_the_training(kit, same_weights, optimizer: str) -> None:
    def finish(name: str, logging_steps: int):
        out = kit.root / name
        trainer = kit.pretraining(
            output_dir=str(out), logging_steps=logging_steps, total_steps=11, optimizer=optimizer
        )
        result = trainer.train(*row_loaders(kit.dataset["train"], kit.dataset["validation"], trainer.config))
        return load_model(result.final_directory), (out / "metrics.jsonl").read_text()

    (watched, log), (unwatched, silent_log) = finish("watched", 1), finish("unwatched", 1000)
    assert log.count("train/update_to_weight/attention") == 1
    assert "update_to_weight" not in silent_log
    assert same_weights(watched, unwatched)


def test_the_ratios_are_those_of_whole_copies_of_the_weights(kit, monkeypatch) -> None:
    monkeypatch.setattr(weight_watch, "LINES_BETWEEN", 1)
    trainer, sink = kit.trainer(logging_steps=2), Sink()
    watch = WatchWeights(trainer, [sink])
    streams: list[torch.Tensor] = []
    trainer.model.blocks[-1].register_forward_hook(lambda _m, _i, output: streams.append(output.detach()))
    copies = []
    for batch in batches(kit, 4):
        copies.append({n: p.detach().clone() for n, p in trainer.model.named_parameters()})
        watch(trainer, trainer.train_step([batch]))
    assert sorted(sink.lines) == [2, 4]
    now = {n: p.detach() for n, p in trainer.model.named_parameters()}
    for group in ("embedding", "attention", "feed_forward"):
        names = [n for n, p in now.items() if group in n and p.ndim == 2]
        moved = sum(float((now[n] - copies[3][n]).square().sum()) for n in names)
        there = sum(float(copies[3][n].square().sum()) for n in names)
        found = sink.lines[4][f"train/update_to_weight/{group}"]
        assert found == pytest.approx(math.sqrt(moved / there), rel=1e-3)
    assert "train/update_to_weight/head" not in sink.lines[4]  # it is tied to the embedding
    expected = float(streams[3].square().mean().sqrt())
    assert sink.lines[4]["train/activation_rms"] == pytest.approx(expected, rel=1e-5)


def test_an_evaluation_in_between_is_not_taken_for_the_step(kit, monkeypatch) -> None:
    monkeypatch.setattr(weight_watch, "LINES_BETWEEN", 1)
    trainer, sink = kit.trainer(logging_steps=1), Sink()
    watch = WatchWeights(trainer, [sink])
    (batch,) = batches(kit, 1)
    report = trainer.train_step([batch])
    trainer.evaluate([{key: value * 0 for key, value in batch.items()}])
    watch(trainer, report)
    alone = kit.trainer(logging_steps=1)
    other = Sink()
    watch = WatchWeights(alone, [other])
    watch(alone, alone.train_step([batch]))
    assert sink.lines == other.lines


def test_the_model_is_left_as_it_was(kit, monkeypatch) -> None:
    monkeypatch.setattr(weight_watch, "LINES_BETWEEN", 1)
    trainer = kit.trainer(logging_steps=1)
    watch = WatchWeights(trainer, [])
    assert trainer.model.final_norm._forward_pre_hooks
    watch.close()
    assert not trainer.model.final_norm._forward_pre_hooks


def test_a_step_that_was_skipped_is_not_measured(kit, monkeypatch) -> None:
    monkeypatch.setattr(weight_watch, "LINES_BETWEEN", 1)
    trainer, sink = kit.trainer(logging_steps=1), Sink()
    watch = WatchWeights(trainer, [sink])
    (batch,) = batches(kit, 1)
    nothing = {**batch, "labels": torch.full_like(batch["labels"], -100)}
    watch(trainer, trainer.train_step([nothing]))
    assert sink.lines == {}


def test_a_sample_meets_every_column_and_bounds_its_size() -> None:
    weight = torch.arange(1024).repeat(2048, 1).float()
    values = sampled(weight)
    assert SAMPLED_WEIGHTS / 2 < len(values) <= SAMPLED_WEIGHTS + 1
    assert len(values.unique()) == 1024
    assert values.data_ptr() == weight.data_ptr()


@pytest.mark.parametrize(("optimizer", "signal"), [("adamw", 1.0), ("adamw", 0.1), ("muon", 0.5)])
def test_the_signal_share_is_that_of_made_up_gradients(kit, signal: float, optimizer: str) -> None:
    trainer = kit.trainer(optimizer=optimizer, max_gradient_norm=None, learning_rate=1e-6, beta1=0.9)
    generator = torch.Generator().manual_seed(3)
    parameters = list(trainer.model.parameters())
    true = [torch.randn(p.shape, generator=generator) for p in parameters]
    shares = []
    for step in range(120):
        for parameter, mean in zip(parameters, true, strict=True):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.grad = signal**0.5 * mean + (1 - signal) ** 0.5 * noise
        norm = float(torch.nn.utils.get_total_norm([p.grad for p in parameters]))
        for one in trainer.optimizers:
            for group in one.param_groups:
                group["lr"] = 0.0
                if "momentum" in group:
                    group["momentum"] = 0.9
            one.step()
        trainer.progress.step = step + 1
        shares.append(signal_share(trainer, norm))
    assert shares[:59] == [None] * 59
    settled = shares[70:]
    assert sum(settled) / len(settled) == pytest.approx(signal, abs=0.03)


def test_of_an_optimizer_that_keeps_no_known_mean_no_signal_share_is_claimed(kit) -> None:
    trainer = kit.trainer()
    trainer.train_step(batches(kit, 1))
    trainer.progress.step = 1000
    assert signal_share(trainer, 1.0) is not None
    trainer.optimizers = [torch.optim.SGD(trainer.model.parameters(), lr=0.1)]
    assert signal_share(trainer, 1.0) is None
