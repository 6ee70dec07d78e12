"""The weights of one model in another of nearly the same shape: more tokens, fewer positions. Knows no files.

Shapes: V rows of the embedding, D features.
"""

import torch
from torch import Tensor

from core.errors import MismatchError
from core.seeds import derive_seed
from core.training_config import ModelConfig
from models.counting import vocabulary_of
from models.transformer_lm import TransformerLM

MAY_DIFFER = frozenset({"vocab_size", "max_position_embeddings", "dropout", "initializer_range"})
"""Settings of the shape that are no part of what other weights compute."""

NOISE = 0.1
"""Of a new token's row, in standard deviations of the others': rows that began equal would learn alike (arbitrary)."""


def refitted(model: TransformerLM, shape: ModelConfig, *, seed: int) -> TransformerLM:
    """A model of `shape` with the weights of `model`, which share memory where they are the same.

    New tokens begin as the mean of the others, so that a softmax over all of them gives none an advantage (Hewitt
    2021), and a little noise. Positions are cut off at the end.

    Raises:
        MismatchError: the shapes differ in more, or `shape` has fewer tokens or more positions.
    """
    old, new = model.config.to_dict(), shape.to_dict()
    problems = [
        f"{key} {old[key]} and {new[key]}" for key in old if old[key] != new[key] and key not in MAY_DIFFER
    ]
    more_tokens = vocabulary_of(shape) - vocabulary_of(model.config)
    if more_tokens < 0:
        problems.append(f"{vocabulary_of(model.config)} tokens do not go into {vocabulary_of(shape)}")
    if shape.max_position_embeddings > model.config.max_position_embeddings:
        problems.append(
            f"a context of {model.config.max_position_embeddings} tokens is no {shape.max_position_embeddings}"
        )
    if problems:
        raise MismatchError(f"the weights do not fit into that shape: {'; '.join(problems)}")
    if shape == model.config:
        return model
    state = model.state_dict()
    for name in ("embedding.weight", "head.weight"):
        if name in state and more_tokens:
            state[name] = _with_more_rows(
                state[name], more_tokens, seed=derive_seed(seed, "new tokens", name)
            )
    if "position_embedding.weight" in state:
        state["position_embedding.weight"] = state["position_embedding.weight"][
            : shape.max_position_embeddings
        ].clone()
    with torch.device("meta"):
        result = TransformerLM(shape)
    result.load_state_dict(state, assign=True)
    return result.eval()


def _with_more_rows(rows: Tensor, number: int, *, seed: int) -> Tensor:
    """rows (V, D) and `number` more of them."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(number, rows.shape[1], generator=generator).to(rows)
    return torch.cat([rows, rows.mean(dim=0) + NOISE * rows.std(dim=0) * noise])
