"""One thread that answers requests in one batch, and a bounded line before it. Knows token ids: no text, no network."""

import itertools
import logging
import math
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from core.errors import BloomeryError
from inference.continuous_batch import ContinuousBatch, Event, Request
from inference.prompt_scores import PromptReading, PromptScores, PromptToScore

logger = logging.getLogger(__name__)

AVERAGED = 10
"""Answers of whose durations the mean is taken, about; older ones count less and less. Arbitrary."""

LONGEST_RETRY_SECONDS = 60


class QueueFullError(Exception):
    """There is no room for more requests; `retry_seconds` is when there may be."""

    def __init__(self, message: str, retry_seconds: int) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class SchedulerEndedError(Exception):
    """Nothing is answered any more."""


@dataclass(frozen=True)
class Failure:
    """The end of a request that could not be answered; `error` says why, for the log."""

    error: Exception


Outcome = Event | PromptScores | Failure

Deliver = Callable[[int, Outcome], None]
"""Called by the scheduler's thread with the request's number in its group and what became of it. It must not block."""


@dataclass
class _Job:
    request: Request | PromptToScore
    index: int
    deliver: Deliver
    ticket: int
    made: list[int] = field(default_factory=list)
    num_chances: int = 3
    """Steps with it that may fail without a cause that is found. Arbitrary."""

    @property
    def rest(self) -> Request:
        """The request from where it stands."""
        assert isinstance(self.request, Request), "what is scored stands nowhere"
        left = self.request.settings.max_tokens - len(self.made)
        settings = self.request.settings.model_copy(update={"max_tokens": left})
        return Request((*self.request.prompt, *self.made), settings, self.request.row)


