"""The content of config.json and generation_config.json for the three architectures, and back to our configuration.

Knows the names and defaults that other tools have for settings. Knows nothing of tensors.
"""

import functools
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from core.errors import ConfigError
from core.training_config import ModelConfig
from models.counting import vocabulary_of

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
GENERATION_CONFIG_FILE = "generation_config.json"

ARCHITECTURES = {"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM", "gpt2": "GPT2LMHeadModel"}
ACTIVATION_NAMES = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "relu_squared": "relu2"}
"""Our names of activations and transformers' (`transformers/activations.py`, ACT2CLS)."""

OWN_MODEL_TYPE = "bloomery"
"""`model_type` of a model with parts that no other tool has: they refuse it, and compute nothing else instead."""

_ACTIVATIONS_READ = {theirs: ours for ours, theirs in ACTIVATION_NAMES.items()} | {
    "gelu_pytorch_tanh": "gelu_tanh"
}


def foreign_parts(config: ModelConfig) -> list[str]:
    """The settings that choose a part which the architecture does not have: with one, no other tool loads the model."""
    is_gpt2 = config.architecture == "gpt2"
    norm, feed_forward = ("layer_norm", "plain") if is_gpt2 else ("rms_norm", "swiglu")
    found = []
    if config.norm_name != norm:
        found.append(f"model.norm={config.norm_name}")
    if config.feed_forward_name != feed_forward:
        found.append(f"model.feed_forward={config.feed_forward_name}")
    if config.feed_forward_name != "swiglu" and config.activation not in ACTIVATION_NAMES:
        found.append(f"model.activation={config.activation}")
    return found


@functools.cache
def warn_of_foreign_parts(config: ModelConfig) -> None:
    """Say, once in a process, that this project alone loads such a model, if that is so."""
    if parts := foreign_parts(config):
        logger.warning(
            "%s: no part of %s, so transformers, vLLM and llama.cpp refuse what is saved (model_type %r); this project "
            "loads it where the part is known",
            ", ".join(parts),
            ARCHITECTURES[config.architecture],
            OWN_MODEL_TYPE,
        )


