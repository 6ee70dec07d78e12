"""A run of many prompts that is killed in the midst: the replies that it had are kept, and none is made twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.inference.tiny_models import save_tiny_model
from tokenization.tokenizer import Tokenizer

pytestmark = [pytest.mark.fault, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


def test_a_killed_run_is_finished_by_the_same_command_as_if_it_had_never_been_killed(
    small_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_tiny_model(tmp_path / "m", small_tokenizer, max_position_embeddings=128)
    prompts = tmp_path / "p.txt"
    prompts.write_text("".join(f"iron {number}\n" for number in range(12)))
    command = [sys.executable, str(ROOT / "scripts" / "generate.py"), str(tmp_path / "m"), "--device", "cpu"]
    command += ["--prompts", str(prompts), "--seed", "1", "--max-tokens", "60", "--batch-size", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(output: Path) -> subprocess.CompletedProcess[str]:
        whole = [*command, "--output", str(output)]
        return subprocess.run(
            whole, capture_output=True, text=True, env=environment, timeout=300, check=False
        )

    out = tmp_path / "out.jsonl"
    kept = tmp_path / "out.jsonl.partial"
    process = subprocess.Popen([*command, "--output", str(out)], stderr=subprocess.DEVNULL, env=environment)
    try:
        while not (kept.exists() and kept.read_bytes().count(b"\n") > 3):
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not out.exists()
    before = [json.loads(line) for line in kept.read_bytes().split(b"\n")[1:-1]]
    assert 3 <= len(before) < 12
    finished = run(out)
    assert finished.returncode == 0, finished.stderr
    assert f"{len(before)} of 12 replies are there; going on" in finished.stderr
    assert not kept.exists()
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [written[record["number"]]["reply"] for record in before] == [r["text"] for r in before]
    whole = run(tmp_path / "whole.jsonl")
    assert whole.returncode == 0, whole.stderr
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
