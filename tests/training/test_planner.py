"""What is chosen for a budget: given speed and data by hand, so that no clock takes part."""

import pytest

from core.config_files import CONFIG_ROOT, load_config
from core.errors import ConfigError
from core.training_config import ModelConfig, PipelineConfig
from models.counting import flops_per_token
from training.planner import (
    DataFacts,
    candidate_shapes,
    candidates,
    check_budget,
    choices_for,
    learning_rate_for,
    making_up_for,
    tokens_a_step,
    tuning_passes,
    vocabulary_for,
)
from training.speed_probe import Speed

LAPTOP = Speed({128: 0.9e11, 256: 1.2e11, 512: 1.6e11})


def config(**sections: dict[str, object]) -> PipelineConfig:
    return PipelineConfig.from_dict({"run": {"time_budget": "10m"}, **sections})


def facts(text_bytes: float | None = 1e7, instruction_bytes: int | None = None) -> DataFacts:
    return DataFacts(text_bytes, instruction_bytes, "given")


def test_every_shape_is_one_that_other_tools_load() -> None:
    for shape in candidate_shapes(config(), vocabulary=8192):
        assert shape.hidden_size % 64 == 0
        assert shape.features_per_head in (64, 128)
        assert shape.features_per_head * shape.num_attention_heads == shape.hidden_size
        assert shape.num_layers == max(3, round(shape.hidden_size / 64))
        assert shape.architecture == "qwen3"


def test_more_time_never_chooses_a_smaller_model_or_promises_a_higher_loss() -> None:
    chosen = [
        candidates(config(), facts(None), LAPTOP, budget_seconds=seconds)[0]
        for seconds in (30, 300, 3000, 30_000, 300_000, 3_000_000)
    ]
    sizes = [one.num_parameters for one in chosen]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 8 * sizes[0]
    losses = [one.loss for one in chosen]
    assert losses == sorted(losses, reverse=True)


def test_the_best_is_the_lowest_loss_of_all_shapes_to_a_thousandth() -> None:
    found = candidates(config(), facts(1e9), LAPTOP, budget_seconds=36_000)
    lowest = min(one.loss for one in found)
    assert found[0].loss <= lowest * 1.001
    assert all(one.num_parameters >= found[0].num_parameters for one in found if one.loss <= lowest * 1.001)


def test_little_text_is_read_more_often_and_gets_no_larger_model() -> None:
    little, much = (
        candidates(config(data={"tokenizer_vocab_size": 4096}), facts(size), LAPTOP, budget_seconds=36_000)[0]
        for size in (1e6, 1e9)
    )
    assert little.passes > 4 > much.passes
    assert little.num_parameters <= much.num_parameters


def test_time_is_split_and_none_is_left_over() -> None:
    for text, instructions in ((1e7, 150_000), (1e8, 100_000_000)):
        found = candidates(config(), facts(text, instructions), LAPTOP, budget_seconds=600)[0]
        assert found.pretraining_seconds + found.tuning_seconds == pytest.approx(600)
        assert 0 < found.tuning_seconds <= 0.58 * 600
    assert candidates(config(), facts(), LAPTOP, budget_seconds=600)[0].tuning_seconds == 0


def test_what_is_given_is_kept_and_the_rest_planned_around_it() -> None:
    given = config(
        model={"hidden_size": 192, "num_attention_heads": 6},
        training={"batch_size": 3, "time_budget_seconds": 100.0},
        data={"tokenizer_vocab_size": 3000},
    )
    found = candidates(given, facts(1e7, 150_000), LAPTOP, budget_seconds=600)
    assert {one.shape.hidden_size for one in found} == {192}
    assert (found[0].pretraining_seconds, found[0].tuning_seconds) == (100.0, 500.0)
    choices = choices_for(found[0], given, micro_batch_tokens=16_384)
    assert choices["model"].keys() == {"num_layers", "max_position_embeddings"}
    assert not {"batch_size", "time_budget_seconds"} & choices["training"].keys()
    assert choices["instruction"]["time_budget_seconds"] == 500.0
    planned = given.replace(**choices)
    assert (planned.model.num_attention_heads, planned.training.batch_size) == (6, 3)
    assert planned.data.tokenizer_vocab_size == 3000


def test_a_width_that_no_head_size_divides_still_has_a_shape() -> None:
    (shape,) = candidate_shapes(config(model={"hidden_size": 200}), vocabulary=1024)
    assert shape.hidden_size == 200


