"""Prompts from a file and replies into one: lines of text, or JSON records. Knows neither tokens nor models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
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


def reply_line(record: PromptRecord, reply: Reply, *, is_jsonl: bool) -> str:
    """One line for a reply: its record with the reply's text and facts, or the text alone.

    In text, a line break within the reply is written as "\\n" and a backslash as "\\\\", so that replies and prompts
    stay line by line.
    """
    if not is_jsonl:
        return reply.text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") + "\n"
    facts = {"reply": reply.text, "finish_reason": reply.finish_reason, "num_tokens": reply.num_tokens}
    return json.dumps({**record.record, **facts}, ensure_ascii=False) + "\n"


def _parse_record(line: str, place: str) -> dict[str, Any]:
    expected = 'expected an object with either "prompt" or "messages"'
    try:
        record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{place}: not valid JSON ({error}); {expected}") from None
    if not isinstance(record, dict):
        raise DataError(f"{place}: {expected}, found {type(record).__name__}")
    present = [key for key in RECORD_KEYS if key in record]
    if len(present) != 1:
        found = " and ".join(present) or f"the keys {sorted(record)}"
        raise DataError(f"{place}: {expected}, found {found}")
    wanted: type = str if present[0] == "prompt" else list
    if not isinstance(record[present[0]], wanted):
        raise DataError(
            f"{place}: {present[0]!r} is of type {type(record[present[0]]).__name__}, expected {wanted.__name__}"
        )
    return record
