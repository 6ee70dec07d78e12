import doctest
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_shapes import GPT2, LLAMA, SHAPES, random_ids
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import models.counting
from core.config_files import CONFIG_ROOT
from core.errors import ConfigError
from core.training_config import ModelConfig
from models.counting import count_parameters, flops_per_token
from models.transformer_lm import TransformerLM, create_model_from_config


def real_model(config: ModelConfig) -> TransformerLM:
    with torch.device("meta"):
        return TransformerLM(config)


def number_in(module: torch.nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from([{}, LLAMA, {**LLAMA, "use_bias": True}, GPT2]),
    layers=st.integers(1, 3),
    groups=st.sampled_from([1, 2, 4]),
    head_size=st.sampled_from([2, 16, 34]),
    inner_size=st.none() | st.integers(8, 300),
    vocabulary=st.integers(8, 500),
    tied=st.booleans(),
)
def test_the_count_is_that_of_the_real_model_part_by_part(
    kind: dict[str, object],
    layers: int,
    groups: int,
    head_size: int,
    inner_size: int | None,
    vocabulary: int,
    tied: bool,
) -> None:
    config = ModelConfig.from_dict(
        {
            "hidden_size": 4 * head_size,
            "num_layers": layers,
            "num_attention_heads": 4,
            "num_kv_heads": 4 if kind is GPT2 else groups,
            "intermediate_size": inner_size,
            "vocab_size": vocabulary,
            "tie_word_embeddings": tied,
            **kind,
        }
    )
    count, model = count_parameters(config), real_model(config)
    block = model.blocks[0]
    assert count.total == number_in(model)
    assert count.embedding == number_in(model.embedding)
    assert count.position_embedding == number_in(model.position_embedding)
    assert count.per_layer == number_in(block)
    assert count.attention_per_layer == number_in(block.attention)
    assert count.feed_forward_per_layer == number_in(block.feed_forward)
    assert count.final_norm == number_in(model.final_norm)
    assert count.head == number_in(model.head)


@pytest.mark.parametrize("shape", ["qwen3-grouped", "llama-untied", "gpt2"])
def test_flops_are_what_the_operations_of_a_step_add_up_to(shape: str) -> None:
    config = SHAPES[shape]
    model, (B, T) = create_model_from_config(config, seed=0), (2, 64)
    # The plain kernel does each product once; others repeat some in the backward pass.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(random_ids(config, B, T)).sum().backward()
    counted = counter.get_total_flops() / (B * T)
    # N also holds norms and biases, which are no products: under 2 % in these small shapes.
    assert flops_per_token(config, context=T) == pytest.approx(counted, rel=0.02)


def test_gpt2_has_its_published_number_of_parameters() -> None:
    config = ModelConfig.from_dict(
        {
            "hidden_size": 768,
            "num_layers": 12,
            "num_attention_heads": 12,
            "vocab_size": 50257,
            "max_position_embeddings": 1024,
            **GPT2,
        }
    )
    assert count_parameters(config).total == 124_439_808


def test_a_null_vocabulary_cannot_be_counted() -> None:
    with pytest.raises(ConfigError, match=r"model\.vocab_size is null"):
        count_parameters(ModelConfig())


def test_counting_does_not_load_torch() -> None:
    code = "import sys, models.counting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=CONFIG_ROOT.parent).returncode == 0


def test_the_example_in_the_documentation_is_right() -> None:
    result = doctest.testmod(models.counting)
    assert result.attempted > 0 and result.failed == 0
