"""Trying again what a network refused: which errors pass by themselves, and how long to wait. Knows no service."""

import errno
import logging
import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from core.errors import UnreachableError

T = TypeVar("T")

logger = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 1.0
MAX_WAIT_SECONDS = 60.0
"""Waits double from the first to this; arbitrary, five of them make half a minute."""

MAX_ASKED_WAIT_SECONDS = 600.0
"""A server that asks for a longer wait (Retry-After) than this is asked again earlier; arbitrary."""

_TRANSIENT_STATUS = frozenset({408, 425, 429})
_TRANSIENT_ERRNO = frozenset(
    {
        *(errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN),
        errno.EIO,  # s3fs has it for "internal error"
    }
)
# Names, because an error of a library that is not installed cannot be imported: httpx and httpx2; requests; aiohttp;
# botocore; http.client.
_TRANSIENT_NAMES = frozenset(
    {
        *("TransportError", "Timeout", "ConnectionError", "ChunkedEncodingError", "ClientConnectionError"),
        *("ClientPayloadError", "HTTPClientError", "IncompleteRead"),
    }
)
_OFFLINE_NAME = "OfflineModeIsEnabled"


class Patience:
    """How many failures in a row are borne, and the waiting between them.

    >>> patience = Patience(max_retries=0, what="read", advice="try later")
    >>> patience.failed(ConnectionResetError("reset"))
    Traceback (most recent call last):
    core.errors.UnreachableError: read: failed 1 time (ConnectionResetError: reset); try later
    """

    def __init__(self, *, max_retries: int, what: str, advice: str) -> None:
        self._max_retries = max_retries
        self._what = what
        self._advice = advice
        self._failures = 0

    def succeeded(self) -> None:
        """What failed went on: the next failure is the first again."""
        self._failures = 0

    def failed(self, error: Exception) -> None:
        """Wait, after an error that may pass by itself.

        Raises:
            UnreachableError: it failed `max_retries` times more often than the first time, or waiting is of no use.
            Exception: `error` itself, when it is not of that kind.
        """
        if not is_transient(error):
            raise error
        self._failures += 1
        offline = any(type(link).__name__ == _OFFLINE_NAME for link in _chain(error))
        if offline or self._failures > self._max_retries:
            times = "1 time" if self._failures == 1 else f"{self._failures} times"
            raise UnreachableError(
                f"{self._what}: failed {times} ({describe(error)}); {self._advice}"
            ) from error
        seconds = _wait_seconds(self._failures, error)
        logger.info(
            "%s: %s; attempt %d of %d in %.0f s",
            self._what,
            describe(error),
            self._failures + 1,
            self._max_retries + 1,
            seconds,
        )
        time.sleep(seconds)


def with_retries(action: Callable[[], T], *, max_retries: int, what: str, advice: str) -> T:
    """What `action` returns, called again after errors that may pass by themselves.

    Raises:
        UnreachableError: they did not pass.
        Exception: any other, as `action` raised it.
    """
    patience = Patience(max_retries=max_retries, what=what, advice=advice)
    while True:
        try:
            return action()
        except Exception as error:  # noqa: BLE001 - raised again unless it may pass by itself
            patience.failed(error)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later: no connection, no answer in time, HTTP 429 or 5xx."""
    for link in _chain(error):
        if (status := _http_status(link)) is not None:
            return status in _TRANSIENT_STATUS or status >= 500
        # An OSError, but about names and rights, not about the way there.
        if isinstance(link, FileNotFoundError | PermissionError):
            return False
        if isinstance(link, ConnectionError | TimeoutError | socket.gaierror):
            return True
        if isinstance(link, OSError) and link.errno in _TRANSIENT_ERRNO:
            return True
        if any(base.__name__ in _TRANSIENT_NAMES for base in type(link).__mro__):
            return True
    return False


def describe(error: BaseException) -> str:
    """Kind and message of an error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it was raised from, and so on."""
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _http_status(error: BaseException) -> int | None:
    """The status of an HTTP answer that became an error of requests or httpx (`response`), azure or aiohttp."""
    # Looked for by name, for the reason at _TRANSIENT_NAMES.
    status = getattr(getattr(error, "response", error), "status_code", None)
    if status is None:
        status = getattr(error, "status", None)
    return status if isinstance(status, int) and 100 <= status < 600 else None


def _wait_seconds(failures: int, error: BaseException) -> float:
    # The exponent is bounded: 2.0**1024 is no float.
    wait = min(MAX_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 10))
    # Unseeded on purpose: many clients that failed together must not come back together. No result depends on it.
    wait *= random.uniform(0.5, 1.0)
    asked = max((_retry_after(link) for link in _chain(error)), default=0.0)
    return max(wait, min(asked, MAX_ASKED_WAIT_SECONDS))


def _retry_after(error: BaseException) -> float:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    value = headers.get("Retry-After", "")
    return float(value) if value.isdecimal() else 0.0
