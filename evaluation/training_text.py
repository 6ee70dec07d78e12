"""The text that a run's model was trained on, read back from its rows. Knows no model and no score."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.progress import progress
from data_processing.rows.split_corpus import LEARNED_FROM
from data_processing.rows.token_rows import TokenRows
from data_processing.rules.decontaminate import ngram_hashes
from data_processing.rules.hash_set import HashSet
from evaluation.run_places import DataPlaces
from tokenization.tokenizer import Tokenizer

NGRAM_WORDS = 13
"""Two texts that share so many words in a row have them from one another (Brown et al. 2020, appendix C)."""

MAX_TOKENS = 200_000_000
"""So much of a text is searched at most: decoding and hashing takes a core 0.15 s a million tokens."""

STRETCH = 64
"""Rows that are read in a row where not all are: enough that few documents are cut. Arbitrary."""


class TrainingText:
    """What a model read, as far as its run keeps it.

    Raises:
        CorruptArtifactError: rows are damaged.
    """

    def __init__(self, places: DataPlaces, tokenizer: Tokenizer) -> None:
        self.places = places
        self.tokenizer = tokenizer
        kept = [
            place / split
            for place in (places.dataset, places.instructions)
            if place
            for split in LEARNED_FROM
        ]
        self.rows = [TokenRows(place) for place in kept if place.is_dir()]
        self.fingerprint = " ".join(rows.fingerprint for rows in self.rows)

    def sample_ids(self, most: int) -> NDArray[np.int64]:
        """At most so many tokens of the text, whole rows spread evenly over it."""
        rows = self.rows[0]
        number = min(len(rows), max(1, most // rows.metadata.max_length))
        chosen = [rows.tokens(index * len(rows) // number) for index in range(number)]
        return np.concatenate(chosen).astype(np.int64)

    def holds(self, wanted: HashSet) -> NDArray[np.bool_]:
        """For each of the n-grams of words whether it stands in the text, in the order of `wanted.hashes`."""
        found = np.zeros(len(wanted.hashes), dtype=np.bool_)
        for text in self.documents():
            found[wanted.places_of(ngram_hashes(text, NGRAM_WORDS))] = True
        return found

    def documents(self) -> Iterator[str]:
        """The texts, one after the other; of a very long text, stretches of rows spread evenly over it."""
        for rows in self.rows:
            stretches = _stretches(len(rows), most=max(STRETCH, MAX_TOKENS // rows.metadata.max_length))
            bar = progress(stretches, description=f"reading {rows.directory.parent.name}", unit="stretch")
            for stretch in bar:
                held: list[NDArray[Any]] = []
                for index in stretch:
                    # A document goes on in the next row until another one starts.
                    going_on, *new = np.split(rows.tokens(index), rows.document_starts(index))
                    held.append(going_on)
                    for begun in new:
                        yield from self._text(held)
                        held = [begun]
                yield from self._text(held)

    @property
    def searched_share(self) -> float:
        """The share of the rows that `documents` reads."""
        most = [MAX_TOKENS // rows.metadata.max_length for rows in self.rows]
        read = sum(min(len(rows), number) for rows, number in zip(self.rows, most, strict=True))
        return read / sum(map(len, self.rows))

    def _text(self, pieces: list[NDArray[Any]]) -> Iterator[str]:
        if text := self.tokenizer.decode(np.concatenate(pieces).tolist()):
            yield text


def _stretches(num_rows: int, *, most: int) -> list[range]:
    """All rows, or evenly spread stretches of them that are `most` rows together, or a little fewer."""
    if num_rows <= most:
        return [range(num_rows)]
    number = most // STRETCH
    return [range(start, start + STRETCH) for start in (k * num_rows // number for k in range(number))]


def copied_ngrams(texts: Sequence[str], training: TrainingText) -> list[NDArray[np.bool_]]:
    """Of each text, for each run of 13 words, whether it stands in the training text; empty for shorter texts."""
    hashes = [ngram_hashes(text, NGRAM_WORDS) for text in texts]
    wanted = HashSet(np.concatenate(hashes))
    known = HashSet(wanted.hashes[training.holds(wanted)])
    return [known.contains(own) for own in hashes]