def test_the_vocabulary_grows_with_the_text() -> None:
    sizes = [vocabulary_for(config(), facts(size)) for size in (1e5, 1e6, 1e7, 1e8, 1e9, 1e10, None)]
    assert sizes == sorted(sizes)
    assert sizes[2] == 4096  # the quickstart's


def test_batch_and_learning_rate_meet_what_was_found_by_experiment() -> None:
    assert (tokens_a_step(1e6, "adamw"), tokens_a_step(1e6, "muon")) == (1024, 2048)
    shape = ModelConfig(vocab_size=4096)
    assert learning_rate_for(shape, 1e6, 1024) == pytest.approx(0.003, rel=0.3)
    assert tuning_passes(55_000) == pytest.approx(22)
    assert tuning_passes(1e9) == 3


def test_a_step_of_more_tokens_than_fit_is_accumulated_to_the_same_batch() -> None:
    found = candidates(config(), facts(None), LAPTOP, budget_seconds=3_000_000)[0]
    rows = {}
    for most in (2048, 65_536):
        training = choices_for(found, config(), micro_batch_tokens=most)["training"]
        rows[most] = training["batch_size"] * training["gradient_accumulation_steps"]
        assert training["batch_size"] * found.shape.max_position_embeddings <= most
    assert rows[2048] == pytest.approx(rows[65_536], rel=0.2)


def test_between_measured_widths_the_speed_is_between() -> None:
    narrow, wide = ModelConfig(vocab_size=64, hidden_size=256), ModelConfig(vocab_size=64, hidden_size=512)
    between = wide.replace(hidden_size=384)

    def flops_per_second(shape: ModelConfig) -> float:
        return flops_per_token(shape, context=256) / LAPTOP.seconds_per_token(shape)

    assert flops_per_second(narrow) == pytest.approx(1.2e11)
    assert 1.2e11 < flops_per_second(between) < 1.6e11
    assert flops_per_second(wide.replace(hidden_size=4096)) == pytest.approx(1.6e11)


def test_a_part_that_takes_the_whole_budget_is_refused() -> None:
    given = config(training={"time_budget_seconds": 700.0})
    with pytest.raises(
        ConfigError, match=r"training\.time_budget_seconds 700 leaves nothing of run\.time_budget"
    ):
        check_budget(given, 600, facts(1e7, 1000))


@pytest.mark.parametrize("text", ["10", "m", "10 m", "0s", "-3m", "1w", "1h30m"])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.time_budget: .* is no time; give .* 90s, 10m, 2h or 3d"):
        PipelineConfig.from_dict({"run": {"time_budget": text}})


def test_times_are_read_in_their_units() -> None:
    for text, seconds in (("90s", 90), ("10m", 600), ("1.5h", 5400), ("3d", 259_200)):
        assert config(run={"time_budget": text}).run.time_budget_seconds == seconds


def test_a_second_length_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"run\.time_budget 10m and training\.total_steps both say how long"
    ):
        config(training={"total_steps": 5})


def test_the_budget_replaces_lengths_and_the_automatic_preset() -> None:
    overrides = {"run": {"time_budget": "3m"}}
    quick = load_config(CONFIG_ROOT / "quickstart", overrides)
    assert quick.training.time_budget_seconds is quick.instruction.time_budget_seconds is None
    assert quick.model.hidden_size == 128
    assert "hidden_size" in quick.model.model_fields_set
    plain = load_config(CONFIG_ROOT, overrides, preset_for_auto="laptop")
    assert "hidden_size" not in plain.model.model_fields_set
    named = load_config(CONFIG_ROOT, {"run": {"time_budget": "3m", "preset": "laptop"}})
    assert "hidden_size" in named.model.model_fields_set


@pytest.mark.parametrize(
    ("took", "left"), [(70.0, 30.0), (98.5, 23.0), (101.5, 20.0), (105.5, 16.0), (160.0, 10.0)]
)
def test_tuning_makes_up_for_what_pretraining_took_too_long_or_left_over_up_to_half_of_its_time(
    took: float, left: float
) -> None:
    config = PipelineConfig.from_dict(
        {
            "run": {"time_budget": "2m"},
            "training": {"time_budget_seconds": 100.0},
            "instruction": {"time_budget_seconds": 20.0},
        }
    )
    assert making_up_for(config, took).instruction.time_budget_seconds == left
    unplanned = config.replace(run=config.run.replace(time_budget=None))
    assert making_up_for(unplanned, took) == unplanned
