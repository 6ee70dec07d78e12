"""A plan is made once, from the corpus that was collected, kept, and read again."""

import json
from pathlib import Path
from typing import Any

import pytest

import pipeline.run_plan
from core.config import merge
from core.errors import ConfigError, CorruptArtifactError
from core.stage import Selection
from core.training_config import PipelineConfig
from pipeline.plan_page import plan_page
from pipeline.run import plan_line, train_llm_from_scratch
from pipeline.run_plan import PLAN_FILE
from tests.line_kit import settings, write_inputs
from training.planner import SECONDS_AROUND_A_TRAINING
from training.speed_probe import Speed

UNTIL_TOKENIZER = Selection(until="tokenizer")


def budgeted(root: Path, **changes: Any) -> PipelineConfig:
    """The line of the other tests, with nothing said of model, batch and length."""
    values = settings(root)
    del values["model"], values["data"]["tokenizer_vocab_size"]
    values["training"] = {"mixed_precision": "fp32"}
    values["instruction"] = {"data": values["instruction"]["data"]}
    return PipelineConfig.from_dict(merge(merge(values, {"run": {"time_budget": "60s"}}), changes))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many shapes were to be measured, each time; the machine's own speed takes no part."""
    calls: list[int] = []

    def pretend(shapes: Any, *_: Any, **__: Any) -> Speed:
        calls.append(len(shapes))
        return Speed({128: 1e11, 512: 2e11})

    monkeypatch.setattr(pipeline.run_plan, "measure_speed", pretend)
    return calls


def test_a_plan_is_made_from_the_corpus_kept_and_used_again(tmp_path: Path, measured: list[int]) -> None:
    write_inputs(tmp_path)
    first = train_llm_from_scratch(budgeted(tmp_path), selection=UNTIL_TOKENIZER)
    kept = (tmp_path / "run" / PLAN_FILE).read_bytes()
    record = json.loads(kept)
    assert record["data"]["origin"] == "collected"
    assert record["data"]["text_bytes"] == first.artifacts["collect"].metrics["bytes_kept"]
    assert len(record["considered"]) > 5
    assert first.config.model.hidden_size == record["choices"]["model"]["hidden_size"]
    seconds = first.config.training.time_budget_seconds, first.config.instruction.time_budget_seconds
    assert None not in seconds
    assert sum(filter(None, seconds)) + 2 * SECONDS_AROUND_A_TRAINING == pytest.approx(60, abs=2)

    actions: list[str] = []
    again = train_llm_from_scratch(
        budgeted(tmp_path),
        selection=UNTIL_TOKENIZER,
        announce=lambda decision: actions.append(decision.action),
    )
    assert actions[:2] == ["reuse", "reuse"]
    assert again.config == first.config
    assert (tmp_path / "run" / PLAN_FILE).read_bytes() == kept
    assert len(measured) == 1

    # How often to save is no wish of another model; another time is.
    train_llm_from_scratch(budgeted(tmp_path, training={"save_steps": 7}), selection=UNTIL_TOKENIZER)
    assert len(measured) == 1
    train_llm_from_scratch(budgeted(tmp_path, run={"time_budget": "2h"}), selection=UNTIL_TOKENIZER)
    assert len(measured) == 2
    assert (tmp_path / "run" / PLAN_FILE).read_bytes() != kept


def test_asking_for_the_plan_guesses_from_raw_files_and_writes_nothing(
    tmp_path: Path, measured: list[int]
) -> None:
    write_inputs(tmp_path)
    page = plan_page(*plan_line(budgeted(tmp_path, model={"hidden_size": 128})))
    assert not (tmp_path / "run").exists()
    for expected in (
        "at the peak",
        "weights ",
        "gradients ",
        "optimizer ",
        "activations ",
        "loss ",
        "checkpoint copy ",
        "s of pretraining",
        "FLOPs",
        "bits per byte, if the text is like Python's standard library",
    ):
        assert expected in page


def test_a_model_that_does_not_fit_says_what_to_change(
    tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_inputs(tmp_path)
    monkeypatch.setattr(pipeline.run_plan, "USABLE_SHARE", 1e-3)
    with pytest.raises(
        ConfigError, match=r"^run\.time_budget: no model fits .*; set a smaller model\.hidden"
    ):
        plan_line(budgeted(tmp_path, model={"hidden_size": 128}))


def test_a_plan_that_cannot_be_read_is_named(tmp_path: Path, measured: list[int]) -> None:
    write_inputs(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / PLAN_FILE).write_text("{")
    with pytest.raises(CorruptArtifactError, match=rf"{PLAN_FILE}: is no plan .*; delete it"):
        plan_line(budgeted(tmp_path))
