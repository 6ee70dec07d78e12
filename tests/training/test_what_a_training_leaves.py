import re
from pathlib import Path

import pytest

from training.losses import next_token_loss
from training.session import row_loaders

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_files_that_a_training_is_said_to_leave_are_left(kit) -> None:
    trainer = kit.pretraining(total_steps=8)
    trainer.train(*row_loaders(kit.dataset["train"], kit.dataset["validation"], trainer.config))
    text = DOCUMENT.read_text(encoding="utf-8")
    out = kit.root / "checkpoints"
    said = text.partition("runs/mine/pretrain/\n")[2].partition("```")[0]
    names = set(re.findall(r"^    (\w+\.\w+|best|final)", said, re.MULTILINE)) - {"events.jsonl"}
    assert {"best", "metrics.jsonl", "plan.json", "samples.jsonl", "training_report.html"} <= names
    assert all((out / name).exists() for name in names)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "MANIFEST.json", "trainer/state.json"):
        assert name.rpartition("/")[2] in said and (out / "step_8" / name).is_file()


def test_bits_per_byte_are_not_claimed_of_another_loss(kit, caplog: pytest.LogCaptureFixture) -> None:
    plain = kit.pretraining(total_steps=2)
    loaders = row_loaders(kit.dataset["train"], kit.dataset["validation"], plain.config)
    plain.loss_function = lambda *arguments, **options: 2 * next_token_loss(*arguments, **options)
    caplog.set_level("INFO")
    result = plain.train(*loaders)
    assert "validation/bits_per_byte" not in result.final_validation
    assert "bits per byte are not measured: the loss is not that of the next token" in caplog.text
