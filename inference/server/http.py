"""HTTP for one ASGI connection: who may ask, a body within its limits, and answers. Knows no model and no route.

ASGI (https://asgi.readthedocs.io) is spoken directly: a handful of fixed paths need no framework.
"""

import asyncio
import hmac
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from inference.server.protocol import ApiError

Scope = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """What a client may take up."""

    read_seconds: float = 10.0
    """From its first byte, or the connection's beginning, until a request's head is there; then again for its body."""
    write_seconds: float = 10.0
    """How long an answer may wait for the client to take some of it."""
    body_bytes: int = 1 << 20
    drain_seconds: int = 30
    """How long what is being answered may go on after SIGTERM."""
    max_connections: int = 512


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        api_key: What "Authorization: Bearer" must hold, or None.
        host_names: Names that "Host" may hold beside addresses and localhost. A page of another site that makes its
            own name point here (DNS rebinding) is known by that name.
        origins: Sites beside this one whose pages may ask, such as "https://example.org".
    """

    api_key: str | None = field(default=None, repr=False)
    host_names: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    def check_host(self, host: str | None) -> None:
        """
        Raises:
            ApiError: 421; the request is not meant for this server.
        """
        try:
            name = (urlsplit(f"//{host or ''}").hostname or "").removesuffix(".")
        except ValueError:  # such as half a bracket
            name = ""
        if name == "localhost" or name in self.host_names or _is_address(name):
            return
        raise ApiError(
            421,
            f"the Host header is {host!r}; start the server with --allow-host {name or 'NAME'} to allow it",
        )

    def check_origin(self, origin: str | None, host: str | None) -> None:
        """
        Raises:
            ApiError: 403; a browser says that the page of another site asks.
        """
        if origin is None or origin in self.origins or origin in (f"http://{host}", f"https://{host}"):
            return
        raise ApiError(
            403, f"pages of {origin} may not ask; start the server with --cors {origin} to allow it"
        )

    def check_key(self, authorization: str | None) -> None:
        """
        Raises:
            ApiError: 401; the key is missing or wrong.
        """
        if self.api_key is None:
            return
        kind, _, key = (authorization or "").partition(" ")
        # Its duration does not tell how much of the key is right.
        if kind.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), self.api_key.encode()):
            found = "no API key" if authorization is None else "a wrong API key"
            raise ApiError(
                401,
                f"{found}; send the server's key as Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Exchange:
    """A request and its answer.

    Attributes:
        status: Of the answer, once it has begun.
        extra_headers: Sent with every answer.
    """

    def __init__(self, scope: Scope, receive: Any, send: Any, *, limits: Limits) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.status: int | None = None
        self._headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            # The first of several: who sends two hosts or keys does not choose between them.
            self._headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        self._receive = receive
        self._send = send
        self._limits = limits
        self._body_is_read = not {"content-length", "transfer-encoding"} & self._headers.keys()
        self.extra_headers: dict[str, str] = {}

    def header(self, name: str) -> str | None:
        """The value of a header, its name in small letters."""
        return self._headers.get(name)

    async def body(self) -> bytes:
        """The body, whole.

        Raises:
            ApiError: 413 or 408; it is too large or too slow.
        """
        most = self._limits.body_bytes
        announced = self.header("content-length")
        if announced is not None and announced.isdecimal() and int(announced) > most:
            raise self._too_large(f"{announced} bytes")
        data = bytearray()
        try:
            async with asyncio.timeout(self._limits.read_seconds):
                while not self._body_is_read:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeft
                    data += message.get("body", b"")
                    if len(data) > most:
                        raise self._too_large(f"more than {most} bytes")
                    self._body_is_read = not message.get("more_body", False)
        except TimeoutError:
            raise ApiError(
                408, f"the body took longer than {self._limits.read_seconds:g} s to arrive; send it at once"
            ) from None
        return bytes(data)

    def _too_large(self, found: str) -> ApiError:
        return ApiError(
            413, f"the body has {found}, at most {self._limits.body_bytes} are read; send a shorter one"
        )

    async def left(self) -> None:
        """Returns when the client has left. The body must have been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        """Send the head of an answer whose parts follow."""
        self.status = status
        lines = {"content-type": content_type, "x-content-type-options": "nosniff"}
        lines |= {**self.extra_headers, **(headers or {})}
        if not self._body_is_read:
            lines["connection"] = "close"  # What is still to come of the body is not waited for.
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def part(self, data: bytes, *, is_last: bool = False) -> None:
        """Send a part of the answer; returns when the system has taken it."""
        await self._send({"type": "http.response.body", "body": data, "more_body": not is_last})

    async def answer(
        self, status: int, data: bytes, content_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send an answer."""
        await self.begin(status, content_type, {"content-length": str(len(data)), **(headers or {})})
        await self.part(data, is_last=True)

    async def answer_json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send an answer."""
        await self.answer(status, json_bytes(value), "application/json", headers)


class ClientLeft(Exception):  # noqa: N818 - no mistake
    """There is nobody to answer."""


def json_bytes(value: Any) -> bytes:
    """JSON on one line, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
