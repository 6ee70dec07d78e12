"""Raw files → tokenizer → dataset → pretraining → instruction tuning → evaluation: the whole line in one command."""

import shlex
import sys

from core.config_files import CONFIG_ROOT
from core.errors import UsageError
from core.logs import log_to_console
from core.stage import Selection
from pipeline.arguments import STAGE_NAMES, Parser, set_value
from pipeline.command import run_command

DESCRIPTION = f"""{__doc__}

Run it again after anything at all: what is done is reused, what was interrupted goes on, what a change made
stale is named. Stages: {", ".join(STAGE_NAMES)}.

exit codes: 0 done, 2 usage, 65 bad data, 70 internal, 73 run directory in use, 74 disk, 75 interrupted and
resumable, 78 configuration
"""


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(
        DESCRIPTION, sections=("run", "data", "tokenizer", "model", "training", "instruction", "evaluation")
    )
    add = result.add_argument
    add("--config-dir", help="directory of <section>_config.json files, or one JSON file; default: configs/")
    add("--data", metavar="DIR", help="directory of raw files (data.raw_dir)")
    add("--instruction-data", metavar="FILE", help="instruction records, jsonl or json (instruction.data)")
    add("--device", help="auto, cpu, cuda, cuda:1 or mps (training.device)")
    add("--skip-data-collection", action="store_true", help="take the collected corpus as it is")
    add("--skip-tokenizer", action="store_true", help="take the tokenizer as it is")
    add("--skip-pretraining", action="store_true", help="take the pretrained model as it is")
    add("--plan", action="store_true", help="say what would be done and what it needs, and do nothing")
    add("--until", metavar="STAGE", help="stop after this stage")
    add("--only", metavar="STAGE", help="run this stage alone, on what is there")
    add(
        "--rebuild",
        metavar="STAGE",
        action="append",
        default=[],
        help="redo this stage and what depends on it",
    )
    add(
        "--dry-run",
        action="store_true",
        help="build everything, run one batch of each training stage, keep nothing",
    )
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags, overrides = parser().parse(arguments)
    log_to_console(verbose=flags.debug)
    overrides = set_value(overrides, "training.device", flags.device)
    overrides = set_value(overrides, "instruction.data", flags.instruction_data)
    overrides = set_value(overrides, "data.raw_dir", flags.data)
    overrides = set_value(overrides, "data.corpus", "directory" if flags.data else None)
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
        print(plan_page(settled, decisions, estimate))
        return 0
    if flags.dry_run:
        dry_run(config, None, selection)
        print("dry run: every stage ran; nothing of it was kept")
        return 0
    result = train_llm_from_scratch(config, selection=selection)
    print(closing_page(result, shlex.join(["python", "scripts/train_llm_from_scratch.py", *arguments])))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv, resumable=True))
