"""A server in a thread of the test process, a client for it, and batches that are slow or fail on demand."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from inference.chat import ChatModel
from inference.continuous_batch import ContinuousBatch, Event, Request
from inference.server import serving
from inference.server.address import listen
from inference.server.serving import ServerSettings, new_application, new_server, run


@dataclass
class RunningServer:
    """Where it listens."""

    port: int

    def request(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (names in small letters) and body of an answer; `body` is bytes or becomes JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, path, body=data, headers=headers or {})
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        status, _, data = self.request(method, path, body, **more)
        return status, json.loads(data)

    def events(self, path: str, body: dict[str, Any]) -> list[Any]:
        """The JSON of each event of a stream, whose end is checked."""
        status, headers, data = self.request("POST", path, {**body, "stream": True})
        assert (status, headers["content-type"]) == (200, "text/event-stream"), data
        *events, done, rest = data.decode().split("\n\n")
        assert (done, rest) == ("data: [DONE]", "")
        assert all(event.startswith("data: ") for event in events)
        return [json.loads(event.removeprefix("data: ")) for event in events]

    def connect(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def send_completion(self, body: dict[str, Any], *, path: str = "/v1/completions") -> socket.socket:
        """A bare connection on which a request was sent."""
        data = json.dumps(body).encode()
        connection = self.connect()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data)
        return connection

    def health(self) -> dict[str, Any]:
        """What /health says."""
        status, state = self.json("GET", "/health")
        assert status == 200
        return dict(state)

    def num_tokens(self) -> int:
        """How many tokens were made for answers that have ended."""
        found = re.search(
            rb"^bloomery_completion_tokens_total (\d+)$", self.request("GET", "/metrics")[2], re.M
        )
        assert found is not None
        return int(found[1])

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        """Wait until /health is as wanted."""
        end = time.monotonic() + 60
        while not condition(self.health()):
            assert time.monotonic() < end, self.health()
            time.sleep(0.01)

    def until_idle(self) -> None:
        """Wait until nothing runs or waits."""
        self.until(lambda state: state["running"] == state["waiting"] == 0)


@contextlib.contextmanager
def running(
    chat_model: ChatModel, *, batch: type[ContinuousBatch] = ContinuousBatch, **settings: Any
) -> Iterator[RunningServer]:
    """A server of a model while the block lasts; its batches are of the kind `batch`."""
    chosen = ServerSettings(**{"name": "tiny", "defaults": {}, "feedback": Path(os.devnull), **settings})
    # `ContinuousBatch` is looked up when the scheduler makes a batch, also after a failure.
    with (
        mock.patch.object(serving, "ContinuousBatch", batch),
        listen("127.0.0.1", 0) as listening,
    ):
        app = new_application(chat_model, chosen)
        server = new_server(app, chosen.limits)
        thread = threading.Thread(target=lambda: asyncio.run(run(server, app, listening)))
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield RunningServer(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


class SlowBatch(ContinuousBatch):
    """Takes 10 ms more for each step."""

    def step(self) -> list[Event]:
        time.sleep(0.01)
        return super().step()


class PoisonedBatch(ContinuousBatch):
    """Fails in each step in which a request runs whose prompt holds `POISON` and that has come to `FAILS_AT` tokens."""

    POISON = 300
    FAILS_AT = 8

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._lengths: dict[int, int] = {}

    def add(self, request: Request) -> int:
        key = super().add(request)
        if self.POISON in request.prompt:
            self._lengths[key] = len(request.prompt)
        return key

    def step(self) -> list[Event]:
        if any(length >= self.FAILS_AT for length in self._lengths.values()):
            raise RuntimeError("poison")
        time.sleep(0.002)
        events = super().step()
        for event in events:
            if event.key in self._lengths:
                self._lengths[event.key] += 1
        return events
