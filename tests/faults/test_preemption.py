"""Runs that are stopped while they start, in their steps, while they save and after the last step, by real signals."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from core.files import sha256_file
from tests.faults.several_processes import final_weights, finish, start, train
from training.checkpoint import latest_checkpoint, list_checkpoints, step_of, verify_checkpoint
from training.run_log import read_events

pytestmark = [pytest.mark.fault, pytest.mark.slow]

NUM_KILLS = int(os.environ.get("BLOOMERY_KILLS", "2"))
"""More by hand: BLOOMERY_KILLS=100 pytest tests/faults -k two_processes."""

NUM_STEPS = 8
SETTINGS: dict[str, Any] = {
    "total_steps": NUM_STEPS,
    "save_steps": 3,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "compile": "off",
    "model": {"dropout": 0.0},
    "global_batch_tokens": 8 * 16,
    "batch_size": 4,
}

ROUNDING = 2e-6
"""As in test_several_processes.py: sums over processes are added in another order."""


def wait_for_start(processes: "list[subprocess.Popen[str]]") -> None:
    for process in processes:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "training begins\n":
                break


def newest_step(directory: Path) -> int:
    checkpoint = latest_checkpoint(directory)
    return 0 if checkpoint is None else step_of(checkpoint)


def ends_as(directory: Path, straight: Path) -> bool:
    """Whether two runs ended with the same bits."""
    files = ("final/model.safetensors", f"step_{NUM_STEPS}/trainer/optimizer.safetensors")
    return all(sha256_file(directory / file) == sha256_file(straight / file) for file in files)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing happened to."""
    directory = tmp_path_factory.mktemp("straight")
    train(directory, SETTINGS, processes=2)
    return directory


def test_a_run_that_is_stopped_during_each_start_up_makes_a_step_each_time(tmp_path: Path) -> None:
    steps = []
    for processes in (2, 1):
        running = start(tmp_path, SETTINGS, processes=processes)
        wait_for_start(running)
        time.sleep(0.02)  # a start-up takes ten times as long
        running[-1].send_signal(signal.SIGTERM)
        codes, errors = finish(running)
        assert codes == [75] * processes, errors
        steps.append(newest_step(tmp_path))
    assert steps == [1, 2]


def test_a_second_interrupt_ends_at_once_and_the_last_checkpoint_is_whole(tmp_path: Path) -> None:
    # The save after step 6 waited for the one after step 3, and is perhaps half done.
    trouble = {"kind": "interrupted twice", "rank": 0, "step": 7}
    codes, errors = finish(start(tmp_path, SETTINGS, processes=2, trouble=trouble))
    assert codes == [130, 70], errors
    assert newest_step(tmp_path) in (3, 6)
    assert not list(tmp_path.glob("step_*.corrupt-*"))
    assert "Traceback" not in errors[0]


def test_a_signal_during_a_save_lets_it_complete(tmp_path: Path) -> None:
    trouble = {"kind": "stopped while saving", "rank": 0, "step": 2}
    codes, errors = finish(start(tmp_path, SETTINGS, processes=2, trouble=trouble))
    assert codes == [75, 75], errors
    saved = [step_of(path) for path in list_checkpoints(tmp_path) if verify_checkpoint(path)]
    assert saved[0] == 3
    assert len(saved) == 2 and saved[1] > 3, "of the step in which the signal came"


def test_two_processes_go_back_as_one_does(tmp_path: Path) -> None:
    for processes in (1, 2):
        trouble = {"kind": "gradients", "rank": processes - 1, "step": 4}
        train(tmp_path / str(processes), SETTINGS, processes=processes, trouble=trouble)
    one, two = (read_events(tmp_path / name) for name in ("1", "2"))
    assert [event["kind"] for event in two] == ["rollback"]
    assert two[0]["to_step"] == 3
    assert two[0]["skipped_steps"] == one[0]["skipped_steps"] == [[4, 3]]
    for name, weight in final_weights(tmp_path / "1").items():
        torch.testing.assert_close(final_weights(tmp_path / "2")[name], weight, rtol=0, atol=ROUNDING)


def test_one_of_two_processes_is_killed_at_random_moments_and_the_bits_are_the_same(
    tmp_path: Path, straight: Path
) -> None:
    generator = random.Random(12)
    seconds = steps_take(straight)
    reached = []
    for _ in range(NUM_KILLS):
        running = start(tmp_path, SETTINGS, processes=2)
        wait_for_start(running)
        time.sleep(generator.uniform(0.0, 1.5) * seconds)
        running[generator.randrange(2)].kill()
        codes, errors = finish(running)
        assert set(codes) <= {-9, 70, 0}, errors
        reached.append(newest_step(tmp_path))
    train(tmp_path, SETTINGS, processes=2)
    assert ends_as(tmp_path, straight)
    assert reached == sorted(reached), "a checkpoint was lost"


def steps_take(directory: Path) -> float:
    """Seconds from the beginning of a run's first step to its end."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return float(lines[-1]["train/process_seconds"])
