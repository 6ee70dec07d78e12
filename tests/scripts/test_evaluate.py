import json
from pathlib import Path

import pytest

from core.manifest import write_manifest
from pipeline.command import run_command
from tests.evaluation.foreign_models import save_foreign_model
from tests.inference.tiny_models import save_tiny_model
from tests.scripts.test_command_help import SCRIPTS, load

QUESTIONS = [{"query": f"{n}?", "choices": ["iron", "slag"], "gold": n % 2} for n in range(6)]


def evaluate(*arguments: object) -> int:
    script = load(next(path for path in SCRIPTS if path.stem == "evaluate"))
    return run_command(lambda: int(script.main([*map(str, arguments), "--device", "cpu"])))


@pytest.fixture
def model(tmp_path: Path, small_tokenizer) -> Path:
    return save_tiny_model(tmp_path / "model", small_tokenizer, stage="pretraining")


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in QUESTIONS))
    return path


def test_two_models_stand_side_by_side_with_chance_and_trigrams(
    tmp_path: Path, model: Path, questions: Path, small_tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    other = save_tiny_model(tmp_path / "other", small_tokenizer, stage="pretraining", seed=5)
    (tmp_path / "held_out.txt").write_text("the furnace is hot")
    out = tmp_path / "out"
    arguments = (model, "--compare", other, "--tasks", questions, "--num-shots", 2)
    assert evaluate(*arguments, "--text", tmp_path / "held_out.txt", "--out", out) == 0
    page = capsys.readouterr().out
    rows = [line.split() for line in page.splitlines()]
    assert ["task", "figure", "A", "B", "chance", "trigrams", "questions"] in rows
    assert ["text", "figure", "A", "B"] in rows
    (accuracy,) = [row for row in rows if row[:3] == ["questions,", "2-shot", "accuracy"] and row[3] != "per"]
    assert accuracy[-3] == "0.500" and accuracy[-1] == "6"
    assert len(accuracy) == 10  # two values, two intervals, two baselines, how many were asked
    assert f"A  {model}" in page and f"B  {other}" in page
    assert "equally good models differ so much with probability" in page
    names = sorted(path.name for path in out.rglob("*.json"))
    assert names == ["questions-2-shot.json"] * 2 + ["text-held_out.txt.json"] * 2


def test_without_flags_a_model_outside_of_a_run_is_asked_to_write_and_timed(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert evaluate(model) == 0
    page = capsys.readouterr().out
    assert "── What it writes" in page and "── Speed" in page and "── Tasks" not in page
    (place,) = (tmp_path / "runs" / "scores").iterdir()
    assert sorted(path.name for path in place.iterdir()) == ["quality.json", "speed.json"]


def test_a_part_never_takes_the_place_of_the_whole(
    tmp_path: Path, model: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, out = tmp_path / "held_out.jsonl", tmp_path / "out"
    text.write_text('{"text": "the furnace is hot"}\n' * 3)
    arguments = (model, "--tasks", questions, "--text", text, "--out", out)
    assert evaluate(*arguments) == 0
    whole = {path.name: path.read_bytes() for path in out.rglob("*.json")}
    assert sorted(whole) == ["questions-0-shot.json", "text-held_out.jsonl.json"]
    capsys.readouterr()
    assert evaluate(*arguments, "--limit", 2) == 0
    page = capsys.readouterr().out
    assert "2 of 6" in page and "held_out.jsonl, first 2 documents" in page
    now = {path.name: path.read_bytes() for path in out.rglob("*.json")}
    assert {name: now[name] for name in whole} == whole
    assert sorted(now.keys() - whole.keys()) == [
        "questions-0-shot-2-of-6.json",
        "text-held_out.jsonl-first-2.json",
    ]


def test_a_tuned_model_that_continues_text_is_said_to_be_tuned(
    tmp_path: Path, small_tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = save_tiny_model(tmp_path / "tuned", small_tokenizer)
    manifest = json.loads((tuned / "MANIFEST.json").read_text())
    write_manifest(tuned, {**manifest, "initialised_from": "runs/mine/pretrain/final"})
    (tmp_path / "text.txt").write_text("the furnace is hot")
    assert evaluate(tuned, "--text", tmp_path / "text.txt", "--out", tmp_path / "out") == 0
    page = " ".join(capsys.readouterr().out.split())
    assert "A was tuned to answer" in page
    assert "python scripts/evaluate.py runs/mine/pretrain/final measures" in page


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--num-shots", -1), 2, "--num-shots -1: expected 0 or more"),
        (("--limit", 0), 2, "--limit 0: expected 1 or more"),
        (
            ("--tasks", "a/x.jsonl", "b/x.jsonl"),
            65,
            "2 files of questions are called x, and so would be their",
        ),
        (
            ("--text", "a/x.txt", "b/x.txt"),
            2,
            "--text: 2 files are called x.txt, and so would be their results",
        ),
        (("--tasks", "nowhere.jsonl"), 65, "nowhere.jsonl: no such file"),
        (("--text", "nowhere.txt"), 65, "--text nowhere.txt: no such file, and no split"),
        (
            ("--text", "validation"),
            65,
            "lies in no run with a dataset, so its splits are not known; name a file",
        ),
        (("--report", "--speed"), 65, "lies in no run, so there is none to report on; leave out --report"),
        (
            ("--compare", "nowhere", "--speed"),
            65,
            "--compare nowhere: no such directory; name a run or a model",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: tuple, code: int, message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(model, *arguments, "--out", tmp_path / "out") == code
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error[E0") and error.count("\n") == 1


def test_a_broken_line_is_told_of_before_a_model_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(json.dumps(QUESTIONS[0]) + "\n{\n")
    assert evaluate(tmp_path / "no model", "--tasks", path) == 65
    assert f"{path}:2: not JSON" in capsys.readouterr().err


def test_a_directory_that_nobody_can_open_says_why(
    tmp_path: Path, questions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "strange"
    directory.mkdir()
    (directory / "config.json").write_text('{"model_type": "no such architecture"}')
    assert evaluate(directory, "--tasks", questions) == 78
    assert f"{directory}: neither this project (" in capsys.readouterr().err


def test_what_cannot_be_measured_of_a_foreign_model_is_said(
    tmp_path: Path, small_tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = save_foreign_model(tmp_path / "foreign", small_tokenizer)
    assert evaluate(foreign, "--speed", "--out", tmp_path / "out") == 0
    assert (
        "samples and speed are measured of models that this project opens itself" in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_code_that_lies_in_a_directory_is_not_run_whoever_says_yes(
    tmp_path: Path,
    model: Path,
    questions: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    marker = tmp_path / "was_run"
    (model / "evil.py").write_text(f"from pathlib import Path\nPath({str(marker)!r}).touch()\n")
    (model / "MANIFEST.json").unlink()
    shape = {"model_type": "strange", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (model / "config.json").write_text(json.dumps(shape))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    assert evaluate(model, "--tasks", questions) == 78
    assert "error[E010]" in capsys.readouterr().err
    assert not marker.exists()
