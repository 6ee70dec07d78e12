"""scripts/serve.py as a process: the real openai client, signals, addresses and certificates."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inference.chat import ChatModel
from tests.inference.tiny_models import save_tiny_model
from tokenization.tokenizer import Tokenizer

pytestmark = pytest.mark.fault

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "serve.py"
KEY = "k-123"
USER = {"role": "user", "content": "iron?"}


@pytest.fixture(scope="module")
def run_directory(small_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "mine"
    # Long enough for an answer to take seconds.
    save_tiny_model(run / "finetune" / "final", small_tokenizer, max_position_embeddings=8192)
    return run


@contextmanager
def process(run: Path, *flags: str, key: str | None = None) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process and its address, once it says that it serves."""
    environment = {name: value for name, value in os.environ.items() if name != "BLOOMERY_API_KEY"}
    if key is not None:
        environment["BLOOMERY_API_KEY"] = key
    started = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(run), "--device", "cpu", "--port", "0", *flags],
        stderr=subprocess.PIPE,
        env=environment,
        # A test run in the background of a shell ignores SIGINT, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert started.stderr is not None
        said = ""
        while (match := re.search(r"serving \w+ at (https?://\S+)/ ", said)) is None:
            line = started.stderr.readline().decode()
            assert line, said
            said += line
        yield started, match[1]
    finally:
        started.kill()
        started.communicate()


@pytest.fixture(scope="module")
def served(run_directory: Path) -> Iterator[tuple[str, ChatModel]]:
    with process(
        run_directory, "--weights", "float32", "--temperature", "0", "--max-tokens", "9", key=KEY
    ) as (_, address):
        yield address, ChatModel.load(run_directory, device="cpu")


@pytest.fixture
def client(served: tuple[str, ChatModel]) -> Iterator[Any]:
    import openai

    with openai.OpenAI(base_url=served[0] + "/v1", api_key=KEY, max_retries=0) as made:
        yield made


def test_the_client_of_openai_gets_answers_streams_and_models(
    client: Any, served: tuple[str, ChatModel]
) -> None:
    model = served[1]
    expected = model.chat([USER], temperature=0, max_tokens=9)
    assert [listed.id for listed in client.models.list()] == ["mine"]
    assert client.models.retrieve("mine").id == "mine"

    answer = client.chat.completions.create(model="mine", messages=[USER])
    assert answer.choices[0].message.content == expected
    assert answer.usage.completion_tokens == 9
    # The answer can be sent back as the client made it, and the conversation goes on.
    messages = [USER, answer.choices[0].message, {"role": "user", "content": "coal?"}]
    again = client.chat.completions.create(model="mine", messages=messages)
    history = [USER, {"role": "assistant", "content": expected}, {"role": "user", "content": "coal?"}]
    assert again.choices[0].message.content == model.chat(history, temperature=0, max_tokens=9)

    with client.chat.completions.create(
        model="mine", messages=[USER], stream=True, stream_options={"include_usage": True}, logprobs=True
    ) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == expected
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].usage.total_tokens == len(model.render([USER])) + 9

    text = client.completions.create(
        model="mine", prompt=["iron ", "coal "], n=2, temperature=0.7, seed=4, logprobs=2, stop=["zq"],
        extra_body={"top_k": 5, "min_p": 0.01, "repetition_penalty": 1.1},
    )  # fmt: skip
    assert [choice.index for choice in text.choices] == [0, 1, 2, 3]
    assert all(
        len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs) > 0 for choice in text.choices
    )


def test_the_client_of_openai_raises_what_the_server_says(client: Any, served: tuple[str, ChatModel]) -> None:
    import openai

    with pytest.raises(openai.BadRequestError, match=r"temperature: .*found -1") as caught:
        client.chat.completions.create(model="mine", messages=[USER], temperature=-1)
    assert caught.value.param == "temperature" and caught.value.request_id
    with pytest.raises(openai.NotFoundError, match="'gpt-9' is not served here"):
        client.chat.completions.create(model="gpt-9", messages=[USER])
    with pytest.raises(openai.AuthenticationError, match="a wrong API key"):
        client.with_options(api_key="k-124").models.list()
    # The retries that the client makes by itself find the header that it wants.
    with pytest.raises(openai.BadRequestError, match="context is 8192 tokens") as caught:
        client.completions.create(model="mine", prompt="é" * 9000)
    assert caught.value.code == "context_length_exceeded"


