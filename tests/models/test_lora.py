import pytest
import torch

from core.errors import ConfigError
from core.training_config import ModelConfig
from core.tuning_config import LoraConfig
from models.embedding_noise import noise_like
from models.lora import add_adapters, fingerprint_of_base, is_of_adapter, merged
from models.transformer_lm import TransformerLM, create_model_from_config

SHAPE = ModelConfig(
    vocab_size=64,
    hidden_size=32,
    num_layers=2,
    num_attention_heads=4,
    num_kv_heads=2,
    max_position_embeddings=16,
)
GPT2 = SHAPE.replace(
    use_rms_norm=False,
    use_swiglu=False,
    use_rope_embeddings=False,
    use_qk_norm=False,
    use_bias=True,
    num_kv_heads=None,
)
IDS = torch.arange(24).view(2, 12)


TOKENS = (9, 5, 6)
"""Whose rows learn too; all are in IDS."""


def adapted(shape: ModelConfig = SHAPE, **settings: float) -> TransformerLM:
    """A model with adapters that are no zeros any more."""
    model = create_model_from_config(shape, seed=1)
    add_adapters(model, LoraConfig(**{"rank": 4, "alpha": 8.0, **settings}), seed=3, tokens=TOKENS)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if is_of_adapter(name):
            parameter.data.normal_(std=0.1, generator=generator)
    return model.eval()


def test_fresh_adapters_change_nothing_and_only_they_learn() -> None:
    plain = create_model_from_config(SHAPE, seed=1)
    model = create_model_from_config(SHAPE, seed=1)
    add_adapters(model, LoraConfig(rank=4), seed=3)
    assert torch.equal(model(IDS), plain(IDS))
    assert fingerprint_of_base(model) == fingerprint_of_base(plain)
    model(IDS).square().sum().backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learning == {name for name, _ in model.named_parameters() if is_of_adapter(name)}
    # Query, key, value, output, gate, up and down of two blocks, two matrices each.
    assert len(learning) == 2 * 7 * 2


UNTIED = SHAPE.replace(tie_word_embeddings=False)


@pytest.mark.parametrize("shape", [SHAPE, UNTIED], ids=["tied", "head"])
def test_only_the_rows_of_the_tokens_that_are_named_learn_and_begin_as_they_were(shape: ModelConfig) -> None:
    plain = create_model_from_config(shape, seed=1).eval()
    model = create_model_from_config(shape, seed=1).eval()
    add_adapters(model, LoraConfig(rank=4), seed=3, tokens=TOKENS)
    assert torch.equal(model(IDS), plain(IDS))
    model(IDS).square().sum().backward()
    learning = {name for name, p in model.named_parameters() if p.grad is not None and "lora_rows" in name}
    assert learning == {"lora_rows"}
    assert model.embedding.weight.grad is None
    changed = adapted(shape)
    weights = merged(changed.state_dict(), changed.adapters)
    for name in ("embedding.weight", "head.weight")[: 1 if shape.tie_word_embeddings else 2]:
        differ = (weights[name] != plain.state_dict()[name]).any(dim=1)
        assert differ.nonzero().flatten().tolist() == sorted(TOKENS)


@pytest.mark.parametrize("shape", [SHAPE, UNTIED, GPT2], ids=["qwen3", "head", "gpt2"])
def test_a_merged_model_computes_what_the_one_with_adapters_does(shape: ModelConfig) -> None:
    model = adapted(shape)
    plain = TransformerLM(shape)
    plain.load_state_dict(merged(model.state_dict(), model.adapters))
    torch.testing.assert_close(plain.eval()(IDS), model(IDS), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(create_model_from_config(shape, seed=1)(IDS), model(IDS), atol=1e-2)


def test_adapters_begin_with_the_same_numbers_for_a_seed_and_with_others_in_each_layer() -> None:
    def first(seed: int) -> list[torch.Tensor]:
        model = create_model_from_config(SHAPE, seed=1)
        add_adapters(model, LoraConfig(rank=4), seed=seed)
        return [p.detach() for n, p in model.named_parameters() if n.endswith("query.lora_down")]

    assert all(map(torch.equal, first(3), first(3)))
    assert not torch.equal(first(3)[0], first(4)[0])
    assert not torch.equal(first(3)[0], first(3)[1])


def test_the_dropout_of_adapters_acts_while_training_only() -> None:
    model = adapted(dropout=0.5)
    assert torch.equal(model(IDS), model(IDS))
    model.train()
    assert not torch.equal(model(IDS), model(IDS))


def test_adapters_are_added_once() -> None:
    with pytest.raises(
        ConfigError, match="has adapters of rank 4 already; load the one that they were added to anew"
    ):
        add_adapters(adapted(), LoraConfig(rank=2), seed=3)


def test_noise_is_bounded_by_alpha_over_the_root_of_the_length_of_each_conversation() -> None:
    lengths = [4, 12, 16]
    positions = torch.stack([torch.cat([torch.arange(4), torch.arange(12)]), torch.arange(16)])
    torch.manual_seed(1)
    noise = noise_like(torch.zeros(2, 16, 1024), positions, alpha=5.0)
    parts = [noise[0, :4], noise[0, 4:], noise[1]]
    for length, part in zip(lengths, parts, strict=True):
        bound = 5.0 / (length * 1024) ** 0.5
        assert bound * 0.999 < part.abs().max() <= bound
        assert part.mean().abs() < bound * 0.05
        assert part.std() == pytest.approx(bound / 3**0.5, rel=0.03)  # of a uniform distribution


def test_noise_is_added_while_training_only_and_under_the_random_state_of_the_step() -> None:
    model = create_model_from_config(SHAPE, seed=1).eval()
    without = model(IDS)
    model.embedding_noise = 5.0
    assert torch.equal(model(IDS), without)
    model.train()
    torch.manual_seed(1)
    noisy = model(IDS)
    torch.manual_seed(1)
    assert torch.equal(model(IDS), noisy)
    assert not torch.allclose(noisy, without, atol=1e-3)
