"""An update that is killed at any moment goes on by the same command; several processes update a run together."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from inference.model_directory import find_model
from tests.line_kit import REPOSITORY, environment, run_script, weights, write_inputs, write_settings
from tests.small_texts import make_documents

pytestmark = [pytest.mark.fault, pytest.mark.slow]

UPDATE = str(REPOSITORY / "scripts" / "update.py")
STEP = {"batch_size": 2, "global_batch_tokens": 8 * 64, "compile": "off"}
CHANGES = {
    "model": {"dropout": 0.0},
    "training": {**STEP, "total_steps": 10},
    "instruction": {**STEP, "total_steps": 6},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run and, beside it, new texts and corrections."""
    root = tmp_path_factory.mktemp("finished")
    write_inputs(root)
    done = run_script("--config-dir", write_settings(root, **CHANGES), cwd=root)
    assert done.returncode == 0, done.stderr
    (root / "new").mkdir()
    for number, text in enumerate(make_documents(60, seed=94)):
        (root / "new" / f"{number}.txt").write_text(text)
    records = [{"instruction": f"Which nail is {n}?", "response": f"Nail {n}."} for n in range(10)]
    (root / "corrections.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return root


def copy(finished: Path, root: Path) -> Path:
    shutil.copytree(finished, root, dirs_exist_ok=True)
    return root


def command(root: Path) -> list[str]:
    news = ["--data", str(root / "new"), "--feedback", str(root / "corrections.jsonl")]
    return [UPDATE, str(root / "run"), *news, "--tolerance", "10"]


@pytest.fixture(scope="module")
def whole(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was updated by one process without a stop."""
    root = copy(finished, tmp_path_factory.mktemp("whole"))
    done = subprocess.run(
        [sys.executable, *command(root)], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return root / "run"


def test_an_update_that_is_killed_in_each_of_its_steps_ends_as_one_that_was_not(
    tmp_path: Path, finished: Path, whole: Path
) -> None:
    root = copy(finished, tmp_path)
    before = weights(root / "run")
    update = root / "run" / "updates" / "1"
    for moment in (
        update.with_suffix(".json"),
        update / "corpus" / "MANIFEST.json",
        update / "pretrain" / "step_5" / "MANIFEST.json",
        update / "finetune" / "step_5" / "MANIFEST.json",
    ):
        process = subprocess.Popen(
            [sys.executable, *command(root)],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while not moment.exists() and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        assert find_model(root / "run") == root / "run" / "finetune" / "final"
    done = subprocess.run(
        [sys.executable, *command(root)], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "going on with update 1" in done.stderr
    assert find_model(root / "run") == update / "finetune" / "final"
    assert weights(update) == weights(whole / "updates" / "1")
    assert weights(root / "run") == before
    assert not list((root / "run" / "updates").glob("2*"))


def test_several_processes_update_a_run_together_and_find_together_that_nothing_is_new(
    tmp_path: Path, finished: Path, whole: Path
) -> None:
    root = copy(finished, tmp_path)

    def torchrun(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
        return subprocess.run(
            [sys.executable, *launcher, *arguments],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    done = torchrun(command(root))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("stands for it from now on") == 1
    for stage in ("pretrain", "finetune"):
        found, expected = (
            load_file(run / "updates" / "1" / stage / "final" / "model.safetensors")
            for run in (root / "run", whole)
        )
        for name, weight in expected.items():
            torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-5)
    again = torchrun(command(root))
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("nothing is new") == 1
    refused = torchrun([UPDATE, str(root / "nowhere")])
    assert refused.returncode != 0
    assert refused.stderr.count("expected the directory of a run, found nothing") == 1
