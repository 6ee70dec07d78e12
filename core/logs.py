"""How the command line talks: plain lines on standard error that do not tear progress bars. Set up by scripts only."""

import logging
import os
import sys

from tqdm import tqdm


class _ConsoleHandler(logging.Handler):
    """Writes above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def is_speaker() -> bool:
    """Whether this process talks to the user: of several that torchrun started, the first."""
    return os.environ.get("RANK", "0") == "0"


def log_to_console(*, verbose: bool = False) -> None:
    """Show the project's messages on standard error; with `verbose` also what is of interest to developers only."""
    handler = _ConsoleHandler()
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for room in (
        "core",
        "data_processing",
        "tokenization",
        "models",
        "training",
        "inference",
        "evaluation",
        "pipeline",
    ):
        # What all processes find, one says.
        level = logging.INFO if is_speaker() else logging.ERROR
        logging.getLogger(room).setLevel(logging.DEBUG if verbose else level)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"
