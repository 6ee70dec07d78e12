"""The files that serve a model on another machine name what exists, and are valid as far as this machine can tell."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
UNIT = (DEPLOY / "bloomery.service").read_text(encoding="utf-8")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def commands_of_the_server() -> list[list[str]]:
    """What follows `scripts/serve.py` in both files."""
    started = re.search(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    entry = re.search(r"^ENTRYPOINT (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert started is not None
    assert entry is not None
    return [
        command[command.index("scripts/serve.py") + 1 :]
        for command in (shlex.split(started[1]), json.loads(entry[1]))
    ]


def test_the_server_understands_how_it_is_started() -> None:
    serve = pytest.importorskip("scripts.serve")
    for arguments in commands_of_the_server():
        flags = serve.parser().parse_args(arguments)
        assert flags.model == arguments[0]
        assert str(flags.feedback).endswith("feedback.jsonl")


def test_the_image_has_every_room_that_the_server_needs() -> None:
    copied = {line.split()[1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ")}
    root = DEPLOY.parent
    rooms = {path.parent.name for path in root.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert rooms <= copied
    assert all((root / name).exists() for name in copied)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    # The program has to exist for the check, and what is in /opt is none of the test's business.
    unit = UNIT.replace("/opt/bloomery/.venv/bin/python", sys.executable)
    (tmp_path / "bloomery.service").write_text(unit, encoding="utf-8")
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "bloomery.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "bloomery.service" not in checked.stderr
