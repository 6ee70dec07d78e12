"""The trainer in real processes, killed at random moments: the last bit of weights and optimizer is the same."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from core.files import sha256_file
from tests.line_kit import environment

pytestmark = [pytest.mark.fault, pytest.mark.slow]

CHILD = Path(__file__).with_name("train_child.py")
NUM_KILLS = int(os.environ.get("BLOOMERY_KILLS", "3"))
NUM_STEPS = 24

HAS_COMPILER = any(map(shutil.which, ("g++", "clang++")))

WAYS_OF_RUNNING = [
    pytest.param({"optimizer": "muon", "gradient_accumulation_steps": 2}, NUM_KILLS, id="muon, accumulation"),
    pytest.param(
        {"lora": {"rank": 4, "dropout": 0.1}, "embedding_noise": 5.0},
        NUM_KILLS,
        id="adapters, noisy embeddings",
    ),
    pytest.param(
        {"compile": "on", "save_in_background": False},
        1 + NUM_KILLS // 10,  # each start reads what was compiled, which takes its time
        id="compiled, saved in the foreground",
        marks=pytest.mark.skipif(not HAS_COMPILER, reason="torch.compile needs a C++ compiler"),
    ),
]


class Runs:
    """Processes that train below one directory."""

    def __init__(self, root: Path, settings: dict[str, Any]) -> None:
        self._root = root
        self._settings = json.dumps(settings)

    def start(self, name: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, str(CHILD), str(self._root / name), self._settings],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, name: str) -> dict[str, str]:
        """The hashes of what the run ends with."""
        process = self.start(name)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        files = ("final/model.safetensors", f"step_{NUM_STEPS}/trainer/optimizer.safetensors")
        return {file: sha256_file(self._root / name / file) for file in files}

    def kill(self, name: str, *, after_steps: int, delay_seconds: float) -> int:
        """Start, and kill when so many steps are logged; returns how many were at the end."""
        log = self._root / name / "metrics.jsonl"
        before = log.stat().st_mtime_ns if log.exists() else 0
        process = self.start(name)
        # The log is cut to the checkpoint that is gone on from, and written again.
        while process.poll() is None:
            if log.exists() and log.stat().st_mtime_ns != before and _num_lines(log) >= after_steps:
                time.sleep(delay_seconds)
                process.kill()
                break
            time.sleep(0.002)
        _, errors = process.communicate()
        assert process.returncode in (0, -9), errors
        return _num_lines(log)


def _num_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


@pytest.mark.parametrize(("settings", "num_kills"), WAYS_OF_RUNNING)
def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(
    tmp_path: Path, settings: dict[str, Any], num_kills: int
) -> None:
    runs = Runs(tmp_path, settings)
    expected = runs.finish("straight")
    generator = random.Random(11)
    reached = [
        runs.kill("killed", after_steps=step, delay_seconds=generator.uniform(0, 0.06))
        for step in sorted(generator.randrange(1, NUM_STEPS - 3) for _ in range(num_kills))
    ]
    assert any(0 < steps < NUM_STEPS for steps in reached), "no kill came while it trained"
    assert runs.finish("killed") == expected
