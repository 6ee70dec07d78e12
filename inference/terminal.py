"""A conversation in a terminal or through pipes: lines in, answers streamed out, commands. Knows no tensor."""

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TextIO

from core.config import nearest
from core.errors import ConfigError, DataError, DiskError, UsageError
from core.files import write_json
from core.json_files import json_object
from inference.chat import ChatModel
from inference.command_line import NAMES, changed_sampling
from inference.conversation import Conversation
from inference.engine import Stream
from inference.feedback import append_feedback, feedback_file, model_fingerprint
from inference.sampling_settings import SamplingOptions, SamplingSettings

COMMANDS = {
    "/help": "this list",
    "/retry": "answer the last question again",
    "/history": "show the conversation",
    "/save FILE": 'write the conversation as {"messages": [...]}, which is also a record for instruction tuning',
    "/load FILE": "go on with a conversation that was saved",
    "/good": "keep the last answer as a good one, in feedback.jsonl of the run",
    "/bad": "keep it as a bad one",
    "/correct TEXT": "keep what it should have been, and go on as if it had been said",
    "/reset": "forget the conversation; the system message stays",
    "/system TEXT": "begin anew with this system message; without TEXT with none",
    "/set NAME VALUE": "change a setting, also as /NAME VALUE, for example /temperature 0.5 or /top_p off",
    "/exit": "leave, as /quit and Ctrl-D do",
}

BLOCK = '"""'
"""Alone on a line, it begins a text of several lines and ends it."""

CONTROL_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
"""What a terminal would obey is shown by its picture: a model can have learned escape sequences from its data."""


