import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, Sampler

from core.errors import ConfigError, DataError
from data_processing.rows.token_rows import TokenRows
from training.batches import (
    LoaderBatches,
    ReplayingBatches,
    RowBatches,
    check_batch,
    rows_in_order,
    training_batches,
)


def first(source: Any, number: int, start: int = 0) -> list[dict[str, torch.Tensor]]:
    return list(itertools.islice(source.micro_batches(itertools.count(start)), number))


def same(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> bool:
    return all(torch.equal(a[key], b[key]) for a, b in zip(one, other, strict=True) for key in a)


def test_an_epoch_holds_every_row_once(kit) -> None:
    rows = kit.dataset["train"]
    source = RowBatches(rows, batch_size=1, seed=3)
    seen = [tuple(batch["input_ids"][0].tolist()) for batch in first(source, len(rows))]
    assert sorted(seen) == sorted(tuple(rows[i]["input_ids"].tolist()) for i in range(len(rows)))


def test_epochs_differ_in_order_and_seeds_differ(kit) -> None:
    rows = kit.dataset["train"]
    one = first(RowBatches(rows, batch_size=1, seed=3), 2 * len(rows))
    assert not same(one[: len(rows)], one[len(rows) :])
    assert not same(one[:20], first(RowBatches(rows, batch_size=1, seed=4), 20))


@pytest.mark.parametrize("start", [1, 7, 500])
def test_going_to_a_micro_batch_equals_running_there(kit, start: int) -> None:
    source = RowBatches(kit.dataset["validation"], batch_size=3, seed=3)
    assert same(first(source, start + 4)[start:], first(source, 4, start))


def test_the_order_of_rows_does_not_depend_on_the_batch_size(kit) -> None:
    rows = kit.dataset["validation"]
    small = torch.cat([b["input_ids"] for b in first(RowBatches(rows, batch_size=2, seed=3), 30)])
    large = torch.cat([b["input_ids"] for b in first(RowBatches(rows, batch_size=6, seed=3), 10)])
    assert torch.equal(small, large)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_plain_loader_is_gone_forward_exactly(kit, workers: int) -> None:
    def source() -> LoaderBatches:
        torch.manual_seed(torch.seed() % 1000)  # whatever the caller's random state is
        loader = DataLoader(kit.dataset["validation"], batch_size=5, shuffle=True, num_workers=workers)
        return LoaderBatches(loader, seed=9)

    per_epoch = int(source().batches_per_epoch)
    start = per_epoch + 2
    assert same(first(source(), start + 3)[start:], first(source(), 3, start))


def test_a_plain_loader_with_its_own_generator_is_gone_forward_exactly(kit) -> None:
    def source(seed: int) -> LoaderBatches:
        generator = torch.Generator().manual_seed(seed)
        loader = DataLoader(kit.dataset["validation"], batch_size=5, shuffle=True, generator=generator)
        return LoaderBatches(loader, seed=9)

    assert same(first(source(1), 30)[25:], first(source(2), 5, 25))


@pytest.mark.parametrize("kind", ["sampler", "batch sampler"])
def test_a_sampler_with_its_own_generator_is_gone_forward_exactly(kit, kind: str) -> None:
    def source(seed: int) -> LoaderBatches:
        rows = kit.dataset["validation"]
        sampler = RandomSampler(rows, generator=torch.Generator().manual_seed(seed))
        if kind == "sampler":
            return LoaderBatches(DataLoader(rows, batch_size=5, sampler=sampler), seed=9)
        return LoaderBatches(DataLoader(rows, batch_sampler=BatchSampler(sampler, 5, drop_last=True)), seed=9)

    assert same(first(source(1), 60)[55:], first(source(2), 5, 55))
    assert source(1).is_repeatable


class ForeignSampler(Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(10))

    def __len__(self) -> int:
        return 10


def test_what_cannot_be_repeated_is_refused_or_admitted(kit) -> None:
    rows = kit.dataset["validation"]
    assert not LoaderBatches(DataLoader(rows, sampler=ForeignSampler()), seed=1).is_repeatable
    with pytest.raises(ConfigError, match="persistent_workers=True"):
        LoaderBatches(DataLoader(rows, num_workers=1, persistent_workers=True), seed=1)

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter([rows[0]])

    with pytest.raises(DataError, match="has no length"):
        LoaderBatches(DataLoader(Stream()), seed=1)


def test_a_loader_draws_nothing_from_the_callers_random_state(kit) -> None:
    loader = DataLoader(kit.dataset["validation"], batch_size=5, shuffle=True)
    before = torch.random.get_rng_state()
    first(training_batches(loader, seed=1), 7)
    assert torch.equal(before, torch.random.get_rng_state())


def test_evaluation_batches_hold_all_rows_in_order(kit) -> None:
    rows = kit.dataset["validation"]
    batches = rows_in_order(rows, batch_size=7)
    assert len(batches) == -(-len(rows) // 7)
    ids = torch.cat([batch["input_ids"] for batch in batches])
    assert ids.tolist() == [rows[i]["input_ids"].tolist() for i in range(len(rows))]


def test_an_empty_loader_is_refused(kit) -> None:
    loader = DataLoader(kit.dataset["validation"], batch_size=100_000, drop_last=True)
    with pytest.raises(DataError, match="no batches: its dataset is empty or smaller than a batch"):
        training_batches(loader, seed=1)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, 2], "found list"),
        ({"input_ids": torch.zeros(1, 2)}, r"found \['input_ids'\]"),
        (
            {
                "input_ids": torch.zeros(1, 2),
                "labels": torch.zeros(1, 3),
                "position_ids": torch.zeros(1, 2),
            },
            "must have one shape",
        ),
    ],
)
def test_a_batch_without_what_is_read_is_refused(batch: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_batch(batch)


def origins(source: ReplayingBatches, number: int, text: TokenRows) -> list[str]:
    """Of each row in order, whether it is of the text or to be learned."""
    of_text = {tuple(text[i]["input_ids"].tolist()) for i in range(len(text))}
    ids = torch.cat([batch["input_ids"] for batch in first(source, number)])
    return ["text" if tuple(row) in of_text else "new" for row in ids.tolist()]


@pytest.mark.parametrize("share", [0.1, 0.25, 0.37])
def test_every_step_has_its_share_of_replayed_rows_and_all_rows_are_learned_in_a_pass(
    kit, share: float
) -> None:
    new, text = kit.dataset["validation"], kit.dataset["test"]
    source = ReplayingBatches(RowBatches(new, batch_size=4, seed=3), [text], share=share)
    kinds = origins(source, 60, text)
    for step in range(60):
        assert kinds[: 4 * step].count("text") == math.floor(4 * step * share)
        assert abs(kinds[4 * step : 4 * step + 4].count("text") - 4 * share) < 1
    rows_of_a_pass = math.ceil(4 * source.batches_per_epoch)
    ids = torch.cat([batch["input_ids"] for batch in first(source, math.ceil(source.batches_per_epoch))])
    learned = {tuple(row) for row in ids[:rows_of_a_pass].tolist()}
    assert learned >= {tuple(new[i]["input_ids"].tolist()) for i in range(len(new))}


def test_replayed_rows_keep_the_labels_of_text_and_their_own_order_without_them(kit) -> None:
    new, text = kit.dataset["validation"], kit.dataset["test"]
    alone = torch.cat([b["labels"] for b in first(RowBatches(new, batch_size=1, seed=3), 30)])
    batches = first(ReplayingBatches(RowBatches(new, batch_size=4, seed=3), [text], share=0.25), 10)
    mixed = torch.cat([batch["labels"] for batch in batches])
    assert torch.equal(torch.stack([row for place, row in enumerate(mixed) if place % 4 != 3]), alone)
    of_text = {tuple(text[i]["labels"].tolist()) for i in range(len(text))}
    assert all(tuple(row) in of_text for row in mixed[3::4].tolist())


def test_several_splits_are_replayed_as_one_each_row_once_a_pass(kit) -> None:
    new, splits = kit.dataset["validation"], [kit.dataset["test"], kit.dataset["train"]]
    source = ReplayingBatches(RowBatches(new, batch_size=2, seed=3), splits, share=0.5)
    number = sum(map(len, splits))
    replayed = torch.cat([batch["input_ids"][1:] for batch in first(source, number)])
    rows = [split[i]["input_ids"].tolist() for split in splits for i in range(len(split))]
    assert sorted(replayed.tolist()) == sorted(rows)
    [named] = source.row_numbers(0)[1]
    assert replayed[0].tolist() == rows[named]


def test_replaying_goes_to_any_micro_batch_and_does_not_depend_on_their_size(kit) -> None:
    def source() -> ReplayingBatches:
        batches = RowBatches(kit.dataset["validation"], batch_size=6, seed=3)
        return ReplayingBatches(batches, [kit.dataset["test"]], share=0.3)

    assert same(first(source(), 12)[5:], first(source(), 7, 5))
    small = torch.cat([b["input_ids"] for b in first(source().in_micro_batches_of(2), 30)])
    assert torch.equal(small, torch.cat([b["input_ids"] for b in first(source(), 10)]))


def test_the_fingerprint_of_a_mixture_changes_with_share_and_rows(kit) -> None:
    batches = RowBatches(kit.dataset["validation"], batch_size=6, seed=3)
    prints = {
        ReplayingBatches(batches, [kit.dataset[split]], share=share).fingerprint
        for split, share in (("test", 0.3), ("test", 0.2), ("train", 0.3))
    }
    assert len(prints) == 3
    assert batches.fingerprint not in prints
