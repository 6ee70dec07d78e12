import json
from pathlib import Path

import pytest

from core.config import parse_overrides
from core.config_files import CONFIG_ROOT, load_config, read_sections
from core.errors import ConfigError
from core.training_config import DataConfig, ModelConfig, TrainingConfig


def shipped() -> list[str]:
    return sorted(path.name for path in CONFIG_ROOT.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_directory_loads(name: str) -> None:
    config = load_config(CONFIG_ROOT / name)
    assert config.model.max_position_embeddings > 0


def test_the_default_directory_fits_the_machine_by_way_of_a_preset() -> None:
    small, large = (load_config(CONFIG_ROOT, preset_for_auto=name) for name in ("laptop", "medium"))
    assert small.model.hidden_size < large.model.hidden_size
    assert small.data.corpus == large.data.corpus == "auto"


def test_a_preset_asked_for_on_the_command_line_wins_over_the_files_and_loses_to_other_overrides() -> None:
    overrides = parse_overrides(["run.preset=tiny", "model.num_layers=3"])
    config = load_config(CONFIG_ROOT / "quickstart", overrides)
    tiny = load_config(CONFIG_ROOT / "tiny")
    assert config.model.hidden_size == tiny.model.hidden_size
    assert config.model.num_layers == 3
    assert config.run.name == "quickstart"


def test_a_missing_directory_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no such configuration directory or file; did you mean 'quickstart'"
    ):
        read_sections(tmp_path / "quikstart")


def test_a_file_that_is_no_section_is_named(tmp_path: Path) -> None:
    (tmp_path / "trainign_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"did you mean 'training_config\.json'"):
        read_sections(tmp_path)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no <section>_config\.json"):
        read_sections(tmp_path)


def test_one_file_of_sections_does_as_well_as_a_directory(tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    file.write_text(json.dumps({"model": {"num_layers": 2}}), encoding="utf-8")
    assert load_config(file).model.num_layers == 2


def test_the_documented_classes_read_their_own_files() -> None:
    assert ModelConfig.from_file(CONFIG_ROOT / "quickstart" / "model_config.json").hidden_size > 0
    assert TrainingConfig.from_file(CONFIG_ROOT / "quickstart" / "training_config.json").batch_size > 0
    assert DataConfig.from_file(CONFIG_ROOT / "quickstart" / "data_config.json").tokenizer_vocab_size > 0


@pytest.mark.parametrize(
    "overrides",
    [["training.total_steps=5"], ["run.preset=quickstart"], ["run.preset=quickstart", "training.epochs=2"]],
)
def test_the_last_word_on_the_length_counts(tmp_path: Path, overrides: list[str]) -> None:
    file = tmp_path / "all.json"
    file.write_text(json.dumps({"training": {"total_steps": 7}}), encoding="utf-8")
    training = load_config(file, parse_overrides(overrides)).training
    given = [
        name
        for name in ("total_steps", "epochs", "time_budget_seconds")
        if getattr(training, name) is not None
    ]
    expected = {"training.total_steps=5": "total_steps", "run.preset=quickstart": "time_budget_seconds"}
    assert given == [expected.get(overrides[-1], "epochs")]


def test_no_preset_can_be_asked_for() -> None:
    config = load_config(CONFIG_ROOT, parse_overrides(["run.preset=null"]), preset_for_auto="laptop")
    assert config.model == ModelConfig()