class Scheduler:
    """Takes requests from any thread and answers them in one of its own. `close` ends it.

    A request that raises, alone, ends with a `Failure`. When a step of the whole batch raises, each running request is
    tried alone; those that work go on from the token they had reached (with a fresh source of random numbers), the
    others fail. The thread survives all of it, unless no new batch can be made.

    A prompt to score is read between the steps, a piece a step; one at a time.

    Attributes:
        num_running: Requests that have a row, and the prompt that is read.
        num_waiting: Requests that have none yet.
        num_failed: Requests that ended with a `Failure`, since the beginning.
        failure: What ended the thread before `close`, or None; nothing is answered any more.
    """

    def __init__(
        self,
        new_batch: Callable[[], ContinuousBatch],
        new_reading: Callable[[PromptToScore], PromptReading],
        *,
        max_running: int,
        max_waiting: int,
    ) -> None:
        """
        Args:
            new_batch: Makes an empty batch of `max_running` rows.
            new_reading: Begins to read a prompt.
            max_waiting: Most requests that wait for a row; more are refused.
        """
        self._new_batch = new_batch
        self._new_reading = new_reading
        self._batch = new_batch()
        self._max_running = max_running
        self._capacity = max_running + max_waiting
        self._changed = threading.Condition()
        self._tickets = itertools.count()
        self._added: deque[_Job] = deque()
        self._cancelled: set[int] = set()
        self._unfinished: dict[int, float] = {}
        """Ticket and when it was given."""
        self._closing = False
        self._jobs: dict[int, _Job] = {}
        """By the batch's key; touched by the thread alone."""
        self._to_read: deque[_Job] = deque()
        """Prompts to score; touched by the thread alone."""
        self._reading: PromptReading | None = None
        """Of the first of them; the others have no cache yet."""
        self._num_ended = 0
        self._mean_seconds = 0.0
        self.num_running = self.num_failed = 0
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="scheduler", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Requests that have no row yet."""
        return max(0, len(self._unfinished) - self.num_running)

    def check_room(self, count: int) -> None:
        """
        Raises:
            QueueFullError: there is no room for `count` more requests.
            SchedulerEndedError: nor will there ever be.
        """
        with self._changed:
            if self._closing:
                raise SchedulerEndedError
            if len(self._unfinished) + count > self._capacity:
                raise QueueFullError(
                    f"{len(self._unfinished)} answers are being made or waited for, and {count} more would be over the "
                    f"{self._capacity} that this server takes at a time; try again later",
                    self._retry_seconds(),
                )

    def submit(self, requests: Sequence[Request | PromptToScore], deliver: Deliver) -> list[int]:
        """Let requests wait for their rows, all or none of them. Returns a ticket for each, for `cancel`.

        Raises:
            QueueFullError, SchedulerEndedError: as `check_room`.
        """
        with self._changed:
            self.check_room(len(requests))
            now = time.monotonic()
            jobs = [
                _Job(request, index, deliver, next(self._tickets)) for index, request in enumerate(requests)
            ]
            self._added.extend(jobs)
            tickets = [job.ticket for job in jobs]
            self._unfinished.update(dict.fromkeys(tickets, now))
            self._changed.notify()
        return tickets

    def cancel(self, tickets: Sequence[int]) -> None:
        """End requests without another event, before the next token is made. Those that have ended are ignored."""
        with self._changed:
            self._cancelled.update(self._unfinished.keys() & set(tickets))
            self._changed.notify()

    def close(self) -> None:
        """End the thread after its current step; what is unfinished ends with a `Failure`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _retry_seconds(self) -> int:
        """When the line should have moved by one batch, as far as the answers so far tell; before there are any, the
        first one has taken as long as this already."""
        seconds = self._mean_seconds
        if not self._num_ended and self._unfinished:
            seconds = time.monotonic() - min(self._unfinished.values())
        rounds = len(self._unfinished) / self._max_running
        return max(1, min(LONGEST_RETRY_SECONDS, math.ceil(seconds * rounds)))

    def _work(self) -> None:
        try:
            while self._admit():
                self._step()
        except Exception as error:  # kept in `failure`, which ends the server with it
            logger.critical("no more answers can be made: %s", error, exc_info=error)
            self.failure = error
        with self._changed:
            self._closing = True
            left = [*self._jobs.values(), *self._to_read, *self._added]
        for job in left:
            self._end(job)
            job.deliver(job.index, Failure(self.failure or RuntimeError("the server ends")))

    def _step(self) -> None:
        if self._to_read:
            self._read_on(self._to_read[0])
        try:
            events = self._batch.step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are to be answered
            self._rescue(error)
            return
        for event in events:
            self._deliver(event)
        self._count_running()

    def _read_on(self, job: _Job) -> None:
        """Read the next piece of a prompt that is to be scored, the first of them."""
        assert isinstance(job.request, PromptToScore), "others wait in the batch"
        try:
            if self._reading is None:
                self._reading = self._new_reading(job.request)
            scores = self._reading.step()
        except Exception as error:  # noqa: BLE001 - it concerns this prompt alone
            self._leave_reading(job)
            self._fail(job, error)
            return
        if scores is not None:
            self._leave_reading(job)
            self._end(job, is_answered=True)
            job.deliver(job.index, scores)

    def _leave_reading(self, job: _Job) -> None:
        if job is self._to_read[0]:
            self._reading = None
        self._to_read.remove(job)

    def _count_running(self) -> None:
        self.num_running = self._batch.num_running + bool(self._to_read)

    def _admit(self) -> bool:
        """Take over what was submitted and cancelled, waiting until there is something to do; False = end."""
        with self._changed:
            while not (self._added or self._cancelled or self._closing or self._jobs or self._to_read):
                self._changed.wait()
            if self._closing:
                return False
            added, cancelled = list(self._added), set(self._cancelled)
            self._added.clear()
            self._cancelled.clear()
        for key, job in list(self._jobs.items()):
            if job.ticket in cancelled:
                self._batch.cancel(key)
                del self._jobs[key]
                self._end(job)
        for job in [job for job in self._to_read if job.ticket in cancelled]:
            self._leave_reading(job)
            self._end(job)
        for job in added:
            if job.ticket in cancelled:
                self._end(job)
            else:
                self._add(job)
        self._count_running()
        return True

    def _add(self, job: _Job) -> None:
        if isinstance(job.request, PromptToScore):
            self._to_read.append(job)
            return
        try:
            self._jobs[self._batch.add(job.rest)] = job
        except Exception as error:  # noqa: BLE001 - it concerns this request alone
            self._fail(job, error)

    def _deliver(self, event: Event) -> None:
        job = self._jobs[event.key]
        if event.token is not None:
            job.made.append(event.token)
        if event.finish_reason is not None:
            del self._jobs[event.key]
            self._end(job, is_answered=True)
        job.deliver(job.index, event)

    def _end(self, job: _Job, *, is_answered: bool = False) -> None:
        with self._changed:
            seconds = time.monotonic() - self._unfinished.pop(job.ticket)
            if is_answered:
                self._num_ended += 1
                self._mean_seconds += (seconds - self._mean_seconds) / min(self._num_ended, AVERAGED)

    def _fail(self, job: _Job, error: Exception) -> None:
        self.num_failed += 1
        shown = None if isinstance(error, BloomeryError) else error
        logger.error("a request of %d tokens failed: %s", len(job.request.prompt), error, exc_info=shown)
        self._end(job)
        job.deliver(job.index, Failure(error))

    def _rescue(self, error: Exception) -> None:
        """After a step that raised: find by trial who is the cause, and let the others go on in a new batch."""
        jobs = list(self._jobs.values())
        logger.warning("a step with %d requests failed (%s); trying each alone", len(jobs), error)
        self._renew_batch(error)
        causes = [self._failure_alone(job) for job in jobs]
        self._jobs.clear()
        for job, cause in zip(jobs, causes, strict=True):
            if not any(causes):
                # They fail only in company, or by chance: once more, but not for ever.
                job.num_chances -= 1
                cause = None if job.num_chances else error
            if cause is None:
                self._add(job)
            else:
                self._fail(job, cause)

    def _failure_alone(self, job: _Job) -> Exception | None:
        """What the request's next token raises when nothing else runs; the token is thrown away."""
        try:
            key = self._batch.add(job.rest)
            while not self._batch.step():
                pass
            self._batch.cancel(key)
        except Exception as error:  # noqa: BLE001 - it is what was looked for
            self._renew_batch(error)
            return error
        return None

    def _renew_batch(self, error: Exception) -> None:
        """Begin with an empty batch, after `error` in the one before."""
        self._batch.close()
        # What raised still holds the cache: where memory ran out, there would be none for the next.
        traceback.clear_frames(error.__traceback__)
        self._batch = self._new_batch()
