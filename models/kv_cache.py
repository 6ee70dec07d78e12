"""Keys and values of the tokens that a model has already seen. Knows nothing of how they were made.

Shapes: L layers, B rows, T new tokens, S tokens in the cache, K key/value heads, H features of a head.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from core.errors import DataError
from core.training_config import ModelConfig


class LayerCache(NamedTuple):
    """One layer's part of a cache while new tokens pass through the layer: what they see, and where they are kept."""

    seen: tuple[Tensor, Tensor]
    """Keys and values (B, K, S + T, H), in the memory of the cache; S is that of the longest row."""
    places: tuple[Tensor, Tensor] | None
    """Where those of the new tokens go: (B, K, T, H), or with `rows` all places, (B, S + T, K, H). None = all places,
    to be found in `seen`: torch.compile fails where the same memory is given to it twice (2.13)."""
    rows: Tensor | None
    """(B, 1) int64, 0 to B - 1, where the rows are not equally long."""
    positions: Tensor
    """(B or 1, T) int64, of the new tokens."""

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep the new tokens' keys and values (B, K, T, H) and return those of all that they see."""
        places = self.places or (self.seen[0].transpose(1, 2), self.seen[1].transpose(1, 2))
        for kept, new in zip(places, (keys, values), strict=True):
            if self.rows is None:
                kept.copy_(new)
            else:
                kept.index_put_((self.rows, self.positions), new.transpose(1, 2))
        return self.seen


class KVCache:
    """Room for `max_length` tokens in each of `batch_size` rows, reserved at once. `lengths` says how many are in it.

    Each row begins at the first place and grows by itself: a row can be emptied, filled and moved while its neighbours
    stay. What stands in a row after its length is nothing, and the next tokens of the row overwrite it. Beside left
    padding this costs an indexed write instead of a slice, and spares moving every row when a longer one comes.

    Use it under `torch.inference_mode()` or `torch.no_grad()`: it is written in place.

    Attributes:
        keys, values: (L, B, K, `max_length`, H) each. Of all layers in one, so that a step slices them once and not in
            each layer: 52 instead of 99 microseconds of a token of 12 layers.
        lengths: (B,) int64 on the CPU, whatever the device; it may be set.
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        batch_size: int,
        max_length: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """
        Args:
            max_length: Most tokens of a row.
            dtype: The dtype of the model's weights; under autocast, autocast's.

        Raises:
            DataError: `max_length` is above the model's context.
        """
        if max_length > config.max_position_embeddings:
            raise DataError(
                f"a cache of {max_length} tokens was asked for, but the model's context is "
                f"{config.max_position_embeddings} tokens (max_position_embeddings); ask for at most that"
            )
        shape = (config.num_layers, batch_size, config.kv_heads, max_length, config.features_per_head)
        # Zeros, because nothing is taken of what is masked, but nothing of NaN is NaN.
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = torch.zeros(batch_size, dtype=torch.int64)
        self.max_length = max_length
        self.is_even = True
        self.positions = torch.empty(1, 0, dtype=torch.int64)
        self.layers: list[LayerCache] = []

    @property
    def length(self) -> int:
        """Tokens in the longest row."""
        return int(self.lengths.max())

    def rows(self, start: int, stop: int) -> "KVCache":
        """The rows from `start` to before `stop` as a cache of their own, in the same memory."""
        part: KVCache = object.__new__(KVCache)
        part.keys = self.keys[:, start:stop]
        part.values = self.values[:, start:stop]
        part.lengths = self.lengths[start:stop]
        part.max_length = self.max_length
        return part

    def begin(self, num_rows: int, num_tokens: int) -> None:
        """Make ready for `num_tokens` more in each row, which every layer then appends to its part of `layers`.

        Sets `positions`, (B or 1, T) int64 on the device, where they go, and `is_even`, whether all rows are equally
        long, which is faster. Nothing counts before `advance`, after the last layer.

        Raises:
            DataError: they do not fit.
        """
        lengths = self.lengths.tolist()
        assert num_rows == len(lengths), f"{num_rows} rows for a cache of {len(lengths)}"
        longest = max(lengths)
        if longest + num_tokens > self.max_length:
            raise DataError(
                f"the cache has room for {self.max_length} tokens, holds {longest} and was given {num_tokens} "
                "more; stop earlier, or make it with a larger max_length"
            )
        end = longest + num_tokens
        self.is_even = min(lengths) == longest
        device = self.keys.device
        seen = [kept[..., :end, :] for kept in (self.keys, self.values)]
        rows = None
        if self.is_even:
            self.positions = torch.arange(longest, end, device=device)[None]
            places = [kept[..., longest:end, :] for kept in seen]
        else:
            self.positions = self.lengths.to(device)[:, None] + torch.arange(num_tokens, device=device)
            rows = torch.arange(num_rows, device=device)[:, None]
            places = [kept.transpose(2, 3) for kept in seen]
        layers = zip(*(kept.unbind() for kept in (*seen, *places)), strict=True)
        self.layers = [
            LayerCache((keys, values), (to, there), rows, self.positions)
            for keys, values, to, there in layers
        ]

    def at(self, positions: Tensor, *, num_seen: int) -> list[LayerCache]:
        """Each layer's part for new tokens of the first rows at places of their own, of which the host knows nothing.

        Args:
            positions: (B, T) int64 on the device, each below `num_seen`. They are read when the layers run: a step that
                was recorded can be repeated for others.
            num_seen: What is seen of each row ends here; a mask must hide what is after a row's positions.
        """
        num_rows = len(positions)
        rows = torch.arange(num_rows, device=positions.device)[:, None]
        keys, values = (kept[:, :num_rows, :, :num_seen].unbind() for kept in (self.keys, self.values))
        return [LayerCache(both, None, rows, positions) for both in zip(keys, values, strict=True)]

    def advance(self, num_tokens: int) -> None:
        """Count the tokens that every layer has appended."""
        self.lengths += num_tokens

    def rewind(self, length: int) -> None:
        """Forget all tokens from `length` on, so that another continuation can follow the first ones."""
        assert 0 <= length <= int(self.lengths.min()), (
            f"cannot rewind {self.lengths.tolist()} tokens to {length}"
        )
        self.lengths.fill_(length)

    def move(self, source: int, target: int) -> None:
        """Let the row `target` be what `source` is, which is nothing from then on."""
        length = int(self.lengths[source])
        for kept in (self.keys, self.values):
            kept[:, target, :, :length] = kept[:, source, :, :length]
        self.lengths[target] = length
        self.lengths[source] = 0
