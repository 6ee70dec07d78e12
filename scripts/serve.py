"""Serve a trained model: OpenAI's HTTP interface, and a page to talk to it."""

import logging
import os
import sys
from pathlib import Path

from core.errors import ConfigError, DataError, UsageError
from core.files import check_writable
from core.logs import log_to_console
from inference.command_line import Parser, given_sampling, whole_number
from inference.server.address import check_certificate, host_name, listen, web_origin
from inference.server.http import Access, Limits
from pipeline.command import run_command

logger = logging.getLogger(__name__)

EXAMPLES = (
    "python scripts/serve.py",
    "python scripts/serve.py runs/mine --port 8080 --temperature 0.3",
    "python scripts/serve.py runs/mine --host 0.0.0.0 --api-key-file key.txt",
)
KEY_VARIABLE = "BLOOMERY_API_KEY"


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(
        f"{__doc__} What a request does not say is taken from the sampling flags; without --max-tokens an answer in a "
        "chat may fill the context, and a completion has 16 tokens.",
        examples=EXAMPLES,
    )
    server = result.add_argument_group("server")
    server.add_argument(
        "--host", default="127.0.0.1", help="address to listen on. Default: 127.0.0.1, this machine alone."
    )
    server.add_argument(
        "--port", type=whole_number(0, 65535), default=8000, help="Default: 8000; 0 = any that is free."
    )
    server.add_argument("--name", help="what clients call the model. Default: the name of its run.")
    server.add_argument(
        "--max-running",
        type=whole_number(1),
        default=8,
        metavar="N",
        help="answers made at the same time. Default: 8.",
    )
    server.add_argument(
        "--max-waiting",
        type=whole_number(0),
        default=64,
        metavar="N",
        help="answers that wait; more get 429. Default: 64.",
    )
    server.add_argument(
        "--drain-seconds",
        type=whole_number(0),
        default=30,
        metavar="N",
        help="how long answers may go on after SIGTERM. Default: 30.",
    )
    server.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help=f"ask for the key on the first line of this file. Default: {KEY_VARIABLE} of the environment, or none.",
    )
    server.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let pages of this site ask, such as https://example.org; may be repeated",
    )
    server.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that this machine is known by; may be repeated. Addresses and localhost are allowed.",
    )
    server.add_argument("--cert", type=Path, metavar="FILE", help="serve HTTPS with this certificate (PEM)")
    server.add_argument(
        "--key", type=Path, metavar="FILE", help="key of the certificate (PEM, without a password)"
    )
    server.add_argument(
        "--feedback", type=Path, metavar="FILE", help="where ratings go. Default: feedback.jsonl in the run."
    )
    return result


def api_key(file: Path | None) -> str | None:
    """The key that clients must send, if there is one.

    Raises:
        DataError: the file cannot be read.
        ConfigError: the key is empty or holds what no header can.
    """
    where = KEY_VARIABLE if file is None else f"--api-key-file {file}"
    try:
        text = os.environ.get(KEY_VARIABLE) if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: cannot be read ({error})") from None
    if text is None:
        return None
    key = text.split("\n")[0].strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{where}: expected a key of printable ASCII characters on the first line")
    return key


def check_feedback(file: Path) -> None:
    """Nothing, when ratings can be kept in `file`.

    Raises:
        UsageError: it is no place for a file.
        NotWritableError, DiskError: it cannot be written to.
    """
    directory = file.absolute().parent
    if not directory.is_dir():
        raise UsageError(f"--feedback {file}: there is no directory {directory}")
    if file.is_dir():
        raise UsageError(f"--feedback {file}: is a directory; expected a file, or nothing under this name")
    check_writable(directory)


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags = parser().parse_args(arguments)
    sampling = given_sampling(flags)
    if (flags.cert is None) != (flags.key is None):
        raise UsageError("--cert and --key go together: give both or neither")
    if flags.name is not None and not flags.name.strip():
        raise UsageError("--name: is empty; expected what clients shall call the model")
    access = Access(
        api_key(flags.api_key_file),
        tuple(map(host_name, flags.allow_host)),
        tuple(map(web_origin, flags.cors)),
    )
    if flags.feedback is not None:
        check_feedback(flags.feedback)
    log_to_console(verbose=flags.debug)
    certificate = None if flags.cert is None else (flags.cert, flags.key)
    if certificate is not None:
        check_certificate(*certificate)
    with listen(flags.host, flags.port) as listening:
        # Imported after flags and address are checked: torch takes a second to load.
        from inference.chat import ChatModel, newest_run
        from inference.feedback import feedback_file
        from inference.server.serving import ServerSettings, new_application, serve

        chat_model = ChatModel.load(
            flags.model or newest_run(), device=flags.device, weights=flags.weights, compiled=flags.compile
        )
        assert chat_model.directory is not None
        feedback = flags.feedback or feedback_file(chat_model.directory)
        settings = ServerSettings(
            name=flags.name or feedback_file(chat_model.directory).parent.name,
            defaults=sampling,
            max_running=flags.max_running,
            max_waiting=flags.max_waiting,
            feedback=feedback,
            limits=Limits(drain_seconds=flags.drain_seconds),
            access=access,
        )
        app = new_application(chat_model, settings)
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(chat_model.description, file=sys.stderr)
        scheme = "http" if certificate is None else "https"
        print(f"serving {settings.name} at {scheme}://{shown}:{port}/ (Ctrl-C ends it)", file=sys.stderr)
        if access.api_key is None and host not in ("127.0.0.1", "::1"):
            logger.warning("anybody who reaches this address may ask; --api-key-file FILE asks for a key")
        serve(app, settings.limits, listening, certificate)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv))
