"""Rows of pairs of answers: all that are chosen in the first half, those rejected in the second. Knows ids, not text.

Letters in shapes: R rows, B rows of a batch, T tokens of a half, S answers. Each half is what a model reads at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_processing.rows.packing import IGNORED, MAX_OPEN_ROWS, Integers, Rows


class Answer(NamedTuple):
    """A conversation and an answer to it."""

    ids: Sequence[int]
    num_prompt_tokens: int
    """Those in front, which are the same for both answers and not judged."""


class PairPacker:
    """Puts each pair into the first open row that has room for both answers: the one in its first T tokens, the other
    in its last. Otherwise as `packing.ConversationPacker`."""

    def __init__(self, max_length: int, *, pad_id: int, dtype: np.dtype[Any]) -> None:
        self._max_length = max_length
        self._pad_id = pad_id
        self._dtype = dtype
        self._open: list[list[tuple[Answer, Answer]]] = []

    def add(self, chosen: Answer, rejected: Answer) -> Iterator[Rows]:
        """The row that had to be closed to make place, if any. Each answer has at most `max_length` tokens."""
        assert 0 < len(chosen.ids) <= self._max_length
        assert 0 < len(rejected.ids) <= self._max_length
        pair = chosen, rejected
        row = next((row for row in self._open if self._has_room(row, pair)), None)
        if row is None:
            if len(self._open) == MAX_OPEN_ROWS:
                fullest = max(self._open, key=lambda row: max(_sizes(row)))
                self._open.remove(fullest)
                yield self._close(fullest)
            row = []
            self._open.append(row)
        row.append(pair)

    def finish(self) -> Iterator[Rows]:
        """The rows that are still open, in the order in which they were opened."""
        for row in self._open:
            yield self._close(row)
        self._open = []

    def _has_room(self, row: list[tuple[Answer, Answer]], pair: tuple[Answer, Answer]) -> bool:
        return all(
            size + len(answer.ids) <= self._max_length for size, answer in zip(_sizes(row), pair, strict=True)
        )

    def _close(self, row: list[tuple[Answer, Answer]]) -> Rows:
        T = self._max_length
        input_ids = np.full((1, 2 * T), self._pad_id, dtype=self._dtype)
        labels = np.full((1, 2 * T), IGNORED, dtype=np.int32)
        starts = []
        for half in (0, 1):
            end = half * T
            for answer in (pair[half] for pair in row):
                begin, end = end, end + len(answer.ids)
                input_ids[0, begin:end] = answer.ids
                judged = slice(begin + answer.num_prompt_tokens, end)
                labels[0, judged] = input_ids[0, judged]
                starts.append(begin)
        return Rows(
            input_ids=input_ids,
            start_counts=np.array([len(starts)]),
            starts=np.array(starts, dtype=np.int32),
            num_repeated=np.zeros(1, dtype=np.int32),
            num_padding=np.array([2 * T - sum(_sizes(row))], dtype=np.int32),
            labels=labels,
        )


def _sizes(row: list[tuple[Answer, Answer]]) -> tuple[int, int]:
    return sum(len(chosen.ids) for chosen, _ in row), sum(len(rejected.ids) for _, rejected in row)


def pair_columns(
    batch: Mapping[str, NDArray[np.int64]], *, flat_starts: Integers, references: NDArray[np.float32]
) -> dict[str, NDArray[Any]]:
    """The columns of a batch of pairs, (B, 2 T) each: `input_ids` and `position_ids` as in every batch, and

    - `answer_labels`: the shifted tokens of the answers, IGNORED elsewhere;
    - `labels`: one of them for each pair, at the head of what is chosen. What is learned of a pair is learned once, and
      losses are divided by the number of labels;
    - `references`: float32, at the head of each answer ln of its probability under the model that is compared with.

    Args:
        batch: `input_ids`, `position_ids` and the shifted `labels` of all answers.
        flat_starts: (S,) where answers begin in the flattened batch.
        references: (S,) of each.
    """
    shape = batch["input_ids"].shape
    is_chosen = flat_starts % shape[1] < shape[1] // 2
    heads = flat_starts[is_chosen]
    labels = np.full(shape, IGNORED, dtype=np.int64)
    labels.reshape(-1)[heads] = batch["input_ids"].reshape(-1)[heads + 1]
    at_heads = np.zeros(shape, dtype=np.float32)
    at_heads.reshape(-1)[flat_starts] = references
    return {**batch, "labels": labels, "answer_labels": batch["labels"], "references": at_heads}
