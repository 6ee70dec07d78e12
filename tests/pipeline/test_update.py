"""A run is brought up to date, compared with itself, and set back; what it was stays as it was."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import BloomeryError, CorruptArtifactError, DataError, LockedError, UsageError
from core.files import lock, sha256_file
from core.manifest import read_manifest
from core.stage import Selection
from core.training_config import PipelineConfig
from data_processing.rows.token_rows import TokenRows
from evaluation.run_facts import curriculum
from evaluation.run_places import DataPlaces, places_of
from evaluation.texts import divided_corpus
from inference.feedback import feedback_file
from inference.model_directory import find_model, latest_number, newest_run
from pipeline.generations import Update, line_of, roll_back, updates_of, use
from pipeline.run import TrainedLine, train_llm_from_scratch
from pipeline.stages import own_places
from pipeline.update import give_up, update_run
from pipeline.update_page import history_page, update_page
from scripts import update as script
from tests.line_kit import settings, write_inputs
from tests.small_texts import make_documents


def files_of(run: Path) -> dict[str, str]:
    """Every file of a run with its digest, but what says which update is used, and the updates."""
    return {
        str(path.relative_to(run)): sha256_file(path)
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.relative_to(run).parts[0] not in ("updates", "latest", ".cache")
    }


def write_texts(directory: Path, texts: list[str]) -> Path:
    directory.mkdir(exist_ok=True)
    for number, text in enumerate(texts):
        (directory / f"new-{number:02}.txt").write_text(text)
    return directory


def write_feedback(path: Path, numbers: range) -> Path:
    """Corrections of answers, one record that has nothing to learn, and a line that is none."""
    records: list[dict[str, Any]] = [
        {
            "messages": [
                {"role": "user", "content": f"What is number {number}?"},
                {"role": "assistant", "content": "No idea."},
            ],
            "rating": -1,
            "correction": f"Number {number} is a nail.",
        }
        for number in numbers
    ]
    records.append({**records[0], "correction": None})
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + "{broken\n")
    return path


@pytest.fixture
def root(trained: tuple[Path, TrainedLine], tmp_path: Path) -> Path:
    """A finished run, which was moved, with the raw files where they were."""
    shutil.copytree(trained[0] / "run", tmp_path / "run")
    return tmp_path


@pytest.fixture(scope="module")
def updated(
    trained: tuple[Path, TrainedLine], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str], Update, Update]:
    """A run with an update by texts and one by feedback, and what the run itself was before."""
    root = tmp_path_factory.mktemp("updated")
    shutil.copytree(trained[0] / "run", root / "run")
    before = files_of(root / "run")
    known = (trained[0] / "raw" / "00.txt").read_text()
    texts = write_texts(root / "new", [*make_documents(30, seed=90), known])
    first = update_run(root / "run", data=[texts], tolerance=10.0)
    second = update_run(root / "run", feedback=[write_feedback(root / "feedback.jsonl", range(100, 110))])
    assert first is not None and second is not None
    return root, before, first, second


def test_new_documents_are_learned_and_known_ones_are_replayed(updated) -> None:
    root, _, first, _ = updated
    report = json.loads((first.directory / "dataset" / "dataset_report.json").read_text())["splits"]
    held_out = report["validation"]["documents"] + report["test"]["documents"]
    base = json.loads((root / "run" / "dataset" / "dataset_report.json").read_text())["splits"]
    assert report["replay"]["documents"] == base["train"]["documents"]
    assert report["train"]["documents"] + report["replay"]["documents"] + held_out == 72 + 30
    collection = json.loads((first.directory / "corpus" / "collection_report.json").read_text())
    assert collection["dropped"]["duplicate"] == 1  # the document that the run knew
    manifest = read_manifest(first.directory / "pretrain" / "final")
    assert manifest is not None
    assert manifest["initialised_from"] == str(root / "run" / "pretrain" / "final")


def test_steps_follow_from_the_new_tokens_and_the_share_that_is_replayed(updated) -> None:
    _, _, first, _ = updated
    manifest = read_manifest(first.directory / "pretrain")
    assert manifest is not None
    training = manifest["config"]["training"]
    rows = len(TokenRows(first.directory / "dataset" / "train"))
    steps = manifest["metrics"]["num_steps"]
    expected = rows / (1 - training["replay_share"]) / training["batch_size"] * training["epochs"]
    assert abs(steps - expected) <= 1


def test_nothing_of_the_run_itself_is_changed(updated) -> None:
    root, before, _, _ = updated
    assert files_of(root / "run") == before


def test_only_what_feedback_reaches_is_made_again(updated) -> None:
    _, _, first, second = updated
    made = {path.name for path in second.directory.iterdir() if (path / "MANIFEST.json").is_file()}
    assert made == {"data_report", "instructions", "finetune", "evaluation", "comparison"}
    rows = read_manifest(second.directory / "instructions")
    assert rows is not None
    assert rows["metrics"]["conversations"] == 60 + 10
    tuned = read_manifest(second.directory / "finetune" / "final")
    assert tuned is not None
    assert tuned["initialised_from"] == str(first.directory / "pretrain" / "final")
    assert second.facts["comparison"]["corrections"]["num_questions"] == 10
    assert second.facts["comparison"]["text"] == {}


def test_the_run_stands_for_its_latest_update_everywhere(updated) -> None:
    root, _, first, second = updated
    run = root / "run"
    assert find_model(run) == second.directory / "finetune" / "final"
    text = first.directory / "corpus", first.directory / "dataset"
    assert places_of(find_model(run)) == DataPlaces(*text, second.directory / "instructions")
    assert newest_run(root) == run
    assert feedback_file(find_model(run)) == run / "feedback.jsonl"


def test_the_report_and_the_page_tell_what_was_learned_in_turn(updated) -> None:
    root, _, first, second = updated
    base, one, two = curriculum(second.directory)
    assert (base["run"], one["run"]) == (str(root / "run"), str(first.directory))
    assert (base["begun_with"], base["replay_share"], base["steps"]) == (None, None, 30)
    assert one["documents"] == first.facts["learned"]["documents"] > 0
    assert (two["documents"], two["steps"], two["conversations"]) == (None, None, 70)
    page = (second.directory / "evaluation" / "report.html").read_text()
    assert "What was learned, run after run" in page
    assert "an untrained model cannot know that much" not in page
    text = update_page(second)
    assert f"{root / 'run'} stands for it from now on" in text
    assert "corrected answers, right of 10" in text
    lines = history_page(root / "run").splitlines()
    assert [line[:3] for line in lines] == ["  0", "  1", "→ 2"]
    assert f"{first.facts['learned']['documents']} new documents" in lines[1]


def test_places_of_the_runs_before_are_no_data(updated) -> None:
    root, _, _, second = updated
    places = own_places(PipelineConfig.from_file(second.directory / "settings.json"))
    assert {second.directory, second.run / "updates" / "1", root / "run"} <= set(places)


def test_what_lies_beside_a_run_that_is_no_update_is_data_whatever_its_settings_say(updated) -> None:
    root, _, _, second = updated
    config = PipelineConfig.from_file(second.directory / "settings.json")
    config = config.replace(run={"dir": str(root / "elsewhere" / "run")})
    assert config.run.parent is not None
    assert not any((root / "elsewhere").is_relative_to(place) for place in own_places(config))


def test_the_same_news_twice_change_nothing(updated, caplog) -> None:
    root, _, _, _ = updated
    caplog.set_level(logging.INFO)
    before = sorted(path.name for path in (root / "run" / "updates").iterdir())
    assert update_run(root / "run", data=[root / "new"]) is None
    assert update_run(root / "run", feedback=[root / "feedback.jsonl"]) is None
    assert update_run(root / "run") is None
    assert sorted(path.name for path in (root / "run" / "updates").iterdir()) == before
    assert "no new document to learn" in caplog.text
    assert "every usable record was learned before" in caplog.text
    assert "22 records have nothing to learn" not in caplog.text
    assert "2 records have nothing to learn" in caplog.text


def test_going_back_is_one_command_and_what_was_gone_back_from_can_be_learned_again(
    root: Path, capsys, caplog
) -> None:
    run = root / "run"
    feedback = write_feedback(root / "feedback.jsonl", range(100, 103))
    assert script.main([str(run), "--feedback", str(feedback), *QUICK]) == 0
    assert latest_number(run) == 1
    with pytest.MonkeyPatch.context() as patch:  # the second of two processes that torchrun started
        patch.setenv("RANK", "1")
        assert script.main([str(run), "--rollback"]) == 0
    assert latest_number(run) == 1
    assert script.main([str(run), "--rollback"]) == 0
    assert find_model(run) == run / "finetune" / "final"
    with pytest.raises(UsageError, match="nothing to go back to"):
        script.main([str(run), "--rollback"])
    with pytest.raises(UsageError, match=r"update 1 has learned just this .*gone back from.*--use 1"):
        script.main([str(run), "--feedback", str(feedback), *QUICK])
    assert script.main([str(run), "--feedback", str(feedback), *QUICK, "--feedback-weight", "2"]) == 0
    assert latest_number(run) == 2
    assert line_of(run, 2) == [2, 0]
    assert script.main([str(run), "--use", "1"]) == 0
    assert script.main([str(run), "--history"]) == 0
    assert "→ 1" in capsys.readouterr().out
    events = [json.loads(line) for line in (run / "updates" / "history.jsonl").read_text().splitlines()]
    assert [(event["before"], event["number"]) for event in events] == [(0, 1), (1, 0), (0, 2), (2, 1)]
    with pytest.raises(UsageError, match=r"update 9 is none \(there are: 0, 1, 2\)"):
        use(run, 9, because="")


QUICK = ["evaluation.num_validation_questions=2", "evaluation.num_questions=0", "instruction.total_steps=2"]


def test_a_worse_update_is_kept_and_not_used_unless_somebody_says_so(root: Path, capsys) -> None:
    run = root / "run"
    texts = write_texts(root / "new", make_documents(20, seed=91))
    ruinous = [*QUICK, "training.learning_rate=3.0", "training.matrix_learning_rate=3.0"]
    assert script.main([str(run), "--data", str(texts), *ruinous]) == script.NOT_USED
    page = capsys.readouterr().out
    assert "It is not used" in page and "held-out text takes" in page
    assert find_model(run) == run / "finetune" / "final"
    assert latest_number(run) == 0
    with pytest.raises(UsageError, match=r"update 1 has learned just this .*held-out text takes"):
        script.main([str(run), "--data", str(texts), *ruinous])
    assert script.main([str(run), "--data", str(texts), *ruinous, "--tolerance", "10"]) == script.NOT_USED
    page = capsys.readouterr().out
    assert (
        "held-out text takes" not in page and "nats a token instead of" in page
    )  # judged again, not trained again
    assert script.main([str(run), "--use", "1"]) == 0
    assert find_model(run) == run / "updates" / "1" / "finetune" / "final"
    with lock(run / "updates" / ".lock", held=run), pytest.raises(LockedError, match="is in use by process"):
        script.main([str(run), "--rollback"])
    assert script.main([str(run), "--rollback"]) == 0
    (texts / "one-more.txt").write_text(make_documents(1, seed=96)[0])
    assert script.main([str(run), "--data", str(texts), *QUICK, "--tolerance", "10"]) == 0
    assert latest_number(run) == 2


def test_what_was_added_to_the_runs_own_directory_is_news(tmp_path: Path) -> None:
    write_inputs(tmp_path)
    train_llm_from_scratch(
        settings(tmp_path, instruction={"total_steps": 2}, training={"total_steps": 4}),
        selection=Selection(skip=frozenset()),
    )
    (tmp_path / "raw" / "late.txt").write_text(make_documents(1, seed=92)[0])
    changed = tmp_path / "raw" / "03.txt"
    changed.write_text(changed.read_text() + " And one sentence more, which was not there before.")
    update = update_run(tmp_path / "run", overrides={"instruction": {"total_steps": 2}}, tolerance=10.0)
    assert update is not None
    splits = json.loads((update.directory / "dataset" / "dataset_report.json").read_text())["splits"]
    base = json.loads((tmp_path / "run" / "dataset" / "dataset_report.json").read_text())["splits"]
    total = sum(values["documents"] for values in splits.values())
    assert total == sum(values["documents"] for values in base.values()) + 1
    assert 0 < splits["train"]["documents"] <= 2


def test_new_versions_of_what_was_learned_are_learned_and_never_held_out(root: Path, trained) -> None:
    run = root / "run"
    base = divided_corpus(DataPlaces(run / "corpus", run / "dataset"))
    learned = {document.text for split, document in base.divide() if split == "train"}
    texts = root / "changed"
    shutil.copytree(trained[0] / "raw", texts)
    for path in texts.glob("*.txt"):
        path.write_text(path.read_text().rstrip() + " And one sentence more, which was not there before.")
    changed = {"data": {"raw_dir": str(texts)}, "instruction": {"total_steps": 2}}
    update = update_run(run, overrides=changed, tolerance=10.0)
    assert update is not None
    now = divided_corpus(DataPlaces(update.directory / "corpus", update.directory / "dataset"))
    held_out = [document.text for split, document in now.divide() if split in ("validation", "test")]
    assert held_out
    for text in held_out:
        assert not any(text.startswith(known.rstrip()) for known in learned)


def test_a_run_that_was_moved_can_be_updated_further(root: Path) -> None:
    texts = write_texts(root / "new", make_documents(10, seed=93))
    quick = {"instruction": {"total_steps": 2}, "evaluation": {"num_questions": 0}}
    assert update_run(root / "run", data=[texts], overrides=quick, tolerance=10.0) is not None
    moved = root / "elsewhere"
    (root / "run").rename(moved)
    feedback = write_feedback(root / "feedback.jsonl", range(100, 103))
    by_feedback = update_run(moved, feedback=[feedback], overrides=quick)
    assert by_feedback is not None
    more = write_texts(root / "more", make_documents(10, seed=95))
    by_text = update_run(moved, data=[more], overrides=quick, tolerance=10.0)
    assert by_text is not None
    assert line_of(moved, 3) == [3, 2, 1, 0]
    rows = read_manifest(by_text.directory / "instructions")
    assert rows is not None
    assert rows["metrics"]["conversations"] == 60 + 3  # what the update before learned is learned again
    split = json.loads((by_text.directory / "dataset" / "dataset_report.json").read_text())["splits"]
    assert split["train"]["documents"] <= 10
    assert not (root / "run").exists()
    told = [Path(one["run"]) for one in curriculum(by_text.directory)]
    assert told == [moved, moved / "updates" / "1", moved / "updates" / "2", moved / "updates" / "3"]


def interrupted(run: Path, at: str, monkeypatch: pytest.MonkeyPatch, update: Callable[[], object]) -> None:
    """Let an update fail in one of its steps, as a full disk would."""
    import pipeline.update

    def fails(*_: Any, **__: Any) -> None:
        raise DataError("stopped here")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.update, at, fails)
        with pytest.raises(DataError, match="stopped here"):
            update()


@pytest.mark.parametrize("at", ["compare_models", "objections", "stand_for", "curriculum"])
def test_an_interrupted_update_goes_on_by_the_same_call_and_by_no_other(
    root: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = root / "run"
    feedback = write_feedback(root / "feedback.jsonl", range(100, 103))
    quick = {"instruction": {"total_steps": 2}, "evaluation": {"num_questions": 0}}

    def update() -> Update | None:
        return update_run(run, feedback=[feedback], overrides=quick, command="the first command")

    interrupted(run, at, monkeypatch, update)
    assert latest_number(run) == (1 if at == "curriculum" else 0)
    with pytest.raises(UsageError, match=r"update 1 is not finished.*the first command.*--give-up"):
        update_run(run, data=[root])
    write_feedback(feedback, range(100, 120))  # more came in meanwhile: that is for the next update
    again = update()
    assert again is not None
    assert [one.number for one in updates_of(run)] == [1]
    assert again.facts["comparison"]["corrections"]["num_questions"] == 3
    assert latest_number(run) == 1


def test_half_a_character_that_a_cut_answer_left_is_kept_as_it_is(root: Path, monkeypatch) -> None:
    run, feedback = root / "run", root / "feedback.jsonl"
    asked = [{"role": "user", "content": "What is ü?"}, {"role": "assistant", "content": "cut \ud83d"}]
    record = {"messages": asked, "rating": -1, "correction": "A letter."}
    feedback.write_text(json.dumps(record) + "\n")
    quick = {"instruction": {"total_steps": 2}}
    interrupted(
        run, "compare_models", monkeypatch, lambda: update_run(run, feedback=[feedback], overrides=quick)
    )
    [line] = updates_of(run)[0].records.read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == record
    assert "ü" in line


def test_an_update_that_another_process_works_on_is_not_deleted(root: Path, monkeypatch) -> None:
    import pipeline.update

    run, feedback = root / "run", write_feedback(root / "feedback.jsonl", range(100, 103))

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline.update, "train_llm_from_scratch", killed)
        update_run(run, feedback=[feedback])
    update = updates_of(run)[0]
    with lock(update.directory / ".lock", held=update.directory), pytest.raises(LockedError, match="in use"):
        update_run(run, feedback=[feedback])
    assert [one.number for one in updates_of(run)] == [1]
    assert update.records.is_file()


@pytest.mark.parametrize("at", ["compare_models", "curriculum"])
def test_an_update_can_be_given_up(root: Path, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = root / "run"
    feedback = write_feedback(root / "feedback.jsonl", range(100, 103))
    interrupted(
        run,
        at,
        monkeypatch,
        lambda: update_run(run, feedback=[feedback], overrides={"instruction": {"total_steps": 2}}),
    )
    with pytest.raises(UsageError, match="update 1 did not come to its end"):
        use(run, 1, because="")
    assert "not finished" in history_page(run)
    assert script.main([str(run), "--give-up"]) == 0
    assert updates_of(run) == []
    assert find_model(run) == run / "finetune" / "final"
    assert not (run / "updates" / "1").exists()
    with pytest.raises(UsageError, match="no update of it is unfinished"):
        give_up(run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], r"--data nowhere: no such file or directory \(seen from"),
        (["--data", "run/.cache/empty"], r"--data run/.cache/empty: an empty directory"),
        (["--data", "blank"], r"blank"),
        (["--feedback", "nowhere.jsonl"], r"nowhere\.jsonl"),
        (["--tolerance", "-1"], r"--tolerance -1.0: expected a share from 0 to 10"),
        (["--feedback-weight", "0"], r"--feedback-weight 0.0: expected above 0 to 100"),
        (["--rollback", "--data", "x"], "train nothing; leave out"),
        (["--rollback", "--history"], "not allowed with argument"),
        (["training.replay_share=2"], r"training\.replay_share"),
        (["--use", "3"], "update 3 is none"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(root: Path, arguments, message, monkeypatch) -> None:
    monkeypatch.chdir(root)
    (root / "run" / ".cache" / "empty").mkdir(parents=True)
    (root / "blank" / "inside").mkdir(parents=True)
    with pytest.raises(BloomeryError, match=message):
        script.main(["run", *arguments])
    assert not list((root / "run").glob("updates/[0-9]*"))
    assert latest_number(root / "run") == 0


def test_what_is_no_run_is_refused(root: Path, tmp_path: Path) -> None:
    for place, message in (
        (tmp_path / "nothing", "found nothing"),
        (root / "run" / "finetune" / "final", r"there is no settings\.json"),
        (root / "run" / "updates" / "1", "found nothing"),
    ):
        with pytest.raises(DataError, match=message):
            update_run(place)
    (root / "run" / "updates" / "1").mkdir(parents=True)
    with pytest.raises(DataError, match=r"there is no settings\.json"):
        update_run(root / "run" / "updates" / "1")
    (root / "run" / "updates" / "1.json").write_text("{}")
    with pytest.raises(DataError, match="is an update itself; name the run"):
        update_run(root / "run" / "updates" / "1")


def test_a_run_that_did_not_come_to_its_end_is_refused(root: Path) -> None:
    shutil.rmtree(root / "run" / "pretrain")
    with pytest.raises(DataError, match="has no finished pretrain"):
        update_run(root / "run", data=[write_texts(root / "new", make_documents(3, seed=1))])
    assert updates_of(root / "run") == []


def test_a_damaged_record_of_what_is_used_is_named(root: Path) -> None:
    run = root / "run"
    (run / "latest").write_text("../../elsewhere")
    with pytest.raises(CorruptArtifactError, match=r"latest: expected the number of an update, found '\.\./"):
        find_model(run)
    (run / "latest").write_text("4\n")
    with pytest.raises(CorruptArtifactError, match=r"names update 4.*--use N"):
        find_model(run)
    assert script.main([str(run), "--use", "0"]) == 0
    assert find_model(run) == run / "finetune" / "final"
    (run / "latest").unlink()
    (run / "latest").mkdir()  # another program's
    assert find_model(run) == run / "finetune" / "final"
    (run / "latest").rmdir()
    model = run / "finetune" / "final"
    (model / "latest").write_text("global_step5")  # as DeepSpeed writes
    assert find_model(model) == model
    (run / "updates").mkdir(exist_ok=True)
    (run / "updates" / "1.json").write_text('{"parent": "x"}')
    (run / "latest").write_text("1\n")
    with pytest.raises(CorruptArtifactError, match=r"1\.json: says not what the update was made from"):
        roll_back(run)
