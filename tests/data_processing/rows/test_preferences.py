import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from data_processing.document import Dropped
from data_processing.rows.conversations import Conversation, to_conversation
from data_processing.rows.packing import IGNORED, Rows
from data_processing.rows.preference_dataset import build_preference_dataset
from data_processing.rows.preferences import Preference, read_preferences, to_preference
from data_processing.rows.token_dataset import TokenDataset, save_dataset
from tests.data_processing.tiny_tokenizer import tiny_tokenizer

USER = {"role": "user", "content": "Name a metal."}
RIGHT = {"role": "assistant", "content": "Iron."}
WRONG = {"role": "assistant", "content": "Wood."}

RECORDS = {
    "prompt": {"prompt": "Name a metal.", "chosen": "Iron.", "rejected": "Wood."},
    "alpaca": {"instruction": "Name a metal.", "input": "", "chosen": "Iron.", "rejected": "Wood."},
    "alpaca with an output": {
        "instruction": "Name a metal.",
        "output": "Tin.",
        "chosen": "Iron.",
        "rejected": "Wood.",
    },
    "messages": {"chosen": [USER, RIGHT], "rejected": [USER, WRONG]},
    "messages after a prompt": {"prompt": [USER], "chosen": [RIGHT], "rejected": [WRONG]},
    "feedback": {"messages": [USER, WRONG], "rating": -1, "correction": "Iron.", "time": "t", "model": "m"},
    "feedback, corrected although it was good": {
        "messages": [USER, WRONG],
        "rating": 1,
        "correction": "Iron.",
    },
}


@pytest.mark.parametrize("name", list(RECORDS))
def test_every_format_gives_the_same_pair(name: str) -> None:
    pair = to_preference(RECORDS[name], source="x:1")
    assert pair == Preference([USER], "Iron.", "Wood.", "x:1")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "a", "chosen": "b"}, "missing_keys"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "same_answer"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "empty_response"),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, "not_text"),
        (
            {"chosen": [USER, RIGHT], "rejected": [{**USER, "content": "Name a tree."}, WRONG]},
            "different_prompts",
        ),
        ({"chosen": [USER, RIGHT, USER], "rejected": [USER, WRONG, USER]}, "bad_roles"),
        ({"messages": [USER, RIGHT], "rating": 1, "correction": None}, "no_correction"),
        ({"messages": [USER, RIGHT], "rating": -1}, "no_correction"),
        ({"messages": [USER, RIGHT], "rating": 5, "correction": None}, "bad_rating"),
        ({"messages": [USER, RIGHT], "rating": -1, "correction": 3}, "not_text"),
        ([1], "malformed_json"),
    ],
)
def test_what_is_no_pair_says_why(record: object, reason: str) -> None:
    found = to_preference(record, source="x:1")
    assert isinstance(found, Dropped)
    assert found.reason == reason


@pytest.mark.parametrize(
    ("rating", "correction", "expected"),
    [
        (1, None, "Wood."),
        (1, "Iron.", "Iron."),
        (-1, "Iron.", "Iron."),
        (-1, None, "rated_down"),
        (0, None, "bad_rating"),
    ],
)
def test_feedback_teaches_what_was_rated_well_or_corrected_and_nothing_that_was_rated_down(
    rating: int, correction: str | None, expected: str
) -> None:
    found = to_conversation(
        {"messages": [USER, WRONG], "rating": rating, "correction": correction}, source="x:1"
    )
    answer = found.messages[-1]["content"] if isinstance(found, Conversation) else found.reason
    assert answer == expected


def test_a_file_without_a_pair_is_refused_with_the_formats(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"question": "a"}\n')
    with pytest.raises(
        DataError, match=r"pairs.jsonl:1: missing_keys.*prompt_pair \(prompt, chosen and rejected\)"
    ):
        list(read_preferences(path))


def judged(rows: Rows) -> np.ndarray:
    """A judge that can be recognised: minus the number of tokens that are judged in each answer."""
    found = []
    for row, count in enumerate(rows.start_counts):
        first = int(rows.start_counts[:row].sum())
        starts = [*rows.starts[first : first + count], rows.input_ids.shape[1]]
        found += [-(rows.labels[row, a:b] != IGNORED).sum() for a, b in itertools.pairwise(starts)]
    return np.array(found, dtype=np.float32)


def pairs(number: int) -> list[Preference]:
    return [
        Preference(
            [{"role": "user", "content": f"Question {n}?"}],
            f"good {n} " + "x" * (n % 9),
            f"bad {n}",
            f"x:{n}",
        )
        for n in range(number)
    ]


def test_a_batch_has_both_answers_of_each_pair_in_order_with_what_is_thought_of_them(tmp_path: Path) -> None:
    T = 64
    dataset = build_preference_dataset(pairs(40), tiny_tokenizer(), judged, max_length=T, val_split=0.2)
    saved = TokenDataset(save_dataset(dataset, tmp_path / "saved"))
    seen = 0
    for rows in saved.values():
        for index in range(len(rows)):
            row = rows[index]
            starts = rows.document_starts(index).tolist()
            half = len(starts) // 2
            assert all(start < T for start in starts[:half])
            assert starts[half] == T
            text = [
                tiny_tokenizer().decode(
                    [token for token in row["answer_labels"][a:b].tolist() if token != IGNORED]
                )
                for a, b in zip(starts, [*starts[1:], 2 * T], strict=True)
            ]
            for good, bad in zip(text[:half], text[half:], strict=True):
                number = int(good.split()[1])
                assert good == pairs(40)[number].chosen
                assert bad == f"bad {number}"
            assert (row["labels"] != IGNORED).sum() == half == (row["labels"][starts[:half]] != IGNORED).sum()
            lengths = [-row["references"][start] for start in starts]
            spans = itertools.pairwise([*starts, 2 * T])
            tokens = [(row["answer_labels"][a:b] != IGNORED).sum() for a, b in spans]
            assert lengths == tokens
            assert np.count_nonzero(row["references"]) == len(starts)
            seen += half
    assert seen == saved.report["pairs"] == 40


def test_pairs_that_do_not_fit_are_dropped_whole_and_every_record_is_accounted_for() -> None:
    long = Preference([USER], "good", "word " * 60, "x:9")
    dataset = build_preference_dataset(
        [*pairs(3), long], tiny_tokenizer(), judged, max_length=48, val_split=0.0
    )
    assert dataset.report["dropped"] == {"too_long": 1}
    assert dataset.report["records"] == dataset.report["pairs"] + 1
    assert dataset.report["dropped_samples"]["too_long"][0]["detail"].endswith("tokens, a model reads 48")
    with pytest.raises(
        DataError, match=r"none of the 1 preference records can be used: too_long 1 \(first: x:9: "
    ):
        build_preference_dataset([long], tiny_tokenizer(), judged, max_length=48)
    with pytest.raises(ConfigError, match="max_length 7: expected at least 8"):
        build_preference_dataset([long], tiny_tokenizer(), judged, max_length=7)


def test_the_shared_pairs_are_read(real_data: Path) -> None:
    path = real_data / "preference" / "alpaca_style_pairs.json"
    items = list(read_preferences(path))
    found = [item for item in items if isinstance(item, Preference)]
    records = json.loads(path.read_text())
    assert len(items) == len(records)
    assert len(found) >= 0.98 * len(records)
    assert {item.reason for item in items if isinstance(item, Dropped)} <= {"same_answer"}
