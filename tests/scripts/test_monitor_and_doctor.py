"""scripts/monitor.py and scripts/doctor.py as processes, on a training that runs, and after it was killed."""

import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from core.errors import DataError, UsageError
from tests.line_kit import REPOSITORY, command, environment, write_inputs, write_settings

LINES = [
    {"step": 10 * n, "train/loss": 8.0 - n / 10, "train/process_seconds": float(n)} for n in range(1, 30)
]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_script", REPOSITORY / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MONITOR, DOCTOR = load("monitor"), load("doctor")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The scripts set up logging for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def training(tmp_path: Path) -> Path:
    directory = tmp_path / "run" / "pretrain"
    directory.mkdir(parents=True)
    (directory / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in LINES) + '{"step": 3'
    )
    return directory


def test_once_prints_the_page_and_leaves(training: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert MONITOR.main([str(training.parent), "--once"]) == 0
    page = capsys.readouterr().out
    assert "run/pretrain: not running, as far as its lock says, last line 0 s ago" in page
    assert "training loss, nats" in page
    assert "\x1b" not in page


def test_a_page_in_html_is_written_where_it_is_asked_for(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert MONITOR.main([str(training.parent), "--html", str(tmp_path / "x.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "x.html")
    assert "<polyline" in (tmp_path / "x.html").read_text()


def test_a_picture_of_several_runs_is_written_where_it_is_asked_for(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    other = tmp_path / "other" / "pretrain"
    other.mkdir(parents=True)
    (other / "metrics.jsonl").write_text((training / "metrics.jsonl").read_text())
    assert MONITOR.main([str(training.parent), str(other), "--png", str(tmp_path / "x.png")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_what_makes_no_sense_is_refused(training: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no run and no training"):
        MONITOR.main([str(tmp_path), "--once"])
    with pytest.raises(DataError, match="found nothing"):
        DOCTOR.main([str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="--every 0: expected seconds above 0"):
        MONITOR.main([str(training), "--every", "0"])
    with pytest.raises(UsageError, match="required: RUN"):
        MONITOR.main([])
    (tmp_path / ".lock").write_text("")
    with pytest.raises(UsageError, match="no training of this run has begun"):
        MONITOR.main([str(tmp_path), "--html", str(tmp_path / "x.html")])


def test_the_monitor_loads_no_tensor_library(training: Path) -> None:
    code = (
        f"import sys, importlib.util\nsys.argv = ['monitor.py', {str(training)!r}, '--once']\n"
        f"spec = importlib.util.spec_from_file_location('m', {str(REPOSITORY / 'scripts' / 'monitor.py')!r})\n"
        "m = importlib.util.module_from_spec(spec); spec.loader.exec_module(m); m.main(sys.argv[1:])\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert result.stdout.splitlines()[-1] == "False"


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_on_a_terminal_the_page_is_drawn_again_until_ctrl_c(training: Path) -> None:
    import pty

    master, slave = pty.openpty()
    script = [sys.executable, str(REPOSITORY / "scripts" / "monitor.py"), str(training), "--every", "0.2"]
    with subprocess.Popen(script, stdout=slave, stderr=slave, env=environment()) as process:
        os.close(slave)
        seen = ""
        deadline = time.monotonic() + 120
        while seen.count("\x1b[H\x1b[2J") < 3 and time.monotonic() < deadline:
            seen += os.read(master, 65536).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        try:
            while os.read(master, 65536):
                pass
        except OSError:  # the other end was closed
            pass
        assert process.wait(60) == 0
    os.close(master)
    assert seen.count("training loss, nats") >= 2


def test_a_run_is_watched_while_it_trains_and_diagnosed_after_it_was_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inputs(tmp_path)
    settings = write_settings(
        tmp_path, training={"total_steps": 1_000_000, "save_steps": 1_000_000, "logging_steps": 1}
    )
    run = tmp_path / "run"
    metrics = run / "pretrain" / "metrics.jsonl"
    process = subprocess.Popen(
        command("--config-dir", settings, "--until", "pretrain"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        env=environment(),
    )
    try:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") > 30):
            assert process.poll() is None
            time.sleep(0.1)
        assert MONITOR.main([str(run), "--once"]) == 0
        page = capsys.readouterr().out
        assert f"run/pretrain: running (process {process.pid} on " in page
        assert "of 1,000,000" in page and "left" in page
    finally:
        process.kill()
        process.wait()
    assert MONITOR.main([str(run), "--once"]) == 0
    assert "run/pretrain: not running" in capsys.readouterr().out
    monkeypatch.setattr("pipeline.environment.CHECKS", ())
    assert DOCTOR.main([str(run)]) == 0
    assert "of 1,000,000 and no process works on it" in " ".join(capsys.readouterr().out.split())
