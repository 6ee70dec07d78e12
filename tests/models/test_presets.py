import pytest
import torch

from core.config_files import CONFIG_ROOT, load_config
from models.counting import count_parameters
from models.transformer_lm import TransformerLM

MILLION, BILLION = 10**6, 10**9
DOCUMENTED_PARAMETERS = {
    "tiny": 20 * MILLION,
    "50m": 50 * MILLION,
    "75m": 75 * MILLION,
    "small": 125 * MILLION,
    "150m": 150 * MILLION,
    "medium": 350 * MILLION,
    "large": 800 * MILLION,
    "xl": 1.5 * BILLION,
    "7b": 7 * BILLION,
    "gpt2-124m": 124_439_808,
}
STEP_TOKENS = {"tiny": 65_536, "50m": 131_072, "75m": 131_072}
"""Tokens in one step of the small ones; the others have half a million, as GPT-3's up to 760M (Brown et al. 2020)."""


@pytest.mark.parametrize("name", DOCUMENTED_PARAMETERS)
def test_a_preset_has_its_documented_size(name: str) -> None:
    config = load_config(CONFIG_ROOT / name)
    total = count_parameters(config.model).total
    assert total == pytest.approx(DOCUMENTED_PARAMETERS[name], rel=0.03)
    with torch.device("meta"):
        model = TransformerLM(config.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == total


def test_gpt2_is_exactly_gpt2() -> None:
    config = load_config(CONFIG_ROOT / "gpt2-124m").model
    assert config.architecture == "gpt2"
    assert count_parameters(config).total == 124_439_808


@pytest.mark.parametrize("name", DOCUMENTED_PARAMETERS)
def test_a_preset_trains_the_vocabulary_that_its_model_has(name: str) -> None:
    config = load_config(CONFIG_ROOT / name)
    assert config.data.tokenizer_vocab_size == config.model.vocab_size


@pytest.mark.parametrize("name", DOCUMENTED_PARAMETERS)
def test_a_step_of_a_preset_has_its_documented_number_of_tokens(name: str) -> None:
    config = load_config(CONFIG_ROOT / name)
    training = config.training
    rows = training.batch_size * training.gradient_accumulation_steps
    assert rows * config.model.max_position_embeddings == STEP_TOKENS.get(name, 524_288)


def test_wider_presets_with_muon_learn_more_slowly_and_end_at_zero() -> None:
    configs = [load_config(CONFIG_ROOT / name) for name in DOCUMENTED_PARAMETERS if name != "gpt2-124m"]
    configs.sort(key=lambda config: config.model.hidden_size)
    assert {config.training.optimizer for config in configs} == {"muon"}
    rates = [config.training.learning_rate for config in configs]
    assert rates == sorted(rates, reverse=True)
    assert {config.training.min_learning_rate for config in configs} == {0.0}


def test_gpt2_is_trained_as_it_was() -> None:
    training = load_config(CONFIG_ROOT / "gpt2-124m").training
    assert (training.optimizer, training.schedule) == ("adamw", "cosine")
    assert training.min_learning_rate == pytest.approx(training.learning_rate / 10)
