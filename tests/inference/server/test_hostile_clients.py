"""Clients that leave, crowd, dribble, flood or never read: each costs itself and nobody else."""

import asyncio
import contextlib
import json
import select
import socket
import time
from typing import Any

import pytest

from inference.chat import ChatModel
from inference.server.http import Limits
from tests.inference.server.server_kit import RunningServer, SlowBatch, running

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
QUICK = Limits(read_seconds=0.5, write_seconds=0.5, body_bytes=10_000, drain_seconds=5)
ENOUGH_SECONDS = 8
"""A deadline of half a second has long gone off by then, and the usual one of ten seconds has not."""
ENDLESS = {"prompt": "iron ", "max_tokens": 500, "temperature": 0}


@pytest.fixture(scope="module")
def server(served_model: ChatModel) -> Any:
    with running(served_model, batch=SlowBatch, max_running=2, max_waiting=4, limits=QUICK) as started:
        yield started


def everything(connection: Any) -> bytes:
    """What comes until the server closes."""
    data = b""
    try:
        while more := connection.recv(1 << 16):
            data += more
    except ConnectionResetError:
        pass
    finally:
        connection.close()
    return data


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_client_that_leaves_frees_its_row_within_a_few_tokens(
    server: RunningServer, path: str, stream: bool
) -> None:
    body: dict[str, Any] = {**ENDLESS, "stream": stream, "n": 2}
    if path == CHAT:
        body["messages"] = [{"role": "user", "content": body.pop("prompt")}]
    tokens_before = server.num_tokens()
    connection = server.send_completion(body, path=path)
    server.until(lambda state: state["running"] == 2)
    if stream:
        assert b"data: " in connection.recv(1 << 16) + connection.recv(1 << 16)
    connection.close()
    server.until_idle()
    # Of 1,000. How many come before it is seen that nobody listens is a matter of how busy the machine is.
    assert server.num_tokens() - tokens_before < 500


def test_one_that_waits_in_the_line_and_leaves_is_taken_out_of_it(server: RunningServer) -> None:
    running_now = server.send_completion({**ENDLESS, "n": 2})
    server.until(lambda state: state["running"] == 2)
    waiting = server.send_completion(ENDLESS)
    server.until(lambda state: state["waiting"] == 1)
    waiting.close()
    server.until(lambda state: (state["running"], state["waiting"]) == (2, 0))
    running_now.close()
    server.until_idle()


def test_a_full_line_is_told_when_to_come_again_and_takes_the_next_ones_later(server: RunningServer) -> None:
    connections = [server.send_completion(ENDLESS) for _ in range(6)]
    server.until(lambda state: state["running"] + state["waiting"] == 6)
    status, headers, body = server.request("POST", TEXT, ENDLESS)
    assert (status, json.loads(body)["error"]["code"]) == (429, "queue_full")
    assert 1 <= int(headers["retry-after"]) <= 60
    for connection in connections:
        connection.close()
    server.until_idle()
    assert server.request("POST", TEXT, {**ENDLESS, "max_tokens": 2})[0] == 200


def test_two_hundred_clients_at_once_are_answered_rightly_or_sent_away(served_model: ChatModel) -> None:
    expected = served_model.generate("iron ", temperature=0, max_tokens=8)

    async def ask(port: int) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps({"prompt": "iron ", "temperature": 0, "max_tokens": 8}).encode()
        head = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
        return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[2]

    async def crowd(port: int) -> list[tuple[int, bytes]]:
        return await asyncio.gather(*(ask(port) for _ in range(200)))

    with running(served_model, max_running=8, max_waiting=32) as server:
        answers = asyncio.run(crowd(server.port))
        statuses = [status for status, _ in answers]
        assert set(statuses) == {200, 429}
        assert statuses.count(200) >= 40, "as many as run and wait at a time are answered at least"
        # The same for all, whoever sat beside them in the batch.
        assert {json.loads(body)["choices"][0]["text"] for status, body in answers if status == 200} == {
            expected
        }
        server.until_idle()


@pytest.mark.parametrize(
    "begin",
    [b"", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", b"POST /v1/completions HTTP/1.1\r\n"],
    ids=["nothing", "half a head", "a line"],
)
def test_a_head_that_dribbles_is_cut_off_and_others_are_answered_meanwhile(
    server: RunningServer, begin: bytes
) -> None:
    connection = server.connect()
    began = time.monotonic()
    connection.sendall(begin)
    while not select.select([connection], [], [], 0.1)[0]:
        assert time.monotonic() - began < ENOUGH_SECONDS, "each byte gave it more time"
        # It may be cut off at this very moment.
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"a" if begin else b"")
        assert server.health()["status"] == "ok"
    assert everything(connection).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began > 0.4


