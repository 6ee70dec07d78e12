"""Continue or answer many prompts: a line of text or a JSON record in, a line out, in the same order."""

import contextlib
import io
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from core.errors import DataError, UsageError
from core.files import atomic_writer
from core.logs import log_to_console
from core.progress import progress
from inference.command_line import Parser, given_sampling
from inference.prompts import PromptRecord, read_prompts, reply_line
from pipeline.command import run_command

if TYPE_CHECKING:
    from inference.chat import ChatModel

FORMATS = (".jsonl", ".txt")

EXAMPLES = (
    "python scripts/generate.py --prompts prompts.txt",
    "python scripts/generate.py runs/mine --prompts questions.txt --chat \\",
    "    --output answers.jsonl",
    "echo 'Once upon a time' | python scripts/generate.py --prompts - --seed 1",
)


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(__doc__ or "", examples=EXAMPLES)
    add = result.add_argument
    add(
        "--prompts",
        required=True,
        metavar="FILE",
        help="where the prompts are: FILE.txt has one a line and blank lines are passed over, FILE.jsonl has records "
        'with "prompt" or "messages", - is standard input as text',
    )
    add("--jsonl", action="store_true", help="take the prompts for records, whatever the file is called")
    add(
        "--output",
        metavar="FILE",
        help="where the replies go when all are there: FILE.jsonl gets the record of each prompt with its reply, "
        "FILE.txt one reply a line with its line breaks written as \\n. Default: standard output, in the format of the "
        "prompts.",
    )
    add("--chat", action="store_true", help="ask each prompt as a user's message instead of continuing it")
    add(
        "--batch-size",
        type=int,
        default=32,
        metavar="N",
        help="generate for so many prompts at a time. Default: 32.",
    )
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags = parser().parse_args(arguments)
    sampling = given_sampling(flags)
    if flags.batch_size < 1:
        raise UsageError(f"--batch-size {flags.batch_size}: expected 1 or more")
    prompts_are_jsonl = flags.jsonl or (flags.prompts != "-" and _is_jsonl("--prompts", flags.prompts))
    output_is_jsonl = prompts_are_jsonl if flags.output is None else _is_jsonl("--output", flags.output)
    if flags.output is not None and Path(flags.output).absolute() == Path(flags.prompts).absolute():
        raise UsageError(f"--output {flags.output}: is the file of the prompts; choose another name")
    log_to_console(verbose=flags.debug)
    records = _read_records(flags.prompts, is_jsonl=prompts_are_jsonl, as_messages=flags.chat)

    # Imported after everything else is checked: torch takes a second to load.
    from inference.chat import ChatModel, newest_run

    chat_model = ChatModel.load(flags.model or newest_run(), device=flags.device)
    print(chat_model.description, file=sys.stderr)
    for record in records:
        _check(record, chat_model)
    replies = chat_model.complete(
        (record.prompt for record in records), batch_size=flags.batch_size, **sampling
    )
    with _open_output(flags.output) as out:
        pairs = zip(records, replies, strict=True)
        for record, reply in progress(pairs, total=len(records), description="generating", unit="prompt"):
            out.write(reply_line(record, reply, is_jsonl=output_is_jsonl))
    return 0


def _is_jsonl(flag: str, name: str) -> bool:
    if Path(name).suffix not in FORMATS:
        raise UsageError(f"{flag} {name}: expected a name that ends in {' or '.join(FORMATS)}")
    return Path(name).suffix == ".jsonl"


def _read_records(name: str, *, is_jsonl: bool, as_messages: bool) -> list[PromptRecord]:
    where = "standard input" if name == "-" else name
    with contextlib.ExitStack() as stack:
        try:
            lines = sys.stdin.buffer if name == "-" else stack.enter_context(Path(name).open("rb"))
        except OSError as error:
            raise DataError(f"--prompts {name}: cannot be read ({error.strerror})") from None
        records = list(read_prompts(lines, name=where, is_jsonl=is_jsonl, as_messages=as_messages))
    if not records:
        raise DataError(f"{where}: holds no prompt, only blank lines or nothing")
    return records


def _open_output(name: str | None) -> contextlib.AbstractContextManager[IO[Any]]:
    if name is not None:
        return atomic_writer(name, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    return contextlib.nullcontext(sys.stdout)


def _check(record: PromptRecord, chat_model: "ChatModel") -> None:
    try:
        chat_model.prompt_ids(record.prompt)
    except DataError as error:
        raise DataError(f"{record.place}: {error}") from None


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv))
