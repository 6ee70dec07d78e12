"""What tuning can be asked for, through the whole line: several files, replay, adapters, a better stop."""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.config import merge
from core.config_files import load_config
from core.errors import ConfigError, DataError, MismatchError, StaleArtifactError
from core.manifest import write_manifest
from core.stage import Selection
from data_processing.rows.token_rows import TokenRows
from inference.model_directory import find_model
from pipeline.closing_page import closing_page
from pipeline.part_names import check_part_names
from pipeline.preflight import check_named_files
from pipeline.repairing import repair_rows
from pipeline.run import TrainedLine, resolve_config, train_llm_from_scratch, tune_pretrained_model
from pipeline.run_plan import _instruction_bytes
from pipeline.stages import line
from tests.line_kit import TRAINING, settings
from tokenization.tokenizer import Tokenizer


@pytest.fixture
def run(trained: tuple[Path, TrainedLine], tmp_path: Path) -> Path:
    """The finished run, to be changed: its raw files are where they were."""
    root = tmp_path / "line"
    shutil.copytree(trained[0], root)
    lines = [json.dumps({"instruction": f"Add {n}.", "response": f"It is {n}."}) for n in range(20)]
    (root / "more.jsonl").write_text("\n".join(lines) + "\n")
    return root


def tuned(
    root: Path, trained: tuple[Path, TrainedLine], *, rebuild: bool = True, **instruction: Any
) -> TrainedLine:
    """The line again with these settings of tuning; what comes before is reused."""
    values = settings(
        trained[0], run={"dir": str(root / "run")}, instruction={"total_steps": 6, **instruction}
    )
    chosen = frozenset({"instructions", "finetune"}) if rebuild else frozenset()
    return train_llm_from_scratch(values, selection=Selection(until="finetune", rebuild=chosen))


def test_files_are_mixed_by_weight_text_is_replayed_and_adapters_are_saved(run, trained, caplog) -> None:
    caplog.set_level(logging.INFO)
    asked = {
        "more_data": {str(run / "more.jsonl"): 2.0},
        "replay_share": 0.25,
        "lora": {"rank": 2},
        "embedding_noise": 5.0,
    }
    result = tuned(run, trained, **asked)
    report = result.artifacts["instructions"].metrics
    assert report["records"] == 80
    assert report["repeats"] == 20 - _validated(run, "Add ")
    final = result.artifacts["finetune"].directory / "final"
    assert (final / "adapter" / "adapter_model.safetensors").is_file()
    recipe = json.loads((final.parent / "MANIFEST.json").read_text())["recipe"]
    assert recipe["settings"]["instruction.lora"] == {"rank": 2, "alpha": 16.0, "dropout": 0.0}
    assert recipe["inputs"]["dataset"] == result.artifacts["dataset"].fingerprint
    assert "going on from" not in caplog.text
    settings_of_peft = json.loads((final / "adapter" / "adapter_config.json").read_text())
    tokenizer = Tokenizer.from_file(final)
    assert settings_of_peft["trainable_token_indices"] == sorted(
        [tokenizer.end_id, *tokenizer.role_ids.values()]
    )
    with pytest.raises(StaleArtifactError, match=r"instruction\.replay_share: was 0\.25, now 0\.5"):
        tuned(run, trained, rebuild=False, **{**asked, "replay_share": 0.5})
    with pytest.raises(StaleArtifactError, match="more instruction files: was"):
        tuned(run, trained, rebuild=False, **{**asked, "more_data": {str(run / "more.jsonl"): 1.0}})


def _validated(run: Path, beginning: str) -> int:
    rows = TokenRows(run / "run" / "instructions" / "validation")
    tokenizer = Tokenizer.from_file(run / "run" / "tokenizer")
    return sum(tokenizer.decode(rows.tokens(index).tolist()).count(beginning) for index in range(len(rows)))


def test_settings_of_tuning_that_are_off_leave_a_finished_run_as_it_is(run, trained, caplog) -> None:
    """A run that was made before there were such settings has a recipe without them."""
    path = run / "run" / "finetune" / "MANIFEST.json"
    manifest = json.loads(path.read_text())
    asked = manifest["recipe"]["settings"]
    for name in ("embedding_noise", "replay_share"):
        assert asked.pop(f"instruction.{name}") is None
    assert not {name for name in asked if "lora" in name or "more_data" in name}
    path.write_text(json.dumps(manifest))
    caplog.set_level(logging.INFO)
    values = settings(trained[0], run={"dir": str(run / "run")})
    train_llm_from_scratch(values, selection=Selection(until="finetune"))
    assert re.search(r"finetune +reuse", caplog.text)


