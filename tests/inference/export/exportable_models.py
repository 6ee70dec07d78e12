"""Small models of each architecture with weights that hide no mistake, saved as training saves them."""

from pathlib import Path
from typing import Any

import torch

from core.manifest import describe_files, write_manifest
from core.training_config import ModelConfig
from models.hf_layout import save_model
from models.transformer_lm import TransformerLM, create_model_from_config
from tests.inference.tiny_models import GPT2
from tokenization.tokenizer import Tokenizer

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 48,
    "initializer_range": 0.1,
}
LLAMA = {"use_qk_norm": False}

SHAPES: dict[str, dict[str, Any]] = {
    "qwen3-grouped": {"num_kv_heads": 2, "rope_theta": 500_000.0},
    "qwen3-untied": {"tie_word_embeddings": False, "head_dim": 32},
    "llama": LLAMA,
    "llama-grouped-bias-untied": {
        **LLAMA,
        "num_kv_heads": 2,
        "use_bias": True,
        "tie_word_embeddings": False,
        "rope_theta": 1000.0,
    },
    "gpt2": GPT2,
    "gpt2-untied": {**GPT2, "tie_word_embeddings": False, "intermediate_size": 64},
}
"""Each architecture, with tied and separate heads, grouped queries and biases."""


def saved_model(
    directory: Path, tokenizer: Tokenizer, shape: str, *, stage: str = "instruction tuning", **changes: Any
) -> Path:
    """A model directory with a manifest; norms, biases and attention matter in it. It has rows without a token."""
    config = ModelConfig.from_dict(
        {**SMALL, "vocab_size": tokenizer.vocab_size + 16, **SHAPES[shape], **changes}
    )
    model = create_model_from_config(config, seed=1)
    shake(model, seed=2)
    directory.mkdir(parents=True)
    tokenizer.save(directory)
    ends = (tokenizer.eos_id, tokenizer.end_id)
    save_model(model, directory, bos_id=tokenizer.bos_id, eos_id=ends, pad_id=tokenizer.pad_id)
    files = describe_files(directory, [path for path in directory.rglob("*") if path.is_file()])
    write_manifest(
        directory,
        {
            "status": "complete",
            "stage": stage,
            "step": 7,
            "tokenizer_fingerprint": tokenizer.fingerprint,
            "files": files,
        },
    )
    return directory


@torch.no_grad()
def shake(model: TransformerLM, *, seed: int) -> None:
    """Add noise to vectors, which would otherwise be ones and zeros and forgive being exchanged."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
