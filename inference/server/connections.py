"""Connections that cannot be held open by doing nothing: deadlines for what a client sends and takes. Knows no routes.

uvicorn bounds the size of a request's head and the time between two requests, but neither how long a head may take to
arrive nor how long an answer may wait to be taken.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from inference.server.http import Limits


class DeadlineProtocol(H11Protocol):
    """uvicorn's protocol with two timers."""

    def __init__(self, *arguments: Any, limits: Limits, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._limits = limits
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; its request is awaited."""
        super().connection_made(transport)
        # What the system does not take at once is not taken: otherwise up to 64 KiB could wait for ever, unseen.
        # Not 0: asyncio's TLS takes an empty buffer for a full one then, and waits for ever itself.
        transport.set_write_buffer_limits(high=1, low=0)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Bytes came: of a head, whose deadline then goes on, or of a body."""
        super().data_received(data)
        self._await_head()

    def on_response_complete(self) -> None:
        """An answer is written; the next head may be there already. The time until its first byte is uvicorn's."""
        super().on_response_complete()
        self._await_head(begun=False)

    def pause_writing(self) -> None:
        """The client does not take what is sent."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes some of it again."""
        super().resume_writing()
        _stop(self._write_timer)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        _stop(self._head_timer)
        _stop(self._write_timer)
        super().connection_lost(exc)

    def _await_head(self, *, begun: bool = True) -> None:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if is_answering or not begun:
            _stop(self._head_timer)
            self._head_timer = None
        elif self._head_timer is None and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self._limits.read_seconds, self._refuse_slow_head)

    def _refuse_slow_head(self) -> None:
        # Written by hand: h11 has seen no request that it could answer.
        self.transport.write(
            b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        self.transport.close()


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
