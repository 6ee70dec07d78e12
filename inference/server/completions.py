"""Completions: from a checked body to requests of the scheduler, and from its events to an answer or a stream."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from core.errors import DataError
from inference.answer_text import Answer, Piece
from inference.chat import ChatModel
from inference.continuous_batch import Event, Request
from inference.prompt_scores import PromptScores, PromptToScore
from inference.sampling_settings import SamplingOptions
from inference.server.echo import echoed
from inference.server.http import ClientLeft, Exchange, json_bytes
from inference.server.metrics import Metrics
from inference.server.protocol import (
    ApiError,
    ChatBody,
    CompletionBody,
    echoes,
    num_logprobs,
    only_echoes,
    sampling_settings,
)
from inference.server.responses import Reply, Usage
from inference.server.scheduler import Failure, Outcome, QueueFullError, Scheduler, SchedulerEndedError

SHORT_COMPLETION_TOKENS = 16
"""Length of a completion that says none, as OpenAI's; an answer in a chat may fill the context."""

NOT_MADE = "the answer could not be made; the server's log says why"


class Completions:
    """A model and its scheduler, answering bodies of either kind."""

    def __init__(
        self,
        chat_model: ChatModel,
        scheduler: Scheduler,
        metrics: Metrics,
        *,
        name: str,
        defaults: SamplingOptions,
    ) -> None:
        """
        Args:
            name: What clients call the model.
            defaults: Sampling settings for what a body does not say.
        """
        self._chat_model = chat_model
        self._scheduler = scheduler
        self._metrics = metrics
        self.name = name
        self.defaults = defaults
        # One thread: a tokenizer remembers what it has seen and is not made to be shared.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenizer")

    async def answer(self, exchange: Exchange, body: ChatBody | CompletionBody) -> None:
        """Answer one body, whole or as a stream. Ends the work when the client leaves.

        Raises:
            ApiError: the body cannot be answered.
            ClientLeft: nobody waits for it any more.
        """
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[tuple[int, Event | Failure]] = asyncio.Queue()
        scores: asyncio.Queue[tuple[int, PromptScores | Failure]] = asyncio.Queue()

        def deliver(index: int, outcome: Outcome) -> None:
            queue: asyncio.Queue[Any] = events if index < len(requests) else scores
            loop.call_soon_threadsafe(queue.put_nowait, (index, outcome))

        try:
            # Before the texts are encoded, which for long ones takes a while.
            num_prompts = 1 if isinstance(body, ChatBody) else len(body.prompt)
            self._scheduler.check_room(num_prompts * body.num_choices)
            prompts, requests = await self._requests(body)
            answers = self._answers(body, requests)
            if only_echoes(body):
                requests = []
            tickets = self._scheduler.submit([*requests, *_to_score(body, prompts)], deliver)
        except QueueFullError as error:
            raise ApiError(
                429, str(error), code="queue_full", headers={"retry-after": str(error.retry_seconds)}
            ) from None
        except SchedulerEndedError:
            raise ApiError(503, "no more answers can be made; the server's log says why") from None
        self._metrics.prompt_tokens += sum(map(len, prompts))
        reply = Reply(
            self.name,
            self._chat_model.tokenizer,
            is_chat=isinstance(body, ChatBody),
            with_logprobs=num_logprobs(body) is not None,
            with_usage=body.includes_usage,
        )
        pieces = self._pieces(events, answers, tickets, began)
        if echoes(body):
            pieces = self._after_echo(prompts, scores if reply.with_logprobs else None, answers, pieces)
        send = self._stream if body.stream else self._whole
        try:
            # Nobody else looks whether the client is there while tokens are made.
            await _unless(exchange.left(), send(exchange, reply, answers, pieces, sum(map(len, prompts))))
        except ClientLeft:
            self._metrics.cancelled_answers += sum(answer.finish_reason is None for answer in answers)
            raise
        finally:
            self._scheduler.cancel(tickets)
            self._metrics.completion_tokens += sum(answer.num_tokens for answer in answers)
            self._metrics.request_seconds.observe(time.monotonic() - began)

    def _answers(self, body: ChatBody | CompletionBody, requests: Sequence[Request]) -> list[Answer]:
        """An answer to each request, without a token yet."""
        tokenizer, echo = self._chat_model.tokenizer, echoes(body)
        answers = [
            Answer(
                tokenizer,
                request.settings.stop,
                begins_at=len(tokenizer.decode(request.prompt)) if echo else 0,
                # lm-evaluation-harness counts on an entry for each token that was made beside an echo.
                tells_stop_token=echo,
            )
            for request in requests
        ]
        for answer in answers if only_echoes(body) else ():
            answer.finish_reason = "length"
        return answers

    async def _requests(self, body: ChatBody | CompletionBody) -> tuple[list[list[int]], list[Request]]:
        """The ids of each prompt, and one request for each choice."""
        if body.model not in (None, self.name):
            raise ApiError(
                404,
                f"model: {body.model!r} is not served here, {self.name!r} is",
                param="model",
                code="model_not_found",
            )
        given: list[Any] = (
            [[message.rendered for message in body.messages]] if isinstance(body, ChatBody) else body.prompt
        )
        loop = asyncio.get_running_loop()
        prompts = [await loop.run_in_executor(self._tokenizing, self._prompt_ids, prompt) for prompt in given]
        longest = self._chat_model.engine.context if isinstance(body, ChatBody) else SHORT_COMPLETION_TOKENS
        settings = sampling_settings(
            body, {"max_tokens": longest, **self.defaults}, self._chat_model.stop_ids
        )
        num_tokens = self._chat_model.tokenizer.vocab_size
        if echoes(body) and (largest := max(map(max, prompts))) >= num_tokens:
            raise ApiError(
                400,
                f"prompt: no text has the token id {largest}; with echo, expected ids below {num_tokens}",
                param="prompt",
            )
        # Numbered through, so that equal prompts of one body get different answers, as those of one file do.
        repeated = [tuple(ids) for ids in prompts for _ in range(body.num_choices)]
        return prompts, [Request(ids, settings, row) for row, ids in enumerate(repeated)]

    def _prompt_ids(self, prompt: Any) -> list[int]:
        """The ids of a text, of messages, or of ids, which are checked."""
        engine = self._chat_model.engine
        param = (
            "messages" if isinstance(prompt, list) and prompt and isinstance(prompt[0], dict) else "prompt"
        )
        ids: list[int] = []
        try:
            is_ids = isinstance(prompt, list) and param == "prompt"
            ids = prompt if is_ids else self._chat_model.render(prompt)
            engine.check_prompt(ids)
        except DataError as error:
            code = "context_length_exceeded" if len(ids) >= engine.context else None
            raise ApiError(400, f"{param}: {error}", param=param, code=code) from None
        return ids

    async def _pieces(
        self,
        queue: asyncio.Queue[tuple[int, Event | Failure]],
        answers: Sequence[Answer],
        tickets: Sequence[int],
        began: float,
    ) -> AsyncIterator[list[tuple[int, Piece]]]:
        """What the events that are there let be shown, all of them at a time, until all answers have ended.

        One event at a time, a client that is behind would be sent its backlog without anybody else coming to be served.
        """
        is_first = True
        while any(answer.finish_reason is None for answer in answers):
            outcomes = [await queue.get()]
            while not queue.empty():
                outcomes.append(queue.get_nowait())
            if is_first:
                self._metrics.first_token_seconds.observe(time.monotonic() - began)
                is_first = False
            pieces = []
            for index, outcome in outcomes:
                if isinstance(outcome, Failure):
                    raise ApiError(500, NOT_MADE)
                if answers[index].finish_reason is not None:
                    continue  # Made before the scheduler heard of the stop string.
                pieces.append((index, answers[index].push(outcome)))
                if answers[index].finish_reason is not None and outcome.finish_reason is None:
                    self._scheduler.cancel([tickets[index]])
            yield pieces

    async def _after_echo(
        self,
        prompts: Sequence[Sequence[int]],
        scores: asyncio.Queue[tuple[int, PromptScores | Failure]] | None,
        answers: Sequence[Answer],
        pieces: AsyncIterator[list[tuple[int, Piece]]],
    ) -> AsyncIterator[list[tuple[int, Piece]]]:
        """First the prompt of each answer, with its scores if they are asked for; then `pieces`."""
        found: dict[int, PromptScores] = {}
        while scores is not None and len(found) < len(prompts):
            index, outcome = await scores.get()
            if isinstance(outcome, Failure):
                raise ApiError(500, NOT_MADE)
            found[index] = outcome
        tokenizer, first = self._chat_model.tokenizer, min(found, default=0)
        told = [echoed(prompt, found.get(first + place), tokenizer) for place, prompt in enumerate(prompts)]
        num_choices = len(answers) // len(prompts)
        yield [(index, told[index // num_choices]) for index in range(len(answers))]
        async for shown in pieces:
            yield shown

    async def _whole(
        self,
        exchange: Exchange,
        reply: Reply,
        answers: Sequence[Answer],
        pieces: AsyncIterator[list[tuple[int, Piece]]],
        prompt_tokens: int,
    ) -> None:
        collected: list[list[Piece]] = [[] for _ in answers]
        async for shown in pieces:
            for index, piece in shown:
                collected[index].append(piece)
        choices = [
            (
                "".join(piece.text for piece in parts),
                [token for piece in parts for token in piece.tokens],
                answer.finish_reason or "stop",
            )
            for parts, answer in zip(collected, answers, strict=True)
        ]
        await exchange.answer_json(200, reply.whole(choices, _usage(prompt_tokens, answers)))

    async def _stream(
        self,
        exchange: Exchange,
        reply: Reply,
        answers: Sequence[Answer],
        pieces: AsyncIterator[list[tuple[int, Piece]]],
        prompt_tokens: int,
    ) -> None:
        await exchange.begin(
            200, "text/event-stream", {"cache-control": "no-store", "x-accel-buffering": "no"}
        )
        openings = map(reply.opening, range(len(answers)))
        if data := b"".join(_event(opening) for opening in openings if opening is not None):
            await exchange.part(data)
        ended: set[int] = set()
        try:
            async for shown in pieces:
                data = b""
                for index, piece in shown:
                    if piece.text or (piece.tokens and reply.with_logprobs):
                        data += _event(reply.piece(index, piece.text, piece.tokens))
                for index, answer in enumerate(answers):
                    if answer.finish_reason is not None and index not in ended:
                        ended.add(index)
                        data += _event(reply.closing(index, answer.finish_reason))
                if data:
                    await exchange.part(data)
        except ApiError as error:
            # The status is sent already; OpenAI's clients raise what an event holds under "error".
            await exchange.part(_event(error.body), is_last=True)
            return
        end = _event(reply.usage(_usage(prompt_tokens, answers))) if reply.with_usage else b""
        await exchange.part(end + b"data: [DONE]\n\n", is_last=True)


def _to_score(body: ChatBody | CompletionBody, prompts: Sequence[Sequence[int]]) -> list[PromptToScore]:
    """The prompts whose tokens are to be told with their probabilities."""
    num_likeliest = num_logprobs(body)
    if num_likeliest is None or not echoes(body):
        return []
    return [PromptToScore(tuple(ids), num_likeliest) for ids in prompts]


def _usage(prompt_tokens: int, answers: Sequence[Answer]) -> Usage:
    return Usage(prompt_tokens, sum(answer.num_tokens for answer in answers))


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"


async def _unless(obstacle: Any, work: Any) -> None:
    """Do the work unless the obstacle comes first.

    Raises:
        ClientLeft: it did.
    """
    tasks = [asyncio.ensure_future(obstacle), asyncio.ensure_future(work)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[1] in done:
            tasks[1].result()
        else:
            raise ClientLeft
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, ClientLeft, ApiError):
                await task