def test_a_file_of_records_that_is_missing_or_bad_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": 1}\n')
    for name, what in (("none.jsonl", "no such file"), ("bad.jsonl", "none of the 1 records can be used")):
        config = resolve_config({"instruction": {"more_data": {str(tmp_path / name): 1.0}}})
        with pytest.raises(DataError, match=f"instruction.more_data.*{what}"):
            check_named_files(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"more_data": {"a.jsonl": 0}}, r"more_data: 'a\.jsonl' has the weight 0, expected above 0 to 100"),
        ({"data": "a.jsonl", "more_data": {"a.jsonl": 1}}, "'a.jsonl' is data already; name each file once"),
        ({"replay_dataset": "d"}, "replay_dataset is given and replay_share is null"),
        (
            {"lora": {"rank": 4}, "mixed_precision": "fp8"},
            "lora.rank and mixed_precision=fp8 exclude each other",
        ),
        ({"replay_share": 0.95}, "replay_share: expected 0.9 or less"),
        ({"lora": {"rank": 0}}, "lora.rank: expected 1 or more"),
    ],
)
def test_impossible_settings_of_tuning_are_explained(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, {"instruction": values})


def test_rows_of_another_length_are_not_replayed(run, trained) -> None:
    other = settings(trained[0], run={"dir": str(run / "other")}, model={"max_position_embeddings": 32})
    train_llm_from_scratch(other, selection=Selection(until="dataset"))
    with pytest.raises(
        MismatchError, match="it has rows of 32 tokens and the rows to be learned have rows of 64 tokens"
    ):
        tuned(run, trained, replay_share=0.1, replay_dataset=str(run / "other" / "dataset"))


def test_a_model_that_is_there_replays_what_is_named_or_what_its_run_learned(run, trained) -> None:
    own = run / "run" / "pretrain" / "final"
    alone = shutil.copytree(own, run / "alone")

    def tune(name: str, model: Path = own, **instruction: Any) -> TrainedLine:
        values = settings(
            trained[0], run={"dir": str(run / name)}, instruction={"total_steps": 4, **instruction}
        )
        return tune_pretrained_model(resolve_config(values), pretrained_model=model)

    with pytest.raises(
        ConfigError, match=r"instruction\.replay_share=0\.5: .*alone lies in no run with a dataset; name"
    ):
        tune("one", alone, replay_share=0.5)
    with pytest.raises(
        DataError, match=r"instruction\.replay_dataset: .*run/train: not a split of a dataset.* is missing"
    ):
        tune("one", replay_share=0.5, replay_dataset=str(run / "run"))
    assert not (run / "one").exists()
    named = tune("two", alone, replay_share=0.5, replay_dataset=str(run / "run" / "dataset"))
    assert named.artifacts["finetune"].metrics["num_steps"] == 4
    found = tune("three", replay_share=0.5)
    weights = [(each.model_directory / "model.safetensors").read_bytes() for each in (named, found)]
    assert weights[0] == weights[1]


def test_a_model_that_is_there_is_tuned_on_pairs_alone_or_after_instructions(run, trained, tmp_path) -> None:
    preference = {**TRAINING, "data": str(pairs_file(tmp_path)), "total_steps": 4}

    def stages(name: str, **instruction: Any) -> list[str]:
        values = settings(trained[0], run={"dir": str(run / name)}, preference=preference)
        values["instruction"] = {**TRAINING, "total_steps": 4, **instruction}
        result = tune_pretrained_model(
            resolve_config(values), pretrained_model=run / "run" / "finetune" / "final"
        )
        assert result.model_directory == run / name / "preference" / "final"
        page = closing_page(result, "…")
        assert f"python scripts/chat.py {run / name}" in page
        assert f"python scripts/evaluate.py {run / name} --report" in page
        assert "your own answers" not in page  # it has them
        return list(result.artifacts)

    assert stages("alone") == ["preferences", "preference"]
    both = stages("both", data=str(trained[0] / "instructions.jsonl"))
    assert both == ["instructions", "finetune", "preferences", "preference"]


