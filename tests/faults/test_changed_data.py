"""Data that change under an unfinished training: refused, or where that is allowed gone on with and recorded."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.line_kit import command, environment, run_script, write_inputs, write_settings
from tests.small_texts import make_documents

pytestmark = [pytest.mark.fault, pytest.mark.slow]

KEEP = ("--until", "pretrain", "--skip-tokenizer")


def interrupted(root: Path) -> Path:
    """The settings of a run that SIGTERM stopped while it was pretraining."""
    write_inputs(root)
    settings = write_settings(root, training={"total_steps": 200})
    process = subprocess.Popen(
        command("--config-dir", settings, "--until", "pretrain"),
        cwd=root,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list(root.glob("run/pretrain/step_*/MANIFEST.json")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    return settings


def more_documents(root: Path) -> None:
    """So many that some are certain to be trained on."""
    for index, text in enumerate(make_documents(20, seed=99)):
        (root / "raw" / f"new-{index}.txt").write_text(text, encoding="utf-8")


def test_an_unfinished_training_goes_on_with_changed_data_only_where_that_is_allowed(tmp_path: Path) -> None:
    settings = interrupted(tmp_path)
    more_documents(tmp_path)
    refused = run_script("--config-dir", settings, *KEEP, cwd=tmp_path)
    assert refused.returncode == 78, refused.stderr
    assert "dataset is made anew" in refused.stderr
    other_vocabulary = run_script(
        "--config-dir", settings, "--until", "pretrain", "--allow-data-change", cwd=tmp_path
    )
    assert other_vocabulary.returncode == 78, other_vocabulary.stderr
    assert "tokenizer is made anew" in other_vocabulary.stderr
    went_on = run_script("--config-dir", settings, *KEEP, "--allow-data-change", cwd=tmp_path)
    assert went_on.returncode == 0, went_on.stderr
    assert "not bit-exact because the data changed" in went_on.stderr
    pretrain = tmp_path / "run" / "pretrain"
    [event] = [json.loads(line) for line in (pretrain / "events.jsonl").read_text().splitlines()]
    assert event["kind"] == "data_changed" and 0 < event["step"] < 200
    assert json.loads((pretrain / "MANIFEST.json").read_text())["metrics"]["num_steps"] == 200
