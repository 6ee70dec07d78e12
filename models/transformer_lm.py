"""The decoder: token ids in, logits out, in one view. Knows nothing of text, losses, optimizers and files.

Shapes: B rows, T tokens, D features of the residual stream, V tokens of the vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import DataError
from core.training_config import ModelConfig
from core.tuning_config import LoraConfig
from models.attention import Attention, Documents, cache_mask, document_mask, flash_kernel
from models.counting import vocabulary_of
from models.embedding_noise import noise_like
from models.feed_forward import build_feed_forward
from models.initialization import initialize_weights
from models.kv_cache import KVCache, LayerCache
from models.normalization import build_norm
from models.recompute import Recompute, recomputing
from models.rotary import Rotation, rotation_at


class Adapters(NamedTuple):
    """What `models.lora.add_adapters` added to a model."""

    settings: LoraConfig
    tokens: tuple[int, ...]
    """Those whose rows of embedding and head learn too."""


class Block(nn.Module):
    """One layer: attention, then feed-forward, each normalized before and added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = build_norm(config)
        self.attention = Attention(config)
        self.feed_forward_norm = build_norm(config)
        self.feed_forward = build_feed_forward(config)
        self.dropout = _dropout(config.dropout)
        self.recompute: Recompute = "none"

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None,
        mask: Tensor | Documents | None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """x (B, T, D) to (B, T, D); the other arguments are `Attention`'s."""
        # In here and not around the block, so that torch.compile sees what is to be computed again.
        mode = self.recompute if cache is None and torch.is_grad_enabled() else "none"
        return recomputing(mode, self._layer, x, rotation, mask, cache)

    def _layer(
        self, x: Tensor, rotation: Rotation | None, mask: Tensor | None, cache: LayerCache | None
    ) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), rotation, mask, cache))
        y: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return y


class Blocks(nn.ModuleList):
    """All layers, one after the other."""

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None,
        mask: Tensor | Documents | None,
        layers: Sequence[LayerCache] | None = None,
    ) -> Tensor:
        """x (B, T, D) to (B, T, D).

        Args:
            layers: Each block's part of the cache; None = there is no cache.
        """
        for place, block in enumerate(self):
            x = block(x, rotation, mask, None if layers is None else layers[place])
        return x


