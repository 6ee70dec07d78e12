"""How settings of precision and order reach what they decide, and what they are refused for."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch

from core.device_manager import DeviceManager
from core.errors import ConfigError
from models.hf_layout import load_model
from training.batches import RowBatches


def train(kit, name: str, *, resume: Path | None = None, **settings: Any):
    trainer = kit.pretraining(output_dir=str(kit.root / name), total_steps=3, save_steps=2, **settings)
    source = RowBatches(kit.dataset["train"], batch_size=4, seed=1)
    return trainer.train(source, resume_from_checkpoint=resume)


def test_determinism_changes_no_bit_on_a_cpu_and_says_so(kit, same_weights, caplog) -> None:
    caplog.set_level("INFO")
    usual = train(kit, "usual")
    assert "bit-exact anyway" not in caplog.text
    deterministic = train(kit, "deterministic", deterministic=True)
    assert "deterministic: nothing to change, because on CPU runs are bit-exact anyway" in caplog.text
    assert same_weights(load_model(usual.final_directory), load_model(deterministic.final_directory))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"mixed_precision": "fp32"}, {"deterministic": False, "tf32": False}),
        ({"mixed_precision": "auto"}, {"deterministic": False, "tf32": True}),
        ({"mixed_precision": "bf16", "deterministic": True}, {"deterministic": True, "tf32": True}),
    ],
)
def test_the_settings_decide_how_a_gpu_adds_up(kit, monkeypatch, settings, expected) -> None:
    asked: list[dict[str, bool]] = []

    def numerics(_manager: DeviceManager, **options: bool) -> contextlib.AbstractContextManager[None]:
        asked.append(options)
        return contextlib.nullcontext()

    monkeypatch.setattr(DeviceManager, "numerics", numerics)
    train(kit, "run", **settings)
    assert asked == [expected]


@pytest.mark.parametrize(
    ("precision", "message"), [("fp8", "fp8 needs a CUDA device"), ("fp16", "fp16 is for CUDA")]
)
def test_a_precision_that_the_device_has_not_is_refused_before_anything_is_written(
    kit, precision: str, message: str
) -> None:
    with pytest.raises(
        ConfigError, match=f"mixed_precision: {message} .* but the device is cpu; set it to auto"
    ):
        train(kit, "run", mixed_precision=precision)
    assert not (kit.root / "run").exists()


def test_a_run_in_fp8_is_not_gone_on_with_where_there_is_none(kit, monkeypatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(DeviceManager, "check_precision", lambda *_: None)
        train(kit, "run", mixed_precision="fp8")
    with pytest.raises(ConfigError, match="fp8 needs a CUDA device"):
        train(kit, "run", mixed_precision="fp8", resume=kit.root / "run" / "step_2")


def test_fp8_reaches_the_blocks_alone_and_the_checkpoint_has_the_usual_names(kit, monkeypatch) -> None:
    monkeypatch.setattr(DeviceManager, "check_precision", lambda *_: None)
    trainer = kit.pretraining(total_steps=3, mixed_precision="fp8")
    result = trainer.train(RowBatches(kit.dataset["train"], batch_size=4, seed=1))
    kinds = {name: type(module).__name__ for name, module in trainer.model.named_modules()}
    parts = ("attention.query", "attention.output", "feed_forward.gate", "feed_forward.down")
    assert {kinds[f"blocks.0.{part}"] for part in parts} == {"Float8Linear"}
    assert kinds["embedding"] == "Embedding"
    saved = load_model(result.final_directory)
    assert saved.state_dict().keys() == trainer.model.state_dict().keys()
    ids = torch.arange(32)[None]
    with torch.no_grad():
        assert torch.equal(saved.eval()(ids), trainer.model.eval()(ids))