class TerminalChat:
    """One conversation with its settings. Answers go to `output`, everything else to `notes`."""

    def __init__(
        self,
        chat_model: ChatModel,
        sampling: SamplingOptions,
        *,
        system: str | None = None,
        output: TextIO,
        notes: TextIO,
    ) -> None:
        self.conversation = Conversation(chat_model, system=system)
        directory = chat_model.directory
        # Now: later, another model may lie there.
        self._fingerprint = "" if directory is None else model_fingerprint(directory)
        self.system = system
        self.sampling = sampling
        self._output = output
        self._notes = notes

    def run(self, read_line: Callable[[], str]) -> None:
        """Answer line after line until `read_line` raises EOFError or the line is /exit.

        Ctrl-C (KeyboardInterrupt) stops an answer, and what was read of it stays in the conversation. A mistake is
        reported and the next line is read.
        """
        while True:
            try:
                line = read_line().strip()
                if line == BLOCK:
                    line = self._block(read_line)
                    if line:
                        self.answer(line)
                    continue
                if line in ("/exit", "/quit"):
                    return
                if line.startswith("/"):
                    self._obey(line)
                elif line:
                    self.answer(line)
            except EOFError:
                return
            except KeyboardInterrupt:
                self._note("\n(stopped; Ctrl-D or /exit leaves)")
            except (UsageError, ConfigError, DataError, DiskError) as error:
                self._note(f"error[{error.code}]: {error}")

    def answer(self, text: str) -> None:
        """Write the answer to `text` as it is made, and a line break.

        Raises:
            DataError: the text leaves no room for an answer.
        """
        self._show(self.conversation.ask(text, **self.sampling))

    def _show(self, answer: Stream[str]) -> None:
        with contextlib.closing(answer) as pieces:
            for piece in pieces:
                self._write(piece)
        self._write("\n")
        if pieces.finish_reason == "length":
            self._note(f"(cut off: max_tokens is {self._settings.max_tokens}, or the context is full)")

    @property
    def _settings(self) -> SamplingSettings:
        return SamplingSettings.from_dict(self.sampling)

    @staticmethod
    def _block(read_line: Callable[[], str]) -> str:
        lines: list[str] = []
        while (line := read_line().rstrip("\r\n")).strip() != BLOCK:
            lines.append(line)
        return "\n".join(lines)

    def _obey(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        argument = argument.strip()
        name = command[1:].replace("-", "_")
        if command == "/help":
            self._help()
        elif command == "/retry":
            self._show(self.conversation.retry(**self.sampling))
        elif command == "/history":
            for message in self.conversation.messages:
                self._note(f"{message['role']}: {message['content']}")
        elif command == "/save":
            path = _file(command, argument)
            write_json(path, {"messages": self.conversation.messages})
            self._note(f"({len(self.conversation.messages)} messages are in {path})")
        elif command == "/load":
            self._load(_file(command, argument))
        elif command in ("/good", "/bad"):
            self._keep(1 if command == "/good" else -1, None)
        elif command == "/correct":
            if not argument:
                raise UsageError("expected what the answer should have been: /correct TEXT")
            self._keep(-1, argument)
            self.conversation.correct(argument)
        elif command == "/reset":
            self.conversation.reset(system=self.system)
            self._note("(the conversation is forgotten)")
        elif command == "/system":
            self.system = argument or None
            self.conversation.reset(system=self.system)
            self._note(f"(begun anew, {'with this' if argument else 'without a'} system message)")
        elif command == "/set":
            name, _, value = argument.partition(" ")
            self._set(name, value)
        elif name in NAMES:
            self._set(name, argument)
        else:
            known = [command.split()[0] for command in COMMANDS] + [f"/{name}" for name in NAMES]
            raise UsageError(f"{command}: no such command{nearest(command, known)} (/help lists them)")

    def _load(self, path: Path) -> None:
        try:
            messages = json_object(path, mistake=DataError).get("messages")
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise DataError(f'{path}: expected {{"messages": [...]}}, as /save writes it')
        try:
            self.conversation.load(messages)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        self.system = messages[0]["content"] if messages[0]["role"] == "system" else None
        self._note(f"({len(messages)} messages; go on)")

    def _keep(self, rating: Literal[1, -1], correction: str | None) -> None:
        self.conversation.last_answer()
        directory = self.conversation.chat_model.directory
        if directory is None:
            raise DataError("this model was loaded from no directory that feedback could be kept in")
        path, messages = feedback_file(directory), self.conversation.messages
        append_feedback(path, messages, rating=rating, correction=correction, model=self._fingerprint)
        self._note(f"(kept in {path})")

    def _set(self, name: str, value: str) -> None:
        if not name or not value.strip():
            raise UsageError(
                "expected a setting and a value, for example /set temperature 0.5 (/help lists them)"
            )
        self.sampling = changed_sampling(self.sampling, [(name, value.strip())])
        shown = self.sampling[name.lstrip("-").replace("-", "_")]  # type: ignore[literal-required]
        self._note(f"({name} is {json.dumps(shown, ensure_ascii=False)})")

    def _help(self) -> None:
        for command, meaning in COMMANDS.items():
            self._note(f"  {command:<18} {meaning}")
        self._note(f"  {BLOCK:<18} alone on a line: begins and ends a text of several lines")
        values = self._settings.to_dict()
        self._note("settings: " + ", ".join(f"{name} {values[name]}" for name in NAMES))

    def _write(self, text: str) -> None:
        self._output.write(_visible(text, self._output))
        self._output.flush()

    def _note(self, text: str) -> None:
        print(_visible(text, self._notes), file=self._notes, flush=True)


def line_reader(source: TextIO) -> Callable[[], str]:
    """Reads the next line; on a terminal with a prompt and line editing.

    The function raises EOFError at the end.
    """
    if source is sys.stdin and source.isatty():
        with contextlib.suppress(ImportError):  # not on Windows
            import readline  # noqa: F401 - importing it gives `input` its editing
        return lambda: input("> ")

    def next_line() -> str:
        line = source.readline()
        if not line:
            raise EOFError
        return line

    return next_line


def _file(command: str, argument: str) -> Path:
    if not argument:
        raise UsageError(f"expected the name of a file: {command} FILE")
    return Path(argument).expanduser()


def _visible(text: str, screen: TextIO) -> str:
    return text.translate(CONTROL_PICTURES) if screen.isatty() else text
