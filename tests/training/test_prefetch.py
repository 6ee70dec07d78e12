import contextlib
import itertools

import pytest
import torch

from models.attention import document_offsets
from training.batches import RowBatches
from training.losses import count_targets
from training.prefetch import moved, one_ahead, prefetched, prepared

CPU = torch.device("cpu")


@pytest.mark.parametrize("num_items", [0, 1, 2, 5])
def test_the_next_is_started_before_one_is_given_out_and_the_order_stays(num_items: int) -> None:
    events: list[str] = []

    def start(item: dict) -> int:
        events.append(f"start {item['n']}")
        return item["n"]

    def finish(started: int) -> str:
        events.append(f"finish {started}")
        return f"item {started}"

    found = list(one_ahead(iter([{"n": n} for n in range(num_items)]), start=start, finish=finish))
    assert found == [f"item {n}" for n in range(num_items)]
    for n in range(num_items - 1):
        assert events.index(f"start {n + 1}") < events.index(f"finish {n}")
    for n in range(num_items - 2):
        assert events.index(f"finish {n}") < events.index(f"start {n + 2}")  # one ahead, and no more


def test_an_endless_source_is_not_read_further_than_one_ahead() -> None:
    taken: list[int] = []

    def source():
        for n in itertools.count():
            taken.append(n)
            yield {"n": n}

    ahead = one_ahead(source(), start=lambda item: item["n"], finish=lambda n: n)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    assert taken == [0, 1, 2, 3]


def test_on_a_cpu_the_batches_are_passed_on_untouched(kit) -> None:
    source = RowBatches(kit.dataset["train"], batch_size=4, seed=1).micro_batches(itertools.count())
    assert prefetched(source, CPU, with_documents=True) is source


class PretendedStream:
    """As much of a stream and of an event as is asked for, writing down what is done."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def wait_event(self, _event: object) -> None:
        self.log.append("wait")

    def record(self) -> None:
        self.log.append("copied")


def test_for_a_gpu_batches_are_pinned_copied_beside_and_waited_for_there(kit, monkeypatch) -> None:
    log: list[str] = []
    stream = PretendedStream(log)
    for name in ("Stream", "Event", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _tensor, _stream: log.append("kept"))
    copied = torch.Tensor.to

    def to(tensor: torch.Tensor, device: object, *, non_blocking: bool = False) -> torch.Tensor:
        assert non_blocking
        return copied(tensor, "cpu", copy=True)

    plain = RowBatches(kit.dataset["train"], batch_size=4, seed=1).micro_batches(range(3))
    expected = [prepared(batch, with_documents=True) for batch in plain]
    monkeypatch.setattr(torch.Tensor, "to", to)
    source = RowBatches(kit.dataset["train"], batch_size=4, seed=1).micro_batches(range(3))
    found = list(prefetched(source, torch.device("cuda"), with_documents=True))
    for batch, same in zip(found, expected, strict=True):
        assert batch.keys() == same.keys()
        assert all(torch.equal(batch[key], same[key]) for key in same)
    finished = ["wait", *["kept"] * 4]  # ids, labels, positions and documents; the count stays on the host
    assert log == ["copied", "copied", *finished, "copied", *finished, *finished]


def test_a_prepared_batch_was_counted_and_has_its_documents(kit) -> None:
    batch = next(RowBatches(kit.dataset["train"], batch_size=4, seed=1).micro_batches([0]))
    ready = prepared(batch, with_documents=True)
    assert count_targets(ready) == count_targets(batch) == int((batch["labels"] != -100).sum())
    assert torch.equal(ready["documents"], document_offsets(batch["position_ids"]))
    assert prepared(ready, with_documents=True) is ready
    assert "documents" not in prepared(batch, with_documents=False)


def test_what_the_host_asks_for_stays_there(kit) -> None:
    batch = next(RowBatches(kit.dataset["train"], batch_size=4, seed=1).micro_batches([0]))
    ready = moved(prepared(batch, with_documents=True), torch.device("meta"))
    assert {key: tensor.device.type for key, tensor in ready.items()} == {
        "input_ids": "meta",
        "labels": "meta",
        "position_ids": "meta",
        "documents": "meta",
        "num_targets": "cpu",
    }
    assert count_targets(ready) == count_targets(batch)


def test_a_step_on_prepared_batches_is_the_same_step(kit, same_weights) -> None:
    source = RowBatches(kit.dataset["train"], batch_size=4, seed=1)
    plain, ahead = kit.trainer(), kit.trainer()
    first = list(itertools.islice(source.micro_batches(itertools.count()), 2))
    plain.train_step(first)
    ahead.train_step([prepared(batch, with_documents=False) for batch in first])
    assert same_weights(plain.model, ahead.model)
