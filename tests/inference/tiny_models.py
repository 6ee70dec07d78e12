"""Random models of each architecture and directories like those that training leaves, for the tests of this room."""

from pathlib import Path
from typing import Any

import torch

from core.manifest import describe_files, write_manifest
from core.training_config import ModelConfig
from models.hf_layout import save_model
from models.transformer_lm import TransformerLM, create_model_from_config
from tokenization.tokenizer import Tokenizer

VOCABULARY = 400
"""More rows than the test tokenizer's 384 tokens: the last ones stand for nothing."""

# Weights of this size give scores that differ by far more than the rounding of products, and varied texts.
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
GPT2 = {
    "use_rms_norm": False,
    "use_swiglu": False,
    "use_rope_embeddings": False,
    "use_qk_norm": False,
    "use_bias": True,
}
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {"num_kv_heads": 2},
    "llama": {"use_qk_norm": False, "tie_word_embeddings": False},
    "gpt2": {**GPT2, "tie_word_embeddings": False},
}


def tiny_model(shape: str = "qwen3", *, seed: int = 0, **changes: Any) -> TransformerLM:
    """A random model with a context of 64 tokens."""
    return create_model_from_config(ModelConfig.from_dict({**SMALL, **SHAPES[shape], **changes}), seed=seed)


def save_tiny_model(
    directory: Path, tokenizer: Tokenizer, *, stage: str | None = "instruction tuning", **changes: Any
) -> Path:
    """A model directory with a manifest (none if `stage` is None)."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(directory)
    model = tiny_model(**changes)
    save_model(model, directory, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id)
    if stage is not None:
        files = describe_files(directory, [path for path in directory.rglob("*") if path.is_file()])
        write_manifest(directory, {"status": "complete", "stage": stage, "files": files})
    return directory


def prompt_of(length: int, *, seed: int = 0) -> list[int]:
    """Random ids of text tokens, `<s>` first."""
    generator = torch.Generator().manual_seed(seed)
    return [1, *torch.randint(16, 384, (length - 1,), generator=generator).tolist()]
