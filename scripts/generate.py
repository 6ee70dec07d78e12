"""Continue or answer many prompts: lines of text or JSON records in, replies out, in the same order."""

import contextlib
import io
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import DataError, UsageError
from core.files import sha256_json
from core.logs import log_to_console
from core.progress import progress
from inference.command_line import NAMES, Parser, given_sampling, whole_number
from inference.prompts import REPLY_FORMATS, Answered, PromptRecord, read_prompts
from inference.sampling_settings import SamplingOptions
from pipeline.command import run_command

if TYPE_CHECKING:
    from inference.chat import ChatModel

Writer = Callable[[Iterable[Answered]], Iterator[str]]

PROMPT_FORMATS = (".jsonl", ".txt")

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
        help="where the replies go when all are there: FILE.jsonl and FILE.json get the record of each prompt with its "
        "reply, FILE.txt one reply a line with its line breaks written as \\n, FILE.md what one likes to read. Until "
        "then they are kept in FILE.partial, from where the same command goes on after a kill; FILE.manifest.json "
        "says afterwards what they are replies to. Default: standard output, in the format of the prompts.",
    )
    add("--overwrite", action="store_true", help="let the replies replace the file that --output names")
    add(
        "--replies",
        type=whole_number(1),
        default=1,
        metavar="N",
        help="so many replies to each prompt. Default: 1.",
    )
    add("--chat", action="store_true", help="ask each prompt as a user's message instead of continuing it")
    add(
        "--batch-size",
        type=whole_number(1),
        default=32,
        metavar="N",
        help="generate for so many prompts at a time. Default: 32.",
    )
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags = parser().parse_args(arguments)
    sampling = given_sampling(flags)
    prompts_are_jsonl = flags.jsonl or (
        flags.prompts != "-" and _ending("--prompts", flags.prompts, PROMPT_FORMATS) == ".jsonl"
    )
    ending = ".jsonl" if prompts_are_jsonl else ".txt"
    if flags.output is not None:
        ending = _ending("--output", flags.output, REPLY_FORMATS)
        if Path(flags.output).absolute() == Path(flags.prompts).absolute():
            raise UsageError(f"--output {flags.output}: is the file of the prompts; choose another name")
    elif flags.overwrite:
        raise UsageError("--overwrite: there is no --output that it could be for; name one, or leave it out")
    log_to_console(verbose=flags.debug)
    records = _read_records(flags.prompts, is_jsonl=prompts_are_jsonl, as_messages=flags.chat)

    if flags.output is None:
        _onto_standard_output(flags, records, sampling, REPLY_FORMATS[ending])
    else:
        _into_file(flags, records, sampling, REPLY_FORMATS[ending])
    return 0


def _onto_standard_output(
    flags: Namespace, records: list[PromptRecord], sampling: SamplingOptions, write: Writer
) -> None:
    chat_model = _load(flags, records)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    asked = _asked(flags, records)
    replies = chat_model.complete(
        (record.prompt for record in asked), batch_size=flags.batch_size, **sampling
    )
    bar = progress(replies, total=len(asked), description="generating", unit="reply")
    for piece in write(zip(asked, bar, strict=True)):
        sys.stdout.write(piece)


def _into_file(
    flags: Namespace, records: list[PromptRecord], sampling: SamplingOptions, write: Writer
) -> None:
    from inference.feedback import model_fingerprint
    from inference.reply_file import KeptReplies, counted

    asked = _asked(flags, records)
    with KeptReplies(Path(flags.output), overwrite=flags.overwrite) as kept:
        chat_model = _load(flags, records)
        assert chat_model.directory is not None, "it was loaded from there"
        settings = chat_model.settings(**sampling).to_dict()
        task = {
            "model": model_fingerprint(chat_model.directory)[:12],
            "weights": chat_model.engine.weights or str(chat_model.engine.dtype),
            "prompts": sha256_json([[record.prompt, dict(record.record)] for record in asked])[:12],
            **{name: settings[name] for name in NAMES},
        }
        if (finished := kept.begin(task)) is not None:
            _note(f"{flags.output}: finished already, {counted(finished)}; --overwrite makes them anew")
            return
        done = len(kept.replies)
        if done:
            _note(f"{kept.path}: {done} of {len(asked)} replies are there; going on")
        left = [(number, record.prompt) for number, record in enumerate(asked) if number not in kept.replies]
        replies = chat_model.replies(left, batch_size=flags.batch_size, **sampling)
        for number, reply in progress(
            replies, total=len(asked), initial=done, description="generating", unit="reply"
        ):
            kept.add(number, reply)
        kept.finish(write((record, kept.replies[number]) for number, record in enumerate(asked)))
    _note(f"{counted(len(asked))} written to {flags.output}")


def _load(flags: Namespace, records: list[PromptRecord]) -> "ChatModel":
    """The model, to which each of the prompts can be given."""
    # Imported after everything else is checked: torch takes a second to load.
    from inference.chat import ChatModel, newest_run

    chat_model = ChatModel.load(
        flags.model or newest_run(), device=flags.device, weights=flags.weights, compiled=flags.compile
    )
    _note(chat_model.description)
    for record in records:
        try:
            chat_model.prompt_ids(record.prompt)
        except DataError as error:
            raise DataError(f"{record.place}: {error}") from None
    return chat_model


def _asked(flags: Namespace, records: list[PromptRecord]) -> list[PromptRecord]:
    return [record for record in records for _ in range(flags.replies)]


def _note(text: str) -> None:
    print(text, file=sys.stderr)


def _ending(flag: str, name: str, known: Collection[str]) -> str:
    if (ending := Path(name).suffix) not in known:
        raise UsageError(f"{flag} {name or repr(name)}: expected a name that ends in {' or '.join(known)}")
    return ending


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


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv))
