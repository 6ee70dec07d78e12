"""What glibc's heap grows to under a sequence of allocations: more than ever was alive at once, because of its holes.

Knows sizes and order of blocks, and neither tensors nor steps.
"""

import bisect
import random
import statistics
from collections.abc import Iterable

SMALLEST_BLOCK = 2**16
"""Bytes; smaller blocks settle in what larger ones leave, and do not make the heap grow."""

_ASKED_BEYOND = 96
"""Bytes that posix_memalign(3) takes beyond a block, to align it to torch's 64, and gives back at once (glibc 2.36)."""

SETTLED_SHARE = 0.05
"""Of what is given back behind a block, the share that a small object takes and keeps: the block can then, once free,
serve nothing of its own size any more. Fitted: over nine shapes, 257 to 1,226 MB of tensors, one share foresees the
peaks of processes to 5 %, but for one whose own runs differ by half. With glibc's cache of small blocks off
(GLIBC_TUNABLES=glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0), the same processes take a quarter less."""

_DRAWS = 4


def heap_growth(blocks: Iterable[tuple[int, int]]) -> int:
    """Bytes that the heap grows to, on average over what small objects may do, while freed memory is kept.

    Large blocks are taken by best fit from what is free, neighbours that are free become one, and the rest comes from
    the end of the heap (glibc manual, "The GNU Allocator"; `core.memory.keep_freed_memory`).

    Args:
        blocks: (key, bytes) where a block is allocated, (key, -bytes) where it is freed, in order. A key may return
            once its block is free.
    """
    large = [(key, size) for key, size in blocks if abs(size) >= SMALLEST_BLOCK]
    return round(statistics.mean(_growth(large, random.Random(draw)) for draw in range(_DRAWS)))


def _growth(blocks: list[tuple[int, int]], chance: random.Random) -> int:
    heap = _Heap()
    where: dict[int, tuple[int, int]] = {}
    for key, size in blocks:
        if size < 0:
            heap.free(*where.pop(key))
            continue
        size = (size + 23) // 16 * 16
        address, taken = heap.take(size + _ASKED_BEYOND)
        settled = _ASKED_BEYOND if chance.random() < SETTLED_SHARE else 0
        if taken > size + settled:
            heap.free(address + size + settled, taken - size - settled)
        where[key] = address, size
    return heap.largest


class _Heap:
    """Free stretches by address and by size."""

    def __init__(self) -> None:
        self._end = 0
        self.largest = 0
        self._addresses: list[int] = []
        self._size_at: dict[int, int] = {}
        self._by_size: list[tuple[int, int]] = []

    def take(self, size: int) -> tuple[int, int]:
        """Address and bytes of the smallest free stretch that has `size` bytes, or of new ones at the end."""
        fit = bisect.bisect_left(self._by_size, (size, 0))
        if fit < len(self._by_size):
            found, address = self._by_size[fit]
            self._remove(address)
            return address, found
        address, self._end = self._end, self._end + size
        self.largest = max(self.largest, self._end)
        return address, size

    def free(self, address: int, size: int) -> None:
        """Give a stretch back; it joins free neighbours and the end."""
        after = bisect.bisect_left(self._addresses, address)
        if after < len(self._addresses) and self._addresses[after] == address + size:
            size += self._remove(address + size)
        if after > 0:
            before = self._addresses[after - 1]
            if before + self._size_at[before] == address:
                address, size = before, size + self._remove(before)
        if address + size == self._end:
            self._end = address
            return
        bisect.insort(self._addresses, address)
        self._size_at[address] = size
        bisect.insort(self._by_size, (size, address))

    def _remove(self, address: int) -> int:
        size = self._size_at.pop(address)
        del self._addresses[bisect.bisect_left(self._addresses, address)]
        del self._by_size[bisect.bisect_left(self._by_size, (size, address))]
        return size