def test_sigterm_lets_answers_end_takes_no_new_ones_and_exits_0(run_directory: Path) -> None:
    with process(run_directory) as (server, address):
        body = {"prompt": "iron ", "temperature": 0, "max_tokens": 600, "stream": True}
        answer = urllib.request.urlopen(
            urllib.request.Request(f"{address}/v1/completions", json.dumps(body).encode()), timeout=60
        )
        first = answer.readline()
        assert first.startswith(b"data: ")
        idle = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        server.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.poll() is None, "it ended in the middle of an answer"
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=1)
        rest = answer.read()
        assert rest.endswith(b"data: [DONE]\n\n") and b'"finish_reason":"length"' in rest
        idle.close()
        assert server.wait(timeout=60) == 0
        assert server.stderr is not None
        assert b"Traceback" not in server.stderr.read()


def test_an_answer_that_never_ends_is_cut_off_when_the_time_for_draining_is_over(run_directory: Path) -> None:
    with process(run_directory, "--drain-seconds", "1") as (server, address):
        body = {"prompt": "iron ", "temperature": 0, "max_tokens": 8000, "stream": True}
        answer = urllib.request.urlopen(
            urllib.request.Request(f"{address}/v1/completions", json.dumps(body).encode()), timeout=60
        )
        assert answer.readline().startswith(b"data: ")
        said: list[bytes] = []
        reader = threading.Thread(target=lambda: said.extend(read_on(answer)), daemon=True)
        reader.start()
        began = time.monotonic()
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 0
        assert time.monotonic() - began > 0.9
        reader.join()
        assert said and b"[DONE]" not in b"".join(said), "all 8,000 tokens were made"
        assert server.stderr is not None
        assert b"Traceback" not in server.stderr.read()


def read_on(answer: Any) -> Iterator[bytes]:
    """All that comes until the connection ends, wherever that is."""
    with contextlib.suppress(http.client.HTTPException, OSError, ValueError):
        while data := answer.read1(1 << 16):
            yield data


def failed_start(*flags: str) -> str:
    """The one line that a start ends with, whose exit code is 73."""
    command = [sys.executable, "-X", "importtime", str(SCRIPT), *flags]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("import time:")]
    assert (result.returncode, len(lines)) == (73, 1), lines
    assert "| torch\n" not in result.stderr, "it took a second to say so"
    return lines[0]


def test_an_address_or_certificate_that_cannot_be_used_is_one_line_and_exit_73(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = failed_start("--port", str(port))
        assert line.startswith(
            f"error[E037]: 127.0.0.1 port {port}: cannot be listened on (Address already in use)"
        )
    assert "203.0.113.7 port 8000: cannot be listened on" in failed_start("--host", "203.0.113.7")
    assert "--host no.such.host.invalid: no such address" in failed_start("--host", "no.such.host.invalid")
    (tmp_path / "c.pem").write_text("no certificate")
    certificate = ("--cert", str(tmp_path / "c.pem"), "--key", str(tmp_path / "k.pem"))
    assert "no certificate with its key ([SSL] PEM lib" in failed_start(*certificate)
    (tmp_path / "c.pem").unlink()
    assert "(No such file or directory); expected two PEM files" in failed_start(*certificate)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_with_a_certificate_it_speaks_https(run_directory: Path, tmp_path: Path) -> None:
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    with process(run_directory, "--cert", str(cert), "--key", str(key)) as (_, address):
        assert address.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(cert))
        with urllib.request.urlopen(f"{address}/health", context=context, timeout=10) as answer:
            assert json.load(answer)["status"] == "ok"
