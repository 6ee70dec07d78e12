from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_processing.rows.packing import (
    IGNORED,
    ContinuousPacker,
    ConversationPacker,
    Rows,
    join_rows,
    raw_text_labels,
    restarting_positions,
    shift_labels,
    slice_rows,
)

PAD = 3
UINT16 = np.dtype(np.uint16)


def pack_in_pieces(
    documents: Sequence[Sequence[int]], pieces: Sequence[int], max_length: int, stride: int
) -> Rows:
    """Rows of the documents, handed over in batches of the given sizes, over and over."""
    packer = ContinuousPacker(max_length, stride=stride, pad_id=PAD, dtype=UINT16)
    parts, rest, sizes = [], list(documents), list(pieces)
    while rest:
        size = sizes[len(parts) % len(sizes)]
        batch, rest = rest[:size], rest[size:]
        tokens = np.array([token for document in batch for token in document], dtype=UINT16)
        parts.append(packer.add(tokens, np.array([len(document) for document in batch])))
    return join_rows([*parts, packer.finish()])


def starts_by_row(rows: Rows) -> list[list[int]]:
    ends = np.cumsum(rows.start_counts)
    return [
        rows.starts[end - count : end].tolist() for end, count in zip(ends, rows.start_counts, strict=True)
    ]


def brute_force_rows(
    documents: Sequence[Sequence[int]], max_length: int, stride: int
) -> list[tuple[list[int], list[int], int]]:
    """(tokens without padding, starts, repeated) of each row, one token at a time."""
    result: list[tuple[list[int], list[int], int]] = []
    row: list[int] = []
    starts: list[int] = []
    repeated = 0
    for document in documents:
        for done, token in enumerate(document):  # `done` of its tokens are in closed rows or this one
            if len(row) == max_length:
                result.append((row, starts, repeated))
                tail = list(document[max(0, done - stride) : done])
                starts = [0] if tail and done <= stride else []
                row, repeated = tail, len(tail)
            if done == 0:
                starts.append(len(row))
            row.append(token)
    if row:
        result.append((row, starts, repeated))
    return result


documents_of_tokens = st.lists(
    st.lists(st.integers(4, 900), min_size=1, max_size=40), min_size=1, max_size=12
)


@st.composite
def lengths_and_strides(draw: st.DrawFn) -> tuple[int, int]:
    max_length = draw(st.integers(2, 12))
    return max_length, draw(st.integers(0, max_length - 1))


@settings(deadline=None)
@given(documents_of_tokens, lengths_and_strides(), st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_continuous_rows_equal_those_of_a_token_by_token_packer(documents, shape, pieces):
    max_length, stride = shape
    rows = pack_in_pieces(documents, pieces, max_length, stride)
    expected = brute_force_rows(documents, max_length, stride)
    padded = [tokens + [PAD] * (max_length - len(tokens)) for tokens, _, _ in expected]
    assert rows.input_ids.tolist() == padded
    assert starts_by_row(rows) == [starts for _, starts, _ in expected]
    assert rows.num_repeated.tolist() == [repeated for _, _, repeated in expected]
    assert rows.num_padding.tolist() == [max_length - len(tokens) for tokens, _, _ in expected]
    assert rows.input_ids.dtype == np.uint16


@settings(deadline=None)
@given(documents_of_tokens, lengths_and_strides())
def test_rows_hold_every_token_once_besides_the_repetitions_and_the_padding(documents, shape):
    max_length, stride = shape
    rows = pack_in_pieces(documents, [100], max_length, stride)
    read = [
        token
        for ids, repeated, padding in zip(rows.input_ids, rows.num_repeated, rows.num_padding, strict=True)
        for token in ids[repeated : max_length - padding].tolist()
    ]
    assert read == [token for document in documents for token in document]


@settings(deadline=None)
@given(documents_of_tokens, lengths_and_strides())
def test_with_a_stride_each_token_but_a_documents_first_is_learned_exactly_once(documents, shape):
    max_length, stride = shape
    rows = pack_in_pieces(documents, [100], max_length, stride)
    ids = rows.input_ids.astype(np.int64)
    flat = np.array([r * max_length + s for r, starts in enumerate(starts_by_row(rows)) for s in starts])
    raw = raw_text_labels(ids, flat_starts=flat, num_repeated=rows.num_repeated, pad_id=PAD)
    labels = shift_labels(raw)
    learned = labels[labels != IGNORED].tolist()
    everything = [token for document in documents for token in document[1:]]
    if stride:
        assert learned == everything
    else:
        # Without a stride nothing stands before the first token of a row that goes on with a document.
        goes_on = sum(1 for starts in starts_by_row(rows) if 0 not in starts)
        assert len(learned) == len(everything) - goes_on


def test_a_row_that_a_document_fills_exactly_is_not_repeated_in_the_next():
    rows = pack_in_pieces([[10, 11, 12, 13], [20, 21]], [2], 4, 2)
    assert rows.input_ids.tolist() == [[10, 11, 12, 13], [20, 21, PAD, PAD]]
    assert rows.num_repeated.tolist() == [0, 0]
    assert starts_by_row(rows) == [[0], [0]]


def test_what_is_repeated_begins_with_the_document_when_the_document_is_shorter_than_the_stride():
    rows = pack_in_pieces([[10, 11, 12], [20, 21, 22, 23]], [2], 4, 3)
    assert rows.input_ids.tolist() == [[10, 11, 12, 20], [20, 21, 22, 23]]
    assert rows.num_repeated.tolist() == [0, 1]
    assert starts_by_row(rows) == [[0, 3], [0]]


def test_nothing_packed_gives_no_row():
    assert len(ContinuousPacker(4, stride=0, pad_id=PAD, dtype=UINT16).finish().input_ids) == 0


def test_labels_are_the_next_token_and_the_last_has_none():
    raw = np.array([[1, 7, 8, 2], [5, IGNORED, 6, 7]])
    assert shift_labels(raw).tolist() == [[7, 8, 2, IGNORED], [IGNORED, 6, 7, IGNORED]]


def test_a_document_start_and_padding_are_never_a_label():
    ids = np.array([[1, 9, 2, 1, 8, 2, PAD, PAD]])
    raw = raw_text_labels(ids, flat_starts=np.array([0, 3]), num_repeated=np.zeros(1, int), pad_id=PAD)
    assert shift_labels(raw).tolist() == [[9, 2, IGNORED, 8, 2, IGNORED, IGNORED, IGNORED]]


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(0, 6)), min_size=1, max_size=4))
def test_positions_restart_at_every_start_and_at_the_head_of_each_row(starts):
    T = 7
    flat = np.array(
        [row * T + start for row, some in enumerate(starts) for start in sorted(some)], dtype=np.int64
    )
    expected = []
    for some in starts:
        position, row = 0, []
        for place in range(T):
            position = 0 if place in some or place == 0 else position + 1
            row.append(position)
        expected.append(row)
    assert restarting_positions((len(starts), T), flat).tolist() == expected


