import re
import typing

import pytest

from core.config import Config
from core.errors import ConfigError
from core.training_config import (
    DataConfig,
    InstructionConfig,
    ModelConfig,
    OptimizationConfig,
    PipelineConfig,
    TrainingConfig,
)

SECTIONS = [field.annotation for field in PipelineConfig.model_fields.values()]
UNITS = re.compile(
    r"\b(tokens?|features|steps?|rows?|bytes|characters|documents|seconds|share|number|passes|dimensionless|factor|"
    r"probability|batches|layers?|norm|learning rate)\b",
    re.IGNORECASE,
)


def numeric_settings() -> list[tuple[type[Config], str]]:
    found: list[tuple[type[Config], str]] = []
    sections = list(SECTIONS)
    for section in sections:  # grows as sections within sections are found
        assert isinstance(section, type)
        sections += [
            field.annotation
            for field in section.model_fields.values()
            if isinstance(field.annotation, type) and issubclass(field.annotation, Config)
        ]
        for name, field in section.model_fields.items():
            members = typing.get_args(field.annotation) or (field.annotation,)
            is_table = typing.get_origin(field.annotation) is dict
            if not is_table and (int in members or float in members):
                found.append((section, name))
    return found


@pytest.mark.parametrize(("section", "name"), numeric_settings(), ids=lambda v: getattr(v, "__name__", v))
def test_every_number_has_a_unit_and_a_range(section: type[Config], name: str) -> None:
    row = next(row for row in section.settings_help() if row.key == name)
    assert UNITS.search(row.description), row.description
    assert re.search(r"\[(≥|>) .*, (≤|<) ", row.description), row.description


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"hidden_size": 250, "num_attention_heads": 4},
            "hidden_size 250 is not divisible by num_attention_heads 4",
        ),
        (
            {"num_attention_heads": 4, "num_kv_heads": 3},
            "num_attention_heads 4 is not divisible by num_kv_heads 3",
        ),
        ({"head_dim": 33}, "even number of features a head, found 33"),
        (
            {"use_qk_norm": False, "num_attention_heads": 3, "head_dim": 32},
            "Llama loads only where hidden_size 256",
        ),
        ({"use_swiglu": False}, "all true .* or all false"),
        ({"use_bias": True}, "use_bias and use_qk_norm exclude each other"),
        (
            {"use_rms_norm": False, "use_swiglu": False, "use_rope_embeddings": False, "use_qk_norm": False},
            "the GPT-2 shape: use_bias must be true",
        ),
    ],
)
def test_a_shape_that_cannot_be_is_refused_with_the_reason(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(settings)


def test_the_switches_name_the_architecture() -> None:
    gpt2 = {"use_rms_norm": False, "use_swiglu": False, "use_rope_embeddings": False, "use_qk_norm": False}
    assert ModelConfig().architecture == "qwen3"
    assert ModelConfig(use_qk_norm=False).architecture == "llama"
    assert ModelConfig.from_dict({**gpt2, "use_bias": True}).architecture == "gpt2"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {"train_split": 0.5}}, r"train_split \+ val_split \+ test_split must be 1, found 0.6"),
        (
            {"data": {"min_text_length": 10, "max_text_length": 5}},
            "max_text_length 5 is below min_text_length 10",
        ),
        ({"data": {"stride": 256}}, r"data\.stride 256 must be below model\.max_position_embeddings 256"),
        ({"model": {"vocab_size": 1000}}, r"model\.vocab_size 1000 is below data\.tokenizer_vocab_size 8192"),
        ({"training": {"total_steps": 10, "epochs": 2}}, "total_steps and epochs both say how long"),
        ({"training": {"total_steps": 10, "warmup_steps": 11}}, "warmup_steps 11 is above total_steps 10"),
        ({"training": {"min_learning_rate": 1.0}}, "min_learning_rate 1.0 is above learning_rate"),
        ({"training": {"device": "tpu"}}, r'training\.device: .*pattern.*found "tpu"'),
        ({"run": {"name": "a/b"}}, r"run\.name"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PipelineConfig.from_dict(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_characters": 5}, r"'max_characters'; did you mean 'data\.max_text_length', 'data\.quality\."),
        ({"quality": {"rules": ["c4"]}}, r"'quality\.rules'; did you mean 'data\.quality\.rules'\?"),
        (
            {"learning_rate": 1},
            r"'learning_rate'; did you mean 'training\.learning_rate', 'instruction\.learning_rate' or 'preference\.",
        ),
        ({"data": {"language": {"keep": []}}}, r"'data\.language'; did you mean 'languages'\?"),
        ({"data": {"max_position_embeddings": 9}}, r"did you mean 'model\.max_position_embeddings'\?"),
        (
            {"batchsize": 4},
            r"did you mean 'training\.batch_size', 'instruction\.batch_size' or 'preference\.batch_",
        ),
    ],
)
def test_an_unknown_setting_is_looked_for_in_all_sections(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PipelineConfig.from_dict(settings)


def test_an_empty_path_is_no_path_and_the_current_directory_is_one() -> None:
    for section, name in (
        ("data", "cache_dir"),
        ("data", "output_dir"),
        ("tokenizer", "path"),
        ("run", "dir"),
    ):
        with pytest.raises(
            ConfigError, match=rf"^{section}\.{name}: is empty; set it to null to leave it unset$"
        ):
            PipelineConfig.from_dict({section: {name: ""}})
    for name, default in (("text_field", "text"), ("raw_dir", "data/datasets/raw")):
        with pytest.raises(
            ConfigError, match=rf'^data\.{name}: is empty; leave it out for the default, "{default}"$'
        ):
            PipelineConfig.from_dict({"data": {name: ""}})
    assert PipelineConfig.from_dict({"data": {"raw_dir": "."}}).data.raw_dir.is_dir()


def test_languages_are_taken_in_any_case() -> None:
    config = PipelineConfig.from_dict({"data": {"languages": {"keep": ["EN", "de", "Und"]}}})
    assert config.data.languages.keep == ("en", "de", "und")


def test_mixed_precision_takes_the_switch_of_other_trainers() -> None:
    assert TrainingConfig.from_dict({"mixed_precision": True}).mixed_precision == "auto"
    assert TrainingConfig.from_dict({"mixed_precision": False}).mixed_precision == "fp32"


def test_gradient_checkpointing_takes_the_switch_of_other_trainers() -> None:
    assert TrainingConfig.from_dict({"gradient_checkpointing": True}).gradient_checkpointing == "full"
    assert TrainingConfig.from_dict({"gradient_checkpointing": False}).gradient_checkpointing == "none"
    with pytest.raises(ConfigError, match="'none', 'selective' or 'full', found \"some\""):
        TrainingConfig.from_dict({"gradient_checkpointing": "some"})


def test_the_documented_keys_are_settings() -> None:
    assert {
        "hidden_size",
        "num_layers",
        "num_attention_heads",
        "num_kv_heads",
        "vocab_size",
        "max_position_embeddings",
        "use_rms_norm",
        "use_swiglu",
        "use_rope_embeddings",
    } <= set(ModelConfig.model_fields)
    assert {
        "batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "total_steps",
        "warmup_steps",
        "save_steps",
        "eval_steps",
        "save_total_limit",
        "mixed_precision",
        "gradient_checkpointing",
        "device",
    } <= set(TrainingConfig.model_fields)
    assert {
        "min_text_length",
        "max_text_length",
        "tokenizer_vocab_size",
        "train_split",
        "val_split",
        "test_split",
        "max_urls_per_document",
    } <= set(DataConfig.model_fields)


def test_where_and_how_often_stay_out_of_the_fingerprint_and_what_is_learned_does_not() -> None:
    settings = InstructionConfig().fingerprint_settings()
    assert not {"output_dir", "save_steps", "eval_steps", "wandb", "logging_steps"} & settings.keys()
    assert {
        "learning_rate",
        "batch_size x gradient_accumulation_steps",
        "seed",
        "total_steps",
        "data",
        "document_masking",
    } <= settings.keys()
    assert "device" not in TrainingConfig().fingerprint_settings()
    assert issubclass(InstructionConfig, OptimizationConfig)
