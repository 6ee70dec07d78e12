"""Which model a path stands for: runs in every state, damage, and nothing at all."""

import json
import logging
import os
from pathlib import Path

import pytest

from core.errors import CorruptArtifactError, DataError
from core.manifest import describe_files, write_manifest
from inference.model_directory import check_model_files, find_model, newest_run, trained_with_tokenizer


def make(directory: Path, *, committed: bool = True) -> Path:
    """Something that looks like a checkpoint; what is in its files does not matter here."""
    (directory / "trainer").mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_text(f"weights of {directory}")
    (directory / "trainer" / "optimizer.safetensors").write_text("state")
    if committed:
        files = describe_files(directory, [path for path in directory.rglob("*") if path.is_file()])
        write_manifest(directory, {"stage": "pretraining", "files": files})
    return directory


def damage(directory: Path) -> None:
    (directory / "model.safetensors").write_text("something else")


def test_a_model_directory_stands_for_itself_with_or_without_a_manifest(tmp_path: Path) -> None:
    for committed in (True, False):
        directory = make(tmp_path / str(committed), committed=committed)
        assert find_model(directory) == directory
        assert find_model(str(directory)) == directory


def test_the_models_of_a_run_are_taken_in_order(tmp_path: Path) -> None:
    run = tmp_path / "run"
    worst_first = [
        "pretrain/best",
        "pretrain/step_9",
        "pretrain/step_10",
        "finetune/best",
        "finetune/step_1",
        "finetune/step_200",
        "pretrain/final",
        "finetune/final",
    ]
    for name in worst_first:
        make(run / name)
        assert find_model(run) == run / name


def test_a_training_stage_stands_for_its_own_model(tmp_path: Path) -> None:
    make(tmp_path / "finetune" / "step_5")
    make(tmp_path / "pretrain" / "step_5")
    last = make(tmp_path / "pretrain" / "step_20")
    assert find_model(tmp_path / "pretrain") == last
    make(tmp_path / "pretrain" / "final")
    assert find_model(tmp_path / "pretrain") == tmp_path / "pretrain" / "final"


def test_unfinished_and_set_aside_directories_are_not_taken(tmp_path: Path) -> None:
    good = make(tmp_path / "pretrain" / "step_5")
    make(tmp_path / "pretrain" / "step_6", committed=False)
    make(tmp_path / "pretrain" / "step_7.corrupt-1")
    make(tmp_path / "pretrain" / ".final.tmp-0123456789ab")
    assert find_model(tmp_path) == good


def test_a_damaged_model_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = make(tmp_path / "finetune" / "step_5"), make(tmp_path / "finetune" / "step_6")
    damage(newer)
    with caplog.at_level(logging.WARNING):
        assert find_model(tmp_path) == older
    [message] = caplog.messages
    assert "step_6/model.safetensors" in message and "passed over" in message


def test_when_every_model_is_damaged_each_is_named(tmp_path: Path) -> None:
    for name in ("finetune/step_5", "pretrain/final"):
        damage(make(tmp_path / name))
    with pytest.raises(CorruptArtifactError) as caught:
        find_model(tmp_path)
    assert "none of its models is intact" in str(caught.value)
    assert "finetune/step_5/model.safetensors" in str(caught.value)
    assert "pretrain/final/model.safetensors" in str(caught.value)


def test_damage_to_what_only_the_trainer_reads_does_not_matter(tmp_path: Path) -> None:
    directory = make(tmp_path / "finetune" / "step_5")
    (directory / "trainer" / "optimizer.safetensors").unlink()
    assert find_model(tmp_path) == directory
    assert check_model_files(directory)["stage"] == "pretraining"


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda path: None, "found nothing"),
        (lambda path: path.write_text("x"), "found a file"),
        (
            lambda path: path.mkdir(),
            "Looked for config.json here, and for final, step_N and best.*empty directory",
        ),
        (lambda path: (path / "dataset").mkdir(parents=True), "holds no model.*found dataset/"),
    ],
)
def test_a_path_without_a_model_says_what_was_looked_for_and_found(
    tmp_path: Path, prepare: object, reason: str
) -> None:
    prepare(tmp_path / "run")  # type: ignore[operator]
    with pytest.raises(DataError, match=reason):
        find_model(tmp_path / "run")


def test_the_newest_run_is_the_one_whose_model_was_written_last(tmp_path: Path) -> None:
    for age, name in [(30, "a"), (10, "b"), (20, "c")]:
        config = make(tmp_path / name / "finetune" / "final") / "config.json"
        os.utime(config, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "d" / "dataset").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("no run")
    assert newest_run(tmp_path) == tmp_path / "b"


@pytest.mark.parametrize("exists", [True, False])
def test_without_any_run_the_error_says_where_it_looked(tmp_path: Path, exists: bool) -> None:
    runs = tmp_path / "runs"
    if exists:
        (runs / "empty").mkdir(parents=True)
    with pytest.raises(
        DataError, match=f"no run was named and {runs} holds none with a model; train one first"
    ):
        newest_run(runs)


def test_the_tokenizer_fingerprint_comes_from_the_trainers_state_or_the_manifest(tmp_path: Path) -> None:
    directory = make(tmp_path / "step_1")
    assert trained_with_tokenizer(directory, {}) is None
    assert trained_with_tokenizer(directory, {"tokenizer_fingerprint": "m"}) == "m"
    state = directory / "trainer" / "state.json"
    state.write_text(json.dumps({"tokenizer_fingerprint": None}))
    assert trained_with_tokenizer(directory, {}) is None
    state.write_text(json.dumps({"tokenizer_fingerprint": "s"}))
    assert trained_with_tokenizer(directory, {}) == "s"


@pytest.mark.parametrize(
    ("content", "reason"), [("{", "not valid JSON"), ("[]", r"expected a JSON object \{\.\.\.\}, found list")]
)
def test_a_broken_trainer_state_is_named(tmp_path: Path, content: str, reason: str) -> None:
    directory = make(tmp_path / "step_1")
    (directory / "trainer" / "state.json").write_text(content)
    with pytest.raises(CorruptArtifactError, match=rf"trainer/state\.json(:1)?: {reason}"):
        trained_with_tokenizer(directory, {})
