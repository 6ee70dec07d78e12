import math

import pytest
import torch

from core.distributed import World
from core.errors import BloomeryError, DataError
from training.batches import RowBatches, rows_in_order
from training.losses import next_token_loss
from training.optimizer import optimizer_tensors
from training.trainer import MAX_BAD_STEPS, share_of


def gradient(kit, micro_batch_rows: int, dropout: float = 0.0) -> dict[str, torch.Tensor]:
    """The gradient of the same eight rows, however they are split into micro-batches."""
    kit.shape = kit.shape.replace(dropout=dropout)
    trainer = kit.trainer()
    rows = kit.dataset["train"].batch(range(8))
    whole = {k: torch.from_numpy(v) for k, v in rows.items()}
    whole["labels"][0, :20] = -100  # so that micro-batches have unequal numbers of targets
    parts = [
        {k: v[i : i + micro_batch_rows] for k, v in whole.items()} for i in range(0, 8, micro_batch_rows)
    ]
    caught: dict[str, torch.Tensor] = {}
    trainer.optimizers[0].step = lambda: caught.update(  # type: ignore[method-assign]
        {n: p.grad.clone() for n, p in trainer.model.named_parameters()}
    )
    trainer.train_step(parts)
    return caught


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_accumulated_gradients_equal_the_big_batch(kit, rows: int) -> None:
    big, small = gradient(kit, 8), gradient(kit, rows)
    for name in big:
        torch.testing.assert_close(small[name], big[name], atol=1e-7, rtol=1e-5, msg=name)


def test_the_reported_loss_is_the_mean_over_targets(kit) -> None:
    kit.shape = kit.shape.replace(dropout=0.0)
    trainer = kit.trainer()
    batches = list(rows_in_order(kit.dataset["train"], batch_size=4))[:2]
    expected = trainer.evaluate(batches).loss_nats
    assert trainer.train_step(batches).loss_nats == pytest.approx(expected, rel=1e-6)


def test_the_loss_of_untrained_weights_is_that_of_guessing_and_falls(kit) -> None:
    trainer = kit.trainer(total_steps=60, learning_rate=1e-2)
    source = RowBatches(kit.dataset["train"], batch_size=8, seed=1)
    losses: list[float] = []
    trainer.fit(source, [lambda _t, report: losses.append(report.loss_nats)])
    assert losses[0] == pytest.approx(math.log(kit.tokenizer.vocab_size), rel=0.02)
    assert losses[-1] < 0.7 * losses[0]


def test_a_step_counts_updates_and_tokens(kit) -> None:
    trainer = kit.trainer(gradient_accumulation_steps=3, total_steps=2)
    steps: list[tuple[int, int]] = []
    trainer.fit(
        RowBatches(kit.dataset["train"], batch_size=4, seed=1),
        [lambda _t, report: steps.append((report.step, report.num_tokens))],
    )
    assert steps == [(1, 3 * 4 * 32), (2, 3 * 4 * 32)]


def test_evaluating_changes_neither_weights_nor_what_follows(kit, same_weights) -> None:
    held_out = rows_in_order(kit.dataset["validation"], batch_size=4)
    models = []
    for hooks in ([], [lambda trainer, _report: trainer.evaluate(held_out)]):
        trainer = kit.trainer(total_steps=5)
        trainer.fit(RowBatches(kit.dataset["train"], batch_size=4, seed=1), hooks)
        models.append(trainer.model)
    assert same_weights(*models)


def test_training_leaves_the_callers_random_state_alone(kit) -> None:
    before = torch.random.get_rng_state()
    kit.trainer(total_steps=2).fit(RowBatches(kit.dataset["train"], batch_size=4, seed=1), [])
    assert torch.equal(before, torch.random.get_rng_state())


