"""How the command line talks: plain lines on standard error that do not tear progress bars. Set up by scripts only."""

import logging
import sys

from tqdm import tqdm


class _ConsoleHandler(logging.Handler):
    """Writes above a progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


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
        logging.getLogger(room).setLevel(logging.DEBUG if verbose else logging.INFO)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {text}"
