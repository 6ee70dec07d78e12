"""Rows of pairs of answers, with what a model to compare with thinks of each. Knows no record format and no model."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import ConfigError, DataError
from core.progress import progress
from data_processing.document import Dropped, excerpt
from data_processing.rows.arrow_rows import id_type
from data_processing.rows.dropped_records import DroppedRecords
from data_processing.rows.packing import Rows, join_rows
from data_processing.rows.pair_packing import Answer, PairPacker
from data_processing.rows.preferences import Preference
from data_processing.rows.split_assignment import LEARNED_UNDIVIDED, SplitAssignment, fewest_divided
from data_processing.rows.token_dataset import DatasetWriter, TokenDataset
from tokenization.chat_template import render_chat
from tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

ROWS_AT_A_TIME = 8
"""That are judged together (arbitrary)."""

Judge = Callable[[Rows], NDArray[np.float32]]
"""Rows to (S,): of each answer in them, ln of its probability after its prompt."""


class _Pair(NamedTuple):
    chosen: Answer
    rejected: Answer
    num_bytes: int


def build_preference_dataset(
    preferences: Iterable[Preference | Dropped],
    tokenizer: Tokenizer,
    judge: Judge,
    *,
    max_length: int,
    val_split: float = 0.1,
    seed: int = 1337,
    work_dir: str | Path | None = None,
) -> TokenDataset:
    """The splits "train" and "validation" of pairs, in a temporary directory until they are saved.

    A row has twice `max_length` tokens (`data_processing.rows.pair_packing`). A pair of which an answer with its prompt
    is longer than `max_length` is dropped (`too_long`): half an answer is another answer. Pairs with the same first
    question are in one split. The report says where every record went: `records == pairs + sum(dropped)`.

    Args:
        judge: The model to compare with. Its answers become a column of the rows, so that it is asked once only.
        max_length: Tokens that a model reads at a time, at least 8.
        val_split: Share of the pairs to validate on, 0 or more and below 1. Nothing is held back of so few first
            questions that this would be less than one.
        seed: Seed of the split.

    Raises:
        ConfigError: a number is out of range.
        DataError: no pair is left.
        DiskError: the disk is full, read-only or failing.
    """
    if max_length < 8:
        raise ConfigError(
            f"max_length {max_length}: expected at least 8 tokens, the shortest question with its answer"
        )
    if not 0.0 <= val_split < 1.0:
        raise ConfigError(f"val_split {val_split}: expected 0 or more and below 1")
    shares = {"train": 1.0 - val_split, "validation": val_split}
    assignment: SplitAssignment[_Pair] = SplitAssignment(
        shares=shares, seed=seed, divided_from=fewest_divided(val_split)
    )
    dropped = DroppedRecords()
    num_records = num_pairs = 0

    def rendered() -> Iterator[tuple[str, _Pair]]:
        nonlocal num_records, num_pairs
        for item in progress(preferences, description="judge pairs of answers", unit="records"):
            num_records += 1
            pair = item if isinstance(item, Dropped) else _render(item, tokenizer, max_length)
            if isinstance(pair, Dropped):
                dropped.add(pair)
                continue
            assert isinstance(item, Preference)
            num_pairs += 1
            yield item.split_key, pair

    with DatasetWriter(
        tokenizer,
        kind="preferences",
        max_length=2 * max_length,
        work_dir=None if work_dir is None else Path(work_dir),
    ) as writer:
        _pack(assignment.assign(rendered()), writer, judge, max_length=max_length)
        if num_pairs == 0:
            raise DataError(f"none of the {num_records} preference records can be used: {dropped}")
        if assignment.is_undivided:
            logger.info(LEARNED_UNDIVIDED, num_pairs, "pairs", val_split)
        return writer.finish(
            {
                "records": num_records,
                "pairs": num_pairs,
                "dropped": dict(dropped.counts),
                "dropped_samples": dropped.samples,
                "seed": seed,
                "shares": shares,
                "empty_splits": assignment.empty_splits,
                "splits_given_a_document": sorted(assignment.moved.values()),
            }
        )


def _render(preference: Preference, tokenizer: Tokenizer, max_length: int) -> _Pair | Dropped:
    sample = excerpt(preference.messages[0]["content"])
    try:
        prompt = render_chat(preference.messages, tokenizer, add_generation_prompt=True).ids
    except DataError as error:
        return Dropped(preference.source, "bad_roles", str(error), sample)
    texts = [preference.chosen, preference.rejected]
    answers = [
        Answer([*prompt, *ids, tokenizer.end_id], len(prompt))
        for ids in tokenizer.encode_batch(texts, num_threads=1)
    ]
    longest = max(len(answer.ids) for answer in answers)
    if longest > max_length:
        return Dropped(preference.source, "too_long", f"{longest} tokens, a model reads {max_length}", sample)
    texts += [message["content"] for message in preference.messages]
    return _Pair(answers[0], answers[1], sum(len(text.encode("utf-8")) for text in texts))


def _pack(
    pairs: Iterable[tuple[str, _Pair]], writer: DatasetWriter, judge: Judge, *, max_length: int
) -> None:
    packers: dict[str, PairPacker] = {}
    waiting: dict[str, list[Rows]] = {}

    def write(split: str, rows: Iterable[Rows], *, at_least: int = ROWS_AT_A_TIME) -> None:
        waiting[split] += rows
        if len(waiting[split]) >= at_least:
            joined = join_rows(waiting[split])
            writer.write(split, joined._replace(references=judge(joined)))
            waiting[split] = []

    for split, pair in pairs:
        if split not in packers:
            dtype = id_type(writer.facts.vocab_size)
            packers[split] = PairPacker(max_length, pad_id=writer.facts.pad_id, dtype=dtype)
            waiting[split] = []
        writer.count(split, documents=2, text_bytes=pair.num_bytes)
        write(split, packers[split].add(pair.chosen, pair.rejected))
    for split, packer in packers.items():
        for rows in packer.finish():
            write(split, [rows])
        write(split, [], at_least=1)
