"""Conversations out of instruction records of any known format. Knows neither tokens nor how a chat is rendered."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from core.errors import DataError
from data_processing.document import Dropped, excerpt
from data_processing.rows.json_records import read_json_records

Item = TypeVar("Item")

Message = dict[str, str]
"""{"role": "system" | "user" | "assistant", "content": text}."""


class Conversation(NamedTuple):
    """Messages that make sense in their order, and where they came from."""

    messages: list[Message]
    """At most one of the system, first; then user and assistant in turn, beginning with user."""
    source: str
    """File and line, from 1: `answers.jsonl:12`."""
    topic: str | None = None
    """The record's own `topic`: what its near-identical questions have in common."""
    weight: float = 1.0
    """How often it is in one pass over the data, on average."""

    @property
    def split_key(self) -> str:
        """What keeps this conversation in one split with those that ask the same: the topic, or the first question
        without regard to case and white space."""
        if self.topic is not None:
            return f"topic:{self.topic}"
        question = next(message["content"] for message in self.messages if message["role"] == "user")
        return f"question:{' '.join(question.casefold().split())}"


class Rejection(Exception):  # noqa: N818 - an answer, not a failure of the program
    """A record that is no conversation: one word that is counted, and what was found, for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def alpaca(record: Mapping[str, Any]) -> list[Message]:
    """`instruction`, perhaps `input` (or `context`, as in Dolly), and `output` (or `response`).

    The input follows the instruction after an empty line.
    """
    question = _text(record, "instruction", expected="instruction, perhaps input, and output or response")
    answer = _text(
        record, "output", "response", expected="instruction, perhaps input, and output or response"
    )
    context = next((record[name] for name in ("input", "context") if record.get(name) is not None), "")
    if not isinstance(context, str):
        raise Rejection("not_text", f"the input is {type(context).__name__}, expected a string")
    return _question_and_answer(_with_input(question, context), answer)


def prompt_response(record: Mapping[str, Any]) -> list[Message]:
    """`prompt`, and `response` or `completion`. An Alpaca header around the prompt is taken off."""
    expected = "prompt, and response or completion"
    prompt = _text(record, "prompt", expected=expected)
    answer = _text(record, "response", "completion", expected=expected)
    return _question_and_answer(_without_alpaca_header(prompt), answer)


def messages(record: Mapping[str, Any]) -> list[Message]:
    """`messages`: a list of `{"role": system | user | assistant, "content": text}`."""
    return _turns(record, "messages", role="role", content="content", roles=_OPENAI_ROLES)


def sharegpt(record: Mapping[str, Any]) -> list[Message]:
    """`conversations`: a list of `{"from": system | human | gpt, "value": text}`."""
    return _turns(record, "conversations", role="from", content="value", roles=_SHAREGPT_ROLES)


def feedback(record: Mapping[str, Any]) -> list[Message]:
    """`messages`, `rating` and `correction`, as chats keep them: what was rated well, or corrected."""
    if "messages" not in record or "rating" not in record:
        raise Rejection("missing_keys", "messages, rating (1 or -1), and perhaps correction, a text")
    turns = messages({"messages": record["messages"]})
    correction = correction_of(record)
    if correction is not None:
        return [*turns[:-1], {"role": "assistant", "content": correction}]
    if record["rating"] != 1:
        raise Rejection("rated_down", f"the rating is {record['rating']!r:.20}, and there is no correction")
    return turns


def correction_of(record: Mapping[str, Any]) -> str | None:
    """What somebody wrote in the place of the last answer of a rated conversation; None where nobody did.

    Raises:
        Rejection: rating or correction is none.
    """
    rating, correction = record["rating"], record.get("correction")
    if rating not in (1, -1):
        raise Rejection("bad_rating", f"rating is {rating!r:.20}, expected 1 or -1")
    if correction is not None and not isinstance(correction, str):
        raise Rejection("not_text", f"correction is {type(correction).__name__}, expected a string or null")
    return correction if correction and correction.strip() else None


INSTRUCTION_FORMATS: dict[str, Callable[[Mapping[str, Any]], list[Message]]] = {
    "feedback": feedback,
    "messages": messages,
    "sharegpt": sharegpt,
    "alpaca": alpaca,
    "prompt_response": prompt_response,
}
"""Name -> function from a record to its messages. The first whose keys a record has, reads it.

