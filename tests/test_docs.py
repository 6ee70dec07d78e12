"""What the documents say to type exists."""

import ast
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from core.config_files import CONFIG_ROOT, load_config
from models.counting import count_parameters

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_files_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"(?:scripts|benchmarks|configs|docs|tests)/[\w/.-]*\w", text):
        assert (REPOSITORY / name).exists() or name in ("configs/NAME",), name
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_python_in_a_document_parses_and_imports_what_exists(document: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module not in ("transformers", "peft"):
                module = __import__(str(node.module), fromlist=[alias.name for alias in node.names])
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_the_flags_in_the_documents_are_those_of_the_scripts() -> None:
    text = "".join(
        (REPOSITORY / name).read_text(encoding="utf-8") for name in ("README.md", "docs/training.md")
    )
    known = set()
    for script in [*(REPOSITORY / "scripts").glob("*.py"), *(REPOSITORY / "benchmarks").glob("*.py")]:
        known |= set(re.findall(r"\"(--[a-z-]+)\"", script.read_text(encoding="utf-8")))
    foreign = {"--editable", "--constraint", "--dist", "--help", "--max-tokens", "--logdir"}
    torchrun = {
        "--standalone",
        "--nproc-per-node",
        "--nnodes",
        "--max-restarts",
        "--rdzv-backend",
        "--rdzv-endpoint",
    }
    assert set(re.findall(r"(?<!-)--[a-z][a-z-]+", text)) - known - foreign - torchrun == set()


def test_the_table_of_sizes_is_right() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) ([MB]) \|", text, re.MULTILINE)
    assert {name for name, _, _ in rows} == {p.name for p in CONFIG_ROOT.iterdir() if p.is_dir()}
    for name, number, unit in rows:
        config = load_config(CONFIG_ROOT / name)
        shape = config.model.replace(vocab_size=config.model.vocab_size or config.data.tokenizer_vocab_size)
        total = count_parameters(shape).total / {"M": 1e6, "B": 1e9}[unit]
        assert total == pytest.approx(float(number), rel=0.01), name


def test_the_instruction_records_in_the_readme_are_understood() -> None:
    from data_processing.rows.conversations import Conversation, to_conversation

    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith('{"')]
    assert len(lines) == 5
    assert all(isinstance(to_conversation(json.loads(line), source="README"), Conversation) for line in lines)


TRAINING = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    """The command lines in the blocks of a document without a language, continued ones joined, without comments."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line.partition("  #")[0].strip() for b in blocks for line in b.replace("\\\n", " ").splitlines()]
    return [line for line in lines if re.match(r"(\w+=\S+ )*(python|torchrun|sbatch|make) ", line)]


def test_the_commands_about_training_name_settings_that_exist() -> None:
    from core.config import parse_overrides
    from core.training_config import PipelineConfig

    found = commands(TRAINING)
    assert len(found) >= 12
    settings = [word for line in found for word in shlex.split(line) if re.match(r"[a-z]+\.\w+=", word)]
    settings += re.findall(r"`((?:training|run|instruction)\.\w+=[\w.]+)`", TRAINING)
    assert len(settings) >= 12
    for setting in settings:
        if not setting.endswith("=NAME"):
            PipelineConfig.from_dict(parse_overrides([setting], configured=PipelineConfig))
    known = {row.key for row in PipelineConfig.settings_help()}
    named = set(re.findall(r"`((?:training|model|run|instruction)\.[a-z_]+)(?:=[^`]*)?`", TRAINING))
    assert len(named) >= 15
    assert named - known == set()


def test_every_metric_that_is_written_is_described_and_no_other() -> None:
    described = set(re.findall(r"`((?:train|validation)/[a-z_/]+)`", TRAINING))
    for prefix, last in re.findall(r"`(train/update_to_weight/)embedding`|`…/(\w+)`", TRAINING):
        described.add(f"{prefix or 'train/update_to_weight/'}{last or 'embedding'}")
    written = set()
    for file in (REPOSITORY / "training").glob("*.py"):
        written |= set(
            re.findall(r"[\"']((?:train|validation)/[a-z_/]+)[\"']", file.read_text(encoding="utf-8"))
        )
    ratios = {name for name in described if name.startswith("train/update_to_weight/")}
    assert ratios == {
        f"train/update_to_weight/{part}" for part in ("embedding", "attention", "feed_forward", "head")
    }
    assert described - ratios == {name for name in written if "update_to_weight" not in name}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_slurm_script_parses_and_queues_itself_again_after_75_only(tmp_path: Path) -> None:
    script = REPOSITORY / "docs" / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    # What Slurm would do: srun starts the tasks (here the second of four on two machines) and hands on their exit code.
    (tmp_path / "srun").write_text(
        '#!/bin/bash\nshift\nSLURM_PROCID=1 SLURM_LOCALID=1 SLURM_NNODES=2 "$@"\nexit "$SRUN_CODE"\n'
    )
    (tmp_path / "scontrol").write_text(
        '#!/bin/bash\n[ "$1" = show ] && echo first && exit\necho "scontrol $*"\n'
    )
    (tmp_path / "python").write_text(
        '#!/bin/bash\necho "$RANK $LOCAL_RANK $LOCAL_WORLD_SIZE $WORLD_SIZE $MASTER_ADDR $MASTER_PORT $*"\n'
    )
    for name in ("srun", "scontrol", "python"):
        (tmp_path / name).chmod(0o755)
    for code in (0, 75, 78):
        done = subprocess.run(
            ["bash", script, "run.name=a b"],
            env={
                "PATH": f"{tmp_path}:/usr/bin:/bin",
                "SLURM_JOB_ID": "7",
                "SLURM_NTASKS": "4",
                "SLURM_JOB_NODELIST": "n[1-2]",
                "SRUN_CODE": str(code),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code
        assert "1 1 2 4 first 20007 scripts/train_llm_from_scratch.py run.name=a b" in done.stdout
        assert ("scontrol requeue 7" in done.stdout) == (code == 75)
