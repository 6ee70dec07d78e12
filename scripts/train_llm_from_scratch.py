"""The whole line in one command, from raw files to a model that was trained, tuned and evaluated."""

import shlex
import sys
import textwrap

from core.config import HELP_COLUMNS
from core.config_files import CONFIG_ROOT
from core.errors import UsageError
from core.logs import is_speaker, log_to_console
from core.stage import Selection
from pipeline.arguments import STAGE_NAMES, Parser, set_value
from pipeline.command import run_command

DESCRIPTION = f"""\
{textwrap.fill(__doc__ or "", HELP_COLUMNS)}

Run it again after anything at all: what is done is reused, what was
interrupted goes on, what a change made stale is named.

stages, in this order:
  {", ".join(STAGE_NAMES[:4])},
  {", ".join(STAGE_NAMES[4:8])},
  {", ".join(STAGE_NAMES[8:])}

exit codes:
  0 done, 2 usage, 65 bad data, 70 internal error, 73 run directory in use,
  74 disk or network, 75 interrupted (the same command goes on), 78 settings
"""

EXAMPLES = (
    "python scripts/train_llm_from_scratch.py --plan",
    "python scripts/train_llm_from_scratch.py --data texts run.name=mine",
    "python scripts/train_llm_from_scratch.py --data texts run.name=mine \\",
    "    'data.include=*.md,*.txt' data.languages.keep=en --until dataset",
    "python scripts/train_llm_from_scratch.py --config-dir configs/tiny \\",
    "    training.total_steps=200 training.learning_rate=6e-4",
)

TRAININGS = ("training", "instruction", "preference")
"""Sections that are the settings of a training."""


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(
        DESCRIPTION,
        sections=("run", "data", "tokenizer", "model", "training", "instruction", "preference", "evaluation"),
        examples=EXAMPLES,
    )
    add = result.add_argument
    add(
        "--config-dir",
        metavar="DIR_OR_FILE",
        help="settings from a directory of <section>_config.json files, or from one JSON file of sections; "
        "default: configs/",
    )
    add("--data", metavar="DIR", help="read the raw files in this directory (data.raw_dir)")
    add(
        "--instruction-data",
        metavar="FILE",
        help="tune on the instruction records in this jsonl or json file (instruction.data)",
    )
    add(
        "--preference-data",
        metavar="FILE",
        help="tune on the pairs of answers in this jsonl or json file after that (preference.data)",
    )
    add("--device", help="train on auto, cpu, cuda, cuda:1 or mps (training.device)")
    add(
        "--deterministic",
        action="store_true",
        help="train bit-exactly on CUDA too, which is slower (training.deterministic); on CPU it is so anyway",
    )
    add("--skip-data-collection", action="store_true", help="take the collected corpus as it is")
    add("--skip-tokenizer", action="store_true", help="take the tokenizer as it is")
    add("--skip-pretraining", action="store_true", help="take the pretrained model as it is")
    add(
        "--allow-data-change",
        action="store_true",
        help="go on training with other rows than a run began with, and record it; the tokenizer has to be the same",
    )
    add("--plan", action="store_true", help="say what would be done and what it needs, and do nothing")
    add("--until", metavar="STAGE", help="stop after this stage")
    add("--only", metavar="STAGE", help="run this stage alone, on what is there")
    add(
        "--rebuild",
        metavar="STAGE",
        action="append",
        default=[],
        help="redo this stage, and what depends on it, although it is finished; may be given several times",
    )
    add(
        "--dry-run",
        action="store_true",
        help="run every stage with one step of each training, and keep nothing of it",
    )
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags, overrides = parser().parse(arguments)
    log_to_console(verbose=flags.debug)
    overrides = set_value(overrides, "training.device", flags.device)
    overrides = set_value(overrides, "instruction.data", flags.instruction_data)
    overrides = set_value(overrides, "preference.data", flags.preference_data)
    overrides = set_value(overrides, "data.raw_dir", flags.data)
    overrides = set_value(overrides, "data.corpus", "directory" if flags.data else None)
    if flags.deterministic:
        for section in TRAININGS:
            overrides = set_value(overrides, f"{section}.deterministic", True)
    if flags.allow_data_change:
        for section in TRAININGS:
            overrides = set_value(overrides, f"{section}.allow_data_change", True)
    if flags.plan and flags.dry_run:
        raise UsageError("--plan and --dry-run exclude each other; keep one")

    # Imported after the flags are checked: torch takes a second to load.
    from pipeline.closing_page import closing_page
    from pipeline.plan_page import plan_page
    from pipeline.run import dry_run, plan_line, resolve_config, train_llm_from_scratch

    config = resolve_config(flags.config_dir or CONFIG_ROOT, overrides)
    skipped = {
        "collect": flags.skip_data_collection,
        "tokenizer": flags.skip_tokenizer,
        "pretrain": flags.skip_pretraining,
    }
    selection = Selection(
        until=flags.until,
        only=flags.only,
        rebuild=frozenset(flags.rebuild),
        skip=frozenset(name for name, skip in skipped.items() if skip),
    )
    if flags.plan:
        settled, decisions, estimate = plan_line(config, None, selection)
        if is_speaker():
            print(plan_page(settled, decisions, estimate))
        return 0
    if flags.dry_run:
        dry_run(config, None, selection)
        if is_speaker():
            print("dry run: every stage ran; nothing of it was kept")
        return 0
    result = train_llm_from_scratch(config, selection=selection)
    if is_speaker():
        print(closing_page(result, shlex.join(["python", "scripts/train_llm_from_scratch.py", *arguments])))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv, resumable=True))
