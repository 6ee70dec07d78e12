"""Where a corpus is cut into shards: at places that its items choose themselves. Opens nothing.

An item that is added or removed moves no border but its own, so that of a collected corpus only the shard around it is
made anew (content-defined chunking, as in rsync and backup programs; Muthitacharoen et al. 2001).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

MEAN_BYTES = 8 << 20
MEAN_ITEMS = 2048
"""Mean size of a shard. Arbitrary: half a second of work, beside which starting a task and writing its files (40 ms and
more, which the disk takes to say that they are there) weigh little."""

MOST_BYTES = 8 * MEAN_BYTES
MOST_ITEMS = 8 * MEAN_ITEMS
"""A shard ends here in any case: once in three thousand."""


def shards(
    items: Iterable[T], *, name: Callable[[T], str], num_bytes: Callable[[T], int]
) -> Iterator[list[T]]:
    """`items` in stretches; each ends with an item whose name hashes to a low number, the lower the larger it is.

    Args:
        name: What tells an item from others, the same in every run.
        num_bytes: Its size.
    """
    stretch: list[T] = []
    size = 0
    for item in items:
        stretch.append(item)
        size += num_bytes(item)
        odds = num_bytes(item) / MEAN_BYTES + 1 / MEAN_ITEMS
        if _uniform(name(item)) < odds or size >= MOST_BYTES or len(stretch) >= MOST_ITEMS:
            yield stretch
            stretch, size = [], 0
    if stretch:
        yield stretch


def _uniform(name: str) -> float:
    """A number in [0, 1) that follows from the name."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8, person=b"shard border")
    return int.from_bytes(digest.digest(), "little") / 2**64
