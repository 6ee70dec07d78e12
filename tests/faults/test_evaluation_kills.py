"""C39: an evaluation that is killed at any moment goes on with the tasks that it had not finished."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evaluation.language_model import load_language_model
from evaluation.task_files import read_task
from evaluation.task_results import evaluate_tasks
from tests.inference.tiny_models import save_tiny_model
from tests.line_kit import REPOSITORY, environment

pytestmark = pytest.mark.fault

NUM_TASKS = 6


def command(model: Path, tasks: list[Path], out: Path) -> list[str]:
    script = REPOSITORY / "scripts" / "evaluate.py"
    return [
        sys.executable,
        str(script),
        str(model),
        "--device",
        "cpu",
        "--out",
        str(out),
        "--tasks",
        *map(str, tasks),
    ]


def results(out: Path) -> dict[str, dict]:
    found = {path.name: json.loads(path.read_text()) for path in out.rglob("*.json")}
    for result in found.values():
        del result["elapsed_seconds"], result["file"]
    return found


def test_an_evaluation_that_is_killed_ends_with_the_results_of_one_that_was_not(
    tmp_path: Path, small_tokenizer
) -> None:
    model = save_tiny_model(tmp_path / "model", small_tokenizer, stage="pretraining")
    tasks = []
    for number in range(NUM_TASKS):
        path = tmp_path / f"task{number}.jsonl"
        records = [{"context": f"the iron {n}", "continuation": f"is {n * number}"} for n in range(150)]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        tasks.append(path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = {"env": environment(), "capture_output": True, "cwd": tmp_path}
    evaluate_tasks(
        load_language_model(model, device="cpu"),
        [read_task(path) for path in tasks],
        whole,
        training=None,
        num_shots=0,
        seed=0,
    )
    generator = random.Random(0)
    finished_before: dict[Path, int] = {}
    for _ in range(2):
        process = subprocess.Popen(
            command(model, tasks, killed), env=environment(), cwd=tmp_path, stderr=subprocess.DEVNULL
        )
        num_wanted = len(finished_before) + 1
        while process.poll() is None and len(list(killed.rglob("*.json"))) < num_wanted:
            time.sleep(0.002)
        time.sleep(generator.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = {path: path.stat().st_mtime_ns for path in killed.rglob("task*.json") if path.name[0] != "."}
        assert finished_before.items() <= kept.items(), "a finished task was made again"
        assert len(kept) >= num_wanted
        finished_before = kept
        if len(kept) == NUM_TASKS:
            break
    subprocess.run(command(model, tasks, killed), check=True, **options)
    assert results(killed) == results(whole)
    assert {path: path.stat().st_mtime_ns for path in finished_before}.items() >= finished_before.items()
    assert not [path for path in killed.rglob("*") if ".tmp-" in path.name]
