"""The shapes that the tests of this room go through, small, and models with weights that hide no mistake."""

import torch

from core.training_config import ModelConfig
from models.transformer_lm import TransformerLM, create_model_from_config

SMALL = {"hidden_size": 48, "num_layers": 2, "vocab_size": 97, "max_position_embeddings": 64}
GPT2 = {
    "use_rms_norm": False,
    "use_swiglu": False,
    "use_rope_embeddings": False,
    "use_qk_norm": False,
    "use_bias": True,
    "norm_epsilon": 1e-5,
}
LLAMA = {"use_qk_norm": False}

SHAPES: dict[str, ModelConfig] = {
    name: ModelConfig.from_dict({**SMALL, **changes})
    for name, changes in {
        "qwen3": {},
        "qwen3-grouped": {"num_kv_heads": 2, "rope_theta": 500_000.0},
        "qwen3-one-kv-head": {"num_kv_heads": 1, "head_dim": 32},
        "qwen3-untied": {"tie_word_embeddings": False, "num_kv_heads": 2, "intermediate_size": 80},
        "llama": LLAMA,
        "llama-grouped": {**LLAMA, "num_kv_heads": 2, "rope_theta": 1000.0},
        "llama-bias": {**LLAMA, "num_kv_heads": 2, "use_bias": True},
        "llama-untied": {**LLAMA, "tie_word_embeddings": False, "head_dim": 16},
        "gpt2": GPT2,
        "gpt2-untied": {**GPT2, "tie_word_embeddings": False, "intermediate_size": 80},
        "gpt2-gelu": {**GPT2, "activation": "gelu"},
        "gpt2-relu": {**GPT2, "activation": "relu"},
        "gpt2-relu-squared": {**GPT2, "activation": "relu_squared"},
    }.items()
}
MAIN_SHAPES = ("qwen3-grouped", "llama-bias", "gpt2")
"""One of each architecture, with every part that the room has."""

ATOL = 2e-5
"""Largest difference of float32 logits that are equal but for rounding. They reach 10 here, where neighbouring
float32 numbers are 1e-6 apart."""


def random_model(config: ModelConfig, *, seed: int = 0) -> TransformerLM:
    """A model in evaluation mode whose norms and biases matter too, and whose attention is not uniform."""
    model = create_model_from_config(config, seed=seed)
    randomize(model, seed=seed)
    return model.eval()


@torch.no_grad()
def randomize(model: torch.nn.Module, *, seed: int) -> None:
    """Large random weights in every parameter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        center = 1.0 if parameter.ndim == 1 else 0.0
        parameter.normal_(center, 0.3, generator=generator)


def random_ids(config: ModelConfig, rows: int, tokens: int, *, seed: int = 1) -> torch.Tensor:
    """Token ids (rows, tokens) int64."""
    generator = torch.Generator().manual_seed(seed)
    assert config.vocab_size is not None
    return torch.randint(config.vocab_size, (rows, tokens), generator=generator)
