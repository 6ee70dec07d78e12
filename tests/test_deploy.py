"""The files that serve a model on another machine name what exists, and are valid as far as this machine can tell."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
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


def in_the_image(tmp_path: Path) -> Path:
    """What the image has of the repository, at the place where it has it."""
    app = tmp_path / "app"
    app.mkdir()
    for line in DOCKERFILE.splitlines():
        if line.startswith("COPY "):
            *sources, target = line.split()[1:]
            for source in map(DEPLOY.parent.joinpath, sources):
                if source.is_dir():
                    shutil.copytree(source, app / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(source, app / target)
    return app


def test_the_server_starts_from_what_the_image_has_of_the_repository(tmp_path: Path) -> None:
    app = in_the_image(tmp_path)
    code = (
        "import runpy, sys, inference.server.serving, inference.chat; sys.argv[1:] = ['--help']\n"
        "rooms = {name: module.__file__ for name, module in sys.modules.items() if name.split('.')[0] in %r}\n"
        "assert all(file is None or file.startswith(%r) for file in rooms.values()), rooms\n"
        "runpy.run_path('scripts/serve.py', run_name='__main__')"
    )
    rooms = sorted(path.name for path in app.iterdir() if path.is_dir())
    started = subprocess.run(
        [sys.executable, "-c", code % (rooms, str(app))],
        cwd=app,
        env={**os.environ, "PYTHONPATH": str(app)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 0, started.stderr
    assert "serve.py" in started.stdout


def test_what_the_image_installs_is_there_to_install(tmp_path: Path) -> None:
    app = in_the_image(tmp_path)
    (run,) = re.findall(r"^RUN (.*?[^\\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    install, *others = [part.strip() for part in run.replace("\\\n", " ").split("&&")]
    words = shlex.split(install.replace("${PIP_OPTIONS}", ""))
    assert words[:2] == ["pip", "install"]
    constraints, project = words[words.index("--constraint") + 1], words[words.index("--editable") + 1]
    described = tomllib.loads((app / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    path, extra = re.fullmatch(r"(.*)\[(\w+)\]", project).groups()  # type: ignore[union-attr]
    assert path == "." and extra in described["optional-dependencies"]
    assert (app / described["readme"]).is_file()
    pinned = {
        line.partition("==")[0] for line in (app / constraints).read_text(encoding="utf-8").splitlines()
    }
    needed = [*described["dependencies"], *described["optional-dependencies"][extra]]
    assert {re.split(r"[\[<>=!~; ]", name)[0] for name in needed} <= pinned
    base = re.search(r"^FROM python:([\d.]+)-slim$", DOCKERFILE, re.MULTILINE)
    assert base is not None and f">={base[1]}" in described["requires-python"]
    # Both programs are in Debian's base (passwd, coreutils); the volume is where the entry point writes.
    assert [command.split()[0] for command in others] == ["useradd", "install"]
    assert "/feedback" in others[1] and "/feedback/feedback.jsonl" in commands_of_the_server()[1]


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
