"""A model directory of an architecture that this project has no layout for, as transformers saves it."""

from pathlib import Path

import pytest
import torch

from tokenization.tokenizer import Tokenizer


def save_foreign_model(directory: Path, tokenizer: Tokenizer) -> Path:
    """A random GPT-NeoX with 64 tokens of context."""
    transformers = pytest.importorskip("transformers")
    tokenizer.save(directory)
    config = transformers.GPTNeoXConfig(
        vocab_size=400,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    transformers.GPTNeoXForCausalLM(config).save_pretrained(directory)
    return directory
