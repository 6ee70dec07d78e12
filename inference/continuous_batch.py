"""Many requests answered together, each from when it comes until it is done. Knows token ids: no text and no thread.

Shapes: B rows, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from inference.sampling import log_probabilities, row_generators, sample
from inference.sampling_settings import SamplingSettings

if TYPE_CHECKING:
    from inference.engine import Engine

FinishReason = Literal["stop", "length"]
"""Why an answer ended: "stop" = with a stop token; "length" = at max_tokens or at the end of the context."""

PREFILL_TOKENS = 128
"""Most tokens of prompts, padding included, that one step reads while others wait for their next token.

12 x 768, one core, float16 and int8: 512 tokens take 510 and 333 ms in pieces of 32, 434 and 256 of 64, 402 and 249 of
128, 399 and 235 of 256; a piece of 128 is a wait of 112 and 73 ms."""


@dataclass(frozen=True)
class Request:
    """A prompt, how to continue it, and the row that with the seed decides the choices: n answers are rows 0 to n-1."""

    prompt: tuple[int, ...]
    settings: SamplingSettings
    row: int = 0


@dataclass(frozen=True)
class Event:
    """One token of a request, or its end."""

    key: int
    """What `add` returned."""
    token: int | None
    """None when a stop token ended it."""
    logprob: float | None
    """ln p of the token under the model (temperature 1, before penalty and filters), when asked for."""
    top_logprobs: tuple[tuple[int, float], ...]
    """(id, ln p) of the likeliest tokens, the likeliest first."""
    finish_reason: FinishReason | None
    """On the last event of a request."""
    stop_token: int | None = None
    """The stop token that ended it; what is told of a token is told of this one then."""


@dataclass
class _Row:
    """A request at work."""

    key: int
    prompt: tuple[int, ...]
    settings: SamplingSettings
    generator: torch.Generator
    num_left: int
    """Tokens that may still be made."""
    seen: Tensor | None
    """(V,) bool, for a repetition penalty."""
    last: int = -1
    choice: tuple[object, ...] = field(init=False)
    """Rows that agree in it are sampled in one go."""

    def __post_init__(self) -> None:
        s = self.settings
        self.choice = (s.temperature, s.top_k, s.top_p, s.min_p, s.repetition_penalty, s.stop_ids)


class ContinuousBatch:
    """Requests in the rows of one cache. Its owner adds them, and calls `step` from one thread until it is idle.

    A row is not influenced by the others: with equal settings it comes out as alone, up to the rounding of products of
    other sizes, which can only decide between tokens whose scores are equal to the last digits.

    Running requests are in the first rows of the cache, so that a step costs what runs and not what could. When one
    ends, the last running one is copied into its place.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_rows: int,
        allowed: Tensor | None = None,
        max_length: int | None = None,
    ) -> None:
        """
        Args:
            max_rows: Most requests that run at the same time; `max_rows` x `max_length` tokens of cache are reserved.
            allowed: (V,) bool, True = may be chosen; None = every row of the embedding.
            max_length: Most tokens of a request, prompt and answer; None = the context.
        """
        self._engine = engine
        self._max_rows = max_rows
        self._max_length = max_length or engine.context
        self._allowed = None if allowed is None else allowed.to(engine.device)
        self._cache = engine.new_cache(batch_size=max_rows, max_length=self._max_length)
        self._decode = engine.decoder(self._cache)
        self._running: list[_Row] = []
        self._partial: _Row | None = None
        """The one whose prompt is too long for one step; its row comes after those that run."""
        self._waiting: deque[_Row] = deque()
        self._num_added = 0

    @property
    def num_running(self) -> int:
        """Requests that have a row."""
        return len(self._running) + (self._partial is not None)

    @property
    def num_waiting(self) -> int:
        """Requests that have none yet."""
        return len(self._waiting)

    def add(self, request: Request) -> int:
        """Let a request wait for its row, behind those that came before. Returns the key of its events.

        Raises:
            DataError: as `Engine.check_prompt`.
        """
        self._engine.check_prompt(request.prompt)
        assert len(request.prompt) < self._max_length, "max_length leaves no room for an answer"
        settings, seen = request.settings, None
        if settings.repetition_penalty != 1.0:
            seen = torch.zeros(self._engine.num_tokens, dtype=torch.bool, device=self._engine.device)
            seen[list(request.prompt)] = True
        key = self._num_added
        self._num_added += 1
        self._waiting.append(
            _Row(
                key,
                request.prompt,
                settings,
                row_generators(settings.seed, 1, first_row=request.row)[0],
                min(settings.max_tokens, self._max_length - len(request.prompt)),
                seen,
            )
        )
        return key

    @torch.inference_mode()
    def cancel(self, key: int) -> None:
        """End a request without another event; its row is free at once. Unknown and ended keys are ignored."""
        if self._partial is not None and self._partial.key == key:
            self._partial = None
            self._cache.lengths[len(self._running)] = 0
        for row in self._waiting:
            if row.key == key:
                self._waiting.remove(row)
                return
        for index, row in enumerate(self._running):
            if row.key == key:
                self._release(index)
                return

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """One token for each running request, and the first one of those whose prompts were read meanwhile.

        Raises:
            DataError: the model's scores are no numbers; the batch can only be closed.
        """
        rows, scores = list(self._running), []
        if rows:
            scores.append(self._decode([row.last for row in rows]))
        newcomers = self._read_prompts(scores)
        rows += newcomers
        if not rows:
            return []
        logits = torch.cat(scores) if len(scores) > 1 else scores[0]
        tokens = self._choose(rows, logits)
        events = self._events(rows, tokens, logits)
        self._running += newcomers
        for index in reversed(range(len(rows))):
            if events[index].finish_reason is not None:
                self._release(index)
        return events

    def close(self) -> None:
        """Forget all requests and let the memory go. Nothing can be added afterwards."""
        self._running.clear()
        self._waiting.clear()
        self._partial = None
        del self._cache, self._decode

    def _read_prompts(self, scores: list[Tensor]) -> list[_Row]:
        """Read up to `PREFILL_TOKENS` of what waits; the rows that can begin, whose scores are appended."""
        begin = len(self._running)
        if self._partial is None:
            group = self._next_group()
            if not group:
                return []
            self._cache.lengths[begin : begin + len(group)] = 0
            self._partial = group[0] if len(group[0].prompt) > PREFILL_TOKENS else None
        else:
            group = [self._partial]
        cache = self._cache.rows(begin, begin + len(group))
        done = int(cache.lengths[0])
        pieces = [row.prompt[done : done + PREFILL_TOKENS] for row in group]
        logits = self._engine.scores(pieces, cache)
        if self._partial is not None:
            if int(cache.lengths[0]) < len(self._partial.prompt):
                return []
            self._partial = None
        scores.append(logits)
        return group

    def _next_group(self) -> list[_Row]:
        """The next waiting requests whose prompts are read together, side by side and filled up at their ends."""
        group: list[_Row] = []
        longest = 0
        while self._waiting and len(self._running) + len(group) < self._max_rows:
            longest = max(longest, len(self._waiting[0].prompt))
            if group and longest * (len(group) + 1) > PREFILL_TOKENS:
                break
            group.append(self._waiting.popleft())
        return group

    def _choose(self, rows: Sequence[_Row], logits: Tensor) -> list[int]:
        """The next token of each row."""
        together: dict[tuple[object, ...], list[int]] = {}
        for index, row in enumerate(rows):
            together.setdefault(row.choice, []).append(index)
        tokens = [0] * len(rows)
        for indices in together.values():
            group = [rows[index] for index in indices]
            seen = [row.seen for row in group if row.seen is not None]
            ids = sample(
                logits if len(group) == len(rows) else logits[indices],
                group[0].settings,
                [row.generator for row in group],
                seen=torch.stack(seen) if seen else None,
                allowed=self._allowed,
            )
            for index, token in zip(indices, ids.tolist(), strict=True):
                tokens[index] = token
        return tokens

    def _events(self, rows: Sequence[_Row], tokens: Sequence[int], logits: Tensor) -> list[Event]:
        reports = _reports(rows, tokens, logits)
        events = []
        for index, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            logprob, likeliest = reports.get(index, (None, ()))
            if token in row.settings.stop_ids:
                events.append(Event(row.key, None, logprob, likeliest, "stop", token))
                continue
            row.last = token
            row.num_left -= 1
            if row.seen is not None:
                row.seen[token] = True
            events.append(Event(row.key, token, logprob, likeliest, None if row.num_left else "length"))
        return events

    def _release(self, index: int) -> None:
        """Free the row of a running request."""
        last = len(self._running) - 1
        if index < last:
            self._cache.move(last, index)
            self._running[index] = self._running[last]
        self._running.pop()
        self._cache.lengths[last] = 0
        if self._partial is not None:
            self._cache.move(last + 1, last)


def _reports(
    rows: Sequence[_Row], tokens: Sequence[int], logits: Tensor
) -> dict[int, tuple[float, tuple[tuple[int, float], ...]]]:
    """ln p of the token and of the likeliest ones, of the rows that asked for them."""
    asking = {index: row.settings.num_logprobs for index, row in enumerate(rows)}
    wanted = {index: number for index, number in asking.items() if number is not None}
    if not wanted:
        return {}
    ids = torch.tensor([tokens[index] for index in wanted], device=logits.device)
    chosen, top_ids, top = log_probabilities(logits[list(wanted)], ids, max(wanted.values()))
    lists = zip(wanted.items(), chosen.tolist(), top_ids.tolist(), top.tolist(), strict=True)
    return {
        index: (logprob, tuple(zip(likeliest[:number], values[:number], strict=True)))
        for (index, number), logprob, likeliest, values in lists
    }
