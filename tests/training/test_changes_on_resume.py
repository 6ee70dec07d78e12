"""Which settings may change when a run is resumed: every one of them is in one class."""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import MismatchError
from core.training_config import TrainingConfig
from models.hf_layout import load_model
from training.batches import RowBatches, rows_in_order

EXACT: dict[str, Any] = {
    "replay_share": 0.5,
    "batch_size": 2,
    "gradient_accumulation_steps": 3,
    "global_batch_tokens": 64,
    "optimizer": "adamw",
    "learning_rate": 0.5,
    "matrix_learning_rate": 0.5,
    "min_learning_rate": 1e-5,
    "schedule": "linear",
    "warmup_steps": 1,
    "warmup_ratio": 0.5,
    "decay_ratio": 0.5,
    "weight_decay": 0.5,
    "beta1": 0.5,
    "beta2": 0.5,
    "epsilon": 1e-3,
    "max_gradient_norm": 0.5,
    "early_stopping_patience": 3,
    "document_masking": True,
    "seed": 3,
    "mixed_precision": "bf16",
}
"""Another value makes another run: refused."""

LENGTHS = {"total_steps", "epochs", "time_budget_seconds"}
"""Have rules of their own: tests/training/test_session.py."""

BEGINNING = {"init_from"}
"""Decides the weights before the first step; the stage's recipe holds them by their content."""

ROUNDING = {"parallel", "compile", "device", "deterministic"}
"""What rounds otherwise: told where it does (tests below, and of several processes in tests/faults)."""

FREE: dict[str, Any] = {
    "gradient_checkpointing": True,
    "loss_spike_sigmas": 9.0,
    "max_rollbacks": 2,
    "verify_data": False,
    "allow_data_change": True,
    "eval_steps": 2,
    "eval_batches": 1,
    "num_samples": 1,
    "save_steps": 1,
    "save_total_limit": 3,
    "save_in_background": False,
    "logging_steps": 1,
    "tensorboard": True,
    "wandb": "disabled",
    "wandb_project": "other",
    "output_dir": None,
}
"""Cadence, places and what is shown: changes no bit."""


@pytest.fixture
def begun(kit) -> Iterator[Path]:
    """The checkpoint after 2 of 4 steps, and beside it the directory of the run that went on to the end."""
    train(kit, "straight")
    shutil.copytree(kit.root / "straight" / "step_2", kit.root / "saved" / "step_2")
    yield kit.root / "saved" / "step_2"


def train(kit, name: str, resume: Path | None = None, *, validation: bool = False, **settings: Any):
    values = {
        "total_steps": 4,
        "save_steps": 2,
        "verify_data": True,
        **settings,
        "output_dir": str(kit.root / name),
    }
    trainer = kit.pretraining(**values)
    source = RowBatches(kit.dataset["train"], batch_size=trainer.config.batch_size, seed=1)
    held_out = rows_in_order(kit.dataset["validation"], batch_size=4) if validation else None
    return load_model(trainer.train(source, held_out, resume_from_checkpoint=resume).final_directory)


def test_every_setting_is_in_one_class() -> None:
    classes = [set(EXACT), LENGTHS, BEGINNING, ROUNDING, set(FREE)]
    assert set.union(*classes) == set(TrainingConfig.model_fields)
    assert sum(map(len, classes)) == len(TrainingConfig.model_fields)


def test_a_setting_that_makes_another_run_is_refused_by_its_name(kit, begun: Path) -> None:
    for name, value in EXACT.items():
        assert value != getattr(kit.config(), name), f"{name}: no other value"
        with pytest.raises(MismatchError, match=rf"{name}.*: was .*, now ") as caught:
            train(kit, "refused", begun, **{name: value})
        assert caught.value.exit_code == 78
    assert not list((kit.root / "refused").glob("step_*"))


def test_settings_that_are_free_change_no_bit(kit, begun: Path, same_weights, caplog) -> None:
    free = {name: value for name, value in FREE.items() if name != "output_dir"}
    with caplog.at_level(logging.INFO):
        model = train(kit, "free", begun, validation=True, **free)
    assert "going on from step 2 (bit-exact)" in caplog.text
    assert same_weights(model, load_model(kit.root / "straight" / "final"))


def test_the_rows_of_a_step_may_be_divided_otherwise_and_that_is_said(kit, caplog) -> None:
    # What is dropped out would differ between the two ways.
    kit.shape = kit.shape.replace(dropout=0.0)
    straight = train(kit, "straight").state_dict()
    saved = kit.root / "straight" / "step_2"
    with caplog.at_level(logging.INFO):
        model = train(kit, "divided", saved, batch_size=2, gradient_accumulation_steps=2)
    assert "not bit-exact because micro_batch_rows was 4, is 2" in caplog.text
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, straight[name], rtol=0, atol=2e-6)


def test_another_version_of_torch_is_said(kit, begun: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    with caplog.at_level(logging.INFO):
        train(kit, "other torch", begun)
    assert "not bit-exact because torch was" in caplog.text and "is 9.9.9" in caplog.text


def test_a_plan_of_other_rows_or_that_cannot_be_read_is_made_anew(kit) -> None:
    """What a run that was killed before its first checkpoint planned holds where its steps are the same."""
    train(kit, "straight")
    plan = json.loads((kit.root / "straight" / "plan.json").read_text())
    for name, content in (
        ("rows", json.dumps({**plan, "rows_per_step": 8})),
        ("torn", json.dumps(plan)[:40]),
        ("old", json.dumps({"total_steps": 3})),
    ):
        place = kit.root / name
        place.mkdir()
        (place / "plan.json").write_text(content)
        train(kit, name)
        state = json.loads((place / "step_4" / "trainer" / "state.json").read_text())
        assert state["length"]["rows_per_step"] == 4
        assert state["length"]["total_steps"] == 4
