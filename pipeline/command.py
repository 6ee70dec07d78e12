"""How every script begins and ends: one line for what a user can mend, and an exit code a launcher can act on."""

import argparse
import contextlib
import faulthandler
import io
import os
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from core.config import HELP_COLUMNS
from core.errors import BloomeryError, MainProcessError, Preempted, UsageError
from core.logs import is_speaker
from core.threads import share_the_machine

INTERRUPTED_EXIT_CODE = 130
INTERNAL_ERROR_EXIT_CODE = 70


class Parser(argparse.ArgumentParser):
    """Reports mistakes like every other error of the project; also the parser of each command."""

    def __init__(
        self, *, examples: Sequence[str] = (), description: str | None = None, **settings: Any
    ) -> None:
        super().__init__(
            **settings,
            description=textwrap.fill(description or "", HELP_COLUMNS),
            # The examples come last: of a long page a terminal shows the end.
            epilog="\n  ".join(["examples:", *examples]) if examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing."""
        raise UsageError(f"{message} (see --help)")


def run_command(body: Callable[[], int], *, debug: bool = False, resumable: bool = False) -> int:
    """The exit code of `body`; its user-facing errors are printed as `error[E0xx]: …` without a traceback.

    With `resumable`, SIGTERM and SIGINT end the work under way and exit with 75, so that a launcher knows that the
    same command goes on where it was. A stage that trains catches them itself, to save first.

    Scripts import what loads torch inside `body`: how its threads wait is settled here.
    """
    share_the_machine()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal cannot show becomes a mark and not a traceback.
            stream.reconfigure(errors="replace")
    with contextlib.suppress(io.UnsupportedOperation):  # a standard error that is no file, as in tests
        faulthandler.enable()  # where Python was when the system ended it, say for a mapped file that was cut off
    if resumable:
        _STOPPED.clear()
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGINT, _stop)
    try:
        return body()
    except _Stopped:
        return _stopped()
    except BloomeryError as error:
        if _STOPPED:
            return _stopped()
        if debug:
            traceback.print_exc()
        if not isinstance(error, MainProcessError):
            who = "" if is_speaker() else f"process {os.environ['RANK']}: "
            print(f"error[{error.code}]: {who}{error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        # The second Ctrl-C: the last finished checkpoint and artifacts are intact.
        return INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        # The reader of our output went away, as in `… | head`; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last place that can say something short
        if _STOPPED:  # a library took the signal for a failure of its own and raised that instead
            return _stopped()
        if debug:
            traceback.print_exc()
        print(
            f"error[E099]: internal error, {type(error).__name__}: {error}; this is a bug: please report it with what "
            "the same command prints with --debug",
            file=sys.stderr,
        )
        return INTERNAL_ERROR_EXIT_CODE
    finally:
        if (
            resumable
        ):  # the exit code is settled: a signal while Python shuts down would only print a traceback
            signal.signal(signal.SIGTERM, _too_late)
            signal.signal(signal.SIGINT, _too_late)


def _stopped() -> int:
    print(f"error[{Preempted.code}]: {_STOPPED[-1]}", file=sys.stderr)
    return Preempted.exit_code


def _stop(number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    message = f"{signal.Signals(number).name}: stopped; what was finished is kept, the same command goes on from there"
    _STOPPED.append(message)
    raise _Stopped


def _too_late(_number: int, _frame: FrameType | None) -> None:
    """Nothing. `signal.SIG_IGN` would pass on to the processes that are started after it."""


_STOPPED: list[str] = []
"""What signals said so far in this process, which ends with the first."""


class _Stopped(BaseException):
    """A signal came. No Exception: it is raised wherever Python happens to be, and what stands there must not take it
    for an error of its own (`enum` makes another one of any ValueError)."""
