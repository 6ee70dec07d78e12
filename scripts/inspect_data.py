"""Look into the data of a run: why a file was left out, where a sentence came from, what to forget or to delete."""

import argparse
import sys
from pathlib import Path

from core.config_files import SETTINGS_FILE
from core.errors import BloomeryError, CorruptArtifactError, DataError, UsageError
from core.logs import log_to_console
from core.manifest import read_manifest, verify_files
from data_processing.reports.data_report import gather_facts
from data_processing.reports.forgetting import copies_of, forget, old_results, undo_forget
from data_processing.reports.inspect_corpus import (
    Places,
    find_places,
    resolve_source,
    sample,
    why,
)
from data_processing.reports.inspect_pages import (
    account_page,
    clean_page,
    forget_page,
    sample_page,
    summary_page,
    trace_page,
)
from data_processing.reports.shown import counted, size
from data_processing.reports.trace_sentence import trace
from inference.model_directory import UPDATES
from pipeline.command import Parser, run_command

NAMES_HELP = (
    "name of a file as it stands in the corpus, or as much of its end as fits one file alone; archive!member within an "
    "archive, file:12 or file[12] for one record of it"
)

EXAMPLES = (
    "python scripts/inspect_data.py runs/mine summary",
    "python scripts/inspect_data.py runs/mine why notes/2024.md",
    "python scripts/inspect_data.py runs/mine why 'books.zip!one/chapter.txt'",
    "python scripts/inspect_data.py runs/mine trace 'It was a dark night.'",
    "python scripts/inspect_data.py runs/mine sample too_short -n 3",
    "python scripts/inspect_data.py runs/mine forget notes/2024.md \\",
    "    --because 'its author asked for it'",
)


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(description=__doc__, examples=EXAMPLES)
    result.add_argument(
        "place", metavar="RUN_OR_CORPUS_DIR", type=Path, help="directory of a run or of a corpus"
    )
    result.add_argument("--debug", action="store_true", help="show tracebacks and developers' messages")
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, does: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")

    add("summary", "say on one page what came in and what became of it")
    command = add("why", "say why a file, or documents of it, were left out or kept")
    command.add_argument("file", metavar="FILE", help=NAMES_HELP)
    command = add("trace", "find out where a sentence came from")
    command.add_argument(
        "sentence",
        metavar="SENTENCE",
        help="words as they stand in the text; white space and quotes may differ",
    )
    command = add("sample", "show some of what was left out for a reason")
    command.add_argument(
        "reason", metavar="REASON", help="the reason, such as too_short; summary lists those there are"
    )
    command.add_argument("-n", "--number", type=int, default=5, metavar="N", help="show so many. Default: 5.")
    command = add("verify", "read every byte of what was made and compare with what was written")
    command.add_argument(
        "--repair",
        action="store_true",
        help="make damaged files of token rows again, from corpus and tokenizer, and leave the others alone",
    )
    command = add("forget", "leave files or documents out from the next collection on")
    command.add_argument("files", nargs="+", metavar="FILE", help=NAMES_HELP)
    command.add_argument(
        "--because",
        metavar="TEXT",
        help="say why, for those who read the record later; needed without --undo",
    )
    command.add_argument("--undo", action="store_true", help="collect again what was to be left out")
    command = add("clean", "list what the run keeps and nothing uses, and how large it is")
    command.add_argument("--yes", action="store_true", help="delete what is listed")
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags = parser().parse_args(arguments)
    log_to_console(verbose=flags.debug)
    # A run of which no corpus is left, or that had none, can be cleaned too.
    if flags.command == "clean":
        print(_clean(flags))
        return 0
    try:
        print(_answer(flags, find_places(flags.place)))
    except CorruptArtifactError:  # what an update brought does not help
        raise
    except DataError as error:
        if not (updates := list((flags.place / UPDATES).glob("*/corpus"))):
            raise
        newest = max(updates, key=lambda corpus: corpus.stat().st_mtime).parent
        raise DataError(
            f"{error}; what an update brought is in the corpus of the update, such as {newest}"
        ) from None
    return 0


