"""Starts the processes of a run as torchrun does, by environment, so that a test can hold and kill each of them."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from tests.line_kit import environment

CHILD = Path(__file__).with_name("train_child.py")
TIMEOUT_SECONDS = 120
"""How long processes wait for each other: a busy machine lets one of them wait for its compiler."""


def start(
    directory: Path,
    settings: dict[str, Any],
    *,
    processes: int,
    machines: int = 1,
    trouble: dict[str, Any] | None = None,
    timeout_seconds: int = TIMEOUT_SECONDS,
    program: tuple[str, ...] = (),
) -> "list[subprocess.Popen[str]]":
    """The processes by rank; `program` is what they run instead of `train_child.py` in `directory`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    each = processes // machines
    arguments = [str(directory), json.dumps(settings), *([json.dumps(trouble)] if trouble else [])]
    command = program or (str(CHILD), *arguments)
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env={
                **environment(),
                "OMP_NUM_THREADS": "1",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "WORLD_SIZE": str(processes),
                "RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(each),
                "LOCAL_RANK": str(rank % each),
                "BLOOMERY_COLLECTIVE_TIMEOUT_SECONDS": str(timeout_seconds),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]


def finish(processes: "list[subprocess.Popen[str]]") -> tuple[list[int], list[str]]:
    """Exit codes and standard errors by rank."""
    errors = [process.communicate(timeout=240)[1] for process in processes]
    return [process.returncode for process in processes], errors


def train(directory: Path, settings: dict[str, Any], *, processes: int, **options: Any) -> None:
    """Run to the end."""
    codes, errors = finish(start(directory, settings, processes=processes, **options))
    assert codes == [0] * processes, "\n".join(errors)


def final_weights(directory: Path) -> dict[str, Tensor]:
    """What a run ended with."""
    return load_file(directory / "final" / "model.safetensors")


def losses(directory: Path) -> dict[int, float]:
    """The training loss by step."""
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    logged = (json.loads(line) for line in lines)
    return {line["step"]: line["train/loss"] for line in logged if "train/loss" in line}
