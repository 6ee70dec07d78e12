"""Prompt files, line by line, and the lines that are written for replies."""

import json

import pytest

from core.errors import DataError
from inference.chat import Reply
from inference.prompts import PromptRecord, json_array, json_lines, markdown, read_prompts, text_lines

MESSAGES = [{"role": "user", "content": "iron?"}]


def read(text: str | bytes, *, is_jsonl: bool = False, as_messages: bool = False) -> list[PromptRecord]:
    lines = (text if isinstance(text, bytes) else text.encode()).splitlines(keepends=True)
    return list(read_prompts(lines, name="p", is_jsonl=is_jsonl, as_messages=as_messages))


def test_a_line_of_text_is_a_prompt_as_it_stands() -> None:
    records = read('\ufefffirst \r\n\n   \n  {"second": é')
    assert [(r.prompt, r.place) for r in records] == [("first ", "p:1"), ('  {"second": é', "p:4")]


def test_records_hold_a_prompt_or_messages_and_whatever_else() -> None:
    lines = [{"prompt": "iron", "id": 7}, {"messages": MESSAGES}]
    records = read("\n".join(map(json.dumps, lines)), is_jsonl=True)
    assert [r.prompt for r in records] == ["iron", MESSAGES]
    assert [r.record for r in records] == lines


def test_texts_can_be_asked_as_messages() -> None:
    assert [r.prompt for r in read("iron?", as_messages=True)] == [MESSAGES]
    records = read(
        json.dumps({"messages": MESSAGES}) + '\n{"prompt": "iron?"}', is_jsonl=True, as_messages=True
    )
    assert [r.prompt for r in records] == [MESSAGES, MESSAGES]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "a"', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('["a"]', r'expected an object with either .*, found \["a"\]'),
        ('{"text": "a"}', r"expected an object .* found the keys text"),
        ("{}", r"expected an object .* found \{\}"),
        ('{"prompt": "a", "x": NaN}', "not valid JSON .*; expected an object"),
        ('{"prompt": "a", "x": 1e999}', "not valid JSON .*; expected an object"),
        ('{"prompt": "a", "x": ' + "9" * 5000 + "}", "not valid JSON .*; expected an object"),
        ('{"prompt": "a", "x": "\\ud800"}', r"a lone surrogate U\+D800, which is half of a character"),
        ('{"prompt": null}', "prompt: expected a text, found null"),
        ('{"prompt": "a", "messages": []}', "expected an object .* found prompt and messages"),
        ('{"prompt": 3}', "prompt: expected a text, found 3"),
        ('{"messages": "a"}', r'messages: expected a list of messages, found "a"'),
        (b'{"prompt": "\xff"}', r"not UTF-8 \(invalid start byte at byte 12 of the line\)"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_bad_record_is_named_by_file_and_line(line: str | bytes, reason: str) -> None:
    line = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(DataError, match=f"^p:3: {reason}"):
        read(b'{"prompt": "fine"}\n\n' + line, is_jsonl=True)


def test_a_reply_in_text_is_one_line_from_which_it_can_be_read_back() -> None:
    text = "a\nb\\n\r\n\\"
    [line] = text_lines([(PromptRecord("p", "p:1", {}), Reply(text, "stop", 3))])
    assert line == "a\\nb\\\\n\\r\\n\\\\\n"
    assert line[:-1].encode().decode("unicode_escape") == text


ANSWERED = [
    (PromptRecord("iron", "p:1", {"prompt": "iron", "id": 7}), Reply("é\n", "length", 3)),
    (PromptRecord(MESSAGES, "p:2", {"messages": MESSAGES}), Reply("Fe.", "stop", 2)),
]
EXPECTED = [
    {"prompt": "iron", "id": 7, "reply": "é\n", "finish_reason": "length", "num_tokens": 3},
    {"messages": MESSAGES, "reply": "Fe.", "finish_reason": "stop", "num_tokens": 2},
]


def test_a_reply_as_a_record_keeps_what_the_prompt_had() -> None:
    lines = list(json_lines(ANSWERED))
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    assert [json.loads(line) for line in lines] == EXPECTED


@pytest.mark.parametrize("number", [0, 1, 2])
def test_replies_as_one_array_are_the_records_of_the_lines(number: int) -> None:
    assert json.loads("".join(json_array(ANSWERED[:number]))) == EXPECTED[:number]


def test_replies_in_markdown_stand_below_their_quoted_prompts() -> None:
    written = "".join(markdown([*ANSWERED, (PromptRecord("a\n\nb", "p:3", {}), Reply("c", "stop", 1))]))
    assert written == "## 1\n\n> iron\n\né\n\n\n## 2\n\n> user: iron?\n\nFe.\n\n## 3\n\n> a\n> \n> b\n\nc\n\n"
