"""From a model to a process that serves it: address, certificate, assembly, and an orderly end. Knows no route."""

import asyncio
import contextlib
import functools
import signal
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import AddressError, MissingDependencyError
from inference.chat import ChatModel
from inference.continuous_batch import ContinuousBatch
from inference.feedback import feedback_file, model_fingerprint
from inference.sampling_settings import SamplingOptions

try:
    import uvicorn
except ImportError as error:
    raise MissingDependencyError(
        "serving needs the package uvicorn: pip install 'bloomery[serve]'"
    ) from error

from inference.server.application import Application
from inference.server.completions import Completions
from inference.server.connections import DeadlineProtocol, Limits
from inference.server.http import Access
from inference.server.metrics import Metrics
from inference.server.page import load_page
from inference.server.scheduler import Scheduler

SEND_BUFFER_BYTES = 1 << 16
"""Of a connection, in the system. Linux would let it grow to 4 MB: as many answers as a client would have to leave
unread before it is noticed."""


@dataclass(frozen=True)
class ServerSettings:
    """How a model is served.

    Attributes:
        name: What clients call the model.
        defaults: Sampling settings for what a request does not say.
        max_running: Answers made at the same time; each has the memory of a whole context.
        max_waiting: Answers that wait for one of those to end; more are refused.
        feedback: File for the ratings of answers; None = in the model's run.
    """

    name: str
    defaults: SamplingOptions
    max_running: int = 8
    max_waiting: int = 64
    feedback: Path | None = None
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)


def listen(host: str, port: int) -> socket.socket:
    """A socket at the address; connections wait in it until `serve` answers them.

    Args:
        port: 0 = any that is free.

    Raises:
        AddressError: the address is in use, not this machine's, or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"--host {host}: no such address ({error}); name one of this machine's") from None
    try:
        # A port that the last process left a minute ago is free.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise AddressError(
            f"{host} port {port}: cannot be listened on ({error.strerror}); choose another with --host or --port"
        ) from None
    return listening


def check_certificate(certificate: Path, key: Path) -> None:
    """Nothing, when they can be served with.

    Raises:
        AddressError: one cannot be read, or they do not belong together.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        raise AddressError(
            f"--cert {certificate} --key {key}: no certificate with its key ({reason}); expected two PEM files, the "
            "key without a password"
        ) from None


@contextlib.contextmanager
def application(chat_model: ChatModel, settings: ServerSettings) -> Iterator[Application]:
    """The routes around a model, whose scheduler runs until the block ends."""
    directory = chat_model.directory
    assert directory is not None, "a model that was loaded from a directory"
    metrics = Metrics()
    scheduler = Scheduler(
        lambda: ContinuousBatch(chat_model.engine, max_rows=settings.max_running, allowed=chat_model.allowed),
        max_running=settings.max_running,
        max_waiting=settings.max_waiting,
    )
    try:
        yield Application(
            chat_model,
            scheduler,
            Completions(chat_model, scheduler, metrics, name=settings.name, defaults=settings.defaults),
            metrics,
            load_page(),
            access=settings.access,
            limits=settings.limits,
            feedback_file=settings.feedback or feedback_file(directory),
            fingerprint=model_fingerprint(directory),
        )
    finally:
        scheduler.close()


def new_server(app: Any, limits: Limits, certificate: tuple[Path, Path] | None = None) -> uvicorn.Server:
    """uvicorn around an application, with our deadlines and without its own words on the console."""
    protocol: Any = functools.partial(DeadlineProtocol, limits=limits)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=limits.drain_seconds,
            limit_concurrency=limits.max_connections,
            ssl_certfile=certificate[0] if certificate else None,
            ssl_keyfile=certificate[1] if certificate else None,
        )
    )


def serve(
    chat_model: ChatModel,
    settings: ServerSettings,
    listening: socket.socket,
    certificate: tuple[Path, Path] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is being answered; a second SIGINT ends it at once."""
    # uvicorn raises a signal once more when it has ended, for whoever was there before: it shall not end us then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with application(chat_model, settings) as app:
        server = new_server(app, settings.limits, certificate)
        asyncio.run(server.serve(sockets=[listening]))
