"""Records that are packed come out as they went in."""

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import packed_list
from core.packed_list import PackedList, pack, unpack


@given(
    st.lists(st.tuples(st.text(), st.integers(), st.none() | st.binary()), max_size=30), st.integers(1, 10)
)
def test_records_come_in_their_order_as_often_as_one_likes(records: list[object], block_items: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_list, "BLOCK_ITEMS", block_items)
        packed = PackedList(iter(records))
    assert list(packed) == list(packed) == records
    assert unpack(pack(records)) == records


def test_records_take_a_tenth_of_their_memory():
    def records() -> Iterator[tuple[str, int, int]]:
        return ((f"directory/{n // 100}/file{n}.txt", n * 1_000_003, 10**18 + n) for n in range(20_000))

    tracemalloc.start()
    try:
        plain = list(records())
        plain_bytes, _ = tracemalloc.get_traced_memory()
        del plain
        tracemalloc.reset_peak()
        packed = PackedList(records())
        packed_bytes, peak = tracemalloc.get_traced_memory()
        assert sum(1 for _ in packed) == 20_000
        _, peak_of_reading = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert packed_bytes < plain_bytes / 10
    assert max(peak, peak_of_reading) < plain_bytes / 4
