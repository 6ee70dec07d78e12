"""Borders of shards: every item in one shard, in order, and no border far from a change moves."""

import random

from hypothesis import given
from hypothesis import strategies as st

from data_processing.collecting.shard_plan import MEAN_BYTES, MEAN_ITEMS, MOST_BYTES, MOST_ITEMS, shards

File = tuple[str, int]


def planned(files: list[File]) -> list[list[File]]:
    return list(shards(files, name=lambda file: file[0], num_bytes=lambda file: file[1]))


def files(number: int, *, mean_bytes: int, seed: int = 1) -> list[File]:
    generator = random.Random(seed)
    return [(f"dir/{index:05}.txt", int(generator.expovariate(1 / mean_bytes))) for index in range(number)]


def num_new(now: list[File], before: list[File]) -> int:
    """Shards that were not there before."""
    return len({tuple(shard) for shard in planned(now)} - {tuple(shard) for shard in planned(before)})


@given(st.lists(st.tuples(st.text(max_size=5), st.integers(0, 2 * MOST_BYTES)), max_size=50))
def test_every_item_is_in_one_shard_in_order(items: list[File]) -> None:
    assert [file for shard in planned(items) for file in shard] == items
    assert all(planned(items))


def test_shards_have_about_the_stated_size_for_small_files_and_for_large_ones() -> None:
    small = planned(files(50_000, mean_bytes=2_000))
    assert 0.5 * MEAN_ITEMS < 50_000 / len(small) < 1.5 * MEAN_ITEMS
    large = planned(files(5_000, mean_bytes=1 << 20))
    assert 0.5 * MEAN_BYTES < sum(size for shard in large for _, size in shard) / len(large) < 2 * MEAN_BYTES


def test_no_shard_grows_without_end() -> None:
    for items in (files(20_000, mean_bytes=10), files(2_000, mean_bytes=1 << 21)):
        for shard in planned(items):
            assert len(shard) <= MOST_ITEMS
            assert sum(size for _, size in shard[:-1]) < MOST_BYTES


def test_a_file_that_is_added_or_removed_changes_the_shard_around_it_alone() -> None:
    before = files(20_000, mean_bytes=20_000)
    for number in (0, 7_777, 19_999):
        after = [*before[:number], (f"dir/{number:05}-added.txt", 20_000), *before[number:]]
        for more, fewer in ((after, before), (before, after)):
            assert num_new(more, fewer) <= 2


def test_a_change_is_over_at_the_next_border_also_where_large_files_are_cut_by_size() -> None:
    before = files(3_000, mean_bytes=4 << 20)
    after = [*before[:1_000], ("dir/01000-added.txt", 4 << 20), *before[1_000:]]
    assert num_new(after, before) <= 4
