"""Watch trainings from another terminal, while they run or after: live curves of one or several runs."""

import shutil
import sys
import time
from pathlib import Path

from core.errors import UsageError
from core.logs import log_to_console
from pipeline.command import Parser, run_command
from training.monitor_page import monitor_page
from training.run_log import TrainingLog, find_trainings, read_training
from training.run_plots import write_plots
from training.training_report import write_training_report

REFRESH_SECONDS = 3.0

CLEAR_SCREEN = "\033[H\033[2J"

EXAMPLES = (
    "python scripts/monitor.py runs/mine",
    "python scripts/monitor.py runs/mine runs/other --once",
    "python scripts/monitor.py runs/mine --html curves.html",
    "python scripts/monitor.py runs/mine runs/other --png curves.png",
)


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(description=__doc__, examples=EXAMPLES)
    result.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="directory of a run, or of one training of it"
    )
    result.add_argument("--once", action="store_true", help="print the page once and leave")
    result.add_argument(
        "--every",
        type=float,
        default=REFRESH_SECONDS,
        metavar="SECONDS",
        help="look again so often. Default: 3.",
    )
    result.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="write the newest training of the first run as a page, and leave",
    )
    result.add_argument(
        "--png",
        type=Path,
        metavar="FILE",
        help="draw the curves of all runs into a picture (needs matplotlib), and leave",
    )
    result.add_argument("--debug", action="store_true", help="show tracebacks and developers' messages")
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags = parser().parse_args(arguments)
    log_to_console(verbose=flags.debug)
    if flags.every <= 0:
        raise UsageError(f"--every {flags.every:g}: expected seconds above 0")
    if flags.html is not None or flags.png is not None:
        of_first, logs = find_trainings(flags.runs[0]), _logs(flags.runs)
        if not of_first:
            raise UsageError(
                f"{flags.runs[0]}: no training of this run has begun, so there is nothing to show"
            )
        if flags.html is not None:
            print(write_training_report(of_first[-1], flags.html))
        if flags.png is not None:
            print(write_plots(logs, flags.png))
        return 0
    if flags.once or not sys.stdout.isatty():
        print(_page(flags.runs, colour=sys.stdout.isatty(), is_live=False))
        return 0
    try:
        while True:
            print(CLEAR_SCREEN + _page(flags.runs, colour=True, is_live=True), flush=True)
            time.sleep(flags.every)
    except KeyboardInterrupt:  # the way to leave
        return 0


def _page(runs: list[Path], *, colour: bool, is_live: bool) -> str:
    logs = _logs(runs)
    if not logs:
        return f"{', '.join(map(str, runs))}: no training has begun"
    screen = shutil.get_terminal_size(fallback=(100, 40))
    return monitor_page(
        logs, width=screen.columns, height=screen.lines - 1 if is_live else None, colour=colour
    )


def _logs(runs: list[Path]) -> list[TrainingLog]:
    return [read_training(directory) for run in runs for directory in find_trainings(run)]


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv))
