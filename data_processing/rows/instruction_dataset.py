"""Rows of whole conversations, with labels on what the assistant says. Knows no record format and no trainer."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from core.errors import ConfigError, DataError
from core.progress import progress
from data_processing.document import Dropped, escape_unprintable, excerpt
from data_processing.rows.arrow_rows import id_type
from data_processing.rows.conversations import Conversation
from data_processing.rows.packing import ConversationPacker
from data_processing.rows.row_writer import SHARD_BYTES
from data_processing.rows.split_assignment import SplitAssignment
from data_processing.rows.token_dataset import DatasetWriter, TokenDataset
from tokenization.chat_template import render_chat
from tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

MAX_SAMPLES = 5
"""Dropped records of each reason that the report names. Arbitrary."""


class _Rendered(NamedTuple):
    ids: list[int]
    learned: list[bool]
    num_bytes: int


def build_instruction_dataset(
    conversations: Iterable[Conversation | Dropped],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    val_split: float = 0.05,
    seed: int = 1337,
    long_records: Literal["truncate", "drop"] = "truncate",
    work_dir: str | Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> TokenDataset:
    """The splits "train" and "validation" of conversations, in a temporary directory until they are saved.

    Conversations are packed whole into rows of `max_length` tokens; only the assistant's words and the `<|end|>`
    after them are learned. Conversations about one topic (or with the same first question) are in one split.
    The report says where every record went: `records == conversations + sum(dropped)`.

    Args:
        conversations: What `read_conversations` yields; what was dropped there is counted with the rest.
        max_length: Tokens a row, at least 8.
        val_split: Share of the conversations to validate on, 0 or more and below 1.
        seed: Seed of the split.
        long_records: A conversation of more than `max_length` tokens is cut at its end (counted as `truncated`), or
            dropped (`too_long`). One whose answers are cut off entirely is dropped (`nothing_to_learn`).
        work_dir, shard_bytes: As `DatasetBuilder`.

    Raises:
        ConfigError: a number is out of range.
        DataError: no conversation is left.
        DiskError: the disk is full, read-only or failing.
    """
    _check_settings(max_length=max_length, val_split=val_split, long_records=long_records)
    shares = {"train": 1.0 - val_split, "validation": val_split}
    assignment: SplitAssignment[_Rendered] = SplitAssignment(shares=shares, seed=seed)
    counts = _Counts()

    def rendered() -> Iterator[tuple[str, _Rendered]]:
        for item in progress(conversations, description="render conversations", unit="records"):
            counts.records += 1
            result = item if isinstance(item, Dropped) else _render(item, tokenizer)
            if isinstance(item, Conversation) and isinstance(result, _Rendered):
                result = _fit(result, item, max_length=max_length, long_records=long_records, counts=counts)
                if isinstance(result, _Rendered):
                    yield item.split_key, result
                    continue
            assert isinstance(result, Dropped)
            counts.drop(result)

    with DatasetWriter(
        tokenizer,
        kind="conversations",
        max_length=max_length,
        work_dir=None if work_dir is None else Path(work_dir),
        shard_bytes=shard_bytes,
    ) as writer:
        num_conversations = _pack(assignment.assign(rendered()), writer, max_length=max_length)
        if num_conversations == 0:
            reasons = "; ".join(
                f"{reason} {number} (first: {counts.samples[reason][0]['source']}: "
                f"{counts.samples[reason][0]['detail']})"
                for reason, number in counts.dropped.items()
            )
            raise DataError(
                f"none of the {counts.records} instruction records can be used: {reasons or 'there is none'}"
            )
        if assignment.empty_splits:
            logger.warning(
                "the %d conversations have one topic; the dataset goes without %s",
                num_conversations,
                " and ".join(assignment.empty_splits),
            )
        return writer.finish(
            {
                "records": counts.records,
                "conversations": num_conversations,
                "truncated": counts.truncated,
                "dropped": dict(counts.dropped),
                "dropped_samples": counts.samples,
                "seed": seed,
                "shares": shares,
                "empty_splits": assignment.empty_splits,
                "splits_given_a_document": sorted(assignment.moved.values()),
            }
        )


class _Counts:
    """What happened to the records so far."""

    def __init__(self) -> None:
        self.records = 0
        self.truncated = 0
        self.dropped: Counter[str] = Counter()
        self.samples: dict[str, list[dict[str, str]]] = {}

    def drop(self, dropped: Dropped) -> None:
        self.dropped[dropped.reason] += 1
        samples = self.samples.setdefault(dropped.reason, [])
        if len(samples) < MAX_SAMPLES:
            # Escaped, because the name of a file need not be UTF-8, and the report is.
            parts = {"source": dropped.source, "detail": dropped.detail, "sample": dropped.sample}
            samples.append({name: escape_unprintable(text) for name, text in parts.items()})


def _check_settings(*, max_length: int, val_split: float, long_records: str) -> None:
    # <s> <|user|> x <|end|> <|assistant|> y <|end|>, and one to spare
    if max_length < 8:
        raise ConfigError(
            f"max_length {max_length}: expected at least 8 tokens, the shortest question with its answer"
        )
    if not 0.0 <= val_split < 1.0:
        raise ConfigError(f"val_split {val_split}: expected 0 or more and below 1")
    if long_records not in ("truncate", "drop"):
        raise ConfigError(f"long_records {long_records!r}: expected 'truncate' or 'drop'")


def _render(conversation: Conversation, tokenizer: Tokenizer) -> _Rendered | Dropped:
    try:
        chat = render_chat(conversation.messages, tokenizer)
    except DataError as error:
        return _dropped(conversation, "bad_roles", str(error))
    num_bytes = sum(len(message["content"].encode("utf-8")) for message in conversation.messages)
    return _Rendered(list(chat.ids), list(chat.learned), num_bytes)


def _fit(
    rendered: _Rendered,
    conversation: Conversation,
    *,
    max_length: int,
    long_records: str,
    counts: _Counts,
) -> _Rendered | Dropped:
    """The conversation, cut to a row where it is longer, unless it is dropped."""
    num_tokens = len(rendered.ids)
    is_long = num_tokens > max_length
    if is_long and long_records == "drop":
        return _dropped(conversation, "too_long", f"{num_tokens} tokens, a row has {max_length}")
    if not any(rendered.learned[:max_length]):
        detail = f"the first {max_length} of its {num_tokens} tokens hold no word of an answer"
        return _dropped(conversation, "nothing_to_learn", detail)
    counts.truncated += is_long
    return _Rendered(rendered.ids[:max_length], rendered.learned[:max_length], rendered.num_bytes)


def _dropped(conversation: Conversation, reason: str, detail: str) -> Dropped:
    return Dropped(conversation.source, reason, detail, excerpt(conversation.messages[0]["content"]))


def _pack(conversations: Iterable[tuple[str, _Rendered]], writer: DatasetWriter, *, max_length: int) -> int:
    packers: dict[str, ConversationPacker] = {}
    num_conversations = 0
    for split, conversation in conversations:
        num_conversations += 1
        packer = packers.get(split)
        if packer is None:
            packer = packers[split] = ConversationPacker(
                max_length, pad_id=writer.facts.pad_id, dtype=id_type(writer.facts.vocab_size)
            )
        writer.count(split, documents=1, text_bytes=conversation.num_bytes)
        for rows in packer.add(conversation.ids, conversation.learned):
            writer.write(split, rows)
    for split, packer in packers.items():
        for rows in packer.finish():
            writer.write(split, rows)
    return num_conversations
