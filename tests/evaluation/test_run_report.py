import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from safetensors.torch import load_file

from core.config_files import SETTINGS_FILE
from core.manifest import write_manifest
from core.training_config import PipelineConfig
from evaluation.language_model import load_language_model
from evaluation.model_card import model_card
from evaluation.run_facts import default_places, gather_run_facts, headline
from evaluation.run_places import places_of, run_of
from evaluation.run_report import run_page, write_report_of, write_run_report
from evaluation.suite import Suite, place_of_results, run_suite
from evaluation.task_files import read_task
from tests.inference.tiny_models import save_tiny_model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_tokenizer) -> Path:
    """A run as stages leave it, with results of its model, feedback, and somebody's markup in its names."""
    run = tmp_path_factory.mktemp("runs") / "mine"
    model = save_tiny_model(
        run / "pretrain" / "final", small_tokenizer, stage="pretraining", max_position_embeddings=256
    )
    (run / "pretrain" / "metrics.jsonl").write_text(
        "".join(
            json.dumps({"step": n, "train/loss": 5 - n / 10, "train/tokens": 64 * n}) + "\n"
            for n in range(1, 9)
        )
    )
    write_manifest(
        run / "pretrain",
        {
            "status": "complete",
            "fingerprint": "f" * 64,
            "recipe": {"inputs": {"dataset": "d" * 64}},
            "elapsed_seconds": 12.0,
            "versions": {"torch": "9.9"},
        },
    )
    task = run.parent / "questions.jsonl"
    task.write_text('{"query": "Hot?", "choices": ["ice", "fire"], "gold": 1}\n' * 3)
    text = run.parent / "held<out>.txt"
    text.write_text("the furnace is hot")
    language_model = load_language_model(model, device="cpu")
    suite = Suite(tasks=[read_task(task)], texts=[str(text)], quality=True, speed=True)
    run_suite(language_model, suite, place_of_results(language_model, run / "scores"))
    (run / "evaluation").mkdir()
    evaluation = {
        "text": {"validation": {"loss_nats": 2.5, "perplexity": None, "bits_per_byte": 1.25}},
        "text_after_tuning": {"test": {"loss_nats": 3.5, "perplexity": 33.1, "bits_per_byte": 1.75}},
        "samples": [{"prompt": "<script>alert(1)</script>", "continuation": "goes on"}],
        "held_out": {
            "num_questions": 4, "right_first_sentence_share": 0.25, "stopped_share": 1.0,
            "answers": [{"question": "Q?", "true_answer": "T.", "answer": "A.", "right": False, "stopped": True}],
        },
    }  # fmt: skip
    (run / "evaluation" / "evaluation.json").write_text(json.dumps(evaluation))
    feedback = [{"rating": 1}, {"rating": 1, "correction": "better"}, {"rating": -1}]
    (run / "feedback.jsonl").write_text("\n".join(map(json.dumps, feedback)) + "\nbroken\n")
    return run


def facts_of(run: Path) -> dict:
    return gather_run_facts(default_places(run), run, settings={"training": {"seed": 7}})


