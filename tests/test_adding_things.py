"""What docs/adding_things.md adds, added as it stands there and used."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from core.device_manager import DeviceManager
from core.errors import ConfigError, MismatchError
from core.training_config import DataConfig, ModelConfig, PipelineConfig, TrainingConfig
from data_processing.data_collector import DataCollector
from data_processing.document import Dropped
from data_processing.formats.readers import READERS
from data_processing.rows.conversations import INSTRUCTION_FORMATS, Conversation, to_conversation
from data_processing.rules.filters import FILTERS
from models.counting import count_parameters
from models.feed_forward import ACTIVATIONS, FEED_FORWARDS
from models.hf_layout import load_model, save_model
from models.hf_settings import warn_of_foreign_parts
from models.normalization import NORMS
from models.transformer_lm import create_model_from_config
from pipeline.part_names import check_part_names
from tests.small_texts import make_documents
from training.batches import RowBatches
from training.losses import next_token_loss
from training.optimizer import OPTIMIZERS, create_optimizers, optimizer_tensors, set_course
from training.pretraining_trainer import PretrainingTrainer
from training.run_log import read_training
from training.schedules import SCHEDULES, Horizon, learning_rate

LISTS: tuple[dict[str, Any], ...] = (
    *(READERS, FILTERS, INSTRUCTION_FORMATS, ACTIVATIONS, FEED_FORWARDS, NORMS, OPTIMIZERS, SCHEDULES),
)
DOCUMENT = Path(__file__).parent.parent / "docs" / "adding_things.md"
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S))

SHAPE = ModelConfig(
    vocab_size=64, hidden_size=32, num_layers=2, num_attention_heads=2, max_position_embeddings=16
)
GPT2 = SHAPE.replace(
    use_rms_norm=False, use_swiglu=False, use_rope_embeddings=False, use_qk_norm=False, use_bias=True
)


@pytest.fixture(autouse=True)
def lists_as_before() -> Iterator[None]:
    before = [dict(one) for one in LISTS]
    warn_of_foreign_parts.cache_clear()
    yield
    for one, content in zip(LISTS, before, strict=True):
        one.clear()
        one.update(content)


def added(section: str) -> dict[str, Any]:
    """What the code of a section defines, after it ran."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", SECTIONS[section], re.S):
        exec(block, names)
    return names


class Rows:
    """The numbers from 1 on in turn, which is soon learned."""

    fingerprint = "numbers in turn"
    tokenizer_directory = None

    def __len__(self) -> int:
        return 64

    def batch(self, indices: Any) -> dict[str, Any]:
        ids = (torch.tensor(list(indices))[:, None] + torch.arange(16)).numpy() % 60 + 1
        positions = torch.arange(16).repeat(len(ids), 1).numpy()
        return {"input_ids": ids, "labels": ids + 1, "position_ids": positions}


def trainer(out: Path, *, shape: ModelConfig = SHAPE, parts: dict[str, Any] | None = None, **settings: Any):
    config = TrainingConfig.from_dict(
        {
            "total_steps": 20,
            "batch_size": 8,
            "logging_steps": 1,
            "save_steps": 10,
            "eval_steps": 10,
            "mixed_precision": "fp32",
            "verify_data": False,
            "device": "cpu",
            "output_dir": str(out),
            **settings,
        }
    )
    return PretrainingTrainer(
        create_model_from_config(shape, seed=1), config, shape, DeviceManager("cpu"), **(parts or {})
    )


def rows() -> RowBatches:
    return RowBatches(Rows(), batch_size=8, seed=3)  # type: ignore[arg-type]


def held_out() -> list[dict[str, torch.Tensor]]:
    return [{key: torch.from_numpy(value) for key, value in Rows().batch(range(8)).items()}]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "final" / "model.safetensors")


def test_a_format_and_a_rule_take_part_in_a_collection(tmp_path: Path) -> None:
    added("A format")
    added("A cleaning rule")
    cakes = [f"Take {text}" for text in make_documents(2, seed=1)]
    digits = "0123456789" * 20
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "old.recipes").write_text("====\n".join([cakes[0], " \n", digits, cakes[1]]))
    collector = DataCollector(tmp_path / "out", config=DataConfig(num_workers=1))
    corpus = collector.collect_from_directory(raw)
    kept = [json.loads(line) for line in corpus.read_text().splitlines()]
    assert [document["source"] for document in kept] == ["old.recipes#1", "old.recipes#4"]
    assert [document["text"].strip() for document in kept] == [cake.strip() for cake in cakes]
    report = collector.ledger.to_dict()
    assert report["dropped"] == {"empty_recipe": 1, "mostly_digits": 1}


