"""Measure a model: text it never saw, tasks, what it writes, how fast; or several models side by side."""

import sys
from collections import Counter
from pathlib import Path

from core.errors import DataError, UsageError
from core.logs import log_to_console
from pipeline.command import Parser, run_command

EXAMPLES = (
    "python scripts/evaluate.py runs/mine",
    "python scripts/evaluate.py runs/mine --tasks arc_easy.jsonl piqa.jsonl \\",
    "    --num-shots 3",
    "python scripts/evaluate.py runs/mine --text validation notes.txt --report",
    "python scripts/evaluate.py runs/mine --compare runs/other models/gpt2 \\",
    "    --tasks lambada_openai.jsonl",
)


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(description=__doc__, examples=EXAMPLES)
    add = result.add_argument
    add(
        "model",
        nargs="?",
        metavar="RUN_OR_CHECKPOINT",
        help="directory of a run, or of a model of this project or of transformers. Default: the run in runs/ that was "
        "trained last.",
    )
    add(
        "--tasks",
        nargs="+",
        default=[],
        metavar="FILE",
        help="ask the questions of these jsonl files, which have query, choices and gold; or context and continuation; "
        "or context_options, continuation and gold; or context, answer and perhaps aliases",
    )
    add(
        "--text",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="predict these texts: files, or validation, test or train of the run",
    )
    add("--quality", action="store_true", help="write samples, and count repetitions and copies in them")
    add("--speed", action="store_true", help="measure tokens a second and memory")
    add("--compare", nargs="+", default=[], metavar="MODEL", help="measure these models too, side by side")
    add(
        "--num-shots",
        type=int,
        default=0,
        metavar="N",
        help="show so many solved questions before each one. Default: 0.",
    )
    add("--limit", type=int, metavar="N", help="ask so many questions a task, read so many documents a text")
    add("--seed", type=int, default=0, help="of the examples and of the samples. Default: 0.")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="where results go, a directory a model; what is there already is not made again. Default: scores in the "
        "model's run, or runs/scores.",
    )
    add(
        "--report",
        action="store_true",
        help="write report.html and MODEL_CARD.md about the whole run into it, with all results that are there by then",
    )
    add("--device", default="auto", help="auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1 or mps")
    add("--debug", action="store_true", help="show tracebacks and developers' messages")
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags = parser().parse_args(arguments)
    for flag, value, least in (("--num-shots", flags.num_shots, 0), ("--limit", flags.limit, 1)):
        if value is not None and value < least:
            raise UsageError(f"{flag} {value}: expected {least} or more")
    (name, times), *_ = Counter(Path(text).name for text in flags.text).most_common(1) or [("", 0)]
    if times > 1:
        raise UsageError(
            f"--text: {times} files are called {name}, and so would be their results; rename one"
        )
    for path in flags.compare:
        if not Path(path).is_dir():  # said now, and not after the first model was measured
            raise DataError(f"--compare {path}: no such directory; name a run or a model")
    log_to_console(verbose=flags.debug)

    # Read before anything is loaded, so that a broken line is told of at once.
    from evaluation.task_files import read_tasks

    tasks = read_tasks(flags.tasks, limit=flags.limit)

    from evaluation.language_model import load_language_model
    from evaluation.result_page import result_page
    from evaluation.run_report import reported_run, write_report_of
    from evaluation.suite import Suite, held_out_splits, place_of_results, run_suite
    from inference.model_directory import find_model, newest_run

    first = flags.model or newest_run()
    if flags.report:
        reported_run(find_model(first))  # said now, and not after all was measured
    is_bare = not (flags.tasks or flags.text or flags.quality or flags.speed)
    all_results = []
    for path in [first, *flags.compare]:
        model = load_language_model(path, device=flags.device)
        suite = Suite(
            tasks=tasks,
            num_shots=flags.num_shots,
            texts=held_out_splits(model) if is_bare else flags.text,
            limit=flags.limit,
            quality=flags.quality or is_bare,
            speed=flags.speed or is_bare,
            seed=flags.seed,
        )
        all_results.append(run_suite(model, suite, place_of_results(model, flags.out)))
    print(result_page(all_results))
    if flags.report:
        print(f"\n{write_report_of(reported_run(Path(all_results[0].model)))}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv, resumable=True))
