"""How fast a served model answers several clients, and whether it bears minutes of ones that leave, err and dribble.

python benchmarks/serving.py RUN                  # tokens/s and time to first token with 1, 8 and 32 clients
python benchmarks/serving.py RUN --soak 420       # seven minutes of 24 clients of every kind; memory and places after
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "serve.py"
CLIENTS = (1, 8, 32)
REQUESTS_EACH = 6
SOAK_CLIENTS = 24
KINDS = {
    "stream": 4,
    "whole": 4,
    "leaves a stream": 2,
    "leaves": 2,
    "wrong": 2,
    "half a body": 1,
    "health": 1,
}
"""What the clients of a soak do, and how often."""


def main() -> None:
    """Start a server of the model, measure, end it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="RUN_OR_CHECKPOINT")
    parser.add_argument(
        "--soak", type=float, metavar="SECONDS", help="bear all kinds of clients for so long instead"
    )
    flags = parser.parse_args()
    with served(flags.model) as (process, port):
        if flags.soak:
            asyncio.run(soak(process.pid, port, flags.soak))
        else:
            for clients in CLIENTS:
                asyncio.run(measure(port, clients))


@contextmanager
def served(model: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process of a server, and its port."""
    command = [sys.executable, str(SCRIPT), model, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = ""
        while (match := re.search(r"at http://[\d.]+:(\d+)/", said)) is None:
            if not (line := process.stderr.readline()):
                sys.exit(said)
            said += line
        yield process, int(match[1])
        process.terminate()
        print(f"exit code {process.wait(timeout=60)}; said: {process.stderr.read().strip() or 'nothing'}")
    finally:
        process.kill()


async def post(port: int, path: str, body: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a request was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    return reader, writer


async def measure(port: int, clients: int) -> None:
    """Print what `clients` clients at a time get: each asks one after the other for 100 tokens."""
    first_seconds: list[float] = []

    async def client() -> None:
        for _ in range(REQUESTS_EACH):
            began = time.perf_counter()
            body = {"prompt": "import ", "max_tokens": 100, "temperature": 1, "top_k": None, "stream": True}
            reader, writer = await post(port, "/v1/completions", body)
            await reader.readuntil(b"data: ")
            first_seconds.append(time.perf_counter() - began)
            await reader.read()
            writer.close()

    before, began = counted_tokens(port), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - began
    print(
        f"{clients:3} clients: {(counted_tokens(port) - before) / seconds:7.0f} tokens/s, first token after "
        f"{1000 * statistics.median(first_seconds):.0f} ms (median)",
        flush=True,
    )


def counted_tokens(port: int) -> int:
    """Tokens that the server has made."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    return int(re.search(r"^bloomery_completion_tokens_total (\d+)", text, re.MULTILINE)[1])  # type: ignore[index]


async def soak(pid: int, port: int, seconds: float) -> None:
    """Print what all kinds of clients got, and what the process takes meanwhile and after."""
    end = time.monotonic() + seconds
    outcomes: Counter[str] = Counter()

    async def client() -> None:
        while time.monotonic() < end:
            outcomes[await one_request(port)] += 1

    async def watch() -> None:
        while time.monotonic() < end:
            print(usage(pid), flush=True)
            await asyncio.sleep(min(30.0, seconds / 4))

    await asyncio.gather(watch(), *(client() for _ in range(SOAK_CLIENTS)))
    await asyncio.sleep(6)  # uvicorn keeps idle connections for five seconds
    print(usage(pid), dict(outcomes))
    print(urllib.request.urlopen(f"http://127.0.0.1:{port}/health").read().decode())


async def one_request(port: int) -> str:
    """What became of one request of a random kind."""
    kind = random.choices(list(KINDS), list(KINDS.values()))[0]
    is_chat = random.random() < 0.5
    body: dict[str, Any] = {"max_tokens": random.randint(1, 150), "n": random.choice([1, 1, 1, 2, 3])}
    body["stream"] = kind in ("stream", "leaves a stream")
    if random.random() < 0.3:
        body["stop"] = ["e", "\n"]
    if kind == "wrong":
        body["x"] = 1
    if is_chat:
        body["messages"] = [
            {"role": "user", "content": "What does os.path.getsize do? " * random.randint(1, 5)}
        ]
    else:
        body["prompt"] = "import " * random.randint(1, 20)
    if kind == "health":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    elif kind == "half a body":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{")
    else:
        reader, writer = await post(port, "/v1/chat/completions" if is_chat else "/v1/completions", body)
    try:
        if kind in ("leaves", "leaves a stream", "half a body"):
            await asyncio.sleep(random.random() * 0.5)
            return kind
        answer = await reader.read()
    finally:
        writer.close()
    status = answer.split(b" ", 2)[1].decode() if answer else "no answer"
    is_cut = status == "200" and body["stream"] and not answer.rstrip().endswith(b"0")
    return status + (", cut off" if is_cut else "")


def usage(pid: int) -> str:
    """Memory, threads and open files of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    megabytes = int(status["VmRSS"].split()[0]) // 1024
    num_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return f"{megabytes} MB, {status['Threads'].strip()} threads, {num_files} open files"


if __name__ == "__main__":
    main()