def test_every_byte_of_the_format_of_ones_own_is_accounted_for(tmp_path: Path) -> None:
    from data_processing.formats.raw_input import RawInput, Reading

    read = added("A format")["read_recipes"]
    path = tmp_path / "a.recipes"
    path.write_bytes(b"one====\ntwo\n====\n====\nthree")
    with path.open("rb") as file:
        raw = RawInput(file, "a.recipes", ".recipes", path.stat().st_size)
        items = list(read(raw, Reading()))
    sizes = [item.num_bytes if isinstance(item, Dropped) else item.input_bytes for item in items]
    assert sum(sizes) == path.stat().st_size


def test_an_instruction_format_is_read_and_what_is_wrong_with_a_record_is_said() -> None:
    record = {"question": "What is slag?", "answers": ["Waste.", "A stone."]}
    before = to_conversation(record, source="a:1")
    assert isinstance(before, Dropped) and before.reason == "missing_keys"
    added("An instruction format")
    after = to_conversation(record, source="a:1")
    assert isinstance(after, Conversation)
    assert after.messages[1] == {"role": "assistant", "content": "Waste."}
    empty = to_conversation({"question": "Why?", "answers": []}, source="a:2")
    assert isinstance(empty, Dropped) and empty.detail == "answers is an empty list"


def test_parts_of_ones_own_train_resume_and_load_here_and_nowhere_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    added("An activation, a feed-forward part, a norm")
    shape = SHAPE.replace(feed_forward="geglu", norm="unit")
    trainer(tmp_path / "whole", shape=shape).train(rows(), held_out())
    said = [record.message for record in caplog.records if "model_type 'bloomery'" in record.message]
    assert len(said) == 1
    assert said[0].startswith("model.norm=unit, model.feed_forward=geglu: no part of Qwen3ForCausalLM")
    losses = read_training(tmp_path / "whole").values("train/loss")
    assert losses[-1] < 0.9 * losses[0]

    half = trainer(tmp_path / "half", shape=shape)
    half.hooks = (
        lambda trainer, report: setattr(trainer, "should_stop", "half") if report.step == 10 else None,
    )
    half.train(rows(), held_out())
    trainer(tmp_path / "half", shape=shape).train(
        rows(), held_out(), resume_from_checkpoint=tmp_path / "half" / "step_10"
    )
    for name, weight in weights(tmp_path / "whole").items():
        assert torch.equal(weights(tmp_path / "half")[name], weight), name

    final = tmp_path / "whole" / "final"
    assert json.loads((final / "config.json").read_text())["model_type"] == "bloomery"
    assert "| parts that other tools do not have | model.norm=unit, model.feed_forward=geglu |" in (
        final / "README.md"
    ).read_text(encoding="utf-8")
    loaded = load_model(final)
    assert loaded.config == shape
    batch = held_out()[0]
    assert float(next_token_loss(loaded, batch, document_masking=False).detach()) / 128 == pytest.approx(
        read_training(tmp_path / "whole").values("validation/loss")[-1], rel=1e-5
    )
    transformers = pytest.importorskip("transformers")
    with pytest.raises(ValueError, match="bloomery"):
        transformers.AutoModelForCausalLM.from_pretrained(final)
    del FEED_FORWARDS["geglu"]
    with pytest.raises(
        ConfigError, match=r"model.feed_forward: 'geglu' is none of swiglu, plain; .*FEED_FORWARDS"
    ):
        load_model(final)


def test_an_activation_of_ones_own_makes_a_gpt2_that_says_that_it_is_none(tmp_path: Path) -> None:
    added("An activation, a feed-forward part, a norm")
    model = create_model_from_config(GPT2.replace(activation="sine"), seed=2)
    ids = torch.arange(1, 11)[None]
    calls = []
    hook = model.blocks[0].feed_forward.up.register_forward_hook(lambda *call: calls.append(call[2]))
    expected = model(ids)
    hook.remove()
    block = model.blocks[0].feed_forward
    torch.testing.assert_close(block.down(calls[0].sin()), block.down(block.activation(calls[0])))
    save_model(model, tmp_path, bos_id=1, eos_id=2, pad_id=3)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["bloomery"]
    assert torch.equal(load_model(tmp_path)(ids), expected)


