"""Evaluation data in a corpus is found."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data_config import DecontaminationConfig
from core.errors import DataError
from data_processing.document import Outcome, Step
from data_processing.rules.decontaminate import (
    MAX_ALTERNATIVES,
    decontamination_step,
    ngram_hashes,
    read_records,
)
from tests.growth import assert_grows_linearly
from tests.small_texts import make_text

QUESTION = "Which of these tools did the smith of the old village use to draw the bloom out of the furnace?"


def step_for(tmp_path: Path, *records: object, **settings: int) -> Step:
    path = tmp_path / "exam.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n", encoding="utf-8")
    return decontamination_step(DecontaminationConfig(files=(path,), **settings))


def naive_ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = re.findall("[a-z0-9]+", text.lower())
    return [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]


def test_a_question_in_other_dress_is_found_and_the_detail_says_where_from(tmp_path: Path):
    step = step_for(
        tmp_path, {"query": QUESTION, "choices": ["Tongs", "A rake"], "gold": 0}, {"query": "Short?"}
    )
    dressed = QUESTION.upper().replace(" ", "\n").replace("?", "\u2026")
    text = f"{make_text(random.Random(0), 50)} {dressed} {make_text(random.Random(1), 50)}"
    outcome = step(text, {})
    assert outcome.reason == "contaminated"
    assert (
        outcome.detail
        == f"shares n-grams of 13 words or whole shorter records: 8 of {tmp_path / 'exam.jsonl'}"
    )
    assert outcome.text == text
    half = " ".join(QUESTION.split()[:12])
    assert step(f"{half}. {half}.", {}) == Outcome(f"{half}. {half}.")


def test_each_choice_is_looked_for_behind_its_question(tmp_path: Path):
    short = {
        "query": "The man broke his toe because",
        "choices": ["he had a hole in it", "he dropped a hammer on it"],
    }
    options = {
        "context_options": ["The trophy was too big", "The case was too small"],
        "continuation": "for all of it.",
    }
    step = step_for(tmp_path, short, options)
    for text in (
        "The man broke his toe because he had a hole in it.",
        "The man broke his toe, because he dropped a hammer on it!",
        "The trophy was too big for all of it.",
        "The case was too small for all of it.",
    ):
        assert step(f"So. {text} So.", {}).reason == "contaminated", text
    for text in (
        "The man broke his toe because he dropped a hammer",
        "he dropped a hammer on it",
        "The case was too small",
    ):
        assert step(f"So. {text} So.", {}).reason is None, text


def test_a_record_of_fewer_than_eight_words_is_never_found(tmp_path: Path):
    step = step_for(
        tmp_path, "one two three four five six seven", ["eins zwei drei vier fünf sechs sieben acht"]
    )
    assert step("one two three four five six seven", {}).reason is None
    assert step("Null. Eins, zwei, drei, vier, fünf, sechs, sieben, acht.", {}).reason == "contaminated"


@pytest.mark.parametrize(("allowed", "reason"), [(7, "contaminated"), (8, None)])
def test_so_many_shared_ngrams_are_allowed(tmp_path: Path, allowed: int, reason: str | None):
    step = step_for(tmp_path, {"query": QUESTION}, max_shared_ngrams=allowed)
    assert step(f"{QUESTION} {QUESTION}", {}).reason == reason  # each of the eight counts once


@given(seed=st.integers(0, 50), n=st.integers(4, 9))
def test_the_number_shared_is_that_of_a_plain_count(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n: int
):
    generator = random.Random(seed)
    record, text = make_text(generator, 3), make_text(generator, 6)
    words = record.split()
    text += " " + " ".join(words[: generator.randint(0, len(words))])
    step = step_for(tmp_path_factory.mktemp("exam"), record, ngram_words=n)
    shared = len(set(naive_ngrams(text, n)) & set(naive_ngrams(record, n)))
    found = re.search(r": (\d+) of", step(text, {}).detail)
    assert (int(found[1]) if found else 0) == shared


def test_ngrams_stand_in_order_and_differ_as_their_words_do():
    text = make_text(random.Random(3), 40)
    hashes = ngram_hashes(text, 3)
    naive = naive_ngrams(text, 3)
    assert hashes.dtype == np.uint64
    assert len(hashes) == len(naive)
    names = dict(zip(naive, hashes.tolist(), strict=True))
    assert [names[ngram] for ngram in naive] == hashes.tolist()
    assert len(set(names.values())) == len(names)
    assert ngram_hashes("two words", 3).shape == (0,)


def test_counts_are_given_by_file_and_an_ngram_counts_for_the_first(tmp_path: Path):
    first, second = tmp_path / "a.json", tmp_path / "b.txt"
    first.write_text(json.dumps([{"text": QUESTION}]), encoding="utf-8")
    second.write_text(
        f"Preface.\n\n{QUESTION}\nAnd a further line of words in this second file.\n", encoding="utf-8"
    )
    step = decontamination_step(DecontaminationConfig(files=(first, second)))
    detail = step(second.read_text(encoding="utf-8"), {}).detail
    assert detail.endswith(f": 8 of {first}, 10 of {second}")


def test_without_files_nothing_is_found():
    assert decontamination_step(DecontaminationConfig())(QUESTION, {}) == Outcome(QUESTION)


@pytest.mark.parametrize(
    ("name", "content", "records"),
    [
        ("a.jsonl", '{"q": "x"}\n\n["y"]\n', [{"q": "x"}, ["y"]]),
        ("a.json", '[{"q": "x"}, "y"]', [{"q": "x"}, "y"]),
        ("a.json", '{"q": ["x"]}', [{"q": ["x"]}]),
        ("a.TXT", "x\ny\n\n \n\nz\n", ["x\ny", "z"]),
    ],
)
def test_records_are_lines_elements_or_paragraphs(
    tmp_path: Path, name: str, content: str, records: list[object]
):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert list(read_records(path)) == records


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"x", r"a\.csv ends with '\.csv'; expected one of \.jsonl, \.ndjson, \.json, \.txt"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"a\.jsonl:2: not JSON \(Expecting value at line 1, column 7\)"),
        ("a.json", b"[1,\n2", r"a\.json: not JSON \(Expecting ',' delimiter at line 2, column 2\)"),
        ("a.txt", b"caf\xe9", r"a\.txt is not UTF-8 .* at byte 3\); save it as UTF-8"),
        ("a.jsonl", b"[" * 200_000, r"a\.jsonl:1: not usable \(JSON nested too deeply\)"),
        ("a.txt", None, r"data\.decontamination\.files: .*a\.txt cannot be read \(No such file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        decontamination_step(DecontaminationConfig(files=(path,)))


def test_long_lists_are_read_in_a_row_alone(tmp_path: Path):
    words = [f"word{number}" for number in range(MAX_ALTERNATIVES + 1)]
    step = step_for(tmp_path, {"query": " ".join(words[:12]), "paragraphs": [f"x{word}" for word in words]})
    assert step(" ".join([*words[:12], "xword0"]), {}).reason == "contaminated"
    assert step(" ".join([*words[:12], "xword1"]), {}).reason is None


def test_a_deeply_nested_record_is_read(tmp_path: Path):
    record: object = QUESTION
    for _ in range(400):
        record = [{"inner": record}]
    assert step_for(tmp_path, record)(QUESTION, {}).reason == "contaminated"


def test_of_real_tasks_a_planted_question_is_found_in_a_book(real_data: Path):
    files = tuple(sorted((real_data / "tasks").glob("*.jsonl")))
    step = decontamination_step(DecontaminationConfig(files=files))
    books = [path.read_text(encoding="latin-1") for path in sorted((real_data / "books").glob("*.txt"))]
    assert [step(book, {}).reason for book in books] == [None] * len(books)
    generator = random.Random(0)
    num_planted = 0
    for path in files:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for record in generator.sample(records, 5):
            if "query" in record:
                planted = f"{record['query']} {record['choices'][record['gold']]}"
            elif "context" in record:
                planted = f"{record['context']} {record['continuation']}"
            else:
                planted = f"{record['context_options'][record['gold']]} {record['continuation']}"
            planted = planted.removeprefix("Question: ")
            if len(planted.split()) < 9:
                continue
            num_planted += 1
            book = generator.choice(books)
            place = generator.randrange(len(book))
            outcome = step(f"{book[:place]}\n\n{planted}\n\n{book[place:]}", {})
            assert outcome.reason == "contaminated", planted
            assert path.name in outcome.detail
    assert num_planted >= 20


@given(st.text())
def test_any_text_can_be_asked_about(text: str):
    assert decontamination_step(DecontaminationConfig())(text, {}).text == text


@pytest.mark.parametrize("unit", ["a", "a ", "a b c d e f g h ", "\ud800", "é ", " "])
def test_hostile_text_takes_linear_time(tmp_path: Path, unit: str):
    step = step_for(
        tmp_path, "a a a a a a a a a a a a a", "a b c d e f g h", "a b c d e f g h a b c d e f g h"
    )
    assert_grows_linearly(lambda text: step(text, {}), lambda size: unit * (size // len(unit)), 25_000)
