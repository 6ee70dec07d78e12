"""The scheduler with the real batch: bounded, cancellable, and no request falls with another."""

import queue
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor

from inference.chat import ChatModel
from inference.continuous_batch import ContinuousBatch, Event, Request
from inference.prompt_scores import PromptReading, PromptScores, PromptToScore
from inference.sampling_settings import SamplingSettings
from inference.server.scheduler import Failure, QueueFullError, Scheduler, SchedulerEndedError
from models.kv_cache import KVCache
from tests.inference.server.server_kit import PoisonedBatch, SlowBatch
from tests.inference.tiny_models import prompt_of

GREEDY = SamplingSettings(temperature=0.0, max_tokens=12)
POISON = PoisonedBatch.POISON


class Inbox:
    """What was delivered, by the request's number."""

    def __init__(self) -> None:
        self.queue: queue.Queue[tuple[int, Event | Failure]] = queue.Queue()

    def deliver(self, index: int, outcome: Event | Failure) -> None:
        self.queue.put((index, outcome))

    def outcomes(self, count: int) -> dict[int, list[int] | Exception]:
        """The tokens of each of `count` requests, or why it failed."""
        made: dict[int, list[int]] = {}
        ended: dict[int, list[int] | Exception] = {}
        while len(ended) < count:
            index, outcome = self.queue.get(timeout=60)
            assert index not in ended, "an event after the end"
            if isinstance(outcome, Failure):
                ended[index] = outcome.error
                continue
            if outcome.token is not None:
                made.setdefault(index, []).append(outcome.token)
            if outcome.finish_reason is not None:
                ended[index] = made.get(index, [])
        return ended


@contextmanager
def scheduler(
    model: ChatModel,
    batch: type[ContinuousBatch] = ContinuousBatch,
    reading: type[PromptReading] = PromptReading,
    *,
    max_running: int = 4,
    max_waiting: int = 64,
) -> Iterator[Scheduler]:
    made = Scheduler(
        lambda: batch(model.engine, max_rows=max_running, allowed=model.allowed),
        lambda prompt: reading(model.engine, prompt),
        max_running=max_running,
        max_waiting=max_waiting,
    )
    try:
        yield made
    finally:
        made.close()


def alone(model: ChatModel, request: Request) -> list[int]:
    completion = model.engine.generate([request.prompt], request.settings, allowed=model.allowed)[0]
    return list(completion.ids)


def clean_prompt(length: int, seed: int) -> tuple[int, ...]:
    return tuple(token if token != POISON else POISON + 1 for token in prompt_of(length, seed=seed))


def test_more_requests_than_rows_come_out_as_each_alone(served_model: ChatModel) -> None:
    requests = [Request(clean_prompt(3 + seed, seed), GREEDY) for seed in range(10)]
    inbox = Inbox()
    with scheduler(served_model, max_running=3) as running:
        running.submit(requests, inbox.deliver)
        outcomes = inbox.outcomes(10)
        assert (running.num_running, running.num_waiting) == (0, 0)
    assert outcomes == {index: alone(served_model, request) for index, request in enumerate(requests)}


def test_what_does_not_fit_is_refused_as_a_whole_and_the_line_moves_on(served_model: ChatModel) -> None:
    request = Request(clean_prompt(4, 0), GREEDY)
    inbox = Inbox()
    with scheduler(served_model, SlowBatch, max_running=2, max_waiting=3) as running:
        running.submit([request] * 4, inbox.deliver)
        with pytest.raises(QueueFullError, match=r"4 answers .* and 2 more would be over the 5") as caught:
            running.submit([request] * 2, inbox.deliver)
        assert 1 <= caught.value.retry_seconds <= 60
        running.submit([request], lambda *_: None)
        inbox.outcomes(4)
        running.submit([request] * 2, inbox.deliver)
        assert len(inbox.outcomes(2)) == 2


