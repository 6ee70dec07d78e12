"""The whole line in one process, on own files: what comes out, what is said, what is refused."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.config import merge
from core.config_files import load_config
from core.errors import (
    ConfigError,
    DataError,
    DeviceError,
    LockedError,
    MismatchError,
    StaleArtifactError,
)
from core.files import lock
from core.manifest import write_manifest
from core.stage import Decision, Selection
from core.training_config import PipelineConfig
from pipeline.arguments import STAGE_NAMES
from pipeline.closing_page import closing_page
from pipeline.plan_page import plan_page
from pipeline.run import TrainedLine, dry_run, plan_line, train_llm_from_scratch, tune_pretrained_model
from pipeline.stages import line
from tests.line_kit import settings, write_inputs

WITHOUT_PAIRS = {"preferences": "skipped", "preference": "skipped"}
STAGES = [name for name in STAGE_NAMES if name not in WITHOUT_PAIRS]
"""Those of a line without pairs of answers."""


def test_the_command_line_names_the_stages_there_are() -> None:
    assert tuple(stage.name for stage in line()) == STAGE_NAMES


def manifest(result: TrainedLine, stage: str) -> dict[str, Any]:
    return json.loads((result.artifacts[stage].directory / "MANIFEST.json").read_text())


def test_every_stage_leaves_an_artifact_with_its_settings(trained: tuple[Path, TrainedLine]) -> None:
    root, result = trained
    assert list(result.artifacts) == STAGES
    for stage in STAGES:
        recorded = manifest(result, stage)
        assert recorded["status"] == "complete"
        assert PipelineConfig.from_dict(recorded["config"]) == result.config
    assert PipelineConfig.from_dict(json.loads((root / "run" / "settings.json").read_text())) == result.config


def test_every_document_is_accounted_for(trained: tuple[Path, TrainedLine]) -> None:
    collected = trained[1].artifacts["collect"].metrics
    assert collected["documents_in"] == collected["kept"] + sum(collected["dropped"].values()) == 72
    splits = trained[1].artifacts["dataset"].metrics["splits"]
    assert sum(split["documents"] for split in splits.values()) == collected["kept"]


def test_training_lowers_the_loss(trained: tuple[Path, TrainedLine]) -> None:
    for stage in ("pretrain", "finetune"):
        metrics = trained[1].artifacts[stage].metrics
        assert (
            metrics["final_validation"]["validation/loss"] < metrics["initial_validation"]["validation/loss"]
        )


def test_the_result_generates_and_chats(trained: tuple[Path, TrainedLine]) -> None:
    result = trained[1]
    one = result.generate("The furnace", max_tokens=8, temperature=0.7, top_p=0.9, top_k=20, seed=1)
    assert one == result.generate("The furnace", max_tokens=8, temperature=0.7, top_p=0.9, top_k=20, seed=1)
    assert isinstance(result.chat([{"role": "user", "content": "What is number 1?"}], max_tokens=8), str)


def test_the_closing_page_names_places_numbers_answers_and_next_steps(
    trained: tuple[Path, TrainedLine],
) -> None:
    root, result = trained
    page = closing_page(result, "python scripts/train_llm_from_scratch.py")
    for expected in (
        str(root / "run" / "finetune"),
        "72 in = ",
        "pretrained model on test text:",
        "tuned model on test text:",
        "bits per byte",
        "question     What is number",
        "true answer",
        f"python scripts/chat.py {root / 'run'}",
        "--plan",
        "first sentence right",
    ):
        assert expected in page


def test_a_second_call_reuses_everything(trained: tuple[Path, TrainedLine]) -> None:
    root, result = trained
    decisions: list[Decision] = []
    again = train_llm_from_scratch(settings(root), announce=decisions.append)
    assert [d.stage for d in decisions if d.action == "reuse"] == STAGES
    assert {d.stage: d.action for d in decisions if d.action != "reuse"} == WITHOUT_PAIRS
    assert again.artifacts == result.artifacts


def test_the_plan_names_what_a_change_makes_stale(trained: tuple[Path, TrainedLine]) -> None:
    root, _ = trained
    config = PipelineConfig.from_dict(settings(root, data={"min_text_length": 60}))
    page = plan_page(*plan_line(config))
    assert "data.min_text_length: was 50, now 60" in page
    assert "blocked" in page
    assert "parameters" in page
    assert "30 steps = 7,680 tokens" in page
    with pytest.raises(StaleArtifactError, match=r"pretrain at .* --rebuild pretrain"):
        train_llm_from_scratch(config)


def test_a_changed_raw_file_is_named_in_the_plan(trained: tuple[Path, TrainedLine]) -> None:
    root, _ = trained
    extra = root / "raw" / "extra.txt"
    extra.write_text("One more document about slow fires and the making of iron.\n")
    config = PipelineConfig.from_dict(settings(root))
    reasons = plan_line(config)[1][0].reasons
    extra.unlink()
    assert any("extra.txt" in reason for reason in reasons)
    assert plan_line(config)[1][0].action == "reuse"


def test_a_training_goes_on_with_more_data_where_that_is_allowed(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    config = PipelineConfig.from_dict(settings(tmp_path))
    before = train_llm_from_scratch(config, selection=Selection(until="pretrain"))
    place = before.artifacts["pretrain"].directory
    # As a kill after step 25 leaves it.
    shutil.rmtree(place / "step_30")
    shutil.rmtree(place / "final")
    write_manifest(place, {"status": "running", "recipe": manifest(before, "pretrain")["recipe"]})
    (tmp_path / "raw" / "extra.txt").write_text("One more document about slow fires and iron.\n" * 3)
    same_tokenizer = Selection(until="pretrain", skip=frozenset({"tokenizer"}))
    with pytest.raises(
        StaleArtifactError, match=r"pretrain .* would have to be redone: dataset is made anew"
    ):
        train_llm_from_scratch(config, selection=same_tokenizer)
    allowed = PipelineConfig.from_dict(merge(settings(tmp_path), {"training": {"allow_data_change": True}}))
    actions = {d.stage: d.action for d in plan_line(allowed, None, same_tokenizer)[1]}
    assert (actions["dataset"], actions["pretrain"]) == ("redo", "continue")
    after = train_llm_from_scratch(allowed, selection=same_tokenizer)
    assert after.artifacts["dataset"].fingerprint != before.artifacts["dataset"].fingerprint
    assert after.artifacts["pretrain"].fingerprint != before.artifacts["pretrain"].fingerprint
    events = [json.loads(line) for line in (place / "events.jsonl").read_text().splitlines()]
    assert [(event["step"], event["kind"]) for event in events] == [(25, "data_changed")]
    assert {d.action for d in plan_line(config, None, same_tokenizer)[1][:5]} <= {"reuse", "taken as it is"}


def test_runtime_settings_make_nothing_stale(trained: tuple[Path, TrainedLine]) -> None:
    root, _ = trained
    changes = {"training": {"save_steps": 7, "device": "cpu", "logging_steps": 3}, "data": {"num_workers": 1}}
    _, decisions, _ = plan_line(PipelineConfig.from_dict(settings(root, **changes)))
    assert [d.stage for d in decisions if d.action == "reuse"] == STAGES
    assert {d.stage: d.action for d in decisions if d.action != "reuse"} == WITHOUT_PAIRS


def test_a_dry_run_trains_one_step_of_each_and_leaves_nothing(
    trained: tuple[Path, TrainedLine], tmp_path: Path
) -> None:
    root, _ = trained
    everything = {"quality": True, "speed": True}
    changes = {"instruction": {"replay_share": 0.5}, "evaluation": everything}
    fresh = PipelineConfig.from_dict(settings(root, run={"dir": str(tmp_path / "never")}, **changes))
    result = dry_run(fresh)
    assert result.artifacts["pretrain"].metrics["num_steps"] == 1
    assert result.artifacts["finetune"].metrics["num_steps"] == 1
    assert not (tmp_path / "never").exists()
    assert not result.artifacts["pretrain"].directory.exists()


def test_sources_from_python_replace_the_directory(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    sources = {
        "directory": tmp_path / "raw" / "deep",
        "files": [tmp_path / "raw" / "00.txt"],
        "texts": ["A text that was handed in from Python, long enough to be kept by the cleaner."],
    }
    result = train_llm_from_scratch(
        settings(tmp_path, data={"corpus": "auto", "raw_dir": "nowhere"}),
        sources,
        selection=Selection(until="collect"),
    )
    lines = (result.artifacts["collect"].directory / "collected_texts.jsonl").read_text().splitlines()
    assert len(lines) == 4
    assert result.artifacts["collect"].metrics["documents_in"] == 4
    with pytest.raises(DataError, match="no model was trained"):
        result.generate("x")


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"text": ["x"]}, r"unknown key 'text'; did you mean 'texts'\?"),
        ({}, "empty; give at least one of"),
        ({"texts": "one string"}, r"texts must be a list, found one str; write \[text\]"),
        ({"files": Path("a.txt")}, r"files must be a list, found one .*Path; write \[file\]"),
        ({"texts": None}, "texts must be a list, found NoneType"),
        ({"texts": [b"bytes"]}, "texts must be a list of strings, found bytes in it"),
    ],
)
def test_sources_that_make_no_sense_are_refused(sources: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train_llm_from_scratch({}, sources)


def test_without_instruction_data_the_line_ends_after_pretraining_and_says_so(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(tmp_path)
    values = settings(tmp_path, training={"total_steps": 2})
    del values["instruction"]["data"]
    said = {}
    result = train_llm_from_scratch(values, announce=lambda d: said.update({d.stage: d}))
    assert list(result.artifacts) == [
        "collect",
        "tokenizer",
        "dataset",
        "data_report",
        "pretrain",
        "evaluate",
    ]
    assert said["instructions"].action == "skipped"
    assert (
        "no instruction data: data/instruction_data.jsonl does not exist" in said["instructions"].reasons[0]
    )
    page = closing_page(result, "python x")
    assert "let it continue" in page and "your own answers" in page
    assert result.generate("The", max_tokens=2) is not None


def test_a_single_document_trains_without_validation(tmp_path: Path) -> None:
    values = settings(tmp_path, training={"total_steps": 2}, tokenizer={"shrink_to_fit": True})
    values["instruction"]["data"] = "data/instruction_data.jsonl"
    text = "The smith draws the bloom from the fire and strikes it while it is hot and bright. " * 30
    result = train_llm_from_scratch(values, {"texts": [text]})
    assert result.artifacts["pretrain"].metrics["final_validation"] is None


def test_an_empty_raw_directory_means_the_default_corpus_and_is_said(
    tmp_path: Path, caplog, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO):
        result = train_llm_from_scratch(
            {"run": {"dir": "run"}, "data": {"corpus": "auto"}},
            selection=Selection(until="collect"),
        )
    assert "holds no files: training on the standard library of this Python instead" in caplog.text
    assert result.artifacts["collect"].metrics["kept"] > 300


def test_a_tokenizer_that_is_there_can_be_used(trained: tuple[Path, TrainedLine], tmp_path: Path) -> None:
    root, first = trained
    own = first.artifacts["tokenizer"].directory / "tokenizer.model"
    result = train_llm_from_scratch(
        settings(root, run={"dir": str(tmp_path / "run")}, tokenizer={"path": str(own)}),
        selection=Selection(until="tokenizer"),
    )
    assert result.artifacts["tokenizer"].metrics == first.artifacts["tokenizer"].metrics


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"data": {"raw_dir": "/no/such/place"}},
            DataError,
            r"/no/such/place: no such directory .*data\.raw_dir",
        ),
        (
            {"instruction": {"data": "/no/such.jsonl"}},
            DataError,
            r"instruction\.data='/no/such\.jsonl': no such",
        ),
        (
            {"tokenizer": {"path": "/no/such.model"}},
            DataError,
            r"tokenizer\.path='/no/such\.model': no such file",
        ),
        (
            {"training": {"device": "cuda:99"}},
            DeviceError,
            "'cuda:99' is not available; available here: .*cpu",
        ),
        (
            {"evaluation": {"tasks": ["nowhere.jsonl"]}},
            DataError,
            r"evaluation\.tasks: nowhere\.jsonl: no such file",
        ),
        (
            {"model": {"hidden_size": 65536, "num_layers": 512}},
            ConfigError,
            "parameters; training it needs at least",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    write_inputs(tmp_path)
    with pytest.raises(error, match=message):
        train_llm_from_scratch(settings(tmp_path, **changes))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": {"output_dir": "same", "dataset_dir": "same"}},
            r"the output directory of collect, same, is that of dataset|of dataset, same, is that of collect",
        ),
        (
            {"training": {"output_dir": "a"}, "instruction": {"output_dir": "a/b"}},
            "the output directory of finetune, a/b, is that of pretrain or inside of it",
        ),
        ({"training": {"output_dir": "."}}, "holds the run directory"),
        ({"data": {"output_dir": "run/tokenizer"}, "run": {"dir": "run"}}, "is that of (collect|tokenizer)"),
        ({"run": {"dir": "raw"}}, "holds files that no run wrote"),
        ({"run": {"dir": "."}}, "a run needs a directory of its own"),
    ],
)
def test_places_that_would_overwrite_each_other_are_refused(
    tmp_path: Path, monkeypatch, changes: dict[str, Any], message: str
) -> None:
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        train_llm_from_scratch(settings(tmp_path, **changes))


def test_explicit_places_hold_the_results_and_are_locked(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    place = tmp_path / "elsewhere" / "corpus"
    values = settings(tmp_path, data={"output_dir": str(place)})
    train_llm_from_scratch(values, selection=Selection(until="collect"))
    assert (place / "collected_texts.jsonl").is_file()
    with (
        lock(place.parent / ".corpus.lock", held=place),
        pytest.raises(LockedError, match="elsewhere/corpus is in use by process"),
    ):
        train_llm_from_scratch(merge(values, {"run": {"dir": str(tmp_path / "other")}}))


def test_a_run_inside_its_own_data_does_not_read_itself(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    values = settings(tmp_path, data={"raw_dir": str(tmp_path)}, training={"total_steps": 2})
    first = train_llm_from_scratch(values, selection=Selection(until="pretrain"))
    _, decisions, _ = plan_line(PipelineConfig.from_dict(values), selection=Selection(until="pretrain"))
    assert [d.action for d in decisions[:4]] == ["reuse"] * 4
    assert first.artifacts["collect"].metrics["directories_skipped"]["own_output"] == 1


def test_another_tokenizer_under_the_same_path_is_noticed(
    trained: tuple[Path, TrainedLine], small_tokenizer_directory: Path, tmp_path: Path
) -> None:
    root, first = trained
    given = tmp_path / "given"
    shutil.copytree(
        first.artifacts["tokenizer"].directory, given, ignore=shutil.ignore_patterns("MANIFEST.json")
    )
    values = settings(root, run={"dir": str(tmp_path / "run")}, tokenizer={"path": str(given)})
    train_llm_from_scratch(values, selection=Selection(until="tokenizer"))
    shutil.rmtree(given)
    shutil.copytree(small_tokenizer_directory, given)
    decision = plan_line(PipelineConfig.from_dict(values))[1][1]
    assert decision.action == "redo"
    assert decision.reasons[0].startswith("given tokenizer: was ")


def test_a_named_directory_without_files_is_an_error_and_not_the_default_corpus(tmp_path: Path) -> None:
    (tmp_path / "typo").mkdir()
    values = settings(tmp_path, data={"corpus": "auto", "raw_dir": str(tmp_path / "typo")})
    del values["instruction"]["data"]
    with pytest.raises(DataError, match="typo"):
        train_llm_from_scratch(values)


def test_a_refused_run_keeps_the_settings_that_it_was_made_with(trained: tuple[Path, TrainedLine]) -> None:
    root, result = trained
    with pytest.raises(StaleArtifactError):
        train_llm_from_scratch(settings(root, training={"learning_rate": 0.5}))
    kept = json.loads((root / "run" / "settings.json").read_text())
    assert kept["training"]["learning_rate"] == result.config.training.learning_rate


def test_answers_that_were_all_cut_off_do_not_end_the_evaluation(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    long = " ".join(["the bloom is hot and the slag is slow"] * 30)
    records = [{"instruction": f"Tell me of {n}.", "response": long} for n in range(12)]
    (tmp_path / "instructions.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n")
    result = train_llm_from_scratch(
        settings(tmp_path, training={"total_steps": 1}, instruction={"total_steps": 1})
    )
    assert "held_in" not in result.artifacts["evaluate"].metrics
    assert "Instruction tuning" in closing_page(result, "python x")


def test_tasks_samples_and_the_page_are_made_by_the_stage_and_its_results_by_the_script_too(
    tmp_path: Path,
) -> None:
    write_inputs(tmp_path)
    questions = tmp_path / "questions.jsonl"
    questions.write_text('{"query": "Iron is", "choices": ["red", "blue"], "gold": 0}\n' * 4)
    evaluation = {"tasks": [str(questions)], "num_shots": 1, "quality": True, "speed": True}
    changes = {"model": {"max_position_embeddings": 128}, "training": {"total_steps": 5}}
    result = train_llm_from_scratch(settings(tmp_path, evaluation=evaluation, **changes))
    artifact = result.artifacts["evaluate"]
    models = artifact.metrics["models"]
    assert set(models) == {"pretrain", "finetune"}
    for values in models.values():
        assert values["tasks"][0]["scores"]["accuracy"]["random"] == 0.5
    assert models["pretrain"]["texts"]["test"]["by_source"]
    assert models["pretrain"]["quality"] is None
    assert models["finetune"]["quality"]["figures"]["num_samples"] > 0
    before, after = artifact.metrics["held_out_before_tuning"], artifact.metrics["held_out"]
    assert before["num_questions"] == after["num_questions"] > 0
    assert sorted(path.name for path in artifact.directory.iterdir()) == [
        "MANIFEST.json", "MODEL_CARD.md", "evaluation.json", "evaluation.md", "report.html"
    ]  # fmt: skip
    page = (artifact.directory / "report.html").read_text()
    assert "questions, 1-shot" in page.replace("<wbr>", "") and "Instruction tuning" in page
    scores = {path.name for path in (tmp_path / "run" / "scores").rglob("*.json")}
    assert {"questions-1-shot.json", "quality.json", "speed.json", "text-test-first-200.json"} <= scores


def test_a_run_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match=r"run\.dir='.*run': .*run is no directory; choose another place"):
        train_llm_from_scratch(settings(tmp_path))


def test_tuning_alone_takes_a_run_and_refuses_a_foreign_tokenizer(
    trained: tuple[Path, TrainedLine], small_tokenizer_directory: Path, tmp_path: Path
) -> None:
    root, first = trained
    config = PipelineConfig.from_dict(settings(root, run={"dir": str(tmp_path / "tuned")}))
    pretrained = first.artifacts["pretrain"].directory / "final"
    with pytest.raises(MismatchError, match="not the tokenizer that"):
        tune_pretrained_model(
            config,
            pretrained_model=pretrained,
            tokenizer_model=small_tokenizer_directory / "tokenizer.model",
        )
    result = tune_pretrained_model(
        config, pretrained_model=pretrained, tokenizer_model=pretrained / "tokenizer.model"
    )
    assert list(result.artifacts) == ["instructions", "finetune"]
    # The same data, settings and start give the same weights as the line's own tuning.
    assert result.artifacts["finetune"].fingerprint == first.artifacts["finetune"].fingerprint


def test_the_shipped_quickstart_plans(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, decisions, estimate = plan_line(load_config(Path(__file__).parents[2] / "configs" / "quickstart"))
    assert [d.stage for d in decisions if d.action == "run"] == STAGES
    assert estimate.num_parameters > 1e6
