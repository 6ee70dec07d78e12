"""A training in a process that may not map more memory: it goes on in parts, or says what to change."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.files import sha256_file
from tests.line_kit import environment

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space as Linux has them"),
]

CHILD = Path(__file__).with_name("memory_child.py")


def train(directory: Path, megabytes: int, **settings: Any) -> "subprocess.CompletedProcess[str]":
    """A run with so much room beyond the model; 0 = without a limit."""
    return subprocess.run(
        [sys.executable, str(CHILD), str(directory), str(megabytes), json.dumps(settings)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def losses(directory: Path) -> list[float]:
    return [line["train/loss"] for line in lines_of(directory / "metrics.jsonl") if "train/loss" in line]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with room enough."""
    directory = tmp_path_factory.mktemp("whole")
    result = train(directory, 0)
    assert result.returncode == 0, result.stderr
    assert not (directory / "events.jsonl").exists()
    return directory


@pytest.mark.parametrize("room", [350, 400, 450])
def test_a_batch_that_does_not_fit_is_trained_on_in_parts_and_resumed_exactly(
    tmp_path: Path, whole: Path, room: int
) -> None:
    parts, in_two = (tmp_path / name for name in ("parts", "in two"))
    result = train(parts, room)
    assert result.returncode == 0, result.stderr
    events = lines_of(parts / "events.jsonl")
    assert {event["kind"] for event in events} == {"micro_batch_halved"}
    rows, micro_batches = events[-1]["rows"], events[-1]["micro_batches"]
    assert rows < 128
    assert rows * micro_batches == 128
    assert f"going on with {rows} rows and {micro_batches} micro-batches a step" in result.stderr
    # The same sums in another order, float32.
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)

    shutil.copytree(parts, in_two)
    for leftover in ("step_6", "final"):
        shutil.rmtree(in_two / leftover)
    result = train(in_two, 0)  # with room enough again, what was begun in parts goes on in parts
    assert result.returncode == 0, result.stderr
    assert "going on from step 3 (bit-exact)" in result.stderr
    weights = "final/model.safetensors"
    assert sha256_file(in_two / weights) == sha256_file(parts / weights)


def test_one_row_that_does_not_fit_ends_in_one_line_and_before_any_step(tmp_path: Path) -> None:
    result = train(tmp_path / "run", 150)
    assert result.returncode == 78
    last = result.stderr.splitlines()[-1]
    assert last.startswith(
        "error[E010]: training.batch_size: a micro-batch of one row of 16 tokens does not fit"
    )
    assert "gradient_checkpointing=full" in last
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