@pytest.mark.parametrize("changes", [{"norm": "layer_norm"}, {"feed_forward": "plain", "activation": "relu"}])
def test_known_parts_in_a_mixture_that_nobody_else_has_are_counted_and_not_passed_off(
    tmp_path: Path, changes: dict[str, str]
) -> None:
    shape = SHAPE.replace(**changes)
    model = create_model_from_config(shape, seed=2)
    assert count_parameters(shape).total == sum(parameter.numel() for parameter in model.parameters())
    save_model(model, tmp_path, bos_id=1, eos_id=2, pad_id=3)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bloomery"
    assert load_model(tmp_path).config == shape


def test_naming_the_part_that_the_architecture_has_changes_nothing(tmp_path: Path) -> None:
    shape = SHAPE.replace(norm="rms_norm", feed_forward="swiglu")
    save_model(create_model_from_config(shape, seed=2), tmp_path, bos_id=1, eos_id=2, pad_id=3)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "qwen3"


def test_lion_moves_by_the_sign_of_its_mean_and_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    added("An optimizer")
    settings = {"optimizer": "lion", "learning_rate": 1e-3, "schedule": "constant", "warmup_ratio": 0.0}
    first = trainer(tmp_path / "one", total_steps=1, max_gradient_norm=None, **settings)
    before = {name: parameter.detach().clone() for name, parameter in first.model.named_parameters()}
    first.train(rows())
    for name, parameter in first.model.named_parameters():
        moved = (parameter.detach() - before[name]).abs()
        assert torch.all((moved < 1e-9) | ((moved - 1e-3).abs() < 1e-6)), name
    trainer(tmp_path / "whole", **settings).train(rows())
    half = trainer(tmp_path / "half", **settings)
    half.hooks = (
        lambda trainer, report: setattr(trainer, "should_stop", "half") if report.step == 10 else None,
    )
    half.train(rows())
    trainer(tmp_path / "half", **settings).train(rows(), resume_from_checkpoint=tmp_path / "half" / "step_10")
    for name, weight in weights(tmp_path / "whole").items():
        assert torch.equal(weights(tmp_path / "half")[name], weight), name


def test_the_momentum_of_an_optimizer_of_ones_own_is_left_alone() -> None:
    OPTIMIZERS["sgd"] = lambda model, config, _: [torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)]
    model = create_model_from_config(SHAPE, seed=1)
    optimizers = create_optimizers(model, TrainingConfig(optimizer="sgd"))
    set_course(optimizers, learning_rate_share=0.25, step=1000)
    [group] = optimizers[0].param_groups
    assert (group["momentum"], group["lr"]) == (0.5, 0.025)


