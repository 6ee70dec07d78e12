"""Adapters, noise and early stopping in a whole tuning; that examples do not see each other."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core.device_manager import DeviceManager
from core.errors import ConfigError, MismatchError
from core.training_config import InstructionConfig
from data_processing.rows.conversations import Conversation
from data_processing.rows.instruction_dataset import build_instruction_dataset
from data_processing.rows.token_dataset import TokenDataset
from models.hf_layout import load_model
from models.lora import add_adapters
from training.batches import RowBatches, rows_in_order, to_tensors
from training.checkpoint import ADAPTER_STATE_FILE
from training.instruction_finetuning_trainer import InstructionFinetuningTrainer
from training.memory_model import step_memory
from training.trainer import Trainer

LORA = {"lora": {"rank": 4, "dropout": 0.1}, "embedding_noise": 5.0}


@pytest.fixture
def conversations(kit) -> TokenDataset:
    items = [
        Conversation(
            [{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": f"{n % 7}"}],
            f"x:{n}",
        )
        for n in range(60)
    ]
    return build_instruction_dataset(items, kit.tokenizer, max_length=32, val_split=0.2)


class StoppedError(Exception):
    pass


def stop_at(step: int) -> Callable[[Trainer, Any], None]:
    def hook(trainer: Trainer, report: Any) -> None:
        if report.step == step:
            raise StoppedError

    return hook


def tuned(
    kit,
    conversations: TokenDataset,
    name: str,
    *,
    hooks: Any = (),
    resume: Path | None = None,
    **settings: Any,
):
    config = InstructionConfig.from_dict(
        {
            "total_steps": 12,
            "eval_steps": 3,
            "save_steps": 4,
            "batch_size": 4,
            "mixed_precision": "fp32",
            "learning_rate": 1e-2,
            "num_samples": 0,
            "compile": "off",
            "save_total_limit": None,
            "output_dir": str(kit.root / name),
            **settings,
        }
    )
    trainer = InstructionFinetuningTrainer(
        kit.model(), config, DeviceManager("cpu"), tokenizer=kit.tokenizer, hooks=hooks
    )
    source = RowBatches(conversations["train"], batch_size=4, seed=config.seed)
    held_out = rows_in_order(conversations["validation"], batch_size=4)
    return trainer, trainer.train(source, held_out, resume_from_checkpoint=resume)


def files(directory: Path) -> dict[str, bytes]:
    names = ("model.safetensors", "adapter/adapter_model.safetensors")
    return {name: (directory / name).read_bytes() for name in names}


def test_an_interrupted_tuning_with_adapters_and_noise_ends_with_the_bits_of_one_that_was_not(
    kit, conversations
) -> None:
    _, straight = tuned(kit, conversations, "straight", **LORA)
    with pytest.raises(StoppedError):
        tuned(kit, conversations, "stopped", hooks=(stop_at(7),), **LORA)
    _, resumed = tuned(kit, conversations, "stopped", resume=kit.root / "stopped" / "step_4", **LORA)
    assert files(resumed.final_directory) == files(straight.final_directory)
    state = Path("step_12", "trainer", "optimizer.safetensors")
    optimizers = [(kit.root / name / state).read_bytes() for name in ("straight", "stopped")]
    assert optimizers[0] == optimizers[1]


def test_noise_changes_what_is_learned(kit, conversations) -> None:
    runs = [tuned(kit, conversations, f"a{alpha}", embedding_noise=alpha)[1] for alpha in (None, 20.0)]
    losses = [run.final_validation for run in runs]
    assert losses[0] != losses[1]


def test_the_final_model_of_adapters_is_a_plain_one_that_predicts_as_the_trained_one_does(
    kit, conversations
) -> None:
    trainer, result = tuned(kit, conversations, "lora", **LORA)
    plain = load_model(result.final_directory)
    assert plain.adapters is None
    ids = torch.arange(20).view(1, 20)
    torch.testing.assert_close(plain(ids), trainer.model.eval()(ids), rtol=1e-4, atol=1e-5)
    before, after = kit.model().state_dict(), plain.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    matrices = {name for name in before if name.startswith("blocks.") and before[name].ndim == 2}
    assert changed == {*matrices, "embedding.weight"}
    rows = (before["embedding.weight"] != after["embedding.weight"]).any(dim=1).nonzero().flatten().tolist()
    # The system says nothing here, so that its token is moved by weight decay alone.
    assert rows == sorted([kit.tokenizer.end_id, *kit.tokenizer.role_ids.values()])
    settings = json.loads((result.final_directory / "adapter" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (4, 16.0)
    for name in ("best", "step_8"):
        assert (kit.root / "lora" / name / "adapter" / "adapter_model.safetensors").is_file()
    assert result.final_validation["validation/loss"] < result.initial_validation["validation/loss"]
    state = load_file(kit.root / "lora" / "step_12" / ADAPTER_STATE_FILE)
    learning = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert state.keys() == learning.keys()


def test_adapters_go_on_from_the_weights_they_were_added_to_and_no_others(kit, conversations) -> None:
    with pytest.raises(StoppedError):
        tuned(kit, conversations, "run", hooks=(stop_at(5),), **LORA)
    checkpoint = kit.root / "run" / "step_4"
    with pytest.raises(MismatchError, match=r"lora: was \{'rank': 4.*, now \{'rank': 2"):
        tuned(kit, conversations, "run", resume=checkpoint, **{**LORA, "lora": {"rank": 2, "dropout": 0.1}})
    kit.model = lambda: load_model(checkpoint)
    with pytest.raises(
        MismatchError, match=r"the weights that adapters are added to: were [0-9a-f]{12}, now"
    ):
        tuned(kit, conversations, "run", resume=checkpoint, **LORA)


def test_a_model_that_has_adapters_is_not_given_more(kit, conversations) -> None:
    trainer, _ = tuned(kit, conversations, "run", **LORA)
    with pytest.raises(ConfigError, match="has adapters of rank 4 already"):
        trainer.train(RowBatches(conversations["train"], batch_size=4, seed=1))


def test_early_stopping_leaves_the_weights_of_the_lowest_validation_loss(kit, conversations) -> None:
    settings = {"total_steps": 200, "eval_steps": 4, "save_steps": 50, "learning_rate": 0.05}
    _, result = tuned(kit, conversations, "run", early_stopping_patience=2, **settings)
    assert result.num_steps < 200
    best = json.loads((kit.root / "run" / "best" / "MANIFEST.json").read_text())
    assert best["step"] == result.num_steps - 8  # two evaluations before the end
    assert files_of_model(result.final_directory) == files_of_model(kit.root / "run" / "best")
    last = kit.root / "run" / f"step_{result.num_steps}"
    assert files_of_model(last) != files_of_model(result.final_directory)


def test_best_weights_that_are_damaged_are_moved_aside_and_the_last_ones_are_the_result(
    kit, conversations, caplog
) -> None:
    def damage(trainer, _report) -> None:
        if trainer.should_stop is not None:
            (kit.root / "run" / "best" / "model.safetensors").write_bytes(b"x")

    settings = {"total_steps": 200, "eval_steps": 4, "save_steps": 50, "learning_rate": 0.05}
    settings["save_in_background"] = False  # a save that ends late would put whole weights there again
    _, result = tuned(kit, conversations, "run", hooks=(damage,), early_stopping_patience=2, **settings)
    assert result.num_steps < 200 and result.best_directory is None
    assert (kit.root / "run" / "best.corrupt-1").is_dir()
    assert "final gets the weights of the last step instead" in caplog.text
    last = kit.root / "run" / f"step_{result.num_steps}"
    assert files_of_model(result.final_directory) == files_of_model(last)


def files_of_model(directory: Path) -> bytes:
    return (directory / "model.safetensors").read_bytes()


def test_no_example_of_a_packed_row_sees_another(kit, conversations) -> None:
    """Each conversation's features in its row equal those of the conversation alone, and stay the same when every
    token of the others is another one."""
    model = kit.model().eval()
    rows = conversations["train"]
    index = next(i for i in range(len(rows)) if len(rows.document_starts(i)) >= 3)
    batch = to_tensors(rows.batch([index]))
    bounds = [*map(int, rows.document_starts(index)), 32]
    packed = model(batch["input_ids"], batch["position_ids"])
    for begin, end in itertools.pairwise(bounds):
        alone = model(batch["input_ids"][:, begin:end])
        torch.testing.assert_close(packed[:, begin:end], alone, rtol=1e-5, atol=1e-5)
        others = (batch["input_ids"] + 100) % kit.tokenizer.vocab_size
        others[:, begin:end] = batch["input_ids"][:, begin:end]
        among_others = model(others, batch["position_ids"])
        torch.testing.assert_close(among_others[:, begin:end], packed[:, begin:end], rtol=1e-6, atol=1e-6)


def test_the_memory_of_adapters_is_counted_without_gradients_of_what_does_not_learn(kit) -> None:
    shape = kit.shape.replace(hidden_size=128, num_layers=4, vocab_size=2000)
    full = step_memory(shape, InstructionConfig(batch_size=2), compute_dtype=torch.float32)
    adapters = step_memory(
        shape,
        InstructionConfig.from_dict({"batch_size": 2, "lora": {"rank": 4}}),
        compute_dtype=torch.float32,
    )
    model = kit.model()
    model = type(model)(shape)
    add_adapters(model, InstructionConfig.from_dict({"lora": {"rank": 4}}).lora, seed=1)
    learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert adapters.gradients == 4 * learning
    assert adapters.optimizer == pytest.approx(8 * learning, rel=0.01)  # and a count of steps for each
    assert adapters.weights == full.weights + 4 * learning
    assert adapters.peak_bytes < full.peak_bytes
