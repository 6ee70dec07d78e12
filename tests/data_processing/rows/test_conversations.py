import json
import os
from pathlib import Path

import pytest

from core.errors import DataError
from data_processing.document import Dropped
from data_processing.rows.conversations import (
    INSTRUCTION_FORMATS,
    Conversation,
    read_conversations,
    to_conversation,
)

HEADER = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
HEADER_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def messages_of(record: object) -> list[dict[str, str]]:
    found = to_conversation(record, source="x:1")
    assert isinstance(found, Conversation), found
    return found.messages


def reason_of(record: object) -> tuple[str, str]:
    found = to_conversation(record, source="x:1")
    assert isinstance(found, Dropped), found
    assert found.source == "x:1"
    return found.reason, found.detail


def write_jsonl(path: Path, records: list[object]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, turns("Add.\n\n1 2", "3")),
        ({"instruction": "Say hi.", "input": "", "output": "hi"}, turns("Say hi.", "hi")),
        ({"instruction": "Say hi.", "input": None, "output": "hi"}, turns("Say hi.", "hi")),
        ({"instruction": "Say hi.", "response": " hi\n"}, turns("Say hi.", " hi\n")),
        ({"instruction": "Who?", "context": "Ann.", "response": "Ann"}, turns("Who?\n\nAnn.", "Ann")),
        ({"prompt": "2 + 2?", "completion": "4"}, turns("2 + 2?", "4")),
        ({"prompt": HEADER.format(instruction="2 + 2?"), "response": "4"}, turns("2 + 2?", "4")),
        (
            {"prompt": HEADER_WITH_INPUT.format(instruction="Add.", input="1\n2"), "response": "3"},
            turns("Add.\n\n1\n2", "3"),
        ),
        (
            {"prompt": "What does ### Instruction: mean?", "response": "A heading."},
            turns("What does ### Instruction: mean?", "A heading."),
        ),
        (
            {"messages": [{"role": "system", "content": "Be short."}, *turns("a?", "b", "c?", "d")]},
            [{"role": "system", "content": "Be short."}, *turns("a?", "b", "c?", "d")],
        ),
        (
            {
                "conversations": [
                    {"from": "system", "value": "Be short."},
                    {"from": "human", "value": "a?"},
                    {"from": "gpt", "value": "b"},
                ]
            },
            [{"role": "system", "content": "Be short."}, *turns("a?", "b")],
        ),
        ({"messages": turns("a?", "b", "and?")}, turns("a?", "b", "and?")),
    ],
)
def test_a_record_of_a_known_format_becomes_these_messages(record, expected):
    assert messages_of(record) == expected


@pytest.mark.parametrize(
    ("record", "reason", "detail"),
    [
        ({"question": "a", "answer": "b"}, "missing_keys", "found the keys 'question', 'answer'"),
        ({"instruction": "a"}, "missing_keys", "found the keys 'instruction'"),
        ({}, "missing_keys", "(none)"),
        ([1], "malformed_json", "found list, expected a JSON object"),
        ({"instruction": "a", "output": " \n"}, "empty_response", "the assistant says nothing"),
        ({"instruction": "", "output": "b"}, "empty_prompt", "the user says nothing"),
        ({"instruction": "a", "output": 5}, "not_text", "output is int, expected a string"),
        (
            {"instruction": "a", "input": ["x"], "output": "b"},
            "not_text",
            "the input is list, expected a string",
        ),
        ({"instruction": "a", "output": "\ud800"}, "not_text", "not valid Unicode"),
        ({"messages": [{"role": "user", "content": None}]}, "not_text", "messages[0].content is NoneType"),
        (
            {"messages": [{"role": "robot", "content": "a"}]},
            "bad_roles",
            "messages[0].role is 'robot', expected one of",
        ),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "bad_roles", "messages[0].role is ['user']"),
        ({"messages": "hello"}, "bad_roles", "messages is not a list"),
        ({"messages": ["hello"]}, "bad_roles", "messages is not a list of objects with role and content"),
        ({"messages": turns("a", "b")[::-1]}, "bad_roles", "message 0 is from 'assistant', expected 'user'"),
        (
            {"messages": [{"role": "system", "content": "s"}, *turns("a", "b")[:1] * 2]},
            "bad_roles",
            "message 2 is from 'user', expected 'assistant'",
        ),
        ({"messages": turns("a")}, "nothing_to_learn", "no message is from the assistant"),
        ({"messages": []}, "nothing_to_learn", "no message is from the assistant"),
        ({"conversations": [{"from": "bard", "value": "a"}]}, "bad_roles", "conversations[0].from is 'bard'"),
    ],
)
def test_a_record_that_is_no_conversation_has_a_reason(record, reason, detail):
    found_reason, found_detail = reason_of(record)
    assert found_reason == reason
    assert detail in found_detail


def test_every_record_of_a_file_gives_one_item_with_its_place(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"instruction": "a", "output": "b", "topic": "t"}\n{broken\n\n{"instruction": "a"}\n')
    good, broken, poor = read_conversations(path)
    assert good == Conversation(turns("a", "b"), f"{path}:1", "t")
    assert (broken.source, broken.reason) == (f"{path}:2", "malformed_json")
    assert (poor.source, poor.reason) == (f"{path}:4", "missing_keys")
    assert poor.sample == '{"instruction": "a"}'


def test_a_file_in_which_nothing_can_be_used_names_what_was_found_and_what_each_format_expects(tmp_path):
    path = write_jsonl(tmp_path / "x.jsonl", [{"question": "a", "answer": "b"}] * 3)
    with pytest.raises(DataError) as caught:
        list(read_conversations(path))
    message = str(caught.value)
    assert f"{path}:1: missing_keys: found the keys 'question', 'answer'" in message
    assert "none of the 3 records" in message
    for name in INSTRUCTION_FORMATS:
        assert f"{name} (" in message
    assert "alpaca (instruction, perhaps input, and output or response)" in message
    assert "sharegpt (conversations, a list of from" in message


def test_a_missing_or_empty_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"x\.jsonl: no such file"):
        list(read_conversations(tmp_path / "x.jsonl"))
    for text in ("", "\n\n", "[]"):
        (tmp_path / "y.json").write_text(text)
        with pytest.raises(
            DataError, match=r"y\.json: no record in it; expected one of these formats: feedback \("
        ):
            list(read_conversations(tmp_path / "y.json"))


def test_conversations_with_one_topic_or_one_question_have_one_key():
    def key(**record: str) -> str:
        found = to_conversation({"output": "b", **record}, source="x:1")
        assert isinstance(found, Conversation)
        return found.split_key

    assert key(instruction="What is\n  len?") == key(instruction="what is len?", output="other")
    assert key(instruction="What is len?") != key(instruction="What is sum?")
    assert key(instruction="What is len?", topic="len") == key(instruction="Explain len.", topic="len")
    assert key(instruction="a", topic="") == key(instruction="a")


real_data = pytest.mark.skipif("BLOOMERY_REAL_DATA" not in os.environ, reason="BLOOMERY_REAL_DATA is not set")


@real_data
def test_all_real_records_become_conversations_without_a_header():
    folder = Path(os.environ["BLOOMERY_REAL_DATA"]) / "instruction"
    for name, number in (("alpaca_style.json", 1100), ("dolly_hhrlhf_1000.jsonl", 1000)):
        found = list(read_conversations(folder / name))
        assert len(found) == number
        assert all(isinstance(item, Conversation) for item in found)
        questions = [item.messages[0]["content"] for item in found]
        assert not any("### " in question or "Below is an instruction" in question for question in questions)
