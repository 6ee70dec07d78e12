"""Tuning of a model that is there already, on instructions, on pairs of answers, or on both in turn.

The model is a directory of this project or of transformers, or a whole run.
"""

import shlex
import sys
import textwrap
from pathlib import Path

from core.config import HELP_COLUMNS
from core.logs import is_speaker, log_to_console
from core.stage import Selection
from core.training_config import RunConfig
from pipeline.arguments import Parser, set_value
from pipeline.command import run_command

DESCRIPTION = f"""\
{textwrap.fill(__doc__ or "", HELP_COLUMNS)}

The result goes to runs/instruction-tuned, or where run.name or run.dir says.
"""

EXAMPLES = (
    "python scripts/train_instruction_finetuning.py --pretrained-model runs/mine \\",
    "    --instruction-data records.jsonl",
    "python scripts/train_instruction_finetuning.py --pretrained-model runs/mine \\",
    "    --instruction-data records.jsonl run.name=tuned instruction.epochs=2",
    "python scripts/train_instruction_finetuning.py --pretrained-model runs/mine \\",
    "    --preference-data pairs.jsonl run.name=preferring",
)


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(DESCRIPTION, sections=("run", "instruction", "preference"), examples=EXAMPLES)
    add = result.add_argument
    add(
        "--pretrained-model",
        required=True,
        metavar="DIR",
        type=Path,
        help="tune the model in this directory, of a run or of a checkpoint",
    )
    add(
        "--instruction-data",
        metavar="FILE",
        help="tune on the instruction records in this jsonl or json file (instruction.data)",
    )
    add(
        "--preference-data",
        metavar="FILE",
        help="tune on the pairs of answers in this jsonl or json file, after the instructions if there are any "
        "(preference.data)",
    )
    add(
        "--tokenizer-model",
        metavar="FILE",
        type=Path,
        help="the tokenizer that the model was trained with; default: the one beside the model",
    )
    add(
        "--config-dir",
        metavar="DIR_OR_FILE",
        help="settings from a directory of <section>_config.json files, or from one JSON file of sections",
    )
    add("--device", help="train on auto, cpu, cuda, cuda:1 or mps (training.device)")
    add(
        "--allow-data-change",
        action="store_true",
        help="go on tuning with other rows than a run began with, and record it; the tokenizer has to be the same",
    )
    add(
        "--rebuild",
        metavar="STAGE",
        action="append",
        default=[],
        help="redo instructions, finetune, preferences or preference, although it is finished; the old result is kept "
        "beside it; may be given several times",
    )
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags, overrides = parser().parse(arguments)
    log_to_console(verbose=flags.debug)
    overrides = set_value(overrides, "training.device", flags.device)
    overrides = set_value(overrides, "instruction.data", flags.instruction_data)
    overrides = set_value(overrides, "preference.data", flags.preference_data)
    if flags.allow_data_change:
        for section in ("instruction", "preference"):
            overrides = set_value(overrides, f"{section}.allow_data_change", True)

    # Imported after the flags are checked: torch takes a second to load.
    from pipeline.closing_page import closing_page
    from pipeline.run import resolve_config, tune_pretrained_model

    config = resolve_config(flags.config_dir, overrides)
    if config.run == RunConfig(
        preset=config.run.preset
    ):  # nobody said where to: not over the main line's own run
        config = config.replace(run={"name": "instruction-tuned"})
    result = tune_pretrained_model(
        config,
        pretrained_model=flags.pretrained_model,
        tokenizer_model=flags.tokenizer_model,
        selection=Selection(rebuild=frozenset(flags.rebuild)),
    )
    if is_speaker():
        print(
            closing_page(
                result, shlex.join(["python", "scripts/train_instruction_finetuning.py", *arguments])
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv, resumable=True))
