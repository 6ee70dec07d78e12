"""Our directories against `transformers`, the independent implementation, in both directions; and bad directories."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from model_shapes import ATOL, MAIN_SHAPES, SHAPES, random_ids, random_model, randomize
from safetensors.torch import load_file, save_file

import models.hf_layout
from core.errors import BloomeryError, ConfigError, CorruptArtifactError, DataError, MismatchError
from core.training_config import ModelConfig
from models.hf_layout import from_hf_state_dict, load_model, save_model, save_tensors, to_hf_state_dict
from models.transformer_lm import TransformerLM

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

IDS: dict[str, Any] = {"bos_id": 1, "eos_id": [2, 7], "pad_id": 3}


def same_in_transformers(config: ModelConfig) -> Any:
    """The model of `transformers` of this shape, from its own configuration class and not by way of ours."""
    modern = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.feed_forward_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.features_per_head,
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.norm_epsilon,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": 1,
        "eos_token_id": [2, 7],
    }
    if config.architecture == "qwen3":
        model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**modern))
    elif config.architecture == "llama":
        biases = {"attention_bias": config.use_bias, "mlp_bias": config.use_bias}
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**modern, **biases))
    else:
        activations = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "relu_squared": "relu2"}
        model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=config.vocab_size,
                n_embd=config.hidden_size,
                n_inner=config.feed_forward_size,
                n_layer=config.num_layers,
                n_head=config.num_attention_heads,
                n_positions=config.max_position_embeddings,
                activation_function=activations[config.activation],
                layer_norm_epsilon=config.norm_epsilon,
                embd_pdrop=config.dropout,
                attn_pdrop=config.dropout,
                resid_pdrop=config.dropout,
                tie_word_embeddings=config.tie_word_embeddings,
                bos_token_id=1,
                eos_token_id=[2, 7],
            )
        )
    randomize(model, seed=9)
    return model.eval()


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_computes_our_logits_from_our_directory(shape: str, tmp_path: Path) -> None:
    config = SHAPES[shape]
    ours = random_model(config)
    save_model(ours, tmp_path, **IDS)
    theirs, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert type(theirs).__name__ == models.hf_layout.ARCHITECTURES[config.architecture]
    assert theirs.dtype == torch.float32
    ids = random_ids(config, 2, config.max_position_embeddings)
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=ATOL, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_we_compute_their_logits_from_a_directory_of_transformers(shape: str, tmp_path: Path) -> None:
    config = SHAPES[shape]
    theirs = same_in_transformers(config)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.config.architecture == config.architecture
    ids = random_ids(config, 2, config.max_position_embeddings)
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=ATOL, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_names_shapes_and_values_on_disk_are_those_that_transformers_writes(
    shape: str, tmp_path: Path
) -> None:
    theirs = same_in_transformers(SHAPES[shape])
    theirs.save_pretrained(tmp_path / "theirs")
    save_model(load_model(tmp_path / "theirs"), tmp_path / "ours", **IDS)
    expected = load_file(tmp_path / "theirs" / "model.safetensors")
    written = load_file(tmp_path / "ours" / "model.safetensors")
    assert written.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(written[name], tensor), name
    ours, other = (
        transformers.AutoConfig.from_pretrained(tmp_path / side).to_dict() for side in ("ours", "theirs")
    )
    # What both readers make of the two files is the same, but for what only one side names.
    for key in ("pad_token_id", "eos_token_id", "_name_or_path", "n_ctx", "transformers_version"):
        ours.pop(key, None), other.pop(key, None)
    if shape.startswith("qwen3"):
        assert ours.pop("max_window_layers") != other.pop("max_window_layers")  # no window: without meaning
    assert ours == other


@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_gradients_are_those_of_transformers(shape: str, tmp_path: Path) -> None:
    ours = random_model(SHAPES[shape])
    save_model(ours, tmp_path, **IDS)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = random_ids(SHAPES[shape], 2, 32)
    for logits in (ours(ids), theirs(ids).logits):
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(parameter.grad)
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, gradient in to_hf_state_dict(ours).items():
        torch.testing.assert_close(gradient, expected[name], atol=ATOL, rtol=0, msg=name)


def test_gpt2_drops_the_same_numbers_in_the_same_places_as_transformers(tmp_path: Path) -> None:
    config = SHAPES["gpt2"].replace(dropout=0.3)
    theirs = same_in_transformers(config)
    theirs.save_pretrained(tmp_path)
    ours = load_model(tmp_path)
    assert ours.config.dropout == 0.3
    ids = random_ids(config, 2, 20)
    outputs = []
    for model in (ours, theirs):
        model.train()
        torch.manual_seed(5)
        output = model(ids)
        outputs.append(output if isinstance(output, torch.Tensor) else output.logits)
    torch.testing.assert_close(outputs[0], outputs[1], atol=ATOL, rtol=0)


def test_transformers_generates_what_greedy_choice_of_our_logits_gives(tmp_path: Path) -> None:
    config = SHAPES["qwen3-grouped"]
    ours = random_model(config)
    save_model(ours, tmp_path, **IDS)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert theirs.generation_config.eos_token_id == [2, 7]
    assert theirs.generation_config.pad_token_id == 3
    ids = random_ids(config, 1, 4)
    generated = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)
    while ids.shape[1] < generated.shape[1]:
        ids = torch.cat([ids, ours(ids)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(ids, generated)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_model_is_the_same_after_saving_and_loading(shape: str, tmp_path: Path) -> None:
    model = random_model(SHAPES[shape])
    save_model(model, tmp_path, **IDS)
    loaded = load_model(tmp_path)
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
        assert tensor.is_contiguous(), name


@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_a_state_dict_survives_the_way_through_the_layout(shape: str) -> None:
    model = random_model(SHAPES[shape])
    back = from_hf_state_dict(to_hf_state_dict(model), model.config)
    assert all(torch.equal(back[name], tensor) for name, tensor in model.state_dict().items())
    TransformerLM(model.config).load_state_dict(back)


@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_bfloat16_on_disk_is_declared_and_loads_as_asked(shape: str, tmp_path: Path) -> None:
    model = random_model(SHAPES[shape])
    save_model(model, tmp_path, **IDS, dtype=torch.bfloat16)
    assert {t.dtype for t in load_file(tmp_path / "model.safetensors").values()} == {torch.bfloat16}
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16
    wide, narrow = load_model(tmp_path), load_model(tmp_path, dtype=torch.bfloat16)
    for name, tensor in model.state_dict().items():
        assert torch.equal(wide.state_dict()[name], tensor.to(torch.bfloat16).float())
        assert torch.equal(narrow.state_dict()[name], tensor.to(torch.bfloat16))


def test_dropout_of_the_modern_shapes_survives_and_transformers_does_not_mind(tmp_path: Path) -> None:
    model = random_model(SHAPES["qwen3"].replace(dropout=0.1))
    save_model(model, tmp_path, **IDS)
    assert load_model(tmp_path).config.dropout == 0.1
    transformers.AutoModelForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_a_directory_in_shards_is_read_whole(shape: str, tmp_path: Path) -> None:
    theirs = same_in_transformers(SHAPES[shape])
    theirs.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    ids = random_ids(SHAPES[shape], 1, 10)
    torch.testing.assert_close(load_model(tmp_path)(ids), theirs(ids).logits, atol=ATOL, rtol=0)


def test_the_first_gpt2_directories_without_prefix_and_with_mask_tables_are_read(tmp_path: Path) -> None:
    model = random_model(SHAPES["gpt2"])
    save_model(model, tmp_path, **IDS)
    tensors = {n.removeprefix("transformer."): t for n, t in to_hf_state_dict(model).items()}
    tensors |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 64, 64).tril() for layer in range(2)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    ids = random_ids(SHAPES["gpt2"], 1, 10)
    assert torch.equal(load_model(tmp_path)(ids), model(ids))


def saved(tmp_path: Path, shape: str = "qwen3") -> Path:
    save_model(random_model(SHAPES[shape]), tmp_path, **IDS)
    return tmp_path


def rewrite(directory: Path, changes: dict[str, torch.Tensor | None]) -> None:
    tensors = load_file(directory / "model.safetensors") | changes
    save_file({n: t for n, t in tensors.items() if t is not None}, directory / "model.safetensors")


def test_a_second_copy_of_a_tied_head_must_be_the_embedding(tmp_path: Path) -> None:
    directory = saved(tmp_path)
    embedding = load_file(directory / "model.safetensors")["model.embed_tokens.weight"]
    rewrite(directory, {"lm_head.weight": embedding.clone()})
    load_model(directory)
    rewrite(directory, {"lm_head.weight": embedding + 1})
    with pytest.raises(MismatchError, match=r"tie_word_embeddings, but lm_head\.weight differs"):
        load_model(directory)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model.norm.weight": None}, r"missing model\.norm\.weight"),
        ({"model.extra.weight": torch.ones(2)}, r"unexpected model\.extra\.weight"),
        ({"model.norm.weight": torch.ones(47)}, r"model\.norm\.weight is \[47\] instead of \[48\]"),
        (
            {"model.norm.weight": torch.ones(48, dtype=torch.int8)},
            r"model\.norm\.weight is of type I8; quantized",
        ),
    ],
    ids=["missing", "unexpected", "shape", "quantized"],
)
def test_tensors_that_do_not_fit_the_configuration_are_named(
    tmp_path: Path, changes: dict[str, torch.Tensor | None], reason: str
) -> None:
    directory = saved(tmp_path)
    rewrite(directory, changes)
    with pytest.raises(MismatchError, match=reason):
        load_model(directory)


def test_of_many_missing_tensors_the_first_few_are_named(tmp_path: Path) -> None:
    save_tensors({"lm_head.weight": torch.ones(1)}, SHAPES["llama"], tmp_path, **IDS, dtype=torch.float32)
    with pytest.raises(MismatchError, match=r"missing model\.embed_tokens\.weight, .* and \d+ more"):
        load_model(tmp_path)


def test_a_gigantic_configuration_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = saved(tmp_path)
    values = json.loads((directory / "config.json").read_text())
    values |= {"hidden_size": 65_536, "vocab_size": 4_000_000, "intermediate_size": 500_000}
    (directory / "config.json").write_text(json.dumps(values))

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(models.hf_layout, "read_tensors", refuse)
    with pytest.raises(MismatchError, match=r"is \[97, 48\] instead of \[4000000, 65536\]"):
        load_model(directory)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nowhere: no such model directory; expected one that holds config\.json"
    ):
        load_model(tmp_path / "nowhere")


def test_a_directory_without_configuration_is_named(tmp_path: Path) -> None:
    (saved(tmp_path) / "config.json").unlink()
    with pytest.raises(DataError, match=r"config\.json: not there; .*step_N"):
        load_model(tmp_path)


def test_a_configuration_that_is_no_json_is_named(tmp_path: Path) -> None:
    (saved(tmp_path) / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json:1: not valid JSON"):
        load_model(tmp_path)


def test_a_directory_without_weights_is_named(tmp_path: Path) -> None:
    (saved(tmp_path) / "model.safetensors").unlink()
    with pytest.raises(
        DataError, match=r"model\.safetensors: not there, nor model\.safetensors\.index\.json"
    ):
        load_model(tmp_path)


def test_a_pickle_is_never_opened_and_the_way_out_is_said(tmp_path: Path) -> None:
    (saved(tmp_path) / "model.safetensors").unlink()
    marker = tmp_path / "it ran"

    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (open, (str(marker), "w"))

    torch.save(Payload(), tmp_path / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"pytorch_model\.bin: a pickle, .*never read; .*save_pretrained"):
        load_model(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a.bin", "..", "x\\..\\y.bin"])
def test_an_index_cannot_name_a_file_elsewhere(tmp_path: Path, name: str) -> None:
    (saved(tmp_path) / "model.safetensors").unlink()
    index = {"weight_map": {"model.norm.weight": name}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptArtifactError, match=r"index\.json: weight_map names .*same directory"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [{}, {"weight_map": []}, {"weight_map": {}}])
def test_an_index_without_files_is_named(tmp_path: Path, content: dict[str, Any]) -> None:
    (saved(tmp_path) / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(CorruptArtifactError, match=r"index\.json: holds no weight_map"):
        load_model(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    same_in_transformers(SHAPES["qwen3"]).save_pretrained(tmp_path, max_shard_size="40KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(
        DataError, match=rf"{shard.name}: not there, but model\.safetensors\.index\.json lists it"
    ):
        load_model(tmp_path)


def test_a_damaged_header_is_refused_or_harmless_and_never_crashes(tmp_path: Path) -> None:
    save_model(random_model(SHAPES["qwen3"].replace(num_layers=1)), tmp_path / "good", **IDS)
    whole = bytearray((tmp_path / "good" / "model.safetensors").read_bytes())
    header_size = 8 + int.from_bytes(whole[:8], "little")
    bad = tmp_path / "bad"
    shutil.copytree(tmp_path / "good", bad)
    refused = 0
    for position in range(0, header_size, 5):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        (bad / "model.safetensors").write_bytes(damaged)
        try:
            load_model(bad)
        except BloomeryError as error:
            refused += 1
            assert str(bad) in str(error)
    assert refused > 0.8 * header_size / 5
