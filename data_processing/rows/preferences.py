"""Pairs of answers, one preferred to the other, out of records of any known format. Knows neither tokens nor models."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_processing.document import Dropped
from data_processing.rows.conversations import (
    Conversation,
    Message,
    Rejection,
    alpaca,
    check_turns,
    correction_of,
    dropped_record,
    expected_keys,
    messages,
    prompt_response,
    read_by,
    read_usable,
)


class Preference(NamedTuple):
    """A conversation that ends with the user, and two answers to it."""

    messages: list[Message]
    chosen: str
    rejected: str
    source: str
    """File and line, from 1: `pairs.jsonl:12`."""
    topic: str | None = None

    @property
    def split_key(self) -> str:
        """As `Conversation.split_key`: what keeps it in one split with those that ask the same."""
        return Conversation(self.messages, self.source, self.topic).split_key


Pair = tuple[list[Message], list[Message]]
"""Two whole conversations: with the answer that is chosen, and with the one that is rejected."""


def feedback(record: Mapping[str, Any]) -> Pair:
    """`messages`, `rating` and `correction`, as chats keep them: a correction is chosen over the answer it is for."""
    rated = _with(record, "messages", "rating")
    turns = messages({"messages": rated["messages"]})
    correction = correction_of(record)
    if correction is None:
        raise Rejection("no_correction", "a rating without a correction; there is nothing that is better")
    return [*turns[:-1], {"role": "assistant", "content": correction}], turns


def message_pair(record: Mapping[str, Any]) -> Pair:
    """`chosen` and `rejected`: lists of messages, which follow on those of `prompt` if there is one."""
    values = _with(record, "chosen", "rejected")
    if not isinstance(values["chosen"], list) or not isinstance(values["rejected"], list):
        raise Rejection("missing_keys", "chosen and rejected, lists of messages, perhaps prompt")
    before = messages({"messages": record["prompt"]}) if isinstance(record.get("prompt"), list) else []
    chosen, rejected = (messages({"messages": values[name]}) for name in ("chosen", "rejected"))
    return before + chosen, before + rejected


def alpaca_pair(record: Mapping[str, Any]) -> Pair:
    """`instruction`, perhaps `input`, and `chosen` and `rejected`."""
    return _by(alpaca, _with(record, "instruction", "chosen", "rejected"), answer="output")


def prompt_pair(record: Mapping[str, Any]) -> Pair:
    """`prompt`, `chosen` and `rejected`."""
    return _by(prompt_response, _with(record, "prompt", "chosen", "rejected"), answer="response")


PREFERENCE_FORMATS: dict[str, Callable[[Mapping[str, Any]], Pair]] = {
    "feedback": feedback,
    "message_pair": message_pair,
    "alpaca_pair": alpaca_pair,
    "prompt_pair": prompt_pair,
}
"""Name -> function from a record to its pair; as `conversations.INSTRUCTION_FORMATS`."""


def to_preference(record: Any, *, source: str) -> Preference | Dropped:
    """The pair in one record, or why there is none (reasons: those of `conversations.to_conversation`, same_answer,
    different_prompts, no_correction)."""
    try:
        if not isinstance(record, dict):
            raise Rejection("malformed_json", f"found {type(record).__name__}, expected a JSON object")
        chosen, rejected = read_by(PREFERENCE_FORMATS, record)
        check_turns(chosen)
        check_turns(rejected)
        if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
            raise Rejection("bad_roles", "the last message is not from the assistant")
        if chosen[:-1] != rejected[:-1]:
            raise Rejection("different_prompts", "the two answers are not to the same messages")
        if chosen[-1] == rejected[-1]:
            raise Rejection("same_answer", "what is chosen is what is rejected")
    except Rejection as rejection:
        return dropped_record(record, rejection, source=source)
    topic = record.get("topic")
    return Preference(
        chosen[:-1],
        chosen[-1]["content"],
        rejected[-1]["content"],
        source,
        topic if isinstance(topic, str) and topic else None,
    )


def read_preferences(path: str | Path) -> Iterator[Preference | Dropped]:
    """One item for every record of a jsonl file or JSON array, in order: the pair, or why there is none.

    Raises:
        DataError: the file is missing or empty, or none of its records can be used.
    """
    return read_usable(Path(path), to_preference, expected=expected_keys(PREFERENCE_FORMATS))


def _with(record: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """`record`, if it has all of these keys."""
    if not all(name in record for name in names):
        raise Rejection("missing_keys", " and ".join([", ".join(names[:-1]), names[-1]]))
    return record


def _by(
    read: Callable[[Mapping[str, Any]], list[Message]], record: Mapping[str, Any], *, answer: str
) -> Pair:
    """The pair of conversations that a format of instructions reads when it is given one answer, then the other."""
    others = {
        name: value for name, value in record.items() if name not in ("output", "response", "completion")
    }
    chosen, rejected = (read({**others, answer: record[name]}) for name in ("chosen", "rejected"))
    return chosen, rejected