def test_a_state_that_a_checkpoint_cannot_give_back_is_refused_at_the_first_save() -> None:
    model = create_model_from_config(SHAPE, seed=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parameter = model.embedding.weight
    optimizer.state[parameter]["count"] = 3
    with pytest.raises(ConfigError, match=r"'count/embedding.weight' is int; .* shape, \[64, 32\]"):
        optimizer_tensors(model, [optimizer])
    optimizer.state[parameter]["count"] = torch.zeros(64)
    with pytest.raises(ConfigError, match=r"'count/embedding.weight' is \[64\]"):
        optimizer_tensors(model, [optimizer])


def test_a_schedule_of_ones_own_decides_the_learning_rate() -> None:
    added("A schedule")
    config = TrainingConfig(
        schedule="one_minus_square_root", learning_rate=1.0, warmup_steps=0, decay_ratio=0.5
    )
    horizon = Horizon.of(config, 100)
    rates = [learning_rate(step, config, horizon) for step in range(100)]
    assert rates[:51] == [1.0] * 51
    assert rates[75] == pytest.approx(1 - math.sqrt(0.5))


def test_a_loss_of_ones_own_is_learned_measured_and_remembered(tmp_path: Path) -> None:
    loss = added("A loss")["loss_with_small_logits"]
    model = create_model_from_config(SHAPE, seed=1)
    batch = held_out()[0]
    extra = 1e-4 * model(batch["input_ids"]).detach().logsumexp(-1).square().sum()
    expected = next_token_loss(model, batch, document_masking=False) + extra
    torch.testing.assert_close(loss(model, batch, document_masking=False), expected)

    out = tmp_path / "out"
    trainer(out, parts={"loss_function": loss}).train(rows(), held_out())
    log = read_training(out)
    assert log.values("validation/loss")[0] == pytest.approx(float(expected.detach()) / 128, rel=1e-5)
    assert log.values("train/loss")[-1] < log.values("train/loss")[0]
    assert log.vocab_size is None  # to be compared with ln V only where the loss is that of a guess
    with pytest.raises(MismatchError, match="loss_function: was loss_with_small_logits, now next_token_loss"):
        trainer(out, total_steps=30).train(rows(), held_out(), resume_from_checkpoint=out / "step_20")


def test_a_hook_ends_the_run_and_leaves_its_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hook = added("A hook")["stop_when_learned"]
    caplog.set_level("INFO")
    result = trainer(tmp_path, total_steps=500, parts={"hooks": (hook,)}, learning_rate=1e-2).train(rows())
    losses = read_training(tmp_path).values("train/loss")
    assert result.num_steps < 500
    assert losses[-1] < 3.0 <= min(losses[:-1])
    assert f"at step {result.num_steps}" in caplog.text


def test_a_stage_runs_after_the_line_and_is_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    texts = make_documents(60, seed=3)
    for number, text in enumerate(texts):
        (tmp_path / "notes" / f"{number}.txt").write_text(text)
    result = added("A stage")["result"]
    artifact = result.artifacts["word_count"]
    assert artifact.metrics["words"] == sum(len(text.split()) for text in texts)
    made = (artifact.directory / "words.json").stat().st_mtime_ns
    again = added("A stage")["result"]
    assert (again.artifacts["word_count"].directory / "words.json").stat().st_mtime_ns == made


@pytest.mark.parametrize(
    ("setting", "value", "nearest"),
    [
        ("model.activation", "gelu_tahn", "gelu_tanh"),
        ("model.norm", "rmsnorm", "rms_norm"),
        ("model.feed_forward", "swigul", "swiglu"),
        ("training.optimizer", "adamv", "adamw"),
        ("instruction.optimizer", "muonn", "muon"),
        ("training.schedule", "cosin", "cosine"),
        ("instruction.schedule", "linaer", "linear"),
    ],
)
def test_a_name_that_no_list_has_is_refused_with_the_nearest(setting: str, value: str, nearest: str) -> None:
    section, name = setting.split(".")
    config = PipelineConfig.from_dict({section: {name: value}})
    with pytest.raises(ConfigError, match=rf"^{setting}: '{value}' is none of .*did you mean '{nearest}'\?"):
        check_part_names(config)


def test_a_trainer_refuses_a_name_that_no_list_has(tmp_path: Path) -> None:
    for setting, value in (("optimizer", "adamv"), ("schedule", "cosin")):
        with pytest.raises(ConfigError, match=f"^{setting}: '{value}' is none of"):
            trainer(tmp_path / setting, **{setting: value}).train(rows())
    with pytest.raises(ConfigError, match=r"^model.norm: 'rms' is none of"):
        create_model_from_config(SHAPE.replace(norm="rms"))


def test_the_help_of_a_setting_names_what_its_list_has() -> None:
    descriptions = {row.key: row.description for row in PipelineConfig.settings_help()}
    for setting, one in (
        ("model.activation", ACTIVATIONS),
        ("model.norm", NORMS),
        ("model.feed_forward", FEED_FORWARDS),
        ("training.optimizer", OPTIMIZERS),
        ("training.schedule", SCHEDULES),
    ):
        assert all(re.search(rf"\b{name}\b", descriptions[setting]) for name in one), setting


def test_every_section_of_the_document_is_used_here() -> None:
    used = set(re.findall(r"added\(\"(.+?)\"\)", Path(__file__).read_text(encoding="utf-8")))
    assert used == set(SECTIONS)
    assert isinstance(added("An activation, a feed-forward part, a norm")["GEGLU"], type(nn.Module))
