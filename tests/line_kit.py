"""A whole run small enough for tests: own files, instruction records, a tiny model with dropout."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from core.config import merge
from core.files import sha256_file
from tests.small_texts import make_documents, make_text

REPOSITORY = Path(__file__).resolve().parent.parent
SCRIPT = REPOSITORY / "scripts" / "train_llm_from_scratch.py"

TRAINING = {"batch_size": 4, "eval_batches": 2, "eval_steps": 10, "save_steps": 5, "mixed_precision": "fp32"}


def write_inputs(root: Path) -> None:
    """Raw files (text, Markdown, code, jsonl) under `raw`, and `instructions.jsonl`."""
    raw = root / "raw"
    (raw / "deep").mkdir(parents=True)
    for index, text in enumerate(make_documents(60, seed=5)):
        (raw / f"{index:02}.txt").write_text(text, encoding="utf-8")
    (raw / "deep" / "notes.md").write_text("# Notes\n\n" + make_documents(1, seed=6)[0], encoding="utf-8")
    (raw / "deep" / "code.py").write_text(
        'def smelt(ore):\n    """Turn ore into a bloom."""\n    return ore * 2\n' * 3
    )
    lines = [json.dumps({"text": text}) for text in make_documents(10, seed=7)]
    (raw / "more.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    generator = random.Random(8)
    records = [
        {"instruction": f"What is number {index}?", "response": make_text(generator, 1)}
        for index in range(60)
    ]
    (root / "instructions.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")


def settings(root: Path, **changes: Any) -> dict[str, Any]:
    """A configuration of all sections for the files of `write_inputs`."""
    base = {
        "run": {"dir": str(root / "run")},
        "data": {
            "corpus": "directory",
            "raw_dir": str(root / "raw"),
            "tokenizer_vocab_size": 400,
            "train_split": 0.8,
            "val_split": 0.1,
            "test_split": 0.1,
        },
        "tokenizer": {"shrink_to_fit": True},
        "model": {
            "hidden_size": 32,
            "num_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
            "dropout": 0.1,
        },
        "training": {**TRAINING, "total_steps": 30},
        "instruction": {
            **TRAINING,
            "total_steps": 15,
            "data": str(root / "instructions.jsonl"),
            "val_split": 0.1,
        },
        "evaluation": {
            "num_questions": 4,
            "num_validation_questions": 4,
            "max_answer_tokens": 8,
            "num_samples": 1,
            "max_batches": 2,
            "quality": False,
            "speed": False,
        },
    }
    return merge(base, changes)


def write_settings(root: Path, **changes: Any) -> Path:
    """`settings` as a file for `--config-dir`."""
    path = root / "settings.json"
    path.write_text(json.dumps(settings(root, **changes)), encoding="utf-8")
    return path


def command(*arguments: object) -> list[str]:
    """The command line of the training script."""
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def environment() -> dict[str, str]:
    """One thread: a tiny model is faster so, and tests share the machine."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


def run_script(*arguments: object, cwd: Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run the training script to its end."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(),
        check=False,
        **options,
    )


def weights(run: Path) -> dict[str, str]:
    """The hashes of what a run learned."""
    return {
        stage: sha256_file(run / stage / "final" / "model.safetensors")
        for stage in ("pretrain", "finetune")
        if (run / stage / "final").exists()
    }
