"""The routes: which function answers which path, and what a request that fails is told. An ASGI application."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from core.errors import BloomeryError
from inference.chat import ChatModel
from inference.feedback import append_feedback
from inference.sampling_settings import SamplingOptions, SamplingSettings
from inference.server.completions import Completions
from inference.server.http import Access, ClientLeft, Exchange, Limits, Scope
from inference.server.metrics import Metrics
from inference.server.page import Page
from inference.server.protocol import ApiError, ChatBody, CompletionBody, FeedbackBody, parse
from inference.server.scheduler import Scheduler

logger = logging.getLogger(__name__)

Route = Callable[[Exchange], Awaitable[None]]

OPEN_PATHS = ("/", "/health")
"""Answered without a key: the page holds nothing, and who watches over the process needs none."""

SAMPLING_DEFAULTS = {
    name: SamplingSettings.model_fields[name].default for name in SamplingOptions.__annotations__
}
SAMPLING_DEFAULTS["max_tokens"] = None  # An answer in a chat may fill the context.


class Application:
    """Answers every request; what goes wrong in one is told to its client and does not reach the others."""

    def __init__(
        self,
        chat_model: ChatModel,
        scheduler: Scheduler,
        completions: Completions,
        metrics: Metrics,
        page: Page,
        *,
        access: Access,
        limits: Limits,
        feedback_file: Path,
        fingerprint: str,
    ) -> None:
        self._chat_model = chat_model
        self._scheduler = scheduler
        self._completions = completions
        self._metrics = metrics
        self._page = page
        self._access = access
        self._limits = limits
        self._feedback_file = feedback_file
        self._fingerprint = fingerprint
        self._created = int(time.time())
        self._routes: dict[str, dict[str, Route]] = {
            "/": {"GET": self._show_page},
            "/health": {"GET": self._health},
            "/metrics": {"GET": self._show_metrics},
            "/v1/models": {"GET": self._models},
            f"/v1/models/{completions.name}": {"GET": self._model},
            "/v1/completions": {"POST": self._complete},
            "/v1/chat/completions": {"POST": self._chat},
            "/feedback": {"POST": self._feedback},
        }

    @property
    def failure(self) -> Exception | None:
        """Why nothing can be answered any more, or None."""
        return self._scheduler.failure

    def close(self) -> None:
        """End the scheduler; what is unfinished fails. The event loop of the requests must still run."""
        self._scheduler.close()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """One request, as ASGI gives it."""
        exchange = Exchange(scope, receive, send, limits=self._limits)
        request_id = secrets.token_hex(8)
        exchange.extra_headers["x-request-id"] = request_id
        try:
            await self._answer(exchange)
        except ApiError as error:
            await exchange.answer_json(error.status, error.body, error.headers)
        except ClientLeft:
            exchange.status = 499  # As nginx counts it; nothing is sent.
        except Exception as error:  # a mistake of ours ends one request and not the server
            logger.error("request %s %s failed", request_id, exchange.path, exc_info=error)
            if exchange.status is not None:
                raise  # Too late to say so: uvicorn closes the connection.
            await exchange.answer_json(
                500, ApiError(500, f"internal error; the server's log says more (request {request_id})").body
            )
        finally:
            known = exchange.path if exchange.path in self._routes else "other"
            self._metrics.responses[known, exchange.status or 499] += 1

    async def _answer(self, exchange: Exchange) -> None:
        self._access.check_host(exchange.header("host"))
        origin = exchange.header("origin")
        self._access.check_origin(origin, exchange.header("host"))
        if origin in self._access.origins:
            exchange.extra_headers |= {"access-control-allow-origin": str(origin), "vary": "origin"}
        methods = self._routes.get(exchange.path)
        if methods is None:
            raise ApiError(
                404, f"there is no {exchange.path!r}; known are {', '.join(self._routes)}", code="not_found"
            )
        if exchange.method == "OPTIONS" and exchange.header("access-control-request-method"):
            await self._allow(exchange, methods)
            return
        if exchange.path not in OPEN_PATHS:
            self._access.check_key(exchange.header("authorization"))
        method = "GET" if exchange.method == "HEAD" else exchange.method
        if method not in methods:
            allowed = ", ".join(methods)
            raise ApiError(
                405, f"{exchange.path} takes {allowed}, found {exchange.method}", headers={"allow": allowed}
            )
        await methods[method](exchange)

    async def _allow(self, exchange: Exchange, methods: dict[str, Route]) -> None:
        """Tell a browser what pages of an allowed origin may send."""
        headers = {
            "access-control-allow-methods": ", ".join(methods),
            "access-control-allow-headers": exchange.header("access-control-request-headers") or "",
            "access-control-max-age": "600",
        }
        await exchange.answer(204, b"", "text/plain", headers)

    async def _show_page(self, exchange: Exchange) -> None:
        headers = {"content-security-policy": self._page.policy, "referrer-policy": "no-referrer"}
        await exchange.answer(200, self._page.html, "text/html; charset=utf-8", headers)

    async def _health(self, exchange: Exchange) -> None:
        alive = self.failure is None
        state = {"running": self._scheduler.num_running, "waiting": self._scheduler.num_waiting}
        await exchange.answer_json(200 if alive else 503, {"status": "ok" if alive else "failed", **state})

    async def _show_metrics(self, exchange: Exchange) -> None:
        scheduler = self._scheduler
        text = self._metrics.text(
            running=scheduler.num_running, waiting=scheduler.num_waiting, failed=scheduler.num_failed
        )
        await exchange.answer(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    async def _models(self, exchange: Exchange) -> None:
        await exchange.answer_json(200, {"object": "list", "data": [self._description]})

    async def _model(self, exchange: Exchange) -> None:
        await exchange.answer_json(200, self._description)

    @property
    def _description(self) -> dict[str, Any]:
        return {
            "id": self._completions.name,
            "object": "model",
            "created": self._created,
            "owned_by": "bloomery",
            # Beside what OpenAI has, for the page.
            "context": self._chat_model.engine.context,
            "answers_messages": self._chat_model.answers_messages,
            "defaults": {**SAMPLING_DEFAULTS, **self._completions.defaults},
            "fingerprint": self._fingerprint,
        }

    async def _complete(self, exchange: Exchange) -> None:
        await self._completions.answer(exchange, parse(CompletionBody, await exchange.body()))

    async def _chat(self, exchange: Exchange) -> None:
        await self._completions.answer(exchange, parse(ChatBody, await exchange.body()))

    async def _feedback(self, exchange: Exchange) -> None:
        body = parse(FeedbackBody, await exchange.body())
        if body.messages[-1].role != "assistant":
            raise ApiError(
                400,
                f"messages: the last is from {body.messages[-1].role!r}, expected the rated 'assistant'",
                param="messages",
            )
        try:
            # In a thread: the disk may take its time.
            await asyncio.to_thread(
                append_feedback,
                self._feedback_file,
                [message.rendered for message in body.messages],
                rating=body.rating,
                correction=body.correction,
                model=self._fingerprint,
            )
        except BloomeryError as error:
            logger.error("%s", error)
            raise ApiError(507, str(error)) from None
        await exchange.answer_json(200, {"status": "kept"})
