"""What `--help` of every command shows: it fits a terminal, and its examples are command lines that are understood."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core.config_files import load_config
from pipeline.arguments import Parser as TrainingParser

SCRIPTS = sorted((Path(__file__).resolve().parents[2] / "scripts").glob("*.py"))
COMMANDS = ("summary", "why", "trace", "sample", "verify", "forget", "clean")


def load(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{script.stem}_script", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=SCRIPTS, ids=lambda script: script.name)
def script(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def help_of(script: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    return str(load(script).parser().format_help())


def examples_in(text: str) -> list[list[str]]:
    """The words of each command line at the end of a help text, without what is piped into it."""
    examples = text.partition("\nexamples:\n")[2].replace("\\\n", " ")
    return [shlex.split(line.rpartition("|")[2]) for line in examples.splitlines() if line.strip()]


def test_help_fits_a_terminal(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in help_of(script, monkeypatch).splitlines():
        assert len(line) < 80, line


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_question_about_data_fits_a_terminal(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    module = load(next(path for path in SCRIPTS if path.stem == "inspect_data"))
    with pytest.raises(SystemExit):
        module.parser().parse_args(["run", command, "--help"])
    page = capsys.readouterr().out
    assert all(len(line) < 80 for line in page.splitlines())
    assert re.search(r"^[A-Z].*\.$", page, re.MULTILINE), "no sentence says what it does"


def test_every_example_is_understood(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = examples_in(help_of(script, monkeypatch))
    assert len(examples) >= 2
    for python, name, *arguments in examples:
        assert (python, name) == ("python", f"scripts/{script.name}")
        parser: Any = load(script).parser()
        if isinstance(parser, TrainingParser):
            flags, overrides = parser.parse(arguments)
            load_config(getattr(flags, "config_dir", None), overrides)
        else:
            parser.parse_args(arguments)


def test_every_option_is_told_of(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for action in load(script).parser()._actions:
        # Of the commands of inspect_data.py each is told of.
        told = (
            [choice.help for choice in action._choices_actions] if action.dest == "command" else [action.help]
        )
        assert told and all(told), action.dest
