"""docs/serving.md: its commands are understood, its requests answered, its code runs, its numbers are the code's."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from inference.chat import ChatModel
from inference.server.http import Limits
from inference.server.metrics import Metrics
from inference.server.protocol import MAX_CHOICES, MAX_STOPS
from inference.server.serving import ServerSettings
from tests.inference.server.server_kit import RunningServer, running

REPOSITORY = Path(__file__).resolve().parents[3]
DOCUMENT = (REPOSITORY / "docs" / "serving.md").read_text(encoding="utf-8")
PLACE = "http://127.0.0.1:8000"


BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


def lines(program: str) -> list[str]:
    return [
        line for kind, block in BLOCKS if not kind for line in block.splitlines() if f"{program} " in line
    ]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve_script", REPOSITORY / "scripts" / "serve.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def server(served_model: ChatModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    feedback = tmp_path_factory.mktemp("feedback") / "feedback.jsonl"
    with running(served_model, name="mine", defaults={"max_tokens": 4}, feedback=feedback) as started:
        yield started


def test_every_command_is_understood(script: ModuleType) -> None:
    commands = lines("python")
    assert len(commands) >= 4
    for command in commands:
        words = shlex.split(command)
        program = words.index("scripts/serve.py")
        script.parser().parse_args(words[program + 1 :])


def test_every_flag_that_is_named_exists(script: ModuleType) -> None:
    named = set(re.findall(r"`?(--[a-z][a-z-]+)", DOCUMENT))
    assert (
        named - {option for action in script.parser()._actions for option in action.option_strings} == set()
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_every_request_is_answered(server: RunningServer) -> None:
    commands = lines("curl")
    assert len(commands) >= 6
    for command in commands:
        words = [word.replace(PLACE, f"http://127.0.0.1:{server.port}") for word in shlex.split(command)]
        result = subprocess.run(
            [*words, "-sS", "-f"], capture_output=True, text=True, timeout=30, check=False
        )
        assert result.returncode == 0, (command, result.stderr)
        assert result.stdout


def test_the_code_runs(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [block for kind, block in BLOCKS if kind == "python"]
    assert len(blocks) == 1
    names: dict[str, object] = {}
    exec(blocks[0].replace(PLACE, f"http://127.0.0.1:{server.port}"), names)
    names["client"].close()  # type: ignore[attr-defined]
    assert capsys.readouterr().out.strip()


def test_the_metrics_are_the_ones_that_are_described() -> None:
    written = set(
        re.findall(
            r"^# TYPE (\w+)",
            Metrics().text(running=0, waiting=0, failed=0),
            re.M,
        )
    )
    assert set(re.findall(r"`(bloomery_\w+)`", DOCUMENT)) == written


def test_the_numbers_are_those_of_the_code(server: RunningServer) -> None:
    limits, settings = Limits(), ServerSettings(name="x", defaults={}, feedback=Path("x"))
    text = " ".join(DOCUMENT.split())
    for said in (
        f"at most {MAX_CHOICES} answers in one request",
        f"up to {MAX_STOPS} texts",
        f"`--max-running {settings.max_running}`",
        f"`--max-waiting {settings.max_waiting}`",
        f"`--drain-seconds` ({limits.drain_seconds})",
        f"{limits.body_bytes // 2**20} MiB and take {limits.read_seconds:g} s",
        f"of its answer for {limits.write_seconds:g} s",
        f"{limits.max_connections} connections",
    ):
        assert said in text, said
    assert f"`{json.dumps(server.health())}`" in text
