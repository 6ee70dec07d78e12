"""The whole line under torchrun: what trains does so together, everything else happens once."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.faults.several_processes import finish, start
from tests.line_kit import REPOSITORY, SCRIPT, environment, run_script, write_inputs, write_settings

pytestmark = [pytest.mark.fault, pytest.mark.slow]

STEP = {"batch_size": 2, "global_batch_tokens": 8 * 64, "compile": "off"}
CHANGES = {
    "model": {"dropout": 0.0},
    "training": {**STEP, "total_steps": 10},
    "instruction": {**STEP, "total_steps": 6},
}

ROUNDING = 1e-5
"""Of weights after 10 and 6 updates of at most 1e-3."""


def torchrun(*arguments: str, restarts: int = 0) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"),
            *(f"--max-restarts={restarts}", "--monitor-interval=0.2", str(SCRIPT), *arguments),
        ],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a single process."""
    root = tmp_path_factory.mktemp("alone")
    write_inputs(root)
    done = run_script("--config-dir", write_settings(root, **CHANGES), cwd=root)
    assert done.returncode == 0, done.stderr
    return root / "run"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers in /proc")
def test_a_worker_killed_under_torchrun_costs_nothing(tmp_path: Path, alone: Path) -> None:
    write_inputs(tmp_path)
    settings = str(write_settings(tmp_path, **CHANGES))
    process = torchrun("--config-dir", settings, restarts=2)
    checkpoint = tmp_path / "run" / "pretrain" / "step_5" / "MANIFEST.json"
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.01)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(workers[-1]), signal.SIGKILL)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "going on from step" in errors
    assert output.count("What comes next") == 1  # one process talks
    for stage in ("pretrain", "finetune"):
        found, expected = (
            load_file(run / stage / "final" / "model.safetensors") for run in (tmp_path / "run", alone)
        )
        for name, weight in expected.items():
            torch.testing.assert_close(found[name], weight, rtol=0, atol=ROUNDING)
    ours, theirs = (
        json.loads((run / "evaluation" / "evaluation.json").read_text()) for run in (tmp_path / "run", alone)
    )
    assert ours.keys() == theirs.keys()
    # All of it is there now: the same command only looks.
    codes, errors_by_rank = finish(
        start(tmp_path, {}, processes=2, program=(str(SCRIPT), "--config-dir", settings))
    )
    assert codes == [0, 0]
    assert "pretrain     reuse" in errors_by_rank[0]
    assert errors_by_rank[1] == ""


def test_a_mistake_is_said_once_and_ends_all_processes(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    settings = str(write_settings(tmp_path, **CHANGES))
    program = (str(SCRIPT), "--config-dir", settings, "instruction.data=missing.jsonl")
    codes, errors = finish(start(tmp_path, {}, processes=2, program=program))
    assert codes == [65, 65]
    assert "error[E020]: instruction.data='missing.jsonl': no such file" in errors[0]
    assert errors[1] == ""


def test_the_command_for_two_processes_in_the_documents_trains_as_it_stands(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
    [line] = re.findall(r"^OMP_NUM_THREADS=1 torchrun .*--nproc-per-node=2 .*$", text, re.MULTILINE)
    write_inputs(tmp_path)
    small = write_settings(tmp_path, training={"total_steps": 2}, instruction={"total_steps": 2})
    # Only the size is another one, and torchrun and script are those of this environment.
    line = line.replace("configs/tiny", str(small)).replace("scripts/", f"{SCRIPT.parent}/")
    line = line.replace("torchrun", f"{sys.executable} -m torch.distributed.run")
    done = subprocess.run(line, shell=True, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "512 rows in 128 micro-batches of 4 on 2 processes (ddp)" in done.stderr
    state = json.loads((tmp_path / "run" / "pretrain" / "step_2" / "trainer" / "state.json").read_text())
    assert state["progress"]["num_tokens"] == 2 * 32768
