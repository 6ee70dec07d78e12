"""Talk to a trained model. Answers stream, the conversation is kept; /help lists the commands."""

import io
import sys

from core.errors import UsageError
from core.logs import log_to_console
from inference.command_line import Parser, given_sampling
from pipeline.command import run_command

EXAMPLES = (
    "python scripts/chat.py",
    "python scripts/chat.py runs/mine --temperature 0.3 --max-tokens 200",
    "python scripts/chat.py runs/mine --prompt 'What is a list?' --seed 1",
)


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(__doc__ or "", examples=EXAMPLES)
    result.add_argument("--system", metavar="TEXT", help="begin with this system message")
    result.add_argument("--prompt", metavar="TEXT", help="ask this one question, print the answer, and leave")
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags = parser().parse_args(arguments)
    sampling = given_sampling(flags)
    if flags.prompt is not None and not flags.prompt.strip():
        raise UsageError("--prompt: is empty; expected a question, or no --prompt to begin a conversation")
    log_to_console(verbose=flags.debug)
    if isinstance(sys.stdin, io.TextIOWrapper):
        # A byte that is no character becomes a mark and not a traceback.
        sys.stdin.reconfigure(errors="replace")
    # Imported after the flags are checked: torch takes a second to load.
    from inference.chat import ChatModel, newest_run
    from inference.terminal import TerminalChat, line_reader

    chat_model = ChatModel.load(
        flags.model or newest_run(), device=flags.device, weights=flags.weights, compiled=flags.compile
    )
    print(chat_model.description, file=sys.stderr)
    chat = TerminalChat(
        chat_model, sampling, system=flags.system or None, output=sys.stdout, notes=sys.stderr
    )
    if flags.prompt is not None:
        chat.answer(flags.prompt)
    else:
        chat.run(line_reader(sys.stdin))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv))
