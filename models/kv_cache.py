"""Keys and values of the tokens that a model has already seen. Knows nothing of how they were made.

Shapes: B rows, T new tokens, S tokens in the cache, K key/value heads, H features of a head.
"""

import torch
from torch import Tensor

from core.errors import DataError
from core.training_config import ModelConfig


class KVCache:
    """Room for `max_length` tokens in each of `batch_size` rows, reserved at once. `length` says how many are in it.

    Rows of different lengths are aligned at their ends: `left_padding` says how many tokens at the start of each
    row stand for nothing. No token attends to them, and positions count from the first real one.

    Use it under `torch.inference_mode()` or `torch.no_grad()`: it is written in place.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        batch_size: int,
        max_length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        left_padding: Tensor | None = None,
    ) -> None:
        """
        Args:
            max_length: Most tokens of a row, padding included.
            dtype: The dtype of the model's weights; under autocast, autocast's.
            left_padding: (B,) int64, on `device`; None = rows of equal length, which is faster.

        Raises:
            DataError: `max_length` is above the model's context.
        """
        if max_length > config.max_position_embeddings:
            raise DataError(
                f"a cache of {max_length} tokens was asked for, but the model's context is "
                f"{config.max_position_embeddings} tokens (max_position_embeddings); ask for at most that"
            )
        assert left_padding is None or left_padding.shape == (batch_size,), "one number a row"
        shape = (batch_size, config.kv_heads, max_length, config.features_per_head)
        self.keys = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self.values = [torch.empty(shape, device=device, dtype=dtype) for _ in range(config.num_layers)]
        self.left_padding = left_padding
        self.batch_size = batch_size
        self.max_length = max_length
        self.length = 0

    def check_room(self, num_rows: int, num_tokens: int) -> None:
        """Nothing, when `num_tokens` more fit.

        Raises:
            DataError: they do not.
        """
        assert num_rows == self.batch_size, f"{num_rows} rows for a cache of {self.batch_size}"
        if self.length + num_tokens > self.max_length:
            raise DataError(
                f"the cache has room for {self.max_length} tokens, holds {self.length} and was given {num_tokens} "
                "more; stop earlier, or make it with a larger max_length"
            )

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep one layer's new keys and values (B, K, T, H) and return all of that layer's, (B, K, S + T, H).

        `length` moves only by `advance`, after the last layer, so that all layers write to the same place.
        """
        end = self.length + keys.shape[2]
        self.keys[layer][:, :, self.length : end] = keys
        self.values[layer][:, :, self.length : end] = values
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def advance(self, num_tokens: int) -> None:
        """Count the tokens that every layer has appended."""
        self.length += num_tokens

    def rewind(self, length: int) -> None:
        """Forget all tokens from `length` on, so that another continuation can follow the first ones."""
        assert 0 <= length <= self.length, f"cannot rewind {self.length} tokens to {length}"
        self.length = length
