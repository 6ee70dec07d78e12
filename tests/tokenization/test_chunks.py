import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenization.chunks as chunks_module
from tests.tokenization.hostile_text import texts
from tokenization.chunks import ChunkMemory, cuts_outside, find_chunks, next_cut

pieces = st.lists(st.text(alphabet="ab \n日é", min_size=1, max_size=4), max_size=12)
alphabet_texts = st.text(alphabet="ab \n日é▁", max_size=80)


def chunks_of(data: bytes, cuts: np.ndarray, apart: tuple[bytes, ...] = ()) -> list[bytes]:
    starts = find_chunks(data, np.array([len(data)]), cuts, apart).tolist()
    return [data[start:end] for start, end in itertools.pairwise(starts)]


@given(known=pieces, text=alphabet_texts)
def test_a_text_is_cut_wherever_no_piece_has_the_two_bytes_and_nowhere_else(
    known: list[str], text: str
) -> None:
    data = text.encode()
    neighbours = {
        (encoded[place], encoded[place + 1])
        for encoded in (piece.encode() for piece in known)
        for place in range(len(encoded) - 1)
    }
    starts = {len(text[:place].encode()) for place in range(len(text) + 1)}
    expected = [0] * bool(data) + [
        place
        for place in range(1, len(data))
        if place in starts and (data[place - 1], data[place]) not in neighbours
    ]
    cuts = cuts_outside(piece.encode() for piece in known)
    assert find_chunks(data, np.array([len(data)]), cuts).tolist() == [*expected, len(data)]
    for start in range(1, len(data) + 1):
        assert next_cut(data, start, cuts) == min(
            [place for place in expected if place >= start] or [len(data)]
        )


def test_the_next_cut_is_found_across_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks_module, "WINDOW_BYTES", 3)
    cuts = cuts_outside([b"aa"])
    data = b"a" * 11 + b"b" + b"a" * 5
    assert [next_cut(data, start, cuts) for start in (1, 11, 12, 13, 17)] == [11, 11, 12, 17, 17]


def test_what_stands_apart_is_a_chunk_of_its_own() -> None:
    cuts = np.zeros(1 << 16, dtype=np.bool_)
    assert chunks_of("a▁▁b▁".encode(), cuts, ("▁".encode(),)) == [
        b"a",
        *["▁".encode()] * 2,
        b"b",
        "▁".encode(),
    ]


@given(batch=st.lists(texts, max_size=6))
def test_ids_are_those_of_the_chunks_for_short_and_long_batches(batch: list[str]) -> None:
    def encode(chunks: list[bytes], _threads: int) -> list[list[int]]:
        assert len(set(chunks)) == len(chunks)
        return [[byte for byte in chunk if byte != ord("a")] for chunk in chunks]

    cuts = cuts_outside([b"aa", b"  "])
    data = [text.encode() for text in batch]
    expected = [byte for one in data for byte in one if byte != ord("a")]
    for limit in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunks_module, "SHORT_BYTES", limit)
            memory = ChunkMemory(encode, cuts, {})
            ids, counts = memory.encode(data, 1)
        assert ids.tolist() == expected
        assert counts.tolist() == [len(one) - one.count(b"a") for one in data]
