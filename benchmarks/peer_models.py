"""Models of other libraries in the shape of one of ours, for comparisons. Knows no training and no data."""

from collections.abc import Mapping
from typing import Any


def llama_of_transformers(settings: Mapping[str, Any]) -> Any:
    """A Llama of transformers with fresh weights, its head tied.

    Args:
        settings: `hidden_size`, `num_layers`, `num_attention_heads`, `vocab_size` and `max_position_embeddings`.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=settings["hidden_size"],
            intermediate_size=_feed_forward_size(settings),
            num_hidden_layers=settings["num_layers"],
            num_attention_heads=settings["num_attention_heads"],
            vocab_size=settings["vocab_size"],
            max_position_embeddings=settings["max_position_embeddings"],
            tie_word_embeddings=True,
            use_cache=False,
        )
    )


def llama_of_litgpt(settings: Mapping[str, Any]) -> Any:
    """A Llama of litgpt, weights as its constructor leaves them; settings as above (pip install litgpt)."""
    from litgpt import GPT, Config  # type: ignore[import-not-found, unused-ignore]

    return GPT(
        Config(
            block_size=settings["max_position_embeddings"],
            padded_vocab_size=settings["vocab_size"],
            n_layer=settings["num_layers"],
            n_head=settings["num_attention_heads"],
            n_embd=settings["hidden_size"],
            intermediate_size=_feed_forward_size(settings),
            norm_class_name="RMSNorm",
            mlp_class_name="LLaMAMLP",
            rotary_percentage=1.0,
            parallel_residual=False,
            bias=False,
        )
    )


def _feed_forward_size(settings: Mapping[str, Any]) -> int:
    return -(-8 * int(settings["hidden_size"]) // (3 * 64)) * 64
