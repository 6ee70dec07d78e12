"""Train a run further on new documents and on what people said of its answers; go back if that was a mistake."""

import shlex
import sys
import textwrap

from core.config import HELP_COLUMNS
from core.errors import UsageError
from core.logs import is_speaker, log_to_console
from pipeline.arguments import Parser, set_value
from pipeline.command import run_command

DESCRIPTION = f"""\
{textwrap.fill(__doc__ or "", HELP_COLUMNS)}

The result is RUN/updates/N, a run by itself. It is compared with what it
was made from, and RUN stands for it from then on, in every command, if it
is no worse. Nothing else in RUN is changed.

Without --data and --feedback, what was added to the places that the run's
documents come from is learned. The same command again goes on where it was.

exit codes: as scripts/train_llm_from_scratch.py, and
  1 the update is worse than what it was made from and is not used
"""

EXAMPLES = (
    "python scripts/update.py runs/mine --data new_texts",
    "python scripts/update.py runs/mine --feedback runs/mine/feedback.jsonl",
    "python scripts/update.py runs/mine --history",
    "python scripts/update.py runs/mine --rollback",
)

NOT_USED = 1
"""The exit code where an update is worse."""


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(
        DESCRIPTION,
        sections=("training", "instruction", "preference", "evaluation"),
        examples=EXAMPLES,
        run="the directory of a run of train_llm_from_scratch.py",
    )
    add = result.add_argument
    add(
        "--data",
        action="append",
        default=[],
        metavar="DIR_OR_FILE",
        help="learn the documents in it that the run does not know; may be given several times",
    )
    add(
        "--feedback",
        action="append",
        default=[],
        metavar="FILE",
        help="learn the corrected and liked answers in this file (RUN/feedback.jsonl, as chats keep it), or other "
        "instruction records; may be given several times",
    )
    add(
        "--feedback-weight",
        type=float,
        default=1.0,
        metavar="X",
        help="learn these so often for once that another record is learned. Default: 1.",
    )
    add(
        "--tolerance",
        type=float,
        default=0.02,
        metavar="SHARE",
        help="use the update although held-out text takes so many more bits per byte, as a share. Default: 0.02.",
    )
    way = result.add_mutually_exclusive_group()
    way.add_argument("--history", action="store_true", help="list the updates, and which one is used")
    way.add_argument("--rollback", action="store_true", help="use what the latest update was made from")
    way.add_argument("--use", type=int, metavar="N", help="use update N; 0 is what the run itself trained")
    way.add_argument("--give-up", action="store_true", help="delete the update that is not finished")
    add("--device", help="train on auto, cpu, cuda, cuda:1 or mps (training.device)")
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags, overrides = parser().parse(arguments)
    log_to_console(verbose=flags.debug)
    if not 0.0 <= flags.tolerance <= 10.0:
        raise UsageError(f"--tolerance {flags.tolerance}: expected a share from 0 to 10, such as 0.02")
    if not 0.0 < flags.feedback_weight <= 100.0:
        raise UsageError(f"--feedback-weight {flags.feedback_weight}: expected above 0 to 100")
    asks_only = flags.history or flags.rollback or flags.use is not None or flags.give_up
    if asks_only and (flags.data or flags.feedback or overrides):
        raise UsageError(
            "--history, --rollback, --use and --give-up train nothing; leave out what is to be learned"
        )

    from pipeline.generations import check_is_run, roll_back, use

    if asks_only:
        check_is_run(flags.run)
        if not is_speaker():  # of several processes one goes back, once
            return 0
        if flags.rollback:
            print(
                f"{flags.run} stands for update {roll_back(flags.run)} again (0 = what the run itself trained)"
            )
        elif flags.use is not None:
            before = use(flags.run, flags.use, because="asked for")
            print(f"{flags.run} stands for update {flags.use} now; before it was {before}")
        elif flags.give_up:
            from pipeline.update import give_up

            print(f"update {give_up(flags.run)} of {flags.run} is deleted")
        else:
            from pipeline.update_page import history_page

            print(history_page(flags.run))
        return 0

    from pipeline.update import update_run
    from pipeline.update_page import update_page

    overrides = set_value(overrides, "training.device", flags.device)
    update = update_run(
        flags.run,
        data=flags.data,
        feedback=flags.feedback,
        feedback_weight=flags.feedback_weight,
        tolerance=flags.tolerance,
        overrides=overrides,
        command=shlex.join(["python", "scripts/update.py", *arguments]),
    )
    if not is_speaker():
        return 0
    if update is None:
        print(f"{flags.run}: nothing is new, nothing was changed")
        return 0
    print(update_page(update))
    return NOT_USED if update.facts["objections"] else 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv, resumable=True))
