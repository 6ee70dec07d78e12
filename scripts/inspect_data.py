"""Look into the data of a run: why a file was left out, where a sentence came from, what to forget."""

import argparse
import sys
from pathlib import Path

from core.errors import CorruptArtifactError, UsageError
from core.logs import log_to_console
from core.manifest import read_manifest, verify_files
from data_processing.reports.data_report import gather_facts
from data_processing.reports.inspect_corpus import (
    Places,
    copies_of,
    find_places,
    forget,
    old_results,
    resolve_source,
    sample,
    undo_forget,
    why,
)
from data_processing.reports.inspect_pages import (
    account_page,
    forget_page,
    sample_page,
    summary_page,
    trace_page,
)
from data_processing.reports.trace_sentence import trace
from pipeline.command import Parser, run_command


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(description=__doc__)
    result.add_argument(
        "place", metavar="RUN_OR_CORPUS_DIR", type=Path, help="directory of a run or of a corpus"
    )
    result.add_argument("--debug", action="store_true", help="show tracebacks and developers' messages")
    commands = result.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("summary", help="what came in and what became of it, on one page")
    command = commands.add_parser("why", help="why a file, or documents of it, were left out or kept")
    command.add_argument("file", metavar="FILE", help="its name in the corpus, or a path that ends like it")
    command = commands.add_parser("trace", help="where a sentence came from")
    command.add_argument(
        "sentence", metavar="SENTENCE", help="in quotes; white space and kinds of quotes are alike"
    )
    command = commands.add_parser("sample", help="some of what was left out for a reason")
    command.add_argument("reason", metavar="REASON", help="such as too_short; summary lists them")
    command.add_argument("-n", "--number", type=int, default=5, metavar="N", help="how many. Default: 5.")
    commands.add_parser("verify", help="read every byte of what was made and compare with what was written")
    command = commands.add_parser("forget", help="leave files or documents out from the next collection on")
    command.add_argument("files", nargs="+", metavar="FILE", help="names as for why")
    command.add_argument(
        "--because", metavar="TEXT", help="why, for those who read the record later; needed but with --undo"
    )
    command.add_argument("--undo", action="store_true", help="take it back")
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags = parser().parse_args(arguments)
    log_to_console(verbose=flags.debug)
    print(_answer(flags, find_places(flags.place)))
    return 0


def _answer(flags: argparse.Namespace, places: Places) -> str:
    if flags.command == "why":
        return account_page(why(places, flags.file))
    if flags.command == "trace":
        return trace_page(trace(places, flags.sentence))
    if flags.command == "sample":
        if flags.number < 1:
            raise UsageError(f"--number {flags.number}: expected 1 or more")
        return sample_page(flags.reason, sample(places, flags.reason, flags.number))
    if flags.command == "forget":
        return _forget(flags, places)
    if flags.command == "verify":
        return _verify(places)
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


def _verify(places: Places) -> str:
    """A line for each part of the data; an error that names the first file that is not what was written."""
    lines = []
    directories = [places.corpus, *([places.dataset] if places.dataset is not None else [])]
    for directory in directories:
        manifest = read_manifest(directory)
        if manifest is None:
            raise UsageError(f"{directory}: was not made by a run, so nothing says what it should hold")
        try:
            verify_files(directory, manifest["files"], full=True)
        except CorruptArtifactError as error:
            raise CorruptArtifactError(
                f"{error}; the command that made the run makes it anew and keeps this one beside it"
            ) from None
        num_bytes = sum(file["size"] for file in manifest["files"])
        lines.append(f"{directory}: {len(manifest['files'])} files, {num_bytes:,} bytes, all as written")
    return "\n".join(lines)


def _what_becomes_stale(run: Path) -> str:
    """What the command that made the run would do now, as far as its settings tell."""
    # Imported here: it loads torch, which the other commands do without.
    from pipeline.run import SETTINGS_FILE, plan_line, resolve_config

    settings = run / SETTINGS_FILE
    if not settings.is_file():
        return "What becomes stale: the command that made the run, with --plan."
    _, decisions, _ = plan_line(resolve_config(settings))
    stale = [str(decision) for decision in decisions if decision.action not in ("reuse", "skipped")]
    return "\n".join(["The command that made the run would now do this:", *stale])


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv))
