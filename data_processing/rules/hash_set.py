"""Which of a text's hashes are in a large fixed set, told for all at once. Does not know what they stand for."""

from typing import Final

import numpy as np
import numpy.typing as npt

from data_processing.duplicates.word_hashes import Hashes

_BITS_PER_HASH: Final = 16
"""One in 16 hashes of a text passes the first look by chance and is searched for; memory: 16 bytes and 8 a hash."""
_MIN_ADDRESS_BITS: Final = 12
_MAX_ADDRESS_BITS: Final = 28


class HashSet:
    """A set of 64-bit hashes whose upper bits are spread evenly, as those of `word_hashes` are.

    Looking up takes 2 to 10 ns a hash, as the set fits a processor's cache or not: a table of flags, addressed by the
    upper bits, turns nearly all hashes away before the binary search.

    Attributes:
        hashes: The members, sorted, each once.
    """

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = np.unique(hashes)
        wanted = max(1, len(self.hashes) * _BITS_PER_HASH - 1).bit_length()
        address_bits = min(max(wanted, _MIN_ADDRESS_BITS), _MAX_ADDRESS_BITS)
        self._shift = np.uint64(64 - address_bits)
        self._flags = np.zeros(1 << address_bits, dtype=np.bool_)
        self._flags[self.hashes >> self._shift] = True

    def contains(self, hashes: Hashes) -> npt.NDArray[np.bool_]:
        """For each of `hashes` whether it is a member."""
        flagged: npt.NDArray[np.bool_] = self._flags[hashes >> self._shift]
        perhaps = np.flatnonzero(flagged)
        if len(perhaps):
            flagged[perhaps] = self.hashes[self._places(hashes[perhaps])] == hashes[perhaps]
        return flagged

    def places_of(self, hashes: Hashes) -> npt.NDArray[np.intp]:
        """The places in `self.hashes` of those that are among `hashes`, sorted, each once."""
        return self._places(np.unique(hashes[self.contains(hashes)]))

    def _places(self, hashes: Hashes) -> npt.NDArray[np.intp]:
        """Where each of `hashes` would be, at most the last place."""
        places: npt.NDArray[np.intp] = np.searchsorted(self.hashes, hashes)
        return np.minimum(places, len(self.hashes) - 1)
