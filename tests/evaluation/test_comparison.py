"""When a newer model may take the place of an earlier one."""

import math
from typing import Any

import pytest

from evaluation.comparison import comparison_table, objections


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
        ({"text": {"new": text(1.0, math.nan)}, "tasks": []}, ["new held-out text takes nan bits per byte"]),
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
