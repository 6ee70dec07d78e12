"""What changing a setting does to a run that goes on, by the whole command line: three classes, three answers."""

import json
import logging
import runpy
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.command import run_command
from tests.line_kit import REPOSITORY, write_inputs, write_settings
from training.step_report import StepReport
from training.trainer import Trainer

Command = Callable[..., int]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The training script, up to pretraining, stopped after so many steps of it as a launcher would."""
    write_inputs(tmp_path)
    settings = write_settings(tmp_path, training={"total_steps": 9, "save_steps": 4, "logging_steps": 3})
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(REPOSITORY / "scripts" / "train_llm_from_scratch.py"))["main"]
    train_step = Trainer.train_step
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(*arguments: str, stopped_at: int | None = None) -> int:
        def step(self: Trainer, *values: object) -> StepReport:
            report = train_step(self, *values)  # type: ignore[arg-type]
            if report.step == stopped_at:
                signal.raise_signal(signal.SIGTERM)
            return report

        monkeypatch.setattr(Trainer, "train_step", step)
        line = ["--config-dir", str(settings), "--until", "pretrain", *arguments]
        try:
            return run_command(lambda: main(line), resumable=True)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    return run


def test_what_decides_the_result_is_refused_what_rounds_otherwise_is_said_and_the_rest_is_free(
    command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert command(stopped_at=2) == 75
    capfd.readouterr()

    # The first class: nothing is done, each difference is named.
    assert command("training.learning_rate=0.5", "training.seed=7", "model.num_layers=1") == 78
    errors = capfd.readouterr().err
    assert "training.learning_rate: was " in errors and ", now 0.5" in errors
    assert "training.seed: was 1337, now 7" in errors and "num_layers: was 2, now 1" in errors
    assert "error[E011]" in errors and "--rebuild pretrain" in errors
    assert (tmp_path / "run" / "pretrain" / "step_2").is_dir()

    # The third: cadences and logs.
    assert command("training.save_steps=5", "training.logging_steps=1", stopped_at=4) == 75
    assert "going on from step 2 (bit-exact)" in capfd.readouterr().err

    # The second: allowed, with the reason.
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert command() == 0
    finally:
        torch.set_num_threads(threads)
    said = f"going on from step 4 (not bit-exact because threads was {threads}, is {threads + 1})"
    assert said in capfd.readouterr().err
    lines = (tmp_path / "run" / "pretrain" / "metrics.jsonl").read_text().splitlines()
    steps = [line["step"] for line in map(json.loads, lines) if "train/loss" in line]
    assert steps == sorted(set(steps)) and steps[-1] == 9