def hf_config(
    config: ModelConfig,
    *,
    bos_id: int | None,
    eos_id: int | Sequence[int] | None,
    pad_id: int | None,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    """The content of `config.json`.

    What changed its name between versions stands under both: `dtype` (transformers 5) and `torch_dtype` (4),
    `rope_parameters` (5) and `rope_theta` (4, vLLM, llama.cpp), GPT-2's `n_ctx` (llama.cpp) and `n_positions`.
    A model with `foreign_parts` is described in our own words, under a `model_type` that other tools do not know.

    Args:
        eos_id: The token that ends a text. Of several, `config.json` gets the first, because some readers take
            one only; `generation_config` has them all.
        dtype: Of the tensors beside it.

    Raises:
        ConfigError: `vocab_size` is null.
    """
    common = {
        "architectures": [ARCHITECTURES[config.architecture]],
        "model_type": config.architecture,
        "vocab_size": vocabulary_of(config),
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": config.tie_word_embeddings,
        "use_cache": True,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id if eos_id is None or isinstance(eos_id, int) else eos_id[0],
        "pad_token_id": pad_id,
        "dtype": _dtype_name(dtype),
        "torch_dtype": _dtype_name(dtype),
    }
    if foreign_parts(config):
        return common | {
            "architectures": [OWN_MODEL_TYPE],
            "model_type": OWN_MODEL_TYPE,
            OWN_MODEL_TYPE: config.to_dict(),
        }
    if config.architecture == "gpt2":
        return common | {
            "n_embd": config.hidden_size,
            "n_layer": config.num_layers,
            "n_head": config.num_attention_heads,
            "n_inner": config.feed_forward_size,
            "n_positions": config.max_position_embeddings,
            "n_ctx": config.max_position_embeddings,
            "activation_function": ACTIVATION_NAMES[config.activation],
            "layer_norm_epsilon": config.norm_epsilon,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
            "resid_pdrop": config.dropout,
        }
    values = common | {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.features_per_head,
        "intermediate_size": config.feed_forward_size,
        "max_position_embeddings": config.max_position_embeddings,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "attention_bias": config.use_bias,
        "attention_dropout": 0.0,
    }
    if config.architecture == "llama":
        values["mlp_bias"] = config.use_bias
    else:
        values |= {
            "use_sliding_window": False,
            "sliding_window": None,
            "max_window_layers": config.num_layers,
        }
    if config.dropout:
        # No setting of these architectures; other readers ignore it, and it only matters while training.
        values["residual_dropout"] = config.dropout
    return values


def generation_config(
    *, bos_id: int | None, eos_id: int | Sequence[int] | None, pad_id: int | None
) -> dict[str, Any]:
    """The content of `generation_config.json`: the tokens that begin, end and fill generated text."""
    ends = eos_id if eos_id is None or isinstance(eos_id, int) else list(eos_id)
    return {"bos_token_id": bos_id, "eos_token_id": ends, "pad_token_id": pad_id}


def model_config_from_hf(values: Mapping[str, Any], *, origin: str = CONFIG_FILE) -> ModelConfig:
    """The shape that the content of a `config.json` describes. Absent keys have transformers' defaults.

    Args:
        origin: Where the values came from, for messages.

    Raises:
        ConfigError: the architecture is none of ours, a size is missing, or a setting asks for a computation
            that we do not have; each such setting is named.
    """
    architecture = str(values.get("model_type"))
    if architecture == OWN_MODEL_TYPE and isinstance(own := values.get(OWN_MODEL_TYPE), Mapping):
        return ModelConfig.from_dict(own, origin=f"{origin}: {OWN_MODEL_TYPE}")
    if architecture not in ARCHITECTURES:
        raise ConfigError(
            f"{origin}: model_type is {architecture!r:.80}; what can be loaded is {', '.join(ARCHITECTURES)}"
        )
    problems = [
        f"{key} is {values[key]!r:.80}, only {' or '.join(map(repr, allowed))} can be represented"
        for key, allowed in _REPRESENTABLE[architecture].items()
        if key in values and values[key] not in allowed
    ]
    read = _gpt2_settings if architecture == "gpt2" else _modern_settings
    try:
        settings = read(values, architecture, problems)
    except KeyError as error:
        raise ConfigError(f"{origin}: {error.args[0]} is missing; {architecture} needs it") from None
    if problems:
        raise ConfigError(f"{origin}: {'; '.join(problems)}")
    return ModelConfig.from_dict(settings, origin=origin)


_REPRESENTABLE: dict[str, dict[str, tuple[Any, ...]]] = {
    "qwen3": {
        "quantization_config": (None,),
        "hidden_act": ("silu", "swish"),
        "attention_bias": (False,),
        "attention_dropout": (0.0, None),
        "partial_rotary_factor": (1.0, None),
        "use_sliding_window": (False, None),
    },
    "llama": {
        "quantization_config": (None,),
        "hidden_act": ("silu", "swish"),
        "attention_dropout": (0.0, None),
        "partial_rotary_factor": (1.0, None),
    },
    "gpt2": {
        "quantization_config": (None,),
        "activation_function": tuple(_ACTIVATIONS_READ),
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
}
"""For each architecture the settings that change the computation, and the values under which ours is the same."""


def _modern_settings(values: Mapping[str, Any], architecture: str, problems: list[str]) -> dict[str, Any]:
    # transformers 5 looks into rope_parameters first; up to 4, scaling stood in rope_scaling.
    rope = values.get("rope_scaling") or values.get("rope_parameters") or {}
    if not isinstance(rope, Mapping):
        problems.append(f"rope_scaling or rope_parameters is {rope!r:.80}, expected an object")
        rope = {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default" or rope.get("partial_rotary_factor", 1.0) != 1.0:
        problems.append(
            f"rotary positions are scaled or partial ({json.dumps(rope):.200}), only plain ones can be read"
        )
    layer_types = values.get("layer_types")
    if layer_types is not None and any(kind != "full_attention" for kind in layer_types):
        problems.append(f"layer_types is {layer_types!r:.80}, only full_attention can be represented")
    bias, mlp_bias = values.get("attention_bias", False), values.get("mlp_bias", False)
    if architecture == "llama" and bias != mlp_bias:
        problems.append(
            f"attention_bias is {bias!s:.80} and mlp_bias {mlp_bias!s:.80}, both must be the same"
        )
    heads = values["num_attention_heads"]
    default_head_dim = 128 if architecture == "qwen3" else None
    return {
        "hidden_size": values["hidden_size"],
        "num_layers": values["num_hidden_layers"],
        "num_attention_heads": heads,
        "num_kv_heads": values.get("num_key_value_heads") or heads,
        "head_dim": values.get("head_dim", default_head_dim),
        "intermediate_size": values["intermediate_size"],
        "vocab_size": values["vocab_size"],
        "max_position_embeddings": values["max_position_embeddings"],
        "use_rms_norm": True,
        "use_swiglu": True,
        "use_rope_embeddings": True,
        "use_qk_norm": architecture == "qwen3",
        "use_bias": bias if architecture == "llama" else False,
        "tie_word_embeddings": values.get("tie_word_embeddings", False),
        "dropout": values.get("residual_dropout", 0.0),
        "rope_theta": rope.get("rope_theta", values.get("rope_theta", 10_000.0)),
        "norm_epsilon": values.get("rms_norm_eps", 1e-6),
        "initializer_range": values.get("initializer_range", 0.02),
    }


def _gpt2_settings(values: Mapping[str, Any], architecture: str, problems: list[str]) -> dict[str, Any]:
    shares = {key: values.get(key, 0.1) for key in ("embd_pdrop", "attn_pdrop", "resid_pdrop")}
    if any(share != shares["resid_pdrop"] for share in shares.values()):
        problems.append(
            f"the shares of dropout differ ({shares!s:.200}), only one for all can be represented"
        )
    activation = values.get("activation_function", "gelu_new")
    return {
        "hidden_size": values["n_embd"],
        "num_layers": values["n_layer"],
        "num_attention_heads": values["n_head"],
        "intermediate_size": values.get("n_inner"),
        "vocab_size": values["vocab_size"],
        "max_position_embeddings": values["n_positions"],
        "use_rms_norm": False,
        "use_swiglu": False,
        "use_rope_embeddings": False,
        "use_qk_norm": False,
        "use_bias": True,
        "tie_word_embeddings": values.get("tie_word_embeddings", True),
        # A name that is in neither table is among the problems by now.
        "activation": _ACTIVATIONS_READ.get(str(activation), "gelu_tanh"),
        "dropout": shares["resid_pdrop"],
        "norm_epsilon": values.get("layer_norm_epsilon", 1e-5),
        "initializer_range": values.get("initializer_range", 0.02),
    }


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
