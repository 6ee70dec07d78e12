"""The heap by itself: what is known without simulating it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import heap_model
from training.heap_model import SMALLEST_BLOCK, heap_growth

MB = 2**20


def sizes(*blocks: int) -> list[tuple[int, int]]:
    return list(enumerate(blocks))


@st.composite
def allocations(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Blocks made and freed in any order; a key never returns while its block is there."""
    events: list[tuple[int, int]] = []
    alive: dict[int, int] = {}
    for key in range(draw(st.integers(1, 40))):
        while alive and draw(st.booleans()):
            gone = draw(st.sampled_from(sorted(alive)))
            events.append((gone, -alive.pop(gone)))
        alive[key] = draw(st.integers(1, 40)) * SMALLEST_BLOCK
        events.append((key, alive[key]))
    return events


@given(allocations())
def test_the_heap_is_never_smaller_than_what_is_alive_nor_larger_than_all_that_was_asked_for(
    events: list[tuple[int, int]],
) -> None:
    alive = most = 0
    for _, size in events:
        alive += size
        most = max(most, alive)
    asked = sum(size for _, size in events if size > 0)
    assert most <= heap_growth(events) <= asked + 200 * len(events)


def test_holes_come_from_small_objects_that_settle_behind_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = sizes(*[MB] * 20)
    and_freed = blocks + [(key, -size) for key, size in reversed(blocks)]
    grown = []
    for share in (0.0, 0.05, 0.5):
        monkeypatch.setattr(heap_model, "SETTLED_SHARE", share)
        grown.append(heap_growth(and_freed * 5))
    assert grown[0] == 20 * (MB + 16) + 96
    assert grown[0] < grown[1] < grown[2] < 100 * MB


def test_a_block_that_stays_in_the_middle_keeps_what_is_larger_from_its_place() -> None:
    small, kept, large = (0, 4 * MB), (1, MB), (2, 5 * MB)
    assert heap_growth([small, kept, (0, -4 * MB), large]) > 9.9 * MB
    assert heap_growth([small, kept, (0, -4 * MB), (1, -MB), large]) < 5.1 * MB


def test_the_smallest_stretch_that_is_large_enough_is_taken() -> None:
    # 6 and 3 MB are free between blocks that stay; 3 - and then 6 - fit only if 3 did not go into the 6.
    start = sizes(6 * MB, MB, 3 * MB, MB)
    then = [(0, -6 * MB), (2, -3 * MB), (4, 3 * MB - 4096), (5, 6 * MB - 4096)]
    assert heap_growth(start + then) < 11.1 * MB


def test_small_blocks_are_not_counted() -> None:
    assert heap_growth([(0, SMALLEST_BLOCK - 1)]) == 0