A function raises `Rejection("missing_keys", the keys it expects)` for a record of another format, and a Rejection
with another reason for one of its own that cannot be used.
"""

_OPENAI_ROLES = {"system": "system", "user": "user", "assistant": "assistant"}
_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}


def to_conversation(record: Any, *, source: str) -> Conversation | Dropped:
    """The conversation in one record, or why there is none (reasons: malformed_json, missing_keys, not_text,
    empty_prompt, empty_response, bad_roles, nothing_to_learn; of feedback rated_down, bad_rating)."""
    try:
        if not isinstance(record, dict):
            raise Rejection("malformed_json", f"found {type(record).__name__}, expected a JSON object")
        turns = read_by(INSTRUCTION_FORMATS, record)
        check_turns(turns)
    except Rejection as rejection:
        return dropped_record(record, rejection, source=source)
    topic = record.get("topic")
    return Conversation(turns, source, topic if isinstance(topic, str) and topic else None)


def read_conversations(path: str | Path) -> Iterator[Conversation | Dropped]:
    """One item for every record of a jsonl file or JSON array, in order: the conversation, or why there is none.

    Raises:
        DataError: the file is missing or empty, or none of its records can be used.
    """
    return read_usable(Path(path), to_conversation, expected=expected_keys(INSTRUCTION_FORMATS))


def dropped_record(record: Any, rejection: Rejection, *, source: str) -> Dropped:
    """A record that is left out, with the reason and the beginning of it."""
    return Dropped(
        source, rejection.reason, rejection.detail, excerpt(json.dumps(record, ensure_ascii=False))
    )


def read_usable(
    path: Path, convert: Callable[..., Item | Dropped], *, expected: str
) -> Iterator[Item | Dropped]:
    """What `convert(record, source=…)` makes of every record of a file.

    Args:
        expected: The formats that it knows, for messages.

    Raises:
        DataError: the file is missing or empty, or none of its records can be used.
    """
    num_records = num_usable = 0
    first: Dropped | None = None
    for record in read_json_records(path):
        source = f"{path}:{record.line}"
        if record.problem is None:
            item = convert(record.value, source=source)
        else:
            item = Dropped(source, "malformed_json", record.problem)
        num_records += 1
        if not isinstance(item, Dropped):
            num_usable += 1
        elif first is None:
            first = item
        yield item
    if num_records == 0:
        raise DataError(f"{path}: no record in it; expected one of these formats: {expected}")
    if num_usable == 0:
        assert first is not None
        raise DataError(
            f"{first.source}: {first.reason}: {first.detail} (and none of the {num_records} records can be used); "
            f"expected one of these formats: {expected}"
        )


def read_by(formats: Mapping[str, Callable[[Mapping[str, Any]], Item]], record: Mapping[str, Any]) -> Item:
    """What the first format whose keys a record has makes of it.

    Raises:
        Rejection: none has, or that one cannot use it.
    """
    for read in formats.values():
        try:
            return read(record)
        except Rejection as rejection:
            if rejection.reason != "missing_keys":
                raise
    raise Rejection("missing_keys", f"found the keys {', '.join(map(repr, record)) or '(none)'}")


def expected_keys(formats: Mapping[str, Callable[[Mapping[str, Any]], Any]]) -> str:
    """What each format asks for, in its own words: what it says of a record without any key."""
    expected = []
    for name, read in formats.items():
        try:
            read({})
        except Rejection as rejection:
            expected.append(f"{name} ({rejection.detail})")
    return "; ".join(expected)


def _text(record: Mapping[str, Any], *names: str, expected: str) -> str:
    """The first of the fields that is there."""
    for name in names:
        if record.get(name) is not None:
            value = record[name]
            if not isinstance(value, str):
                raise Rejection("not_text", f"{name} is {type(value).__name__}, expected a string")
            return value
    raise Rejection("missing_keys", expected)


def _question_and_answer(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _with_input(instruction: str, context: str) -> str:
    return f"{instruction}\n\n{context}" if context.strip() else instruction


def _without_alpaca_header(prompt: str) -> str:
    """The instruction (and input) inside the template of Taori et al. 2023 (Stanford Alpaca); any other prompt as it
    is. Left in, the model would learn to answer only questions that wear the header."""
    header, mark, body = prompt.partition("### Instruction:")
    body = body.rstrip()
    if not mark or not body.endswith("### Response:"):
        return prompt
    if header.strip() and not header.lstrip().startswith("Below is an instruction that describes a task"):
        return prompt
    instruction, _, context = body.removesuffix("### Response:").partition("\n### Input:")
    return _with_input(instruction.strip(), context.strip())


def _turns(
    record: Mapping[str, Any], field: str, *, role: str, content: str, roles: Mapping[str, str]
) -> list[Message]:
    turns = record.get(field)
    if turns is None:
        raise Rejection("missing_keys", f"{field}, a list of {role} ({', '.join(roles)}) and {content}")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise Rejection("bad_roles", f"{field} is not a list of objects with {role} and {content}")
    result = []
    for index, turn in enumerate(turns):
        name = turn.get(role)
        if not isinstance(name, str) or name not in roles:
            raise Rejection(
                "bad_roles", f"{field}[{index}].{role} is {name!r}, expected one of {', '.join(roles)}"
            )
        text = turn.get(content)
        if not isinstance(text, str):
            raise Rejection(
                "not_text", f"{field}[{index}].{content} is {type(text).__name__}, expected a string"
            )
        result.append({"role": roles[name], "content": text})
    return result


def check_turns(turns: list[Message]) -> None:
    """Refuse what cannot be rendered, or would teach nothing or silence.

    Raises:
        Rejection: what is wrong.
    """
    spoken = turns[1:] if turns and turns[0]["role"] == "system" else turns
    for index, turn in enumerate(spoken):
        expected = ("user", "assistant")[index % 2]
        if turn["role"] != expected:
            place = index + len(turns) - len(spoken)
            raise Rejection("bad_roles", f"message {place} is from {turn['role']!r}, expected {expected!r}")
        if not turn["content"].strip():
            raise Rejection(
                "empty_prompt" if expected == "user" else "empty_response", f"the {expected} says nothing"
            )
    if len(spoken) < 2:
        raise Rejection("nothing_to_learn", "no message is from the assistant")
    for turn in turns:
        try:
            turn["content"].encode("utf-8")
        except UnicodeEncodeError as error:
            raise Rejection(
                "not_text", f"not valid Unicode ({error.reason} at character {error.start})"
            ) from None