def first_fit(lengths: Sequence[int], max_length: int, max_open_rows: int) -> list[list[int]]:
    """Which conversations (by number) share a row, rows in the order in which they are closed."""
    closed, opened = [], []
    for number, length in enumerate(lengths):
        for row in opened:
            if sum(lengths[other] for other in row) + length <= max_length:
                row.append(number)
                break
        else:
            if len(opened) == max_open_rows:
                sums = [sum(lengths[other] for other in row) for row in opened]
                closed.append(opened.pop(sums.index(max(sums))))
            opened.append([number])
    return closed + opened


@settings(deadline=None)
@given(st.lists(st.integers(1, 10), min_size=1, max_size=40), st.integers(1, 4))
def test_conversations_are_packed_whole_into_the_first_row_with_room(lengths, max_open_rows):
    packer = ConversationPacker(10, pad_id=PAD, dtype=UINT16, max_open_rows=max_open_rows)
    # Conversation number n consists of the token 100 + n, of which every second one is learned.
    parts = []
    for number, length in enumerate(lengths):
        parts += packer.add([100 + number] * length, [place % 2 == 1 for place in range(length)])
    rows = join_rows([*parts, *packer.finish()])
    for row, members in enumerate(first_fit(lengths, 10, max_open_rows)):
        ids = [100 + number for number in members for _ in range(lengths[number])]
        labels = [100 + n if place % 2 else IGNORED for n in members for place in range(lengths[n])]
        missing = 10 - len(ids)
        assert rows.input_ids[row].tolist() == ids + [PAD] * missing
        assert rows.labels is not None
        assert rows.labels[row].tolist() == labels + [IGNORED] * missing
        assert rows.num_padding[row] == missing
        starts = np.cumsum([0] + [lengths[number] for number in members])[:-1].tolist()
        assert starts_by_row(rows)[row] == starts
    assert len(rows.input_ids) == len(first_fit(lengths, 10, max_open_rows))


def test_a_conversation_longer_than_a_row_is_a_mistake_of_the_caller():
    packer = ConversationPacker(4, pad_id=PAD, dtype=UINT16)
    with pytest.raises(AssertionError):
        list(packer.add([5] * 5, [True] * 5))


@settings(deadline=None)
@given(documents_of_tokens, st.integers(0, 5), st.integers(0, 5))
def test_slices_of_rows_joined_are_the_rows(documents, begin, size):
    rows = pack_in_pieces(documents, [100], 5, 1)
    begin = min(begin, len(rows.input_ids))
    end = min(begin + size, len(rows.input_ids))
    whole = len(rows.input_ids)
    joined = join_rows(
        [slice_rows(rows, 0, begin), slice_rows(rows, begin, end), slice_rows(rows, end, whole)]
    )
    for before, after in zip(rows, joined, strict=True):
        assert (before is None and after is None) or np.array_equal(before, after)
