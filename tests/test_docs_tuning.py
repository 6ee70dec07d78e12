"""What docs/tuning.md says to type is understood, down to each setting and record."""

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from core.config import parse_overrides
from core.training_config import PipelineConfig
from data_processing.rows.preferences import Preference, to_preference

REPOSITORY = Path(__file__).resolve().parent.parent
TEXT = (REPOSITORY / "docs" / "tuning.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python (scripts/.*)$", TEXT.replace("\\\n", " "), re.MULTILINE)


def script(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_line_is_one_that_its_script_takes(command: str) -> None:
    name, *arguments = shlex.split(command)
    flags, overrides = script(name).parser().parse(arguments)
    assert flags is not None
    PipelineConfig.from_dict(overrides)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 5


def test_every_setting_that_is_named_exists_and_takes_the_value_beside_it() -> None:
    known = {row.key for row in PipelineConfig.settings_help()}
    named = re.findall(r"`((?:training|model|instruction|preference|data)\.[a-z_.]+)(=[^`]+)?`", TEXT)
    assert len(named) >= 20
    assert {key for key, _ in named} <= known
    for key, value in named:
        if value and value != "=DIR":
            (assignment,) = shlex.split(f"{key}{value}")
            values = parse_overrides([assignment], configured=PipelineConfig)
            if key == "instruction.replay_dataset":
                continue
            PipelineConfig.from_dict(values)


def test_the_records_of_pairs_are_understood() -> None:
    lines = [line for line in TEXT.splitlines() if line.startswith('{"')]
    assert len(lines) == 5
    for line in lines:
        assert isinstance(to_preference(json.loads(line), source="tuning.md"), Preference), line