class Page(HTMLParser):
    """Every tag closed in order, every identifier once, and the targets of links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.identifiers: list[str] = []
        self.targets: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.identifiers += [value for key, value in values.items() if key == "id" and value]
        self.targets += [value for key, value in values.items() if key in ("href", "src") and value]
        if tag not in ("meta", "wbr", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_refers_to_itself_alone_and_runs_nothing(run: Path) -> None:
    page = run_page(facts_of(run))
    parsed = Page(page)
    assert parsed.open == []
    assert len(parsed.identifiers) == len(set(parsed.identifiers))
    assert parsed.targets and set(parsed.targets) <= {f"#{identifier}" for identifier in parsed.identifiers}
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "default-src 'none'" in page
    assert not re.search(r"https?://", page)


def test_the_page_shows_what_each_part_of_the_run_left(run: Path) -> None:
    page = run_page(facts_of(run))
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    expected = {
        "Pretraining",
        "Held-out text",
        "Tasks",
        "Instructions",
        "What it writes",
        "Speed",
        "Feedback",
    }
    assert {*expected, "Lineage"} <= set(titles)
    assert "Instruction tuning" not in titles
    for shown in (
        f"{sum(t.numel() for t in load_file(run / 'pretrain/final/model.safetensors').values()):,}",
        "1.250",
        "questions",
        "held&lt;out&gt;.txt, by source",
        "25.0 %",
        "66.7 %",
        "d" * 8,
    ):
        assert shown in page, shown
    assert "training.<wbr>seed" in page
    assert f"--config-dir {run / 'settings.json'}" in page


def test_a_part_of_the_questions_is_shown_as_such_and_only_until_all_were_asked(
    run: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    model = load_language_model(copy / "pretrain" / "final", device="cpu")
    (place,) = (copy / "scores").iterdir()
    (place / "questions-0-shot.json").unlink()
    task = copy.parent / "questions.jsonl"
    shutil.copy(run.parent / "questions.jsonl", task)
    run_suite(model, Suite(tasks=[read_task(task, limit=2)]), place)
    assert "| pretrain | questions | 2 of 3 | accuracy | " in model_card(facts_of(copy))
    assert "<td>2 of 3</td>" in run_page(facts_of(copy))
    run_suite(model, Suite(tasks=[read_task(task)], num_shots=0), place)
    assert "questions-0-shot-2-of-3.json" not in facts_of(copy)["scores"]["pretrain"]
    assert (place / "questions-0-shot-2-of-3.json").is_file()
    card = model_card(facts_of(copy))
    assert "| pretrain | questions | 3 | accuracy | " in card and "2 of 3" not in card


def test_a_run_that_tuned_a_model_from_elsewhere_is_reported_with_the_command_that_tuned_it(
    tmp_path: Path, small_tokenizer, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "tuned"
    model = save_tiny_model(run / "finetune" / "final", small_tokenizer)
    manifest = json.loads((model / "MANIFEST.json").read_text())
    write_manifest(model, {**manifest, "initialised_from": "models/given"})
    assert run_of(model) is None
    config = PipelineConfig.from_dict({"run": {"dir": "runs/tuned"}})
    (run / SETTINGS_FILE).write_text(json.dumps(config.to_dict()))
    assert run_of(model) == run and places_of(model) is None
    language_model = load_language_model(run, device="cpu")
    assert place_of_results(language_model, None).parent == run / "scores"
    assert write_report_of(run) == run / "report.html"
    card = (run / "MODEL_CARD.md").read_text()
    assert "tuned to answer" in card
    assert (
        "python scripts/train_instruction_finetuning.py --pretrained-model models/given "
        "--config-dir runs/tuned/settings.json\n"
    ) in card


def test_the_headline_says_what_pretraining_began_with(run: Path) -> None:
    assert "parameters, trained from nothing." in headline(facts_of(run))
    begun = gather_run_facts(default_places(run), run, settings={"training": {"init_from": "models/given"}})
    assert "parameters, trained on from models/given." in headline(begun)


def test_feedback_is_counted_line_by_line(run: Path) -> None:
    assert facts_of(run)["feedback"] == {
        "answers": 3, "liked": 2, "not_liked": 1, "corrected": 1, "unreadable": 1
    }  # fmt: skip


def test_results_of_another_model_in_the_same_place_are_not_shown(
    run: Path, tmp_path: Path, small_tokenizer
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert facts_of(copy)["scores"]["pretrain"]
    save_tiny_model(copy / "pretrain" / "final", small_tokenizer, stage="pretraining", seed=9)
    assert facts_of(copy)["scores"]["pretrain"] == {}


def test_the_card_says_what_was_measured_and_an_empty_run_has_one_too(run: Path, tmp_path: Path) -> None:
    card = model_card(facts_of(run))
    assert "| pretrained | validation | 2.500 | – | 1.25 |" in card
    assert "| tuned | test | 3.500 | 33.1 | 1.75 |" in card
    score = json.loads(next((run / "scores").rglob("questions-0-shot.json")).read_text())["scores"][
        "accuracy"
    ]
    assert f"| pretrain | questions | 3 | accuracy | {score['value']:g} (" in card
    assert "No model was trained yet." in model_card(facts_of(tmp_path))
    write_run_report(default_places(tmp_path), tmp_path, settings={}, out=tmp_path)
    assert "No model was trained yet." in (tmp_path / "report.html").read_text()
