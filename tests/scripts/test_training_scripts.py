"""The command lines as a user types them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core.training_config import PipelineConfig
from tests.line_kit import REPOSITORY, environment, run_script, write_inputs, write_settings

pytestmark = pytest.mark.slow


def run_other(script: str, *arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(),
        check=False,
    )


def test_help_names_every_setting_and_every_documented_flag(tmp_path: Path) -> None:
    text = run_script("--help", cwd=tmp_path).stdout
    for row in PipelineConfig.settings_help():
        assert row.key in text
    for flag in [
        "--config-dir",
        "--data",
        "--instruction-data",
        "--device",
        "--deterministic",
        "--skip-data-collection",
        "--skip-tokenizer",
        "--skip-pretraining",
        "--allow-data-change",
        "--plan",
        "--until",
        "--only",
        "--rebuild",
        "--dry-run",
    ]:
        assert flag in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--config-dir", "nowhere"], 78, "error[E010]: nowhere: no such configuration directory or file"),
        (["training.learning_rat=1"], 78, "did you mean 'learning_rate'?"),
        (["--device", "cuda:7"], 78, "error[E013]: device 'cuda:7' is not available; available here: "),
        (["--data", "missing"], 65, "error[E020]: missing: no such directory"),
        (["--instruction-data", "missing.jsonl"], 65, "instruction.data='missing.jsonl': no such file"),
        (
            ["--until", "pretrian"],
            2,
            "error[E001]: --until pretrian: no such stage; did you mean 'pretrain'?",
        ),
        (["--plan", "--dry-run"], 2, "exclude each other"),
        (["--unknown-flag"], 2, "unrecognized arguments: --unknown-flag"),
        (["not-an-assignment"], 78, "expected section.setting=value"),
        (["--skip-tokenizer"], 78, "quickstart/tokenizer holds no finished result"),
        (["--data", "empty"], 65, "error[E020]: empty"),
    ],
)
def test_a_mistake_is_one_line_with_a_documented_exit_code(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    settings = [] if "--config-dir" in arguments else ["--config-dir", REPOSITORY / "configs" / "quickstart"]
    (tmp_path / "empty").mkdir()
    done = run_script(*settings, *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sum("error[" in line for line in done.stderr.splitlines()) == 1


def test_the_documented_flags_run_the_line_in_parts(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    settings = write_settings(tmp_path, training={"total_steps": 2}, instruction={"total_steps": 2})
    planned = run_script("--config-dir", settings, "--plan", cwd=tmp_path)
    assert planned.returncode == 0
    assert not (tmp_path / "run").exists()
    assert run_script("--config-dir", settings, "--until", "pretrain", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "run" / "finetune").exists()
    # The raw files are gone; what was made of them is enough.
    (tmp_path / "raw").rename(tmp_path / "moved")
    flags = ["--skip-data-collection", "--skip-tokenizer", "--skip-pretraining"]
    (tmp_path / "raw").mkdir()
    done = run_script("--config-dir", settings, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "What comes next" in done.stdout
    again = run_script("--config-dir", settings, *flags, "--rebuild", "finetune", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "run" / "finetune.stale-1").is_dir()

    chatted = run_other("chat.py", "run", "--prompt", "What is number 1?", "--max-tokens", "4", cwd=tmp_path)
    assert chatted.returncode == 0, chatted.stderr
    assert "run/finetune/final" in chatted.stderr

    tuned = run_other(
        "train_instruction_finetuning.py",
        "--pretrained-model",
        "run",
        "--instruction-data",
        "instructions.jsonl",
        "--tokenizer-model",
        "run/tokenizer/tokenizer.model",
        "instruction.total_steps=2",
        "instruction.batch_size=2",
        cwd=tmp_path,
    )
    assert tuned.returncode == 0, tuned.stderr
    manifest = json.loads((tmp_path / "runs/instruction-tuned/finetune/MANIFEST.json").read_text())
    assert manifest["metrics"]["num_steps"] == 2


def test_a_dry_run_says_so_and_leaves_the_directory_as_it_was(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    settings = write_settings(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = run_script("--config-dir", settings, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dry run: every stage ran; nothing of it was kept" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_wandb_offline_needs_no_account_and_no_network(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    settings = write_settings(tmp_path, training={"total_steps": 3, "wandb": "offline", "tensorboard": True})
    done = run_script("--config-dir", settings, "--until", "pretrain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run" / "pretrain" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert list((tmp_path / "run" / "pretrain" / "tensorboard").iterdir())
    assert not (tmp_path / "wandb").exists()
