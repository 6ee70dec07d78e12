"""Training that begins with a model from elsewhere, as transformers saves it with its own tokenizer."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from core.config import merge
from core.errors import ConfigError, DataError, MismatchError
from core.stage import Selection
from models.hf_layout import load_model
from pipeline.preflight import settle
from pipeline.run import TrainedLine, resolve_config, train_llm_from_scratch, tune_pretrained_model
from tests.line_kit import settings
from tests.small_texts import make_documents
from tokenization.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

COMMON = {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0}
MODERN = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    **COMMON,
}
MODELS = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", MODERN),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**MODERN, "head_dim": 16}),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, **COMMON},
    ),
}


def foreign(directory: Path, name: str) -> Path:
    """A model and a byte-level tokenizer as transformers and tokenizers save them; it has no tokens for chats."""
    model, config, values = MODELS[name]
    torch.manual_seed(1)
    made = getattr(transformers, model)(getattr(transformers, config)(**values))
    made.save_pretrained(directory)
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        make_documents(40, seed=3), vocab_size=300, special_tokens=["<|endoftext|>"], show_progress=False
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>"})
    )
    return directory


def asked(trained: tuple[Path, TrainedLine], run: Path, **changes: Any) -> dict[str, Any]:
    values = settings(trained[0], run={"dir": str(run)}, **changes)
    values["model"] = {"max_position_embeddings": 48, **changes.get("model", {})}
    return values


@pytest.mark.parametrize("name", list(MODELS))
def test_pretraining_goes_on_from_a_model_of_transformers_with_its_tokenizer(
    name: str, trained: tuple[Path, TrainedLine], tmp_path: Path
) -> None:
    directory = foreign(tmp_path / "foreign", name)
    values = asked(
        trained,
        tmp_path / "run",
        training={"init_from": str(directory), "total_steps": 2, "learning_rate": 1e-6, "optimizer": "adamw"},
        instruction={"total_steps": 2},
    )
    result = train_llm_from_scratch(values, selection=Selection(until="finetune"))
    theirs, ours = load_model(directory), load_model(result.artifacts["pretrain"].directory / "final")
    assert ours.config.architecture == name
    assert ours.config.max_position_embeddings == 48
    ids = torch.arange(40).view(1, 40)
    # Two steps at a rate of a millionth move it hardly: it did begin there.
    torch.testing.assert_close(ours(ids)[..., :300], theirs(ids), rtol=0, atol=1e-3)
    facts = json.loads((result.artifacts["pretrain"].directory / "final" / "MANIFEST.json").read_text())
    assert facts["initialised_from"] == str(directory)
    recipe = json.loads((result.artifacts["pretrain"].directory / "MANIFEST.json").read_text())["recipe"]
    assert recipe["sources"] == {"initial weights": facts["initialised_from_weights"]}
    tuned = json.loads((result.artifacts["finetune"].directory / "final" / "MANIFEST.json").read_text())
    assert tuned["initialised_from"] == str(result.artifacts["pretrain"].directory / "final")
    assert isinstance(result.chat([{"role": "user", "content": "Who is there?"}], max_tokens=4), str)


def test_a_model_of_transformers_is_tuned_with_the_tokens_of_chats_added(
    trained: tuple[Path, TrainedLine], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    directory = foreign(tmp_path / "foreign", "llama")
    config = json.loads((directory / "config.json").read_text())
    assert config["vocab_size"] == 300
    result = tune_pretrained_model(
        resolve_config(asked(trained, tmp_path / "run", instruction={"total_steps": 4})),
        pretrained_model=directory,
    )
    tuned = load_model(result.model_directory)
    tokenizer = Tokenizer.from_file(result.model_directory)
    assert tuned.config.vocab_size == tokenizer.vocab_size > 300
    assert {tokenizer.end_id, *tokenizer.role_ids.values()} <= set(range(300, tokenizer.vocab_size))
    assert result.artifacts["finetune"].metrics["num_steps"] == 4
    assert isinstance(result.chat([{"role": "user", "content": "Who is there?"}], max_tokens=4), str)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_adapters_of_a_model_whose_tokens_of_chats_were_added_load_with_peft_into_that_model_once_it_has_room(
    trained: tuple[Path, TrainedLine], tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    directory = foreign(tmp_path / "foreign", "llama")
    instruction = {"total_steps": 8, "warmup_steps": 0, "learning_rate": 5e-2, "lora": {"rank": 2}}
    result = tune_pretrained_model(
        resolve_config(asked(trained, tmp_path / "run", instruction=instruction)),
        pretrained_model=directory,
    )
    final = result.model_directory
    base = transformers.AutoModelForCausalLM.from_pretrained(directory)
    base.resize_token_embeddings(transformers.AutoConfig.from_pretrained(final).vocab_size)
    theirs = peft.PeftModel.from_pretrained(base, final / "adapter")
    tokenizer = Tokenizer.from_file(final)
    learned = sorted([tokenizer.end_id, *tokenizer.role_ids.values()])
    ids = torch.tensor([[*range(20, 40), *learned]])
    known = [*range(300), *learned]  # rows of other new tokens are drawn, here and there by themselves
    with torch.no_grad():
        ours = load_model(final)(ids)[..., known]
        torch.testing.assert_close(theirs(ids).logits[..., known], ours, rtol=1e-4, atol=1e-4)
    assert (
        f"base.resize_token_embeddings({tokenizer.vocab_size})" in (final / "adapter/README.md").read_text()
    )


def test_a_run_goes_on_from_another_run_and_names_settings_that_give_way(
    trained: tuple[Path, TrainedLine], tmp_path: Path
) -> None:
    initial = trained[0] / "run" / "pretrain" / "final"
    values = settings(
        trained[0], training={"init_from": str(initial)}, model={"num_layers": 5, "hidden_size": 64}
    )
    config, notes = settle(resolve_config(values), None)
    assert (config.model.num_layers, config.model.hidden_size, config.model.dropout) == (2, 32, 0.1)
    assert f"pretraining goes on from {initial} (qwen3, 2 x 32)" in notes[-1]
    assert "these give way to its shape: hidden_size 64, num_layers 5" in notes[-1]
    assert settle(config, None)[0] == config


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"model": {"max_position_embeddings": 128}},
            MismatchError,
            "has a context of 64 tokens; set it to that or less",
        ),
        (
            {"tokenizer": {"path": "foreign"}},
            MismatchError,
            "tokenizer.path='foreign' is not the tokenizer of training.init_from",
        ),
        (
            {
                "run": {"time_budget": "10m"},
                "training": {"total_steps": None},
                "instruction": {"total_steps": None},
            },
            ConfigError,
            "set training.time_budget_seconds instead",
        ),
        ({"training": {"init_from": "nothing"}}, DataError, "training.init_from: .*found nothing"),
        ({"training": {"init_from": "empty"}}, DataError, "training.init_from: .*holds no model"),
    ],
)
def test_what_does_not_fit_to_a_model_to_go_on_from_is_named(
    trained: tuple[Path, TrainedLine],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    foreign(tmp_path / "foreign", "llama")
    values = settings(trained[0], training={"init_from": str(trained[0] / "run" / "pretrain" / "final")})
    with pytest.raises(kind, match=message):
        settle(resolve_config(merge(values, changes)), None)
