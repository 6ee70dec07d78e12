"""A conversation in a terminal or through pipes: lines in, answers streamed out, commands. Knows no tensor."""

import contextlib
import sys
from collections.abc import Callable
from typing import TextIO

from core.config import nearest
from core.errors import ConfigError, DataError, UsageError
from inference.chat import ChatModel, Conversation
from inference.command_line import NAMES, changed_sampling
from inference.sampling_settings import SamplingOptions, SamplingSettings

COMMANDS = {
    "/help": "this list",
    "/reset": "forget the conversation; the system message stays",
    "/system TEXT": "begin anew with this system message; without TEXT with none",
    "/set NAME VALUE": "change a setting, also as /NAME VALUE, for example /temperature 0.5 or /top_p off",
    "/exit": "leave, as /quit and Ctrl-D do",
}

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
            except (UsageError, ConfigError, DataError) as error:
                self._note(f"error[{error.code}]: {error}")

    def answer(self, text: str) -> None:
        """Write the answer to `text` as it is made, and a line break.

        Raises:
            DataError: the text leaves no room for an answer.
        """
        with contextlib.closing(self.conversation.ask(text, **self.sampling)) as pieces:
            for piece in pieces:
                self._write(piece)
        self._write("\n")
        if pieces.finish_reason == "length":
            self._note(f"(cut off: max_tokens is {self._settings.max_tokens}, or the context is full)")

    @property
    def _settings(self) -> SamplingSettings:
        return SamplingSettings.from_dict(self.sampling)

    def _obey(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        argument = argument.strip()
        name = command[1:].replace("-", "_")
        if command == "/help":
            self._help()
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

    def _set(self, name: str, value: str) -> None:
        if not name or not value.strip():
            raise UsageError(
                "expected a setting and a value, for example /set temperature 0.5 (/help lists them)"
            )
        self.sampling = changed_sampling(self.sampling, [(name, value.strip())])
        self._note(f"({name} is {value.strip()})")

    def _help(self) -> None:
        for command, meaning in COMMANDS.items():
            self._note(f"  {command:<18} {meaning}")
        values = self._settings.to_dict()
        self._note("settings: " + ", ".join(f"{name} {values[name]}" for name in NAMES))

    def _write(self, text: str) -> None:
        if self._output.isatty():
            text = text.translate(CONTROL_PICTURES)
        self._output.write(text)
        self._output.flush()

    def _note(self, text: str) -> None:
        print(text, file=self._notes, flush=True)


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
