"""From a model to a process that serves it: assembly, and an orderly end. Knows no route."""

import asyncio
import functools
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import ConfigError, MissingDependencyError
from inference.chat import ChatModel
from inference.continuous_batch import ContinuousBatch
from inference.feedback import model_fingerprint
from inference.prompt_scores import PromptReading
from inference.sampling_settings import SamplingOptions

try:
    import uvicorn
except ImportError as error:
    raise MissingDependencyError("serving needs the package uvicorn: pip install -e '.[serve]'") from error

from inference.server.application import Application
from inference.server.completions import Completions
from inference.server.connections import DeadlineProtocol
from inference.server.http import Access, Limits
from inference.server.metrics import Metrics
from inference.server.page import load_page
from inference.server.scheduler import Scheduler


@dataclass(frozen=True)
class ServerSettings:
    """How a model is served.

    Attributes:
        name: What clients call the model.
        defaults: Sampling settings for what a request does not say.
        feedback: File for the ratings of answers.
        max_running: Answers made at the same time; each has the memory of a whole context.
        max_waiting: Answers that wait for one of those to end; more are refused.
    """

    name: str
    defaults: SamplingOptions
    feedback: Path
    max_running: int = 8
    max_waiting: int = 64
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)


def new_application(chat_model: ChatModel, settings: ServerSettings) -> Application:
    """The routes around a model; its scheduler runs until `close`.

    Raises:
        ConfigError: there is no memory for so many answers at the same time.
    """
    directory = chat_model.directory
    assert directory is not None, "a model that was loaded from a directory"
    metrics = Metrics()
    try:
        scheduler = Scheduler(
            lambda: ContinuousBatch(
                chat_model.engine, max_rows=settings.max_running, allowed=chat_model.allowed
            ),
            lambda prompt: PromptReading(chat_model.engine, prompt),
            max_running=settings.max_running,
            max_waiting=settings.max_waiting,
        )
    except RuntimeError as error:  # as torch says it, on a CPU without a class of its own
        if "memory" not in str(error):
            raise
        raise ConfigError(
            f"--max-running {settings.max_running}: found no memory for so many contexts of "
            f"{chat_model.engine.context} tokens; choose fewer"
        ) from error
    return Application(
        chat_model,
        scheduler,
        Completions(chat_model, scheduler, metrics, name=settings.name, defaults=settings.defaults),
        metrics,
        load_page(),
        access=settings.access,
        limits=settings.limits,
        feedback_file=settings.feedback,
        fingerprint=model_fingerprint(directory),
    )


def new_server(
    app: Application, limits: Limits, certificate: tuple[Path, Path] | None = None
) -> uvicorn.Server:
    """uvicorn around an application, with our deadlines and without its own words on the console."""
    protocol: Any = functools.partial(DeadlineProtocol, limits=limits)

    async def end_with_the_scheduler() -> None:
        server.should_exit |= app.failure is not None

    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            log_level="critical",  # What goes wrong in a request, the application has said already.
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=limits.drain_seconds,
            limit_concurrency=limits.max_connections,
            callback_notify=end_with_the_scheduler,
            timeout_notify=1,
            ssl_certfile=certificate[0] if certificate else None,
            ssl_keyfile=certificate[1] if certificate else None,
        )
    )
    return server


def serve(
    app: Application,
    limits: Limits,
    listening: socket.socket,
    certificate: tuple[Path, Path] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is being answered; a second SIGINT ends it at once.

    Raises:
        Exception: what made it impossible to answer anything more; whoever watches over the process can start another.
    """
    # uvicorn raises a signal once more when it has ended, for whoever was there before: it shall not end us then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    asyncio.run(run(new_server(app, limits, certificate), app, listening))
    if app.failure is not None:
        raise app.failure


async def run(server: uvicorn.Server, app: Application, listening: socket.socket) -> None:
    """Serve until the server is told to exit."""
    try:
        await server.serve(sockets=[listening])
    finally:
        # While the loop still runs, into which the scheduler's thread calls.
        await asyncio.to_thread(app.close)
