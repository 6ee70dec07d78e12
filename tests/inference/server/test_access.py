"""Who may ask: names of the host, pages of other sites, keys."""

from typing import Any

import pytest

from inference.chat import ChatModel
from inference.server.address import host_name, web_origin
from inference.server.http import Access
from inference.server.protocol import ApiError
from tests.inference.server.server_kit import RunningServer, running

KEY = "k-123"


@pytest.fixture(scope="module")
def server(served_model: ChatModel) -> Any:
    with running(served_model, access=Access(KEY, ("box.example",), ("https://app.example",))) as started:
        yield started


def ask(server: RunningServer, path: str = "/v1/models", **headers: str) -> tuple[int, dict[str, str]]:
    status, answered, _ = server.request("GET", path, headers={"authorization": f"Bearer {KEY}", **headers})
    return status, answered


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8000", 200),
        ("127.0.0.1:8000", 200),
        ("192.168.1.5", 200),
        ("[::1]:8000", 200),
        ("box.example", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
        ("[", 421),
        ("[::1", 421),
        ("a@localhost@b", 421),
        ("localhost:port", 200),
    ],
)
def test_a_name_that_is_not_this_servers_is_refused_so_that_it_cannot_be_rebound(
    server: RunningServer, host: str, status: int
) -> None:
    for path in ("/v1/models", "/"):
        assert ask(server, path, host=host)[0] == status


def test_a_page_of_another_site_may_not_ask_even_with_a_simple_request(server: RunningServer) -> None:
    headers = {
        "authorization": f"Bearer {KEY}",
        "origin": "https://evil.example",
        "content-type": "text/plain",
    }
    status, answer = server.json("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1}, headers=headers)
    assert (status, answer["error"]["message"]) == (
        403, "pages of https://evil.example may not ask; start the server with --cors https://evil.example to allow it"
    )  # fmt: skip
    for origin in ("null", "", "http://[", "http://localhost.evil.example", "file://"):
        assert server.request("GET", "/v1/models", headers={"origin": origin})[0] == 403


def test_a_page_of_an_allowed_site_and_our_own_may_ask(server: RunningServer) -> None:
    status, answered = ask(server, origin="https://app.example")
    assert (status, answered["access-control-allow-origin"]) == (200, "https://app.example")
    assert answered["vary"] == "origin"
    status, answered = ask(server, origin=f"http://localhost:{server.port}", host=f"localhost:{server.port}")
    assert status == 200 and "access-control-allow-origin" not in answered


def test_a_browser_is_told_before_it_asks_what_it_may_send(server: RunningServer) -> None:
    headers = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-os",
    }
    status, answered, _ = server.request("OPTIONS", "/v1/completions", headers=headers)
    assert (status, answered["access-control-allow-methods"]) == (204, "POST")
    assert answered["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert answered["access-control-allow-origin"] == "https://app.example"
    assert (
        server.request("OPTIONS", "/v1/completions", headers={**headers, "origin": "https://evil.example"})[0]
        == 403
    )


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/completions", "/v1/chat/completions", "/feedback", "/metrics"]
)
@pytest.mark.parametrize(
    "authorization", [None, "Bearer", "Bearer k-1234", "Bearer k-12", "Basic k-123", "Bearer é"]
)
def test_without_the_key_nothing_is_answered(
    server: RunningServer, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    status, answered, body = server.request("GET", path, headers=headers)
    assert (status, answered["www-authenticate"]) == (401, "Bearer")
    assert b"invalid_api_key" in body and KEY.encode() + b'"' not in body


def test_the_page_and_the_health_need_no_key(server: RunningServer) -> None:
    assert server.request("GET", "/")[0] == server.request("GET", "/health")[0] == 200
    assert ask(server)[0] == 200


@pytest.mark.parametrize(
    "host",
    ["chat.example", "CHAT.example:8000", "chat.example.", "xn--bcher-kva.example", "localhost."],
)
def test_a_name_is_allowed_however_it_is_spelled(host: str) -> None:
    names = tuple(map(host_name, ("Chat.Example.", "bücher.example")))
    Access(host_names=names).check_host(host)
    with pytest.raises(ApiError):
        Access(host_names=names).check_host("x" + host)


def test_an_allowed_site_is_known_as_browsers_spell_it() -> None:
    spelled = {
        "https://A.Example:443": "https://a.example",
        "http://a.example:80": "http://a.example",
        "http://a.example:443": "http://a.example:443",
        "http://[::1]:3000": "http://[::1]:3000",
    }
    for given, sent in spelled.items():
        assert web_origin(given) == sent
        Access(origins=(web_origin(given),)).check_origin(sent, "localhost")


def test_the_message_about_a_host_says_what_to_do() -> None:
    with pytest.raises(
        ApiError, match=r"the Host header is 'evil.example'; start the server with --allow-host evil.ex"
    ):
        Access().check_host("evil.example")
