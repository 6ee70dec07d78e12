import itertools
import json
import math
from pathlib import Path

import pytest

from core.errors import DataError
from evaluation.likelihoods import Pair, log_likelihoods
from evaluation.ngram_baseline import ngram_model
from evaluation.stored_results import stored
from evaluation.task_files import Task, read_task
from evaluation.task_results import evaluate_tasks
from evaluation.tasks import normalized, run_task

WORDS = ["furnace", "iron", "ore", "slag", "bellows", "hammer", "tongs", "anvil", "charcoal", "bloom"]


def task_of(tmp_path: Path, *records: object, name: str = "t", **options: int) -> Task:
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return read_task(path, **options)


def choices(number: int = 20) -> list[dict]:
    return [
        {
            "query": f"the {WORDS[n % 10]} is",
            "choices": [WORDS[n % 7], "a " + WORDS[n % 9], "red"],
            "gold": n % 3,
        }
        for n in range(number)
    ]


def likelihood(model, context: str, continuation: str) -> float:
    (found,) = log_likelihoods(model, [Pair(context, continuation)], description="")
    return found.log_probability


def test_the_likeliest_choice_counts_plain_and_by_its_bytes(tmp_path: Path, tiny_language_model) -> None:
    task = task_of(tmp_path, *choices())
    outcome = run_task(tiny_language_model, task, ngram=None, num_shots=0, seed=0)
    right = by_bytes = 0
    for item in task.items:
        found = [likelihood(tiny_language_model, item.contexts[0] + " ", answer) for answer in item.answers]
        rates = [value / len(answer) for value, answer in zip(found, item.answers, strict=True)]
        right += found.index(max(found)) == item.gold
        by_bytes += rates.index(max(rates)) == item.gold
    assert outcome.scores["accuracy"].value == right / 20
    assert outcome.scores["accuracy_per_byte"].value == by_bytes / 20
    assert outcome.scores["accuracy"].random == pytest.approx(1 / 3)
    assert outcome.right.count("1") == right
    score = outcome.scores["accuracy"]
    assert score.low < score.value < score.high


def test_in_a_schema_the_context_counts_that_makes_the_continuation_likelier(
    tmp_path: Path, tiny_language_model
) -> None:
    records = [
        {"context_options": [f"the {a}", f"a {b}"], "continuation": "is hot", "gold": 1}
        for a, b in itertools.pairwise(WORDS)
    ]
    outcome = run_task(tiny_language_model, task_of(tmp_path, *records), ngram=None, num_shots=0, seed=0)
    right = [
        likelihood(tiny_language_model, record["context_options"][1] + " ", "is hot")
        > likelihood(tiny_language_model, record["context_options"][0] + " ", "is hot")
        for record in records
    ]
    assert outcome.right == "".join(str(int(r)) for r in right)
    assert outcome.scores["accuracy"].random == 0.5


def test_perplexity_is_that_of_a_continuation_and_accuracy_needs_each_of_its_tokens(
    tmp_path: Path, tiny_chat_model, tiny_language_model
) -> None:
    records = [{"context": f"the {word}", "continuation": "is hot"} for word in WORDS]
    outcome = run_task(tiny_language_model, task_of(tmp_path, *records), ngram=None, num_shots=0, seed=0)
    nats = [-likelihood(tiny_language_model, r["context"] + " ", "is hot") for r in records]
    assert outcome.scores["perplexity"].value == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-4)
    assert outcome.scores["perplexity"].random is None
    assert outcome.scores["accuracy"].random == 0


def test_free_answers_are_compared_as_people_would(tmp_path: Path, tiny_language_model) -> None:
    records = [{"context": f"Who made {word}?", "answer": "smith"} for word in WORDS]
    written = run_task(
        tiny_language_model, task_of(tmp_path, *records), ngram=None, num_shots=0, seed=0
    ).answers
    assert any(written)
    for record, text in zip(records, written, strict=True):
        record["aliases"] = [f"The {text.upper()}!"] if normalized(text) else ["nobody"]
    outcome = run_task(tiny_language_model, task_of(tmp_path, *records), ngram=None, num_shots=0, seed=0)
    assert outcome.scores["exact_match"].value == sum(bool(normalized(text)) for text in written) / 10
    assert outcome.scores["exact_match"].random == 0
    assert 0 < outcome.scores["word_f1"].value <= 1


