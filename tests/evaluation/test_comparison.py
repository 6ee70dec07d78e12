"""When a newer model may take the place of an earlier one."""

import random
from pathlib import Path
from typing import Any

import pytest

import evaluation.comparison
from core.errors import DataError
from evaluation.comparison import _check_is_number, _held_out, comparison_table, objections
from evaluation.run_places import DataPlaces
from evaluation.texts import Text


def marks(num_questions: int, only_old: int, only_new: int, chance: float) -> dict[str, Any]:
    return {
        "num_questions": num_questions,
        "num_right": {"old": only_old, "new": only_new},
        "num_right_alone": {"old": only_old, "new": only_new},
        "chance": chance,
    }


def text(old: float, new: float) -> dict[str, Any]:
    return {
        which: {"bits_per_byte": bits, "num_documents": 7} for which, bits in (("old", old), ("new", new))
    }


def answers(old: float, new: float, right: dict[str, Any] | None = None) -> dict[str, Any]:
    return {**(right or marks(5, 0, 0, 1.0)), "loss_nats": {"old": old, "new": new}}


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        ({"text": {}, "tasks": []}, ["nothing could be compared"]),
        (
            {"text": {}, "tasks": [], "answers": answers(5.3, 514.8)},
            ["the answers to held-out questions take 514.800 nats a token instead of 5.300"],
        ),
        ({"text": {}, "tasks": [], "answers": answers(5.3, 5.6)}, []),
        ({"text": {"earlier": text(1.0, 1.019)}, "tasks": []}, []),
        ({"text": {"new": text(1.0, 0.5)}, "tasks": []}, []),
        (
            {"text": {"earlier": text(1.0, 1.05)}, "tasks": []},
            ["earlier held-out text takes 1.050 bits per byte instead of 1.000 (+5.0%, allowed +2.0%)"],
        ),
        # Two questions of a hundred say nothing; twenty do, and so do they of a task.
        ({"text": {}, "tasks": [], "answers": answers(2.0, 2.0, marks(100, 2, 0, 0.5))}, []),
        (
            {"text": {}, "tasks": [], "answers": answers(2.0, 2.0, marks(100, 20, 2, 0.0001))},
            ["held-out questions: 2 of 100 right instead of 20 (equally good models differ so much with "],
        ),
        ({"text": {}, "tasks": [{"task": "arc", **marks(100, 2, 20, 0.0001)}]}, []),
        ({"text": {}, "tasks": [{"task": "arc", **marks(100, 20, 2, 0.0001)}]}, ["arc: 2 of 100 right"]),
        # What was corrected is shown and is no reason: it may be the one thing that is not learned yet.
        ({"text": {"new": text(1.0, 1.0)}, "tasks": [], "corrections": marks(10, 9, 0, 0.004)}, []),
    ],
)
def test_an_objection_is_raised_where_the_newer_model_is_surely_worse(comparison, expected) -> None:
    found = objections(comparison, tolerance=0.02)
    assert len(found) == len(expected)
    for sentence, beginning in zip(found, expected, strict=True):
        assert sentence.startswith(beginning)


def test_the_table_has_every_figure() -> None:
    comparison = {
        "text": {"earlier": text(1.0, 1.1)},
        "answers": {**marks(10, 3, 4, 0.9), "loss_nats": {"old": 1.5, "new": 1.25}},
        "corrections": marks(2, 0, 2, 0.5),
        "tasks": [{"task": "arc", "score": "accuracy", "old": 0.25, "new": 0.5, **marks(8, 2, 4, 0.7)}],
    }
    assert comparison_table(comparison) == [
        ("earlier held-out text, bits per byte (7 documents)", "1.000", "1.100"),
        ("held-out questions, right of 10", "3", "4"),
        ("held-out questions, loss (nats a token)", "1.500", "1.250"),
        ("corrected answers, right of 2", "0", "2"),
        ("arc, accuracy (8 questions)", "0.250", "0.500"),
    ]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_said_with_the_model_that_has_it(loss: float) -> None:
    _check_is_number(1.5, Path("old"), "held-out answers")
    with pytest.raises(
        DataError, match=r"^new/final: its loss on held-out answers is (nan|inf), which cannot"
    ):
        _check_is_number(loss, Path("new/final"), "held-out answers")


def test_what_is_read_of_many_held_out_documents_is_of_all_sources_and_not_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = (DataPlaces(Path(name), Path(name)) for name in ("old", "new"))
    known = [Text(f"known {number}", source="web") for number in range(300)]
    added = [Text(f"added {number}", source=f"book {number // 100}") for number in range(300)]
    stored = {old: known, new: [*known, *added]}
    monkeypatch.setattr(evaluation.comparison, "texts_of_split", lambda places, _split: stored[places])
    found = _held_out(old, new, most=60)
    assert [len(texts) for texts in found.values()] == [60, 60]
    assert {text.source for text in found["earlier"]} == {"web"}
    assert {text.source for text in found["new"]} == {"book 0", "book 1", "book 2"}
    random.Random(1).shuffle(stored[new])
    assert _held_out(old, new, most=60) == found