def test_who_is_refused_is_told_to_come_back_when_an_answer_should_have_ended(
    served_model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, may_go_on = [100.0], threading.Event()
    monkeypatch.setattr("inference.server.scheduler.time", SimpleNamespace(monotonic=lambda: now[0]))

    class Halted(ContinuousBatch):
        def step(self) -> list[Event]:
            may_go_on.wait(20)
            return super().step()

    def retry_seconds(running: Scheduler) -> int:
        with pytest.raises(QueueFullError) as caught:
            running.check_room(3)
        return caught.value.retry_seconds

    inbox, request = Inbox(), Request(clean_prompt(4, 0), GREEDY)
    with scheduler(served_model, Halted, max_running=1, max_waiting=1) as running:
        assert retry_seconds(running) == 1
        running.submit([request], inbox.deliver)
        now[0] += 7.0
        assert retry_seconds(running) == 7, "nothing has ended, but one has taken so long"
        now[0] += 5.0
        may_go_on.set()
        inbox.outcomes(1)
        may_go_on.clear()
        running.submit([request] * 2, inbox.deliver)
        assert retry_seconds(running) == 24, "two answers of 12 seconds, one at a time"
        now[0] += 6.0
        may_go_on.set()
        inbox.outcomes(2)
        may_go_on.clear()
        running.submit([request], inbox.deliver)
        assert retry_seconds(running) == 8, "the mean of 12, 6 and 6"
        may_go_on.set()


def test_a_prompt_that_is_scored_does_not_hold_up_what_runs_and_can_be_cancelled(
    served_model: ChatModel,
) -> None:
    order: list[str] = []
    alive: weakref.WeakSet[PromptReading] = weakref.WeakSet()
    most_alive = [0]

    class Watched(PromptReading):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            alive.add(self)
            most_alive.append(len(alive))

        def step(self) -> PromptScores | None:
            order.append("piece")
            return super().step()

    def deliver(index: int, outcome: object) -> None:
        order.append("scores" if isinstance(outcome, PromptScores) else "token")
        inbox.deliver(index, outcome)  # type: ignore[arg-type]

    inbox = Inbox()
    long = PromptToScore(clean_prompt(400, 1))
    with scheduler(served_model, reading=Watched) as running:
        running.submit([long, Request(clean_prompt(4, 0), GREEDY)], deliver)
        found = [inbox.queue.get(timeout=60)[1] for _ in range(13)]
        assert (running.num_running, running.num_waiting) == (0, 0)
        cancelled = running.submit([long] * 2, deliver)
        running.cancel(cancelled)
        deadline = time.monotonic() + 60
        while running.num_running or running.num_waiting:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    (scores,) = [outcome for outcome in found if isinstance(outcome, PromptScores)]
    assert len(scores.log_probabilities) == 400
    between = order[: order.index("scores")]
    assert between.count("piece") == 4 and between.count("token") >= 3
    assert order.count("scores") == 1, "a cancelled prompt was told of"
    assert max(most_alive) == 1, "one that waits had a cache already"


def test_a_prompt_that_cannot_be_scored_fails_alone(served_model: ChatModel) -> None:
    class Broken(PromptReading):
        def step(self) -> PromptScores | None:
            raise MemoryError("no room")

    inbox, good = Inbox(), Request(clean_prompt(4, 0), GREEDY)
    with scheduler(served_model, reading=Broken) as running:
        running.submit([PromptToScore((1, 10**6)), PromptToScore((1, 20)), good], inbox.deliver)
        outcomes = inbox.outcomes(3)
    assert "token id 1000000" in str(outcomes[0])
    assert isinstance(outcomes[1], MemoryError)
    assert outcomes[2] == alone(served_model, good)


def test_a_cancelled_request_gets_no_further_event_and_its_row_is_free(served_model: ChatModel) -> None:
    endless = Request(clean_prompt(4, 0), GREEDY.replace(max_tokens=500))
    inbox = Inbox()
    with scheduler(served_model, SlowBatch, max_running=2) as running:
        tickets = running.submit([endless] * 3, inbox.deliver)  # two run, one waits
        inbox.queue.get(timeout=60)
        running.cancel(tickets)
        running.cancel([10**9])
        deadline = time.monotonic() + 60
        while running.num_running or running.num_waiting:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        made = inbox.queue.qsize()
        time.sleep(0.1)
        assert inbox.queue.qsize() == made <= 2 * 4, "tokens were made after the cancellation"


def test_a_request_that_cannot_begin_fails_alone(served_model: ChatModel) -> None:
    good, bad = Request(clean_prompt(4, 0), GREEDY), Request((1, 10**6), GREEDY)
    inbox = Inbox()
    with scheduler(served_model) as running:
        running.submit([good, bad], inbox.deliver)
        outcomes = inbox.outcomes(2)
        assert running.num_failed == 1
    assert outcomes[0] == alone(served_model, good)
    assert "token id 1000000" in str(outcomes[1])


def test_one_that_fails_in_the_middle_fails_alone_and_the_others_go_on(served_model: ChatModel) -> None:
    requests = [Request(clean_prompt(4, seed), GREEDY) for seed in range(3)]
    poisoned = Request((*clean_prompt(4, 9), POISON), GREEDY)
    inbox = Inbox()
    with scheduler(served_model, PoisonedBatch) as running:
        running.submit([*requests, poisoned], inbox.deliver)
        outcomes = inbox.outcomes(4)
        assert running.num_failed == 1 and running.failure is None
        # And the scheduler works on.
        running.submit(requests[:1], inbox.deliver)
        assert inbox.outcomes(1)[0] == outcomes[0]
    assert str(outcomes[3]) == "poison"
    assert [outcomes[index] for index in range(3)] == [alone(served_model, request) for request in requests]


def test_requests_that_fail_only_together_end_instead_of_failing_for_ever(served_model: ChatModel) -> None:
    class Crowded(ContinuousBatch):
        def step(self) -> list[Event]:
            if self.num_running + self.num_waiting > 1:
                raise MemoryError("no room for two")
            return super().step()

    inbox = Inbox()
    with scheduler(served_model, Crowded) as running:
        running.submit([Request(clean_prompt(4, seed), GREEDY) for seed in range(2)], inbox.deliver)
        outcomes = inbox.outcomes(2)
    assert all(isinstance(outcome, MemoryError) for outcome in outcomes.values())


def test_a_batch_that_failed_holds_no_memory_when_the_next_is_made(
    served_model: ChatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[weakref.ref[KVCache]] = []
    num_held: list[int] = []

    class Watched(ContinuousBatch):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            num_held.append(sum(part() is not None for part in parts))
            super().__init__(*arguments, **options)

    def scores(tokens: Sequence[Sequence[int]], cache: KVCache) -> Tensor:
        parts.append(weakref.ref(cache))  # in the memory of the whole
        raise MemoryError("no room for what is computed")

    monkeypatch.setattr(served_model.engine, "scores", scores)
    inbox = Inbox()
    with scheduler(served_model, Watched) as running:
        running.submit([Request(clean_prompt(4, seed), GREEDY) for seed in range(3)], inbox.deliver)
        assert all(isinstance(outcome, MemoryError) for outcome in inbox.outcomes(3).values())
    assert num_held == [0] * 5, "at first, after the step of all, and after that of each alone"


def test_closing_ends_what_is_unfinished(served_model: ChatModel) -> None:
    inbox = Inbox()
    with scheduler(served_model, SlowBatch, max_running=1) as running:
        running.submit([Request(clean_prompt(4, 0), GREEDY.replace(max_tokens=500))] * 2, inbox.deliver)
        inbox.queue.get(timeout=60)
    assert running.failure is None, "closing is no failure"
    assert all(str(outcome) == "the server ends" for outcome in inbox.outcomes(2).values())


def test_when_no_batch_can_be_made_any_more_everybody_is_told(served_model: ChatModel) -> None:
    batches = iter([PoisonedBatch])

    def new_batch() -> ContinuousBatch:
        kind = next(batches, None)
        if kind is None:
            raise MemoryError("no room for another batch")
        return kind(served_model.engine, max_rows=2, allowed=served_model.allowed)

    running = Scheduler(
        new_batch,
        lambda prompt: PromptReading(served_model.engine, prompt),
        max_running=2,
        max_waiting=4,
    )
    inbox = Inbox()
    poisoned = Request((*clean_prompt(4, 9), POISON), GREEDY)
    running.submit([poisoned, *[Request(clean_prompt(4, seed), GREEDY) for seed in range(3)]], inbox.deliver)
    assert all(str(outcome) == "no room for another batch" for outcome in inbox.outcomes(4).values())
    assert isinstance(running.failure, MemoryError)
    with pytest.raises(SchedulerEndedError):
        running.submit([poisoned], inbox.deliver)
    running.close()
