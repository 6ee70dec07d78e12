"""Which errors pass by themselves, and how long they are waited for."""

import doctest
import errno
import socket

import pytest

from core.errors import UnreachableError
from data_processing.sources import retries
from data_processing.sources.retries import Patience, describe, is_transient, with_retries


class HttpError(Exception):
    """What requests, httpx and huggingface_hub make of an answer."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.response = type("Response", (), {"status_code": status, "headers": headers or {}})()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited for, none of which passed."""
    seconds: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", seconds.append)
    return seconds


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError("reset"), True),
        (TimeoutError("slow"), True),
        (socket.gaierror(socket.EAI_AGAIN, "no name server"), True),
        (OSError(errno.EIO, "internal error"), True),
        (HttpError(503), True),
        (HttpError(500), True),
        (HttpError(429), True),
        (HttpError(404), False),
        (HttpError(401), False),
        (HttpError(403), False),
        (FileNotFoundError("gone"), False),
        (PermissionError(errno.EACCES, "no"), False),
        (OSError(errno.ENOSPC, "full"), False),
        (ValueError("a mistake"), False),
        (raised_from(RuntimeError("while fetching"), ConnectionResetError("reset")), True),
        (raised_from(RuntimeError("while fetching"), HttpError(502)), True),
        (raised_from(FileNotFoundError("no such dataset"), HttpError(404)), False),
        # What the answer says counts, not that a connection failed before it.
        (raised_from(HttpError(404), ConnectionResetError("reset")), False),
        (type("ReadTimeout", (type("TransportError", (Exception,), {}),), {})("httpx"), True),
    ],
    ids=lambda value: describe(value) if isinstance(value, Exception) else str(value),
)
def test_an_error_is_transient_when_the_same_request_may_succeed_later(error: Exception, expected: bool):
    assert is_transient(error) is expected


def test_a_suppressed_context_does_not_count():
    try:
        try:
            raise ConnectionResetError("reset")
        except ConnectionResetError:
            raise ValueError("a mistake") from None
    except ValueError as error:
        assert not is_transient(error)


def test_waits_double_and_stay_below_the_limit_and_apart(waits: list[float]):
    patience = Patience(max_retries=12, what="read", advice="wait")
    for _ in range(12):
        patience.failed(ConnectionResetError("reset"))
    for number, seconds in enumerate(waits):
        most = min(retries.MAX_WAIT_SECONDS, retries.FIRST_WAIT_SECONDS * 2**number)
        assert most / 2 <= seconds <= most
    assert len(set(waits)) == 12


def test_a_thousand_failures_in_a_row_do_not_overflow(waits: list[float]):
    patience = Patience(max_retries=1500, what="read", advice="wait")
    for _ in range(1500):
        patience.failed(ConnectionResetError("reset"))
    assert max(waits) <= retries.MAX_WAIT_SECONDS


def test_the_wait_that_a_server_asks_for_is_kept_up_to_a_limit(waits: list[float]):
    patience = Patience(max_retries=3, what="read", advice="wait")
    patience.failed(HttpError(429, {"Retry-After": "7"}))
    patience.failed(HttpError(503, {"Retry-After": "86400"}))
    patience.failed(HttpError(503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}))
    assert waits[0] == 7
    assert waits[1] == retries.MAX_ASKED_WAIT_SECONDS
    assert waits[2] <= 4


def test_what_fails_twice_and_then_works_is_called_three_times(waits: list[float]):
    answers: list[Exception | str] = [ConnectionResetError("1"), HttpError(503), "done"]

    def action() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert with_retries(action, max_retries=2, what="fetching", advice="wait") == "done"
    assert answers == []
    assert len(waits) == 2


def test_when_it_goes_on_failing_the_error_says_what_how_often_why_and_what_to_do(waits: list[float]):
    def action() -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection\nrefused")

    with pytest.raises(UnreachableError) as caught:
        with_retries(action, max_retries=2, what="listing s3://b", advice="check the network")
    assert str(caught.value) == (
        f"listing s3://b: failed 3 times (ConnectionRefusedError: [Errno {errno.ECONNREFUSED}] Connection refused); "
        "check the network"
    )
    assert caught.value.exit_code == 74


def test_a_success_between_failures_starts_the_count_again(waits: list[float]):
    patience = Patience(max_retries=1, what="read", advice="wait")
    for _ in range(5):
        patience.failed(ConnectionResetError("reset"))
        patience.succeeded()
    assert len(waits) == 5
    patience.failed(ConnectionResetError("reset"))
    with pytest.raises(UnreachableError, match="failed 2 times"):
        patience.failed(ConnectionResetError("reset"))


def test_a_mistake_is_raised_as_it_is_and_not_repeated(waits: list[float]):
    calls = []

    def action() -> None:
        calls.append(1)
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        with_retries(action, max_retries=5, what="opening", advice="wait")
    assert (len(calls), waits) == (1, [])


def test_chosen_offline_mode_is_not_waited_out(waits: list[float]):
    class OfflineModeIsEnabled(ConnectionError):  # noqa: N818 - the library's name
        pass

    patience = Patience(max_retries=5, what="read", advice="unset HF_HUB_OFFLINE")
    with pytest.raises(UnreachableError, match=r"failed 1 time .*unset HF_HUB_OFFLINE"):
        patience.failed(OfflineModeIsEnabled("offline"))
    assert waits == []


def test_the_examples_in_the_documentation_hold():
    result = doctest.testmod(retries)
    assert result.attempted
    assert not result.failed
