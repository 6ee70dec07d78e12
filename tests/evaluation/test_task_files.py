import json
from pathlib import Path

import pytest

from core.errors import DataError
from evaluation.task_files import TASKS, prompts, read_task

CHOICE = {"query": "What is hot?", "choices": ["ice", "the furnace"], "gold": 1}
SCHEMA = {"context_options": ["The ore", "The slag"], "continuation": "runs out.", "gold": 1}
CLOZE = {"context": "The furnace is", "continuation": "hot"}
FREE = {"context": "What is hot?", "answer": "the furnace", "aliases": ["furnace", "a furnace"]}


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("record", "kind", "solved"),
    [
        (CHOICE, "multiple_choice", "What is hot? the furnace"),
        (SCHEMA, "schema", "The slag runs out."),
        (CLOZE, "cloze", "The furnace is hot"),
        (FREE, "free_answer", "What is hot? the furnace"),
    ],
)
def test_a_record_says_by_its_keys_what_it_is(tmp_path: Path, record: dict, kind: str, solved: str) -> None:
    task = read_task(write(tmp_path / "t.jsonl", record, {**record, "note": "ignored"}))
    assert (task.kind, len(task.items)) == (kind, 2)
    assert task.items[0].solved(task.delimiter) == solved


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**CHOICE, "gold": 2}, "gold is 2, expected a number from 0 to 1"),
        ({**CHOICE, "gold": True}, "gold is True, expected a number"),
        ({**CHOICE, "choices": ["ice"]}, "choices has 1 texts, expected 2 or more"),
        ({**CHOICE, "choices": ["ice", ""]}, "expected a list of texts that are not empty"),
        ({**CHOICE, "query": 3}, "query is of type int, expected a text"),
        ({"query": "What is hot?"}, "lacks choices and gold, which the records before have"),
        (["a", "list"], "expected an object"),
    ],
)
def test_a_broken_record_is_named_by_file_and_line(tmp_path: Path, record: object, message: str) -> None:
    path = write(tmp_path / "t.jsonl", CHOICE, record)
    with pytest.raises(DataError) as error:
        read_task(path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert message in str(error.value)


def test_a_line_that_is_no_json_and_files_without_questions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(CLOZE) + '\n{"context": \n')
    with pytest.raises(DataError, match=r"t\.jsonl:2: not JSON .*mend or remove the line"):
        read_task(path)
    with pytest.raises(DataError, match=r"t\.jsonl:1: no known kind of task: found the keys \['text'\]"):
        read_task(write(path, {"text": "x"}))
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no record; expected one JSON object a line"):
        read_task(path)
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        read_task(tmp_path / "nowhere.jsonl")


def numbered(tmp_path: Path, number: int, **options: int):
    return read_task(
        write(
            tmp_path / "n.jsonl", *({"context": f"<{n}>", "continuation": f"[{n}]"} for n in range(number))
        ),
        **options,
    )


def test_examples_are_other_questions_with_their_answers_and_follow_from_the_seed(tmp_path: Path) -> None:
    task = numbered(tmp_path, 12)
    shown = prompts(task, num_shots=5, seed=1)
    for number, (text,) in enumerate(shown):
        *examples, asked = text.split("\n\n")
        assert asked == f"<{number}>"
        assert len(set(examples)) == 5
        assert f"<{number}> [{number}]" not in examples
        assert set(examples) <= {f"<{n}> [{n}]" for n in range(12)}
    assert shown == prompts(task, num_shots=5, seed=1)
    assert shown != prompts(task, num_shots=5, seed=2)


def test_a_limit_asks_fewer_questions_and_shows_each_of_them_the_same_examples(tmp_path: Path) -> None:
    whole, part = numbered(tmp_path, 12), numbered(tmp_path, 12, limit=3)
    assert part.asked == [0, 4, 8]
    of_whole = prompts(whole, num_shots=4, seed=1)
    assert prompts(part, num_shots=4, seed=1) == [of_whole[0], of_whole[4], of_whole[8]]


def test_more_examples_than_other_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 questions, 3 examples were asked for"):
        prompts(numbered(tmp_path, 3), num_shots=3, seed=0)


def test_known_benchmarks_are_asked_with_their_own_delimiter(tmp_path: Path) -> None:
    assert read_task(write(tmp_path / "arc_easy.jsonl", CHOICE)).delimiter == "\nAnswer: "
    assert read_task(write(tmp_path / "mine.jsonl", CHOICE)).delimiter == " "
    assert all(set(values) == {"delimiter"} for values in TASKS.values())


def test_the_real_task_files_are_read(real_data: Path) -> None:
    kinds = {path.stem: read_task(path).kind for path in (real_data / "tasks").glob("*.jsonl")}
    assert kinds == {
        "arc_easy": "multiple_choice",
        "copa": "multiple_choice",
        "lambada_openai": "cloze",
        "piqa": "multiple_choice",
        "winograd_wsc": "schema",
    }
