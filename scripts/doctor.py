"""Check this machine, and say what is wrong with the trainings of a run and what helps."""

import sys
from pathlib import Path

from core.logs import log_to_console
from pipeline.command import Parser, run_command

EXAMPLES = (
    "python scripts/doctor.py",
    "python scripts/doctor.py runs/mine",
    "python scripts/doctor.py runs/mine/pretrain --device cpu",
)


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(description=__doc__, examples=EXAMPLES)
    result.add_argument(
        "run", nargs="?", type=Path, metavar="RUN", help="directory of a run, or of one training of it"
    )
    result.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps. Default: auto.")
    result.add_argument("--debug", action="store_true", help="show tracebacks and developers' messages")
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags = parser().parse_args(arguments)
    log_to_console(verbose=flags.debug)
    from training.run_log import find_trainings, read_training

    trainings = find_trainings(flags.run) if flags.run is not None else []
    # Imported after the flags are checked: torch takes a second to load.
    from core.device_manager import DeviceManager
    from pipeline.doctor_page import environment_page, training_diagnosis_page
    from pipeline.environment import check_environment

    print(environment_page(check_environment(DeviceManager(flags.device), flags.run or Path("runs"))))
    if flags.run is not None:
        diagnosis = training_diagnosis_page([read_training(directory) for directory in trainings])
        print(f"\n{diagnosis or f'{flags.run}: no training has begun'}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv))
