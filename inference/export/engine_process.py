"""One function in a fresh process, and its result back: an engine that crashes there is an error here.

A program that loads an export knows nothing of the process that wrote it; neither does this one.
"""

import logging
import multiprocessing
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from core.errors import MismatchError

logger = logging.getLogger(__name__)

T = TypeVar("T")

GRACE_SECONDS = 10
"""For an engine to take itself down after it has answered. Arbitrary."""


def in_fresh_process(function: Callable[..., T], *arguments: Any) -> T:
    """What `function(*arguments)` returns in a new interpreter.

    Args:
        function: Of a module, so that the new interpreter can import it.

    Raises:
        MismatchError: it raised an exception or its process ended by itself; the message says how.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sending, function, arguments), daemon=True)
    process.start()
    sending.close()
    try:
        outcome = receiving.recv()
        process.join(timeout=GRACE_SECONDS)
    except EOFError:
        process.join()
        code = process.exitcode or 0
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise MismatchError(
            f"the engine ended by itself ({how}) when it was given the export; its own words are above"
        ) from None
    finally:
        receiving.close()
        process.kill()  # also when this process is interrupted
        process.join()
    is_answer, value = outcome
    if not is_answer:
        what, where = value
        logger.debug("%s", where)
        raise MismatchError(f"the engine could not use the export: {what}")
    result: T = value
    return result


def _run(sending: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    logging.disable(logging.INFO)
    try:
        outcome = (True, function(*arguments))
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is the answer
        outcome = (False, (f"{type(error).__name__}: {error!s:.300}", traceback.format_exc()))
    sending.send(outcome)