class TransformerLM(nn.Module):
    """A decoder-only language model. `create_model_from_config` makes one with proper initial weights.

    `gradient_checkpointing` may be switched at any time; `models.recompute` says what each value means. So may
    `embedding_noise`, which is added while training only (`models.embedding_noise`).
    """

    def __init__(self, config: ModelConfig) -> None:
        """
        Raises:
            ConfigError: `config.vocab_size` is null.
        """
        super().__init__()
        num_tokens, size = vocabulary_of(config), config.hidden_size
        self.config = config
        self._gradient_checkpointing: Recompute = "none"
        self._is_compiled = False
        self.embedding_noise: float | None = None
        self.adapters: Adapters | None = None
        # The rows of `adapters.tokens`, in the place of the embedding's and the head's: (tokens, D).
        self.lora_rows: nn.Parameter | None = None
        self.lora_head_rows: nn.Parameter | None = None
        self.embedding = _embedding(num_tokens, size)
        self.position_embedding: nn.Embedding | None = None
        if not config.use_rope_embeddings:
            self.position_embedding = _embedding(config.max_position_embeddings, size)
        # Only GPT-2 drops embeddings; the modern shapes drop what blocks add to the residual stream.
        self.embedding_dropout = _dropout(config.dropout if config.architecture == "gpt2" else 0.0)
        self.blocks = Blocks(Block(config) for _ in range(config.num_layers))
        self.final_norm = build_norm(config)
        # A tied head is no second name of the embedding's parameter, so that a state dict holds it once.
        self.head: nn.Module | None = None
        if not config.tie_word_embeddings:
            self.head = nn.Linear(size, num_tokens, bias=False)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor | None = None, *, cache: KVCache | None = None
    ) -> Tensor:
        """Logits (B, T, V) of the token after each; arguments and errors as `features`.

        Their dtype is that of the weights, or autocast's; a loss should be computed in float32.
        """
        return self.logits(self.features(input_ids, position_ids, cache=cache))

    def features(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None = None,
        *,
        cache: KVCache | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """The residual stream after the final norm, (B, T, D): what `logits` turns into scores.

        Args:
            input_ids: (B, T) int64.
            position_ids: (B, T) int64 of rows of packed documents: 0, 1, 2, ... from the start of each document;
                attention then stays inside a document. None = each row is one document (and faster).
            cache: Tokens seen before; they are continued and the new ones are added. Excludes `position_ids`.
            documents: `document_offsets(position_ids)`, on the device, where `takes_documents` says that it spares
                the mask.

        Raises:
            DataError: more tokens than the context or the cache holds.
        """
        B, T = input_ids.shape
        if self.config.max_position_embeddings < T:
            raise DataError(
                f"{T} tokens are longer than the model's context of {self.config.max_position_embeddings} "
                "tokens (max_position_embeddings); shorten the input"
            )
        mask: Tensor | Documents | None = None
        if cache is not None:
            assert position_ids is None, "with a cache, positions continue from its lengths"
            cache.begin(B, T)
            mask = cache_mask(cache)
        elif documents is not None:
            assert position_ids is not None, "documents are those of the positions"
            mask = Documents(documents, max_length=T, kernel=flash_kernel())
        elif position_ids is not None:
            mask = document_mask(position_ids)

        positions = position_ids
        if cache is not None:
            positions = cache.positions
        elif positions is None:
            positions = torch.arange(T, device=input_ids.device)[None]

        y = self.features_at(input_ids, positions, mask, None if cache is None else cache.layers)
        if cache is not None:
            cache.advance(T)
        return y

    def features_at(
        self,
        input_ids: Tensor,
        positions: Tensor,
        mask: Tensor | Documents | None,
        layers: Sequence[LayerCache] | None = None,
        *,
        blocks: nn.Module | None = None,
    ) -> Tensor:
        """`features` where positions and mask are known: whatever the host asks of a tensor is asked before.

        Args:
            positions: (B or 1, T) int64.
            mask: As `Attention.forward`.
            layers: As `Blocks.forward`.
            blocks: What to send the tokens through instead of the model's own.
        """
        if self.lora_rows is None:
            x = self.embedding(input_ids)
        else:
            x = F.embedding(input_ids, self._with_rows(self.embedding.weight, self.lora_rows))
        if self.embedding_noise is not None and self.training:
            x = x + noise_like(x, positions, alpha=self.embedding_noise)
        rotation = None
        if self.position_embedding is None:
            rotation = rotation_at(
                positions, features_per_head=self.config.features_per_head, theta=self.config.rope_theta
            )
        else:
            x = x + self.position_embedding(positions)
        x = (blocks or self.blocks)(self.embedding_dropout(x), rotation, mask, layers)
        y: Tensor = self.final_norm(x)
        return y

    def logits(self, features: Tensor) -> Tensor:
        """features (..., D) to the scores (..., V) of each token of the vocabulary."""
        if self.head is None or self.lora_head_rows is not None:
            return F.linear(features, self.head_weight)
        y: Tensor = self.head(features)
        return y

    @property
    def head_weight(self) -> Tensor:
        """(V, D): what features are compared with; the embedding's where the head is tied to it."""
        if self.head is None:
            return self._with_rows(self.embedding.weight, self.lora_rows)
        return self._with_rows(self.head.get_parameter("weight"), self.lora_head_rows)

    def _with_rows(self, weight: Tensor, rows: Tensor | None) -> Tensor:
        """weight (V, D), in which the rows of a few tokens are others."""
        if rows is None or self.adapters is None:
            return weight
        return weight.index_copy(0, torch.tensor(self.adapters.tokens, device=weight.device), rows)

    @property
    def gradient_checkpointing(self) -> Recompute:
        """What the blocks compute again in the backward pass."""
        return self._gradient_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, mode: Recompute) -> None:
        self._gradient_checkpointing = mode
        for block in self.blocks:
            assert isinstance(block, Block)
            block.recompute = mode

    @property
    def is_compiled(self) -> bool:
        """Whether `compile_blocks` was called."""
        return self._is_compiled

    def compile_blocks(self) -> None:
        """Let torch.compile fuse each block from its next call on. All have the same code, so that it is compiled once:
        5 s for 6 layers of width 384 instead of 25 s for the whole model, with the same step time (two cores)."""
        for block in self.blocks:
            block.compile(dynamic=False)
        self._is_compiled = True


def create_model_from_config(config: ModelConfig, *, seed: int | None = None) -> TransformerLM:
    """A model on the CPU, in float32, with initial weights as `initialize_weights` says.

    Args:
        seed: Of the weights; None = the seed of torch's global generator (`torch.manual_seed`), which is read and
            not advanced.

    Raises:
        ConfigError: `config.vocab_size` is null.
    """
    # Built without memory first: torch's own initialization would draw from the global generator, for nothing.
    with torch.device("meta"):
        model = TransformerLM(config)
    model.to_empty(device="cpu")
    initialize_weights(model, config, seed=torch.initial_seed() if seed is None else seed)
    return model


def _embedding(num_rows: int, size: int) -> nn.Embedding:
    # Weights are set elsewhere; the constructor would draw them, which on the meta device imports torch._dynamo (1 s).
    embedding: nn.Embedding = nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]
        torch.empty(num_rows, size), freeze=False
    )
    return embedding


def _dropout(share: float) -> nn.Module:
    # nn.Dropout(0.0) still copies its input while training.
    return nn.Dropout(share) if share else nn.Identity()