def test_dropout_differs_between_steps_and_is_the_same_again(kit) -> None:
    batch = next(iter(rows_in_order(kit.dataset["train"], batch_size=4)))

    def losses() -> list[float]:
        trainer = kit.trainer(total_steps=2)
        trainer.optimizers[0].step = lambda: None  # type: ignore[method-assign]
        return [trainer.train_step([batch]).loss_nats for _ in range(2)]

    assert losses() == losses()
    assert losses()[0] != losses()[1]


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_with_one_gradient_that_is_not_finite_changes_nothing(
    kit, optimizer: str, number: float
) -> None:
    trainer = kit.trainer(optimizer=optimizer, weight_decay=0.1)
    good = next(iter(rows_in_order(kit.dataset["train"], batch_size=4)))
    trainer.train_step([good])
    weights = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    state = {k: v.clone() for k, v in optimizer_tensors(trainer.model, trainer.optimizers).items()}
    assert {key.split("/")[0] for key in state} >= {"step", "exp_avg"}
    parameter = trainer.model.blocks[1].attention.output.weight

    def poison(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        gradient[0, 0] = number
        return gradient

    handle = parameter.register_hook(poison)
    assert trainer.train_step([good]).skipped
    handle.remove()
    assert all(torch.equal(weights[n], p) for n, p in trainer.model.named_parameters())
    after = optimizer_tensors(trainer.model, trainer.optimizers)
    assert after.keys() == state.keys()
    assert all(torch.equal(after[key], state[key]) for key in state)
    assert not trainer.train_step([good]).skipped


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_whose_loss_alone_is_not_finite_changes_nothing(kit, optimizer: str) -> None:
    broken = [False]

    def loss_function(model, batch, **options) -> torch.Tensor:
        # A constant: whatever the loss is, its gradient is that of the other part.
        return next_token_loss(model, batch, **options) + (math.nan if broken[0] else 0.0)

    trainer = kit.trainer(optimizer=optimizer, weight_decay=0.1, loss_function=loss_function)
    good = next(iter(rows_in_order(kit.dataset["train"], batch_size=4)))
    trainer.train_step([good])
    weights = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    state = {k: v.clone() for k, v in optimizer_tensors(trainer.model, trainer.optimizers).items()}
    gradients = []
    handle = trainer.model.embedding.weight.register_hook(lambda gradient: gradients.append(gradient.clone()))
    broken[0] = True
    assert trainer.train_step([good]).skipped
    handle.remove()
    assert torch.isfinite(gradients[0]).all() and gradients[0].any()
    assert all(torch.equal(weights[n], p) for n, p in trainer.model.named_parameters())
    after = optimizer_tensors(trainer.model, trainer.optimizers)
    assert all(torch.equal(after[key], state[key]) for key in state)
    broken[0] = False
    assert not trainer.train_step([good]).skipped


def test_a_run_that_diverged_ends_with_a_remedy(kit) -> None:
    trainer = kit.trainer(
        total_steps=100, loss_function=lambda model, batch, **_: model(batch["input_ids"]).sum() * math.inf
    )
    with pytest.raises(
        BloomeryError, match=r"10 updates in a row had no finite gradient .* learning_rate below"
    ):
        trainer.fit(RowBatches(kit.dataset["train"], batch_size=4, seed=1), [])
    assert trainer.progress.step == MAX_BAD_STEPS


def test_nothing_to_learn_or_to_evaluate_is_an_error(kit) -> None:
    batch = dict(next(iter(rows_in_order(kit.dataset["train"], batch_size=4))))
    batch["labels"] = torch.full_like(batch["labels"], -100)
    trainer = kit.trainer()
    assert trainer.train_step([batch]).skipped  # one such row can be at the end of a split
    with pytest.raises(DataError, match="step 10: 10 steps in a row have nothing to learn"):
        for _ in range(MAX_BAD_STEPS):
            trainer.train_step([batch])
    with pytest.raises(DataError, match="validation batches have nothing to predict"):
        kit.trainer().evaluate([batch])


def test_gradients_are_clipped_to_the_norm(kit) -> None:
    trainer = kit.trainer(max_gradient_norm=0.01)
    caught: list[float] = []
    trainer.optimizers[0].step = lambda: caught.append(  # type: ignore[method-assign]
        float(torch.sqrt(sum((p.grad**2).sum() for p in trainer.model.parameters())))  # type: ignore[arg-type]
    )
    report = trainer.train_step(list(rows_in_order(kit.dataset["train"], batch_size=4))[:1])
    assert report.gradient_norm > 0.01
    assert caught[0] == pytest.approx(0.01, rel=1e-3)


def test_bfloat16_compute_keeps_float32_weights_and_stays_close(kit) -> None:
    kit.shape = kit.shape.replace(dropout=0.0)
    batch = next(iter(rows_in_order(kit.dataset["train"], batch_size=4)))
    exact, rough = kit.trainer(), kit.trainer()
    rough.compute_dtype = torch.bfloat16
    losses = [trainer.train_step([batch]).loss_nats for trainer in (exact, rough)]
    assert losses[0] == pytest.approx(losses[1], rel=5e-3)
    assert losses[0] != losses[1]
    assert {p.dtype for p in rough.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("num_processes", [1, 2, 3, 5, 8])
def test_processes_evaluate_each_batch_once_and_as_many_batches_each(kit, num_processes: int) -> None:
    batches = rows_in_order(kit.dataset["validation"], batch_size=40)
    expected = [batch["labels"].tolist() for batch in batches]
    assert len(batches) == 6
    shares = [list(share_of(World(rank=r, size=num_processes), batches)) for r in range(num_processes)]
    assert {len(share) for share in shares} == {-(-6 // num_processes)}
    found = [share[turn]["labels"] for turn in range(len(shares[0])) for share in shares]
    assert [labels.tolist() for labels in found[:6]] == expected
    assert all(bool((labels == -100).all()) for labels in found[6:])


def test_fp8_reaches_the_blocks_alone(kit) -> None:
    trainer = kit.trainer(mixed_precision="fp8")
    kinds = {name: type(module).__name__ for name, module in trainer.model.named_modules()}
    assert {kinds[f"blocks.0.attention.{part}"] for part in ("query", "key", "value", "output")} == {
        "Float8Linear"
    }
    assert kinds["embedding"] == "Embedding"
    report = trainer.train_step([next(iter(rows_in_order(kit.dataset["train"], batch_size=4)))])
    assert not report.skipped
