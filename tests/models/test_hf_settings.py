import json
from typing import Any

import pytest
import torch
from model_shapes import MAIN_SHAPES, SHAPES

from core.errors import ConfigError
from core.training_config import ModelConfig
from models.hf_settings import generation_config, hf_config, model_config_from_hf

IDS = {"bos_id": 1, "eos_id": 2, "pad_id": 3}


def through_json(config: ModelConfig) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(hf_config(config, **IDS)))
    return values


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_a_configuration_survives_the_way_through_config_json(shape: str, dropout: float) -> None:
    config = SHAPES[shape].replace(dropout=dropout, initializer_range=0.03)
    read = model_config_from_hf(through_json(config))
    spelled_out = config.replace(intermediate_size=config.feed_forward_size)
    if config.architecture != "gpt2":
        spelled_out = spelled_out.replace(num_kv_heads=config.kv_heads, head_dim=config.features_per_head)
    assert read == spelled_out


@pytest.mark.parametrize("shape", MAIN_SHAPES)
def test_both_names_of_what_was_renamed_are_there_and_agree(shape: str) -> None:
    values = hf_config(SHAPES[shape], **IDS, dtype=torch.bfloat16)
    assert values["dtype"] == values["torch_dtype"] == "bfloat16"
    if shape == "gpt2":
        assert values["n_ctx"] == values["n_positions"] == 64
    else:
        assert values["rope_theta"] == values["rope_parameters"]["rope_theta"] == SHAPES[shape].rope_theta


def test_config_json_names_one_end_and_generation_config_json_all() -> None:
    several = {**IDS, "eos_id": [7, 2]}
    assert hf_config(SHAPES["qwen3"], **several)["eos_token_id"] == 7
    assert generation_config(**several) == {"bos_token_id": 1, "eos_token_id": [7, 2], "pad_token_id": 3}
    nothing = {"bos_id": None, "eos_id": None, "pad_id": None}
    assert hf_config(SHAPES["qwen3"], **nothing)["eos_token_id"] is None
    assert generation_config(**nothing)["eos_token_id"] is None


def test_old_and_new_names_of_the_rotary_base_are_read() -> None:
    values = through_json(SHAPES["llama"])
    new = values | {"rope_parameters": {"rope_type": "default", "rope_theta": 123.0}}
    del new["rope_theta"]
    old = values | {"rope_theta": 123, "rope_scaling": None}
    del old["rope_parameters"]
    absent = {key: value for key, value in values.items() if not key.startswith("rope")}
    assert model_config_from_hf(new).rope_theta == 123.0
    assert model_config_from_hf(old).rope_theta == 123.0
    assert model_config_from_hf(absent).rope_theta == 10_000.0


@pytest.mark.parametrize(
    ("shape", "changes", "reason"),
    [
        ("qwen3", {"model_type": "mixtral"}, r"model_type is 'mixtral'; .* qwen3, llama, gpt2"),
        ("qwen3", {"model_type": None}, r"model_type is 'None'"),
        ("qwen3", {"hidden_act": "gelu"}, r"hidden_act is 'gelu', only 'silu'"),
        ("qwen3", {"attention_bias": True}, r"attention_bias is True, only False"),
        ("qwen3", {"attention_dropout": 0.1}, r"attention_dropout is 0\.1"),
        ("qwen3", {"use_sliding_window": True}, r"use_sliding_window is True"),
        (
            "qwen3",
            {"layer_types": ["full_attention", "sliding_attention"]},
            r"layer_types is .*sliding_attention",
        ),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, r"scaled or partial .*llama3"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}}, r"scaled or partial .*linear"),
        ("llama", {"rope_parameters": "linear"}, r"rope_parameters is 'linear', expected an object"),
        ("llama", {"partial_rotary_factor": 0.5}, r"partial_rotary_factor is 0\.5"),
        ("llama", {"mlp_bias": True}, r"attention_bias is False and mlp_bias True, both must be the same"),
        ("llama", {"quantization_config": {"quant_method": "awq"}}, r"quantization_config is .*awq"),
        ("llama", {"hidden_size": "wide"}, r"hidden_size.*\"wide\""),
        ("gpt2", {"activation_function": "silu"}, r"activation_function is 'silu', only .*'gelu_new'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, r"scale_attn_by_inverse_layer_idx is True"),
        ("gpt2", {"scale_attn_weights": False}, r"scale_attn_weights is False"),
        ("gpt2", {"add_cross_attention": True}, r"add_cross_attention is True"),
        ("gpt2", {"attn_pdrop": 0.3}, r"shares of dropout differ .*'attn_pdrop': 0\.3"),
    ],
)
def test_what_cannot_be_represented_is_refused_by_name(
    shape: str, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^here/config\.json: .*{reason}"):
        model_config_from_hf(through_json(SHAPES[shape]) | changes, origin="here/config.json")


def test_all_problems_are_named_at_once() -> None:
    changes = {"hidden_act": "relu", "use_sliding_window": True}
    with pytest.raises(ConfigError, match=r"hidden_act .*; use_sliding_window "):
        model_config_from_hf(through_json(SHAPES["qwen3"]) | changes)


@pytest.mark.parametrize(
    ("shape", "key"),
    [("qwen3", "hidden_size"), ("llama", "intermediate_size"), ("gpt2", "n_embd"), ("gpt2", "vocab_size")],
)
def test_a_missing_size_is_named(shape: str, key: str) -> None:
    values = through_json(SHAPES[shape])
    del values[key]
    with pytest.raises(ConfigError, match=rf"config\.json: {key} is missing; {shape} needs it"):
        model_config_from_hf(values)
