"""Rows of whole conversations, with labels on what the assistant says. Knows no record format and no trainer."""

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from core.errors import ConfigError, DataError
from core.progress import progress
from core.seeds import derive_seed
from data_processing.document import Dropped, excerpt
from data_processing.rows.arrow_rows import id_type
from data_processing.rows.conversations import Conversation
from data_processing.rows.dropped_records import DroppedRecords
from data_processing.rows.packing import ConversationPacker
from data_processing.rows.row_writer import SHARD_BYTES
from data_processing.rows.split_assignment import LEARNED_UNDIVIDED, SplitAssignment, fewest_divided
from data_processing.rows.token_dataset import DatasetWriter, TokenDataset
from tokenization.chat_template import render_chat
from tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

LongRecords = Literal["split", "truncate", "drop"]


class _Rendered(NamedTuple):
    ids: list[int]
    learned: list[bool]
    num_bytes: int
    times: int
    """How often it is in the rows to learn from."""


def build_instruction_dataset(
    conversations: Iterable[Conversation | Dropped],
    tokenizer: Tokenizer,
    *,
    max_length: int,
    val_split: float = 0.05,
    seed: int = 1337,
    long_records: LongRecords = "split",
    work_dir: str | Path | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> TokenDataset:
    """The splits "train" and "validation" of conversations, in a temporary directory until they are saved.

    Conversations are packed whole into rows of `max_length` tokens; only the assistant's words and the `<|end|>`
    after them are learned. Conversations about one topic (or with the same first question) are in one split.
    The report says where every record went: `records == conversations + sum(dropped)`; the documents of the splits
    are `conversations + more_pieces + repeats`.

    Args:
        conversations: What `read_conversations` yields; what was dropped there is counted with the rest. One of weight
            2 is twice in the rows to learn from (`repeats`), of those of weight 0.5 a half is left out (`not_chosen`).
        max_length: Tokens a row, at least 8.
        val_split: Share of the conversations to validate on, 0 or more and below 1. Nothing is held back of so few
            topics that this would be less than one: who has three corrections wants all three learned.
        seed: Seed of the split.
        long_records: A conversation of more than `max_length` tokens becomes several of whole exchanges, each with
            the system message (the record is counted as `split`), or is cut at its end (`truncated`), or dropped
            (`too_long`). Of an exchange that is too long by itself the answer is cut; one whose answers are cut off
            entirely is dropped (`nothing_to_learn`). No row ends with a question.
        work_dir, shard_bytes: As `DatasetBuilder`.

    Raises:
        ConfigError: a number is out of range.
        DataError: no conversation is left.
        DiskError: the disk is full, read-only or failing.
    """
    _check_settings(max_length=max_length, val_split=val_split, long_records=long_records)
    shares = {"train": 1.0 - val_split, "validation": val_split}
    assignment: SplitAssignment[_Rendered] = SplitAssignment(
        shares=shares, seed=seed, divided_from=fewest_divided(val_split)
    )
    counts = _Counts()

    def rendered() -> Iterator[tuple[str, _Rendered]]:
        for item in progress(conversations, description="render conversations", unit="records"):
            counts.records += 1
            pieces = (
                item
                if isinstance(item, Dropped)
                else _pieces(item, tokenizer, max_length, long_records, seed)
            )
            if isinstance(pieces, Dropped):
                counts.dropped.add(pieces)
                continue
            assert isinstance(item, Conversation)
            counts.note(pieces)
            yield from ((item.split_key, piece) for piece in pieces.pieces)

    with DatasetWriter(
        tokenizer,
        kind="conversations",
        max_length=max_length,
        work_dir=None if work_dir is None else Path(work_dir),
        shard_bytes=shard_bytes,
    ) as writer:
        counts.repeats = _pack(assignment.assign(rendered()), writer, max_length=max_length)
        if counts.conversations == 0:
            raise DataError(f"none of the {counts.records} instruction records can be used: {counts.dropped}")
        if assignment.is_undivided:
            logger.info(LEARNED_UNDIVIDED, counts.conversations, "conversations", val_split)
        elif assignment.empty_splits:
            logger.warning(
                "the %d conversations have one topic; the dataset goes without %s",
                counts.conversations,
                " and ".join(assignment.empty_splits),
            )
        return writer.finish(
            {
                "records": counts.records,
                "conversations": counts.conversations,
                "split": counts.split,
                "more_pieces": counts.more_pieces,
                "truncated": counts.truncated,
                "repeats": counts.repeats,
                "dropped": dict(counts.dropped.counts),
                "dropped_samples": counts.dropped.samples,
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
        self.conversations = 0
        self.split = 0
        self.more_pieces = 0
        self.truncated = 0
        self.repeats = 0
        self.dropped = DroppedRecords()

    def note(self, pieces: "_Pieces") -> None:
        self.conversations += 1
        self.split += pieces.is_split
        self.more_pieces += len(pieces.pieces) - 1
        self.truncated += pieces.is_cut


def _check_settings(*, max_length: int, val_split: float, long_records: str) -> None:
    # <s> <|user|> x <|end|> <|assistant|> y <|end|>, and one to spare
    if max_length < 8:
        raise ConfigError(
            f"max_length {max_length}: expected at least 8 tokens, the shortest question with its answer"
        )
    if not 0.0 <= val_split < 1.0:
        raise ConfigError(f"val_split {val_split}: expected 0 or more and below 1")
    if long_records not in get_args(LongRecords):
        raise ConfigError(f"long_records {long_records!r}: expected 'split', 'truncate' or 'drop'")


class _Pieces(NamedTuple):
    """What becomes of one conversation: itself, or several shorter ones."""

    pieces: list[_Rendered]
    is_split: bool
    is_cut: bool


def _pieces(
    conversation: Conversation, tokenizer: Tokenizer, max_length: int, long_records: LongRecords, seed: int
) -> _Pieces | Dropped:
    """The conversation as pieces that fit into rows, unless it is dropped."""
    times = _times(conversation, seed)
    if times == 0:
        return _dropped(conversation, "not_chosen", f"its weight is {conversation.weight:g}")
    try:
        chat = render_chat(conversation.messages, tokenizer)
    except DataError as error:
        return _dropped(conversation, "bad_roles", str(error))
    num_tokens = len(chat.ids)
    if num_tokens > max_length and long_records == "drop":
        return _dropped(conversation, "too_long", f"{num_tokens} tokens, a row has {max_length}")
    # No content encodes to a role's token, so these are where exchanges begin.
    begins = [place for place, token in enumerate(chat.ids) if token == tokenizer.role_ids["user"]]
    head = begins[0]
    # What is to fit into a row behind the system message.
    spans = [(head, num_tokens)]
    if num_tokens > max_length and long_records == "split":
        spans = _spans([*begins, num_tokens], most=max_length - head)
    pieces = []
    for begin, end in spans:
        ids = chat.ids[:head] + chat.ids[begin:end]
        learned = chat.learned[:head] + chat.learned[begin:end]
        piece = _until_last_answer(ids[:max_length], learned[:max_length])
        if piece is not None:
            num_bytes = int(tokenizer.byte_lengths[piece[0]].sum())
            pieces.append(_Rendered(*piece, num_bytes, times))
    if not pieces:
        detail = f"the first {max_length} of its {num_tokens} tokens hold no word of an answer"
        return _dropped(conversation, "nothing_to_learn", detail)
    kept = sum(sum(piece.learned) for piece in pieces)
    return _Pieces(pieces, is_split=len(spans) > 1, is_cut=kept < sum(chat.learned))


def _times(conversation: Conversation, seed: int) -> int:
    """How often a conversation is learned in one pass; what is left of its weight is a chance, drawn from its words."""
    whole, rest = divmod(conversation.weight, 1.0)
    words = [part for message in conversation.messages for part in message.values()]
    return int(whole) + (rest > 0 and derive_seed(seed, "weight", *words) < rest * 2**63)


def _spans(bounds: Sequence[int], *, most: int) -> list[tuple[int, int]]:
    """Consecutive exchanges together, as many as stay within `most` tokens; one at least.

    Args:
        bounds: Where each exchange begins, and where the last one ends.
    """
    spans: list[tuple[int, int]] = []
    for begin, end in itertools.pairwise(bounds):
        if spans and end - spans[-1][0] <= most:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((begin, end))
    return spans


def _until_last_answer(ids: list[int], learned: list[bool]) -> tuple[list[int], list[bool]] | None:
    """Without the question at the end that has no answer; None where there is no answer at all."""
    if True not in learned:
        return None
    end = len(learned) - learned[::-1].index(True)
    return ids[:end], learned[:end]


def _dropped(conversation: Conversation, reason: str, detail: str) -> Dropped:
    return Dropped(conversation.source, reason, detail, excerpt(conversation.messages[0]["content"]))


def _pack(conversations: Iterable[tuple[str, _Rendered]], writer: DatasetWriter, *, max_length: int) -> int:
    """Write all rows; returns how many were written once more than needed, because of their weight."""
    packers: dict[str, ConversationPacker] = {}

    def pack(split: str, conversation: _Rendered) -> None:
        packer = packers.get(split)
        if packer is None:
            packer = packers[split] = ConversationPacker(
                max_length, pad_id=writer.facts.pad_id, dtype=id_type(writer.facts.vocab_size)
            )
        writer.count(split, documents=1, text_bytes=conversation.num_bytes)
        for rows in packer.add(conversation.ids, conversation.learned):
            writer.write(split, rows)

    # After all others, and not beside themselves: what is twice in a row is twice in a step.
    again: list[_Rendered] = []
    for split, conversation in conversations:
        pack(split, conversation)
        if split == "train":
            again += [conversation] * (conversation.times - 1)
    for conversation in again:
        pack("train", conversation)
    for split, packer in packers.items():
        for rows in packer.finish():
            writer.write(split, rows)
    return len(again)
