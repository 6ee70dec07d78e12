"""Splits for a stream of items: by hash, and no wanted split stays empty. Does not know what the items are."""

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from data_processing.rows.splits import split_of

Item = TypeVar("Item")

MAX_HELD_ITEMS = 10_000
"""Items held back while a split is empty. Arbitrary: bounds memory when very many items share one key."""

LEARNED_UNDIVIDED = "the %d %s are about too few things to hold any back (val_split=%g): all are learned"
"""For the log, where what people made by hand is not divided."""


def fewest_divided(share: float) -> int:
    """The number of keys of which `share` is one at least; 0 where nothing is to be held back."""
    return math.ceil(1 / share) if share else 0


class SplitAssignment(Generic[Item]):
    """Gives every item the split that the hash of its key says, except that a tiny corpus fills its splits.

    Of ten documents, 5 % for validation is none, more often than not. So when the stream ends and a split with a
    share above 0 is empty, it is given the key with the lowest rank (a second hash) of those that can be spared:
    first from a split that keeps another key, else from the last split in `shares`, where that comes after it. So
    `shares` begins with the split that must not be empty. Which key is moved depends on the set of keys alone, not
    on their order; it returns to its own split as soon as the corpus is large enough to fill the splits by hash.

    To decide this in one pass, the items of the few lowest-ranked keys are held back until every split has
    something, which for a corpus of ordinary size is after the first few hundred items.

    Args:
        shares: Of each split, the one that must not be empty first.
        divided_from: With fewer keys than this, all of them are in the first split.
    """

    def __init__(self, *, shares: Mapping[str, float], seed: int, divided_from: int = 0) -> None:
        split_of("", shares=shares, seed=seed)  # refuses bad shares before any work is done
        self._shares = dict(shares)
        self._seed = seed
        self._wanted = [name for name, share in shares.items() if share > 0]
        self._filled: set[str] = set()
        self._held: dict[str, list[Item]] = {}
        self._decided = False
        self._divided_from = divided_from
        self.is_undivided = False
        """Whether there were too few keys to divide them."""
        self.moved: dict[str, str] = {}
        """The keys that fill a split which is not that of their hash, with that split."""

    def assign(self, items: Iterable[tuple[str, Item]]) -> Iterator[tuple[str, Item]]:
        """(split, item) for each (key, item); items held back come after later ones, each key's in order."""
        for key, item in self._looked_ahead(iter(items)):
            if self._decided:
                split = self._split(key)
                self._filled.add(split)
                yield split, item
                continue
            self._held.setdefault(key, []).append(item)
            if len(self._held) > len(self._wanted):
                highest = max(self._held, key=self._rank)
                yield from self._release(highest)
            if self._filled.issuperset(self._wanted) or self._num_held() >= MAX_HELD_ITEMS:
                yield from self._decide()
        yield from self._decide()

    def _looked_ahead(self, items: Iterator[tuple[str, Item]]) -> Iterator[tuple[str, Item]]:
        """`items`, after so many were read that one knows whether they are to be divided."""
        read: list[tuple[str, Item]] = []
        keys: set[str] = set()
        while len(keys) < self._divided_from and len(read) < MAX_HELD_ITEMS:
            item = next(items, None)
            if item is None:
                self.is_undivided = True
                self._wanted = self._wanted[:1]
                self._shares = dict.fromkeys(self._shares, 0.0) | {self._wanted[0]: 1.0}
                break
            read.append(item)
            keys.add(item[0])
        return itertools.chain(read, items)

    @property
    def empty_splits(self) -> list[str]:
        """Splits with a share that have got nothing, because there are fewer keys than splits."""
        return [name for name in self._wanted if name not in self._filled]

    def _decide(self) -> Iterator[tuple[str, Item]]:
        self._decided = True
        place = {key: self._split(key) for key in sorted(self._held, key=self._rank)}
        for split in self._wanted:
            if split in self._filled or split in place.values():
                continue
            spared = next((key for key, at in place.items() if self._can_spare(at, place)), None)
            if spared is None and place:
                last = max(place, key=lambda key: self._wanted.index(place[key]))
                spared = last if self._wanted.index(place[last]) > self._wanted.index(split) else None
            if spared is not None:
                place[spared] = self.moved[spared] = split
        for key in list(self._held):
            yield from self._release(key)

    def _can_spare(self, split: str, place: Mapping[str, str]) -> bool:
        return split in self._filled or list(place.values()).count(split) > 1

    def _release(self, key: str) -> Iterator[tuple[str, Item]]:
        split = self._split(key)
        self._filled.add(split)
        for item in self._held.pop(key):
            yield split, item

    def _split(self, key: str) -> str:
        return self.moved.get(key) or split_of(key, shares=self._shares, seed=self._seed)

    def _rank(self, key: str) -> bytes:
        data = f"{self._seed}:{key}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=16, person=b"fill-a-split").digest()

    def _num_held(self) -> int:
        return sum(len(items) for items in self._held.values())
