"""A real run with a budget of time, on a machine whose other work comes and goes."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.line_kit import command, environment, settings, write_inputs

pytestmark = [pytest.mark.fault, pytest.mark.slow]

BUDGET_SECONDS = 60
SPELL_SECONDS = 5
"""The other work is there for so long, then away for so long."""


@contextlib.contextmanager
def busy_neighbours(number: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def training_records(run: Path, stage: str) -> list[dict[str, Any]]:
    lines = (run / stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if "train/learning_rate" in record]


def test_a_planned_run_ends_on_time_and_annealed_while_other_work_comes_and_goes(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    values = settings(tmp_path, run={"time_budget": f"{BUDGET_SECONDS}s"})
    del values["model"], values["data"]["tokenizer_vocab_size"], values["training"]
    values["instruction"] = {"data": values["instruction"]["data"], "val_split": 0.1}
    (tmp_path / "settings.json").write_text(json.dumps(values), encoding="utf-8")
    with (tmp_path / "printed").open("wb") as printed:
        process = subprocess.Popen(
            command("--config-dir", tmp_path / "settings.json", "--until", "finetune"),
            cwd=tmp_path,
            env=environment(),
            stdout=printed,
            stderr=printed,
        )
        run = tmp_path / "run"
        while process.poll() is None and not (run / "pretrain" / "metrics.jsonl").exists():
            time.sleep(0.05)
        while process.poll() is None:
            with busy_neighbours(3):
                _sleep_while_alive(process, SPELL_SECONDS)
            _sleep_while_alive(process, SPELL_SECONDS)
    assert process.returncode == 0, (tmp_path / "printed").read_text(encoding="utf-8")

    plan = json.loads((run / "training_plan.json").read_text(encoding="utf-8"))
    trainings = sum(
        json.loads((run / stage / "MANIFEST.json").read_text(encoding="utf-8"))["elapsed_seconds"]
        for stage in ("pretrain", "finetune")
    )
    assert plan["probing_seconds"] + trainings == pytest.approx(BUDGET_SECONDS, rel=0.05)

    for stage in ("pretrain", "finetune"):
        records = training_records(run, stage)
        highest = max(record["train/learning_rate"] for record in records)
        # The last update is the one before the schedule reaches zero: of few steps, some percent of the peak.
        a_step = highest / (0.6 * records[-1]["step"])
        assert records[-1]["train/learning_rate"] < max(0.05 * highest, 2 * a_step)
    lengths = {record["train/total_steps"] for record in training_records(run, "pretrain")}
    assert len(lengths) > 1, (
        "the end was never moved: the other work made no difference, and this shows nothing"
    )


def _sleep_while_alive(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)
