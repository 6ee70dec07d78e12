import pytest
import torch

from core.errors import ConfigError
from core.training_config import InstructionConfig, TrainingConfig
from training import compiling
from training.compiling import PAYS_AFTER_SECONDS, should_compile

CPU = torch.device("cpu")


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "compile_problem", lambda device: None)


def test_a_run_is_compiled_unless_told_otherwise(working: None) -> None:
    for config in (TrainingConfig(), InstructionConfig()):
        assert should_compile(config.compile, CPU, expected_seconds=160)


def test_a_run_too_short_to_win_by_it_is_not_compiled(working: None) -> None:
    assert not should_compile("auto", CPU, expected_seconds=PAYS_AFTER_SECONDS - 1)
    assert should_compile("on", CPU, expected_seconds=1)


def test_where_it_does_not_work_auto_goes_on_without_and_on_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiling, "compile_problem", lambda device: "no g++")
    assert not should_compile("auto", CPU, expected_seconds=1e6)
    with pytest.raises(ConfigError, match=r"training\.compile: on, but .*no g\+\+.*leave it at auto"):
        should_compile("on", CPU, expected_seconds=1e6)
