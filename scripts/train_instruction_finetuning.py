"""Instruction tuning of a model that is there already: a checkpoint of this project, or a whole run."""

import shlex
import sys
from pathlib import Path

from core.logs import log_to_console
from core.stage import Selection
from core.training_config import RunConfig
from pipeline.arguments import Parser, set_value
from pipeline.command import run_command


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(__doc__ or "", sections=("run", "instruction"))
    add = result.add_argument
    add("--pretrained-model", required=True, metavar="DIR", type=Path, help="checkpoint or run directory")
    add("--instruction-data", metavar="FILE", help="records, jsonl or json (instruction.data)")
    add(
        "--tokenizer-model",
        metavar="FILE",
        type=Path,
        help="its tokenizer.model; default: the one beside the model",
    )
    add("--config-dir", default=None, help="directory of <section>_config.json files, or one JSON file")
    add("--device", help="auto, cpu, cuda, cuda:1 or mps (training.device)")
    add(
        "--rebuild",
        metavar="STAGE",
        action="append",
        default=[],
        help="redo instructions or finetune, although it is finished; the old result is kept beside it",
    )
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags, overrides = parser().parse(arguments)
    log_to_console(verbose=flags.debug)
    overrides = set_value(overrides, "training.device", flags.device)
    overrides = set_value(overrides, "instruction.data", flags.instruction_data)

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
    print(closing_page(result, shlex.join(["python", "scripts/train_instruction_finetuning.py", *arguments])))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv, resumable=True))
