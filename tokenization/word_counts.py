"""How often each word occurs in a text. A word is whatever no piece of a vocabulary can reach over."""

import string
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tokenization.chunks import NUM_PAIRS, Cuts, as_arrow, find_chunks

BATCH_BYTES = 1 << 22
MERGED_ROWS = 1 << 21
"""Counts of batches are added up when they have more words than this, which bounds the memory to the different words of
the text and some 100 MB."""


def cuts_at_spaces() -> Cuts:
    """A word begins in front of each run of spaces."""
    cuts = np.zeros((256, 256), dtype=np.bool_)
    cuts[:, ord(" ")] = True
    cuts[ord(" "), ord(" ")] = False
    return cuts.reshape(NUM_PAIRS)


def cuts_around_bpe_pieces(*, split_digits: bool, split_by_unicode_script: bool) -> Cuts:
    """A word begins and ends besides where ASCII letters meet other ASCII characters: with SentencePiece's
    `split_by_unicode_script` no piece has both, nor, with `split_digits`, a digit and anything else.

    It makes a third of the different words of those between spaces, because "end.\\n    next" is no longer one.
    """
    cuts = cuts_at_spaces().reshape(256, 256).copy()
    if split_by_unicode_script:
        letters = [*string.ascii_letters.encode()]
        others = [code for code in range(128) if code not in letters and code != ord(" ")]
        cuts[np.ix_(letters, others)] = cuts[np.ix_(others, letters)] = True
    if split_digits:
        digits = [*string.digits.encode()]
        starts = [code for code in range(256) if not 0x80 <= code < 0xC0]
        cuts[np.ix_(digits, starts)] = True
        cuts[:, digits] = True
    return cuts.reshape(NUM_PAIRS)


def count_words(texts: Iterable[bytes], cuts: Cuts) -> Iterator[tuple[bytes, int]]:
    """Every different word between `cuts` and how often it occurs, in no particular order."""
    counted: list[Any] = []
    for batch in _batches(texts):
        counted.append(_count(batch, cuts))
        if len(counted) > 1 and sum(table.num_rows for table in counted) > MERGED_ROWS:
            counted = [_added_up(counted)]
    if counted:
        for rows in _added_up(counted).to_batches(max_chunksize=1 << 16):
            yield from zip(rows["word"].to_pylist(), rows["count"].to_pylist(), strict=True)


def _batches(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _count(texts: list[bytes], cuts: Cuts) -> Any:
    import pyarrow as pa

    data = b"".join(texts)
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    counts = as_arrow(data, find_chunks(data, ends, cuts)).value_counts()
    return pa.table({"word": counts.field("values"), "count": counts.field("counts")})


def _added_up(tables: list[Any]) -> Any:
    import pyarrow as pa

    together = pa.concat_tables(tables).group_by("word", use_threads=False).aggregate([("count", "sum")])
    return together.rename_columns(["word", "count"])