def _answer(flags: argparse.Namespace, places: Places) -> str:
    if flags.command == "why":
        account = why(places, flags.file)
        others = [why(places, name) for name in account.namesakes]
        return "\n\n".join(map(account_page, [account, *others]))
    if flags.command == "trace":
        return trace_page(trace(places, flags.sentence))
    if flags.command == "sample":
        if flags.number < 1:
            raise UsageError(f"--number {flags.number}: expected 1 or more")
        return sample_page(flags.reason, sample(places, flags.reason, flags.number))
    if flags.command == "forget":
        return _forget(flags, places)
    if flags.command == "verify":
        return "\n".join([*(_repair(flags) if flags.repair else []), _verify(places)])
    return summary_page(gather_facts(corpus=places.corpus, dataset=places.dataset))


def _forget(flags: argparse.Namespace, places: Places) -> str:
    if places.run is None:
        raise UsageError(
            f"{flags.place}: is the corpus of no run; name the run whose collection is to forget"
        )
    if flags.undo:
        if flags.because is not None:
            raise UsageError("--because and --undo exclude each other; keep one")
        return forget_page(undo_forget(places.run, flags.files), flags.files, undo=True)
    if flags.because is None:
        raise UsageError("forget needs --because TEXT: say why, for those who read the record later")
    sources = [resolve_source(places, name) for name in flags.files]
    page = forget_page(
        forget(places.run, sources, flags.because),
        sources,
        undo=False,
        copies=copies_of(places, sources),
        old_results=old_results(places),
    )
    return f"{page}\n{_what_becomes_stale(places.run)}"


def _settings_of(run: Path) -> Path:
    settings = run / SETTINGS_FILE
    if not settings.is_file():
        raise UsageError(f"{run}: holds no {SETTINGS_FILE}; name the directory of a run")
    return settings


def _repair(flags: argparse.Namespace) -> list[str]:
    """A line for each file that was made again."""
    settings = _settings_of(flags.place)
    # Imported here: they load torch, which most other commands do without.
    from pipeline.repairing import repair_rows
    from pipeline.run import resolve_config
    from pipeline.stages import line

    repaired = repair_rows(line(), resolve_config(settings), flags.place)
    return [f"{path}: was damaged, made again" for path in repaired]


def _clean(flags: argparse.Namespace) -> str:
    """What can be deleted, or was."""
    settings = _settings_of(flags.place)
    # Imported here: they load torch, which most other commands do without.
    from pipeline.cleaning import delete_unused, superseded_results, unfinished_collections
    from pipeline.run import resolve_config
    from pipeline.stages import line

    stages, config, run = line(), resolve_config(settings), flags.place
    if flags.yes:
        found = delete_unused(stages, config, run)
    else:
        found = [*superseded_results(stages, config, run), *unfinished_collections(run)]
    return clean_page([(str(one.place), one.num_bytes, one.why) for one in found], deleted=flags.yes)


def _verify(places: Places) -> str:
    """A line for each part of the data; an error that names the first file that is not what was written."""
    lines = []
    # A run that was made up to the corpus has no rows yet.
    in_run = [] if places.run is None else [places.run / name for name in ("instructions", "preferences")]
    rows = [places.dataset, *in_run]
    for directory in (places.corpus, *(place for place in rows if place is not None and place.is_dir())):
        manifest = read_manifest(directory)
        if manifest is None:
            raise UsageError(f"{directory}: was not made by a run, so nothing says what it should hold")
        try:
            verify_files(directory, manifest["files"], full=True)
        except CorruptArtifactError as error:
            hint = ", and verify --repair makes this file alone" if directory in rows else ""
            raise CorruptArtifactError(
                f"{error}; the command that made the run makes {directory.name} anew and keeps this one beside it{hint}"
            ) from None
        num_bytes = sum(file["size"] for file in manifest["files"])
        lines.append(
            f"{directory}: {counted(len(manifest['files']), 'file')}, {size(num_bytes)}, all as written"
        )
    return "\n".join(lines)


def _what_becomes_stale(run: Path) -> str:
    """What the command that made the run would do now, as far as its settings tell."""
    # Imported here: it loads torch, which the other commands do without.
    from pipeline.run import plan_line, resolve_config

    settings = run / SETTINGS_FILE
    if not settings.is_file():
        return "What becomes stale: the command that made the run, with --plan."
    try:
        _, decisions, _ = plan_line(resolve_config(settings))
    except BloomeryError as error:
        # What was asked for is done; paths of the settings, for one, are those seen from where the run was started.
        return (
            f"What becomes stale cannot be said from here ({error}); the command that made the run says it with "
            "--plan."
        )
    stale = [str(decision) for decision in decisions if decision.action not in ("reuse", "skipped")]
    return "\n".join(["The command that made the run would now do this:", *stale])


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv))
