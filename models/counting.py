"""How many parameters a shape has and what a token costs, by arithmetic. Builds no model and loads no torch."""

from dataclasses import dataclass

from core.errors import ConfigError
from core.training_config import ModelConfig


@dataclass(frozen=True)
class ParameterCount:
    """Numbers of parameters. A tied output head is the embedding and is counted there only."""

    embedding: int
    position_embedding: int
    attention_per_layer: int
    feed_forward_per_layer: int
    norms_per_layer: int
    num_layers: int
    final_norm: int
    head: int

    @property
    def per_layer(self) -> int:
        """One decoder block."""
        return self.attention_per_layer + self.feed_forward_per_layer + self.norms_per_layer

    @property
    def blocks(self) -> int:
        """All decoder blocks."""
        return self.num_layers * self.per_layer

    @property
    def non_embedding(self) -> int:
        """All but the lookups of tokens and positions and the head: the N of Kaplan et al. 2020."""
        return self.blocks + self.final_norm

    @property
    def total(self) -> int:
        """Everything that is stored and trained."""
        return self.embedding + self.position_embedding + self.blocks + self.final_norm + self.head


def vocabulary_of(config: ModelConfig) -> int:
    """`config.vocab_size`, which by now has to be a number.

    Raises:
        ConfigError: it is still null.
    """
    if config.vocab_size is None:
        raise ConfigError(
            "model.vocab_size is null, but the model needs a number here; take it from the tokenizer: "
            "config.replace(vocab_size=tokenizer.vocab_size)"
        )
    return config.vocab_size


def count_parameters(config: ModelConfig) -> ParameterCount:
    """The parameters of the model that `config` describes, part by part.

    A norm of somebody's own is counted like RMSNorm, a feed-forward part like the plain one: what follows from the
    number (length, memory, utilization) is an estimate then.

    >>> f"{count_parameters(ModelConfig(vocab_size=8192)).total:,}"
    '6,918,144'

    Raises:
        ConfigError: `vocab_size` is null.
    """
    size, inner_size, bias = config.hidden_size, config.feed_forward_size, int(config.use_bias)
    query_size = config.num_attention_heads * config.features_per_head
    key_size = config.kv_heads * config.features_per_head
    norm = 2 * size if config.norm_name == "layer_norm" else size
    embedding = vocabulary_of(config) * size

    def linear(inputs: int, outputs: int) -> int:
        return inputs * outputs + bias * outputs

    attention = linear(size, query_size) + 2 * linear(size, key_size) + linear(query_size, size)
    if config.use_qk_norm:
        attention += 2 * config.features_per_head
    num_inputs = 2 if config.feed_forward_name == "swiglu" else 1
    return ParameterCount(
        embedding=embedding,
        position_embedding=0 if config.use_rope_embeddings else config.max_position_embeddings * size,
        attention_per_layer=attention,
        feed_forward_per_layer=num_inputs * linear(size, inner_size) + linear(inner_size, size),
        norms_per_layer=2 * norm,
        num_layers=config.num_layers,
        final_norm=norm,
        head=0 if config.tie_word_embeddings else embedding,
    )


def flops_per_token(config: ModelConfig, *, context: int) -> int:
    """Floating-point operations of one training step, forward and backward, for each token.

    6N + 12 x layers x heads x features per head x context (Chowdhery et al. 2022, PaLM, appendix B). N leaves out
    the lookups of tokens and positions and has the output head, tied or not. As there, the half of the attention
    that the causal mask leaves out is counted, so that utilizations can be compared with published ones.

    Args:
        context: Length of a row, in tokens.

    Raises:
        ConfigError: `vocab_size` is null.
    """
    count = count_parameters(config)
    multiplied = count.non_embedding + count.embedding  # the head has as many parameters as the embedding
    query_size = config.num_attention_heads * config.features_per_head
    return 6 * multiplied + 12 * config.num_layers * query_size * context
