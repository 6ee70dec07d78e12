"""Prompts from a file and replies into one: lines of text, or JSON records. Knows neither tokens nor models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import DataError

if TYPE_CHECKING:
    from inference.chat import Prompt, Reply

RECORD_KEYS = ("prompt", "messages")


@dataclass(frozen=True)
class PromptRecord:
    """A prompt, where it stands ("file:line"), and the record that its reply is written into."""

    prompt: Prompt
    place: str
    record: Mapping[str, Any]


Answered = tuple[PromptRecord, "Reply"]


def read_prompts(
    lines: Iterable[bytes], *, name: str, is_jsonl: bool, as_messages: bool = False
) -> Iterator[PromptRecord]:
    """The prompt of each line that is not blank.

    Args:
        lines: UTF-8, as a file opened in binary mode gives them.
        name: Of the file, for messages.
        is_jsonl: Whether a line is a JSON object with either "prompt" (a text) or "messages"; other keys are kept
            for the reply. Otherwise a line is a prompt as it stands.
        as_messages: A text is asked as the user's message in a conversation, instead of being continued.

    Raises:
        DataError: a line is not UTF-8, or not such a record; the message names file and line.
    """
    for number, raw in enumerate(lines, start=1):
        place = f"{name}:{number}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{place}: not UTF-8 ({error.reason} at byte {error.start} of the line)"
            ) from None
        if not line.strip():
            continue
        record = _parse_record(line, place) if is_jsonl else {"prompt": line}
        prompt: Prompt = record["messages"] if "messages" in record else record["prompt"]
        if as_messages and isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        yield PromptRecord(prompt, place, record)


def text_lines(answers: Iterable[Answered]) -> Iterator[str]:
    """One line a reply: line breaks in it are written as "\\n" and a backslash as "\\\\"."""
    for _, reply in answers:
        yield reply.text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") + "\n"


def json_lines(answers: Iterable[Answered]) -> Iterator[str]:
    """One line a reply: the record of the prompt with the reply's text and facts."""
    return (json.dumps(_answered(*answer), ensure_ascii=False) + "\n" for answer in answers)


def json_array(answers: Iterable[Answered]) -> Iterator[str]:
    """The records of `json_lines` as one array."""
    before = "["
    for answer in answers:
        yield before + "\n  " + json.dumps(_answered(*answer), ensure_ascii=False)
        before = ","
    yield "\n]\n" if before == "," else "[]\n"


def markdown(answers: Iterable[Answered]) -> Iterator[str]:
    """A heading a prompt, the prompt as a quotation, and the reply as it stands."""
    for number, (record, reply) in enumerate(answers, start=1):
        prompt = record.prompt
        turns = [prompt] if isinstance(prompt, str) else [f"{m['role']}: {m['content']}" for m in prompt]
        quoted = "\n>\n".join("\n".join(f"> {line}" for line in turn.split("\n")) for turn in turns)
        yield f"## {number}\n\n{quoted}\n\n{reply.text}\n\n"


REPLY_FORMATS: dict[str, Callable[[Iterable[Answered]], Iterator[str]]] = {
    ".jsonl": json_lines,
    ".txt": text_lines,
    ".json": json_array,
    ".md": markdown,
}
"""How the name of a file of replies ends -> what is written into it."""


def _answered(record: PromptRecord, reply: Reply) -> dict[str, Any]:
    facts = {"reply": reply.text, "finish_reason": reply.finish_reason, "num_tokens": reply.num_tokens}
    return {**record.record, **facts}


def _parse_record(line: str, place: str) -> dict[str, Any]:
    expected = 'expected an object with either "prompt" or "messages"'
    try:
        record = json.loads(line)
        # Python's reader takes more than JSON has, which could not be written with the reply.
        json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise DataError(
            f"{place}: a lone surrogate U+{code:04X}, which is half of a character and cannot be written in UTF-8; "
            "remove it, or replace it by U+FFFD"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not valid JSON ({error}); {expected}") from None
    if not isinstance(record, dict):
        raise DataError(f"{place}: {expected}, found {line.strip():.60}")
    present = [key for key in RECORD_KEYS if key in record]
    if len(present) != 1:
        found = " and ".join(present) or (f"the keys {', '.join(sorted(record))}" if record else "{}")
        raise DataError(f"{place}: {expected}, found {found}")
    key = present[0]
    if not isinstance(record[key], str if key == "prompt" else list):
        wanted = "a text" if key == "prompt" else "a list of messages"
        raise DataError(
            f"{place}: {key}: expected {wanted}, found {json.dumps(record[key], ensure_ascii=False):.60}"
        )
    return record