def test_a_foreign_model_answers_the_same_questions(tmp_path: Path, foreign_language_model) -> None:
    outcome = run_task(foreign_language_model, task_of(tmp_path, *choices()), ngram=None, num_shots=2, seed=0)
    assert 0 <= outcome.scores["accuracy"].value <= 1
    free = task_of(tmp_path, {"context": "Who?", "answer": "smith"}, name="free")
    assert len(run_task(foreign_language_model, free, ngram=None, num_shots=0, seed=0).answers) == 1


def test_examples_change_what_a_model_says_and_long_ones_are_cut_and_counted(
    tmp_path: Path, tiny_language_model
) -> None:
    task = task_of(tmp_path, *choices())
    none = run_task(tiny_language_model, task, ngram=None, num_shots=0, seed=0)
    many = run_task(tiny_language_model, task, ngram=None, num_shots=12, seed=0)
    assert none.num_cut == 0
    assert many.num_cut == 20
    assert none.right != many.right


def test_each_figure_stands_beside_that_of_the_trigrams(tmp_path: Path, tiny_language_model) -> None:
    import numpy as np

    ids = [i for text in ["the furnace is red"] * 30 for i in tiny_language_model.encode([text])[0]]
    ngram = ngram_model(tiny_language_model, np.array(ids), vocab_size=400, counted="a line")
    task = task_of(
        tmp_path, *({"query": f"the {w} is", "choices": ["blue", "red"], "gold": 1} for w in WORDS)
    )
    score = run_task(tiny_language_model, task, ngram=ngram, num_shots=0, seed=0).scores["accuracy"]
    assert score.ngram == 1.0


def test_finished_tasks_are_read_and_not_asked_again(tmp_path: Path, tiny_language_model) -> None:
    tasks = [task_of(tmp_path, *choices(), name="one"), task_of(tmp_path, *choices(9), name="two")]
    out = tmp_path / "out"
    first = evaluate_tasks(tiny_language_model, tasks, out, training=None, num_shots=1, seed=0)
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(written) == ["one-1-shot.json", "two-1-shot.json"]
    assert json.loads(written["one-1-shot.json"]) == first[0]
    assert first[0]["baseline"] == "trigrams of the contexts of the task"
    (out / "two-1-shot.json").write_text("{cut off")
    again = evaluate_tasks(tiny_language_model, tasks, out, training=None, num_shots=1, seed=0)
    assert again[0] == first[0]
    assert again[1]["scores"] == first[1]["scores"]
    other = task_of(tmp_path, *choices(19), name="one")
    (result,) = evaluate_tasks(tiny_language_model, [other], out, training=None, num_shots=1, seed=0)
    assert len(result["right"]) == 19


def test_a_task_that_cannot_be_asked_keeps_the_results_before_it(tmp_path: Path, tiny_language_model) -> None:
    tasks = [task_of(tmp_path, *choices(), name="one"), task_of(tmp_path, *choices(2), name="small")]
    with pytest.raises(DataError, match=r"small\.jsonl: 2 questions, 3 examples"):
        evaluate_tasks(tiny_language_model, tasks, tmp_path / "out", training=None, num_shots=3, seed=0)
    assert (tmp_path / "out" / "one-3-shot.json").is_file()


def test_a_result_that_fails_half_way_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> dict:
        raise DataError("no")

    with pytest.raises(DataError):
        stored(tmp_path / "result.json", {"version": 1}, fail)
    assert list(tmp_path.iterdir()) == []
    assert stored(tmp_path / "result.json", {"version": 1}, lambda: {"value": 3})["value"] == 3
    assert stored(tmp_path / "result.json", {"version": 1}, fail)["value"] == 3
    with pytest.raises(DataError):
        stored(tmp_path / "result.json", {"version": 2}, fail)
