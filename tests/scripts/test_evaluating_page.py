"""What docs/evaluating.md says to type works: every command is run, every record is read."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from core.config import parse_overrides
from core.training_config import PipelineConfig
from data_processing.dataset_builder import DatasetBuilder
from evaluation.task_files import FORMATS, read_task
from evaluation.tasks import MEASURES
from pipeline.command import run_command
from tests.inference.tiny_models import save_tiny_model
from tests.scripts.test_command_help import SCRIPTS, load
from tests.small_texts import make_documents
from tests.test_docs import commands

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluating.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in commands(PAGE)]
EVALUATE = [words[2:] for words in COMMANDS if words[1] == "scripts/evaluate.py"]
RECORDS = [line for line in PAGE.splitlines() if line.startswith('{"')]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, small_tokenizer, small_tokenizer_directory: Path) -> Path:
    """A directory with the runs, models and files that the page names."""
    place = tmp_path_factory.mktemp("place")
    run = place / "runs" / "mine"
    corpus = run / "corpus" / "collected_texts.jsonl"
    corpus.parent.mkdir(parents=True)
    lines = [{"text": text, "source": f"notes/{i}.txt"} for i, text in enumerate(make_documents(40, seed=3))]
    corpus.write_text("".join(json.dumps(line) + "\n" for line in lines))
    builder = DatasetBuilder(small_tokenizer_directory, 64)
    with builder.build_from_jsonl(corpus, 0.8, 0.1, 0.1) as dataset:
        builder.save_dataset(dataset, run / "dataset")
    model = {"max_position_embeddings": 256, "stage": "pretraining"}
    save_tiny_model(run / "pretrain" / "final", small_tokenizer, **model)
    save_tiny_model(place / "runs" / "other" / "pretrain" / "final", small_tokenizer, **model, seed=1)
    save_tiny_model(place / "models" / "gpt2", small_tokenizer, stage=None, max_position_embeddings=256)
    for name in ("arc_easy", "piqa"):
        (place / f"{name}.jsonl").write_text((RECORDS[0] + "\n") * 5)
    (place / "lambada_openai.jsonl").write_text((RECORDS[2] + "\n") * 5)
    (place / "notes.txt").write_text("iron and slag")
    return place


@pytest.mark.parametrize("arguments", EVALUATE, ids=lambda words: " ".join(words[1:]) or "alone")
def test_a_command_of_the_page_ends_well(
    arguments: list[str], place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    script = load(next(path for path in SCRIPTS if path.stem == "evaluate"))
    assert run_command(lambda: int(script.main([*arguments, "--device", "cpu"]))) == 0, (
        capsys.readouterr().err
    )
    page = capsys.readouterr().out
    assert "runs/mine/pretrain/final" in page
    if "--report" in arguments:
        assert (place / "runs" / "mine" / "report.html").is_file()


def test_the_page_has_the_commands_that_were_counted_on() -> None:
    assert len(EVALUATE) == 6
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    script = load(next(path for path in SCRIPTS if path.stem == "evaluate"))
    known = {option for action in script.parser()._actions for option in action.option_strings}
    assert named - known == {"--only"}


def test_the_records_of_the_page_are_one_of_each_kind(tmp_path: Path) -> None:
    found = []
    for number, line in enumerate(RECORDS):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(line + "\n")
        found.append(read_task(path).kind)
    assert found == list(FORMATS)
    for kind, form in FORMATS.items():
        rows = [row for row in PAGE.splitlines() if row.startswith("| `")]
        row = next(row for row in rows if all(f"`{key}`" in row for key in form.keys))
        assert all(f"`{figure}`" in row for figure in MEASURES[kind])


def test_the_settings_of_the_page_exist() -> None:
    settings = [word for words in COMMANDS for word in words if re.match(r"[a-z]+\.\w+=", word)]
    assert len(settings) == 4
    for setting in settings:
        PipelineConfig.from_dict(parse_overrides([setting], configured=PipelineConfig))
    known = {row.key for row in PipelineConfig.settings_help()}
    assert set(re.findall(r"`((?:data|evaluation)\.[a-z_.]+)`", PAGE)) <= known


def test_a_copy_of_a_run_is_measured_where_it_is(place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(place / "runs" / "mine", copy)
    script = load(next(path for path in SCRIPTS if path.stem == "evaluate"))
    assert script.main([str(copy), "--text", "test", "--device", "cpu"]) == 0
    (result,) = (copy / "scores").rglob("text-test.json")
    assert json.loads(result.read_text())["by_source"].keys() == {"notes"}
