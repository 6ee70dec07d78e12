"""Similarities of near duplicates, kept between collections: what two texts have in common need not be computed twice.

Known by the digests of the two texts, so what is kept is true whatever becomes of the corpus; losing it costs time.
"""

import logging
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from core.files import sha256_json
from data_processing.collecting.shard_files import DamagedShardError, read_array, write_array
from data_processing.collecting.shard_store import ShardStore
from data_processing.duplicates.near_duplicates import PairSimilarities

SIMILARITY_VERSION = 1
"""To be raised when the similarity of two texts changes (`near_duplicates.shingle_set`, `jaccard`)."""

PIECE_PAIRS = 1 << 20
"""Pairs in one file: 40 MB, and three times that in memory while it is written; arbitrary."""

PAIR_TYPE = np.dtype([("first", "<u8", 2), ("second", "<u8", 2), ("similarity", "<f8")])

Digests = npt.NDArray[np.uint64]
"""uint64 (documents, 2): 128 bits of each text's digest; zeros for what takes no part."""

logger = logging.getLogger(__name__)


def verified_prefix() -> str:
    """How the names of files begin that hold what this version of the program computed."""
    # Which characters are letters and how they fold decides the words.
    return f"verified/{sha256_json([SIMILARITY_VERSION, unicodedata.unidata_version])[:32]}-"


def read_verified(
    store: ShardStore, digests: Sequence[Digests], first: npt.NDArray[np.int64]
) -> PairSimilarities:
    """The similarities that are known of today's documents, with their numbers of today.

    Args:
        digests: One array a part; documents are numbered through the parts in order.
        first: Of each document the first with the same text, which stands for it.
    """
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for pairs in _pieces(store):
        texts = np.concatenate([pairs["first"], pairs["second"]])
        numbers = _numbers_of(texts, digests).reshape(2, -1)
        here = (numbers >= 0).all(axis=0)
        one, other = first[numbers[:, here]]
        found.append((one, other, pairs["similarity"][here]))
    return PairSimilarities.of(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def write_verified(store: ShardStore, verified: PairSimilarities, digests: Sequence[Digests]) -> None:
    """Keep these similarities, and nothing of what was kept before."""
    number = 0
    for begin in range(0, len(verified.first), PIECE_PAIRS):
        here = slice(begin, begin + PIECE_PAIRS)
        pairs = np.empty(len(verified.first[here]), PAIR_TYPE)
        pairs["first"] = _digests_of(verified.first[here], digests)
        pairs["second"] = _digests_of(verified.second[here], digests)
        pairs["similarity"] = verified.similarity[here]
        write_array(store, _piece(number), pairs)
        number += 1
    while store.exists(_piece(number)):
        store.delete(_piece(number))
        number += 1


def _piece(number: int) -> str:
    return f"{verified_prefix()}{number:05d}.pairs"


def _pieces(store: ShardStore) -> Iterator[np.ndarray]:
    number = 0
    while store.exists(_piece(number)):
        try:
            pairs = read_array(store, _piece(number))
            if pairs.dtype != PAIR_TYPE or pairs.ndim != 1:
                raise ValueError(f"holds {pairs.dtype}")
        except (DamagedShardError, ValueError):  # what NumPy cannot read is a ValueError
            logger.warning(
                "%s/%s: damaged or not ours; the near duplicates in it are compared anew",
                store.root,
                _piece(number),
            )
        else:
            if len(pairs):
                yield pairs
        number += 1


def _numbers_of(texts: Digests, digests: Sequence[Digests]) -> npt.NDArray[np.int64]:
    """The number of a document with each digest of `texts`, -1 where there is none.

    Of two documents whose digests begin with the same 64 bits one may not be found.
    """
    halves = np.unique(texts[:, 0])
    others, numbers = np.zeros(len(halves), np.uint64), np.full(len(halves), -1)
    begin = 0
    for part in digests:
        places = np.searchsorted(halves, part[:, 0])
        places[places == len(halves)] = 0
        rows = np.flatnonzero(halves[places] == part[:, 0])
        others[places[rows]] = part[rows, 1]
        numbers[places[rows]] = rows + begin
        begin += len(part)
    places = np.searchsorted(halves, texts[:, 0])
    return np.where(others[places] == texts[:, 1], numbers[places], -1)


def _digests_of(numbers: npt.NDArray[np.int64], digests: Sequence[Digests]) -> Digests:
    """The digest of each of `numbers`, in their order."""
    wanted, places = np.unique(numbers, return_inverse=True)
    found = [np.empty((0, 2), np.uint64)]
    begin = 0
    for part in digests:
        rows = wanted[np.searchsorted(wanted, begin) : np.searchsorted(wanted, begin + len(part))] - begin
        found.append(part[rows])
        begin += len(part)
    return np.concatenate(found)[places]