def test_a_second_head_on_a_connection_has_its_own_deadline(server: RunningServer) -> None:
    connection = server.connect()
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        answer += connection.recv(1 << 16)
    assert answer.startswith(b"HTTP/1.1 200 ")
    time.sleep(0.7)  # between requests uvicorn waits longer
    began = time.monotonic()
    connection.sendall(b"GET /hea")
    assert everything(connection).startswith(b"HTTP/1.1 408 ")
    assert 0.3 < time.monotonic() - began < ENOUGH_SECONDS


def test_idle_connections_are_bounded_and_make_room_by_themselves(served_model: ChatModel) -> None:
    with running(served_model, limits=Limits(read_seconds=0.5, max_connections=5)) as server:
        idle = [server.connect() for _ in range(5)]
        time.sleep(0.1)
        assert server.request("GET", "/health")[0] == 503
        began = time.monotonic()
        while server.request("GET", "/health")[0] == 503:
            assert time.monotonic() - began < ENOUGH_SECONDS
            time.sleep(0.05)
        for connection in idle:
            connection.close()


def test_a_body_that_dribbles_is_told_so_and_cut_off(server: RunningServer) -> None:
    connection = server.connect()
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
    began = time.monotonic()
    data = everything(connection)
    assert data.startswith(b"HTTP/1.1 408 ") and b"the body took longer than 0.5 s" in data
    assert time.monotonic() - began < ENOUGH_SECONDS


@pytest.mark.parametrize("path", ["/v1/completions", "/nowhere", "/feedback"])
def test_ten_gigabytes_that_are_announced_are_not_waited_for(served_model: ChatModel, path: str) -> None:
    with running(served_model, limits=Limits(read_seconds=600)) as server:
        connection = server.connect()
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n\r\n{{".encode()
        )
        # It is given up after 30 seconds, long before the server's deadline.
        data = everything(connection)
        assert data.startswith(b"HTTP/1.1 404 " if path == "/nowhere" else b"HTTP/1.1 413 ")


def test_chunks_without_end_are_cut_off_at_the_limit(server: RunningServer) -> None:
    connection = server.connect()
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    sent = 0
    try:
        while sent < 50_000_000:
            connection.sendall(b"1000\r\n" + b"a" * 4096 + b"\r\n")
            sent += 4096
    except OSError:
        pass
    assert sent < 50_000_000, "the server read on and on"
    connection.close()
    assert server.health()["status"] == "ok"


def test_a_head_of_a_megabyte_is_refused(server: RunningServer) -> None:
    connection = server.connect()
    try:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1_000_000)
        assert everything(connection).startswith(b"HTTP/1.1 400 ")
    except (ConnectionResetError, BrokenPipeError):
        pass
    assert server.health()["status"] == "ok"


def test_requests_that_come_in_one_piece_are_answered_in_turn_and_left_together(
    server: RunningServer,
) -> None:
    body = json.dumps({**ENDLESS, "max_tokens": 3, "stream": True}).encode()
    head = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    connection = server.connect()
    connection.sendall(
        (head + body) * 2 + b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    data = everything(connection)
    assert data.count(b"data: [DONE]") == 2 and data.endswith(b'"waiting":0}')
    # With more behind it, a connection is not read from, and its end is seen all the same.
    tokens_before = server.num_tokens()
    connection = server.send_completion(ENDLESS)
    connection.sendall(b"GET /health")
    server.until(lambda state: state["running"] == 1)
    connection.close()
    server.until_idle()
    assert server.num_tokens() - tokens_before < 250


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: x\r\n\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_no_http_gets_400_or_nothing(server: RunningServer, data: bytes) -> None:
    connection = server.connect()
    connection.sendall(data)
    answer = everything(connection)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 421 ", b"HTTP/1.1 501 ")), answer
    assert server.health()["status"] == "ok"


def test_a_reader_that_never_reads_is_dropped_and_its_rows_are_freed(served_model: ChatModel) -> None:
    # Each token is an event of some 2 kB with 20 log-probabilities: after a few the system's buffers are full.
    body = {"prompt": "iron ", "max_tokens": 500, "temperature": 0, "stream": True, "logprobs": 20, "n": 8}
    data = json.dumps(body).encode()
    head = f"POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    with (
        running(served_model, batch=SlowBatch, max_running=8, limits=QUICK) as server,
        socket.socket() as connection,
    ):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(head + data)
        server.until(lambda state: state["running"] == 8)
        server.until_idle()
        while b'status="499"' not in (text := server.request("GET", "/metrics")[2]):
            time.sleep(0.01)
        assert b"bloomery_answers_cancelled_total 8\n" in text
        assert b"[DONE]" not in everything(connection)