def test_a_plan_counts_the_bytes_of_every_file_by_its_weight(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text("x" * 100)
    values = {"data": str(tmp_path / "a.jsonl"), "more_data": {str(tmp_path / "b.jsonl"): 2.5}}
    assert _instruction_bytes(resolve_config({"instruction": values})) == 350


def pairs_file(root: Path) -> Path:
    records = [
        {"prompt": f"What is number {n}?", "chosen": f"It is {n % 3}.", "rejected": f"No idea {n % 5}."}
        for n in range(40)
    ]
    path = root / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, records)) + "\n")
    return path


def test_the_line_ends_with_a_model_that_prefers_when_pairs_are_named_and_goes_on_exactly(
    run, trained, tmp_path, caplog
) -> None:
    caplog.set_level(logging.INFO)
    asked = {
        **TRAINING,
        "data": str(pairs_file(tmp_path)),
        "total_steps": 15,
        "eval_steps": 5,
        "learning_rate": 5e-3,
        "save_steps": 5,
    }
    values = settings(trained[0], run={"dir": str(run / "run")}, preference=asked)
    result = train_llm_from_scratch(values)
    assert list(result.artifacts)[-4:] == ["finetune", "preferences", "preference", "evaluate"]
    metrics = result.artifacts["preference"].metrics
    assert metrics["final_validation"]["validation/preference_accuracy"] > 0.8
    assert result.model_directory == run / "run" / "preference" / "final"
    assert find_model(run / "run") == result.model_directory
    facts = json.loads((result.model_directory / "MANIFEST.json").read_text())
    assert facts["stage"] == "preference tuning"
    assert facts["initialised_from"] == str(run / "run" / "finetune" / "final")
    page = closing_page(result, "python scripts/train_llm_from_scratch.py")
    assert re.search(r"of 40 pairs, \d+\.\d% of those held out are preferred as they should be", page)
    assert "nats a token" not in page[page.index("Preference tuning") :].partition("Evaluation")[0]
    # What preferring brought, and what it cost of held-out text.
    report = (run / "run" / "evaluation" / "report.html").read_text()
    assert "Share of held-out pairs that are preferred as they should be" in report
    assert "Loss, a pair of answers" in report
    assert "instruction-tuned model on validation text:" in page
    assert "preference-tuned model on validation text:" in page
    figures = result.artifacts["evaluate"].metrics
    assert figures["text_before_preferences"].keys() == figures["text_after_tuning"].keys()
    assert figures["text_before_preferences"] != figures["text_after_tuning"]
    # As a run that was killed after its second checkpoint left it.
    expected = (result.model_directory / "model.safetensors").read_bytes()
    directory = run / "run" / "preference"
    manifest = json.loads((directory / "MANIFEST.json").read_text())
    write_manifest(directory, {"status": "running", "recipe": manifest["recipe"]})
    for name in ("final", "best", "step_15"):
        shutil.rmtree(directory / name)
    train_llm_from_scratch(values, selection=Selection(until="preference"))
    assert "going on from step 10 (bit-exact)" in caplog.text
    assert (result.model_directory / "model.safetensors").read_bytes() == expected
    damaged = run / "run" / "preferences" / "train" / "data-00000.arrow"
    intact = damaged.read_bytes()
    damaged.write_bytes(intact[:200] + bytes([intact[200] ^ 1]) + intact[201:])
    assert repair_rows(line(), resolve_config(values), run / "run") == [damaged]
    assert damaged.read_bytes() == intact
    with pytest.raises(StaleArtifactError, match=r"preference\.beta: was 0\.1, now 0\.5"):
        train_llm_from_scratch(merge(values, {"preference": {"beta": 0.5}}))


def test_pairs_that_are_missing_or_none_and_an_unknown_loss_are_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "b"}\n')
    for name, what in (
        ("none.jsonl", "no such file"),
        ("bad.jsonl", "same_answer: what is chosen is what is rejected"),
    ):
        config = resolve_config({"preference": {"data": str(tmp_path / name)}})
        with pytest.raises(DataError, match=f"preference.data.*{what}"):
            check_named_files(config)
    with pytest.raises(ConfigError, match=r"preference\.loss: 'dop' is none of dpo, .*; did you mean 'dpo'"):
        check_part_names(resolve_config({"preference": {"loss": "dop"}}))
