"""How much of the validation and test text stands in the training text too, in runs of 8 words. Keeps no text."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from data_processing.duplicates.candidate_pairs import unique_sorted
from data_processing.duplicates.word_hashes import Hashes, ngram_hashes, word_hashes

NGRAM_WORDS: Final = 8
"""Words of an n-gram: those of GPT-2's overlap study (Radford et al. 2019, section 4), which also measured 8."""

MOSTLY: Final = 0.5
"""Share of its n-grams in the training text above which a document counts as standing mostly in it; arbitrary."""

DEFAULT_MEMORY_BYTES: Final = 500_000_000
"""Enough for some 50 MB of held-out English without sampling; arbitrary, a quarter of `data.memory_bytes`."""

_MAX_PENDING: Final = 1 << 16
"""N-grams that are looked up together. In ascending order their binary searches stay in the cache: one document of 5 kB
at a time took 70 µs, more than its hashing, among 2 million held-out n-grams."""
_WORST_DOCUMENTS: Final = 10
_BYTES_PER_NGRAM: Final = 49
"""Its hash in the document (8), thrice more while all are sorted (24), whether it was seen (1), and its share of the
table of prefixes (16 at most)."""
_BYTES_PER_DOCUMENT: Final = 300
"""Header of the array of n-grams, the object around it and a source of 60 characters (sys.getsizeof, CPython 3.11)."""


@dataclass(slots=True)
class _HeldOutDocument:
    """A document of a held-out split, with the hashes of its different n-grams that are in the sample, ascending."""

    source: str
    ngrams: Hashes


@dataclass(slots=True)
class _Split:
    num_documents: int = 0
    documents: list[_HeldOutDocument] = field(default_factory=list)
    """Those with an n-gram in the sample."""


class SplitOverlap:
    """Counts which n-grams of held-out documents occur in training documents.

    First `add_held_out` each validation and test document, then `freeze`, then `add_train` each training document,
    then `result`. Neither order nor repetition of documents within a phase changes the result, and words are compared
    as in `word_hashes`: a change of case, quotes or line breaks does not hide a copy.

    Memory: `memory_bytes`, whatever the corpus. Of more n-grams than that holds, a sample is kept: those whose hash is
    a multiple of m, a power of two that grows as needed, in training text as in held-out text. The shares are then
    estimates with a standard error of at most sqrt(p (1 - p) / num_ngrams).

    Takes time linear in the text: 70 MB/cpu-s of training documents of 5 kB, among 2 million held-out n-grams (Xeon).

    >>> overlap = SplitOverlap(memory_bytes=10**6)
    >>> overlap.add_held_out("test", "a.txt", "one two three four five six seven eight nine")
    >>> overlap.freeze()
    >>> overlap.add_train("Zero, one, two, three, four, five, six, seven, eight.")
    >>> overlap.result()["test"]["ngrams_in_train_share"]
    0.5
    """

    def __init__(self, *, memory_bytes: int = DEFAULT_MEMORY_BYTES) -> None:
        self._memory_bytes = memory_bytes
        self._used_bytes = 0
        self._sampled_one_in = 1
        self._splits: dict[str, _Split] = {}
        self._ngrams: Hashes | None = None
        self._in_train = np.empty(0, dtype=np.bool_)
        self._prefixes = np.empty(0, dtype=np.bool_)
        self._prefix_shift = np.uint64(0)
        self._pending: list[Hashes] = []
        self._num_pending = 0

    def add_held_out(self, split: str, source: str, text: str) -> None:
        """Takes a document of `split` into account."""
        assert self._ngrams is None, "held-out documents come before freeze()"
        counts = self._splits.setdefault(split, _Split())
        counts.num_documents += 1
        ngrams = unique_sorted(self._sample(_ngrams_of(text)))
        if len(ngrams):
            counts.documents.append(_HeldOutDocument(source, ngrams))
            self._used_bytes += _BYTES_PER_DOCUMENT + _BYTES_PER_NGRAM * len(ngrams)
        while self._used_bytes > self._memory_bytes:
            self._thin_out()

    def freeze(self) -> None:
        """Ends the held-out documents and prepares for training documents."""
        assert self._ngrams is None, "freeze() is called once"
        all_ngrams = [document.ngrams for document in self._documents()]
        self._ngrams = unique_sorted(np.concatenate([np.empty(0, dtype=np.uint64), *all_ngrams]))
        self._in_train = np.zeros(len(self._ngrams), dtype=np.bool_)
        # Most n-grams of the training text are in no held-out document. One look at a table of the hashes' first bits
        # settles that for 15 of 16, where a binary search among millions costs twenty.
        prefix_bits = len(self._ngrams).bit_length() + 3
        self._prefix_shift = np.uint64(64 - prefix_bits)
        self._prefixes = np.zeros(1 << prefix_bits, dtype=np.bool_)
        self._prefixes[self._ngrams >> self._prefix_shift] = True

    def add_train(self, text: str) -> None:
        """Marks the n-grams of a training document."""
        assert self._ngrams is not None, "training documents come after freeze()"
        ngrams = self._sample(_ngrams_of(text))
        ngrams = ngrams[self._prefixes[ngrams >> self._prefix_shift]]
        if len(ngrams):
            self._pending.append(ngrams)
            self._num_pending += len(ngrams)
        if self._num_pending >= _MAX_PENDING:
            self._settle()

    def result(self) -> dict[str, Any]:
        """The overlap as JSON values.

        - `ngram_words`: words of an n-gram; `sampled_one_in`: of how many n-grams one was looked at;
        - and under the name of each held-out split:
            - `num_documents`, and of these `num_documents_measured`, which have an n-gram in the sample;
            - `num_ngrams`: different n-grams of each document, added up;
            - `ngrams_in_train_share`: share of those that occur in the training text, None when there are none;
            - `documents_mostly_in_train_share`: share of the measured documents with more than half of theirs there;
            - `worst`: `source` and `share` of the documents with the largest shares above 0, ten at most.
        """
        assert self._ngrams is not None, "result() comes after freeze()"
        self._settle()
        return {
            "ngram_words": NGRAM_WORDS,
            "sampled_one_in": self._sampled_one_in,
            **{name: self._result_of(split) for name, split in self._splits.items()},
        }

    def _settle(self) -> None:
        """Marks the pending n-grams."""
        assert self._ngrams is not None
        pending = unique_sorted(np.concatenate([np.empty(0, dtype=np.uint64), *self._pending]))
        self._pending, self._num_pending = [], 0
        if len(self._ngrams):
            places = np.searchsorted(self._ngrams, pending)
            places[places == len(self._ngrams)] = 0
            self._in_train[places[self._ngrams[places] == pending]] = True

    def _result_of(self, split: _Split) -> dict[str, Any]:
        assert self._ngrams is not None
        found = np.empty(len(split.documents), dtype=np.int64)
        sizes = np.empty(len(split.documents), dtype=np.int64)
        for row, document in enumerate(split.documents):
            found[row] = np.count_nonzero(self._in_train[np.searchsorted(self._ngrams, document.ngrams)])
            sizes[row] = len(document.ngrams)
        shares = found / sizes
        return {
            "num_documents": split.num_documents,
            "num_documents_measured": len(shares),
            "num_ngrams": int(sizes.sum()),
            "ngrams_in_train_share": float(found.sum() / sizes.sum()) if len(shares) else None,
            "documents_mostly_in_train_share": float(np.mean(shares > MOSTLY)) if len(shares) else None,
            "worst": _worst(split.documents, shares),
        }

    def _documents(self) -> Iterator[_HeldOutDocument]:
        return (document for split in self._splits.values() for document in split.documents)

    def _sample(self, ngrams: Hashes) -> Hashes:
        """Those of `ngrams` whose hash is a multiple of `_sampled_one_in`."""
        if self._sampled_one_in == 1:
            return ngrams
        in_sample: npt.NDArray[np.bool_] = (ngrams & np.uint64(self._sampled_one_in - 1)) == 0
        return ngrams[in_sample]

    def _thin_out(self) -> None:
        """Halves the sample, and forgets documents that have nothing left in it."""
        self._sampled_one_in *= 2
        for split in self._splits.values():
            for document in split.documents:
                document.ngrams = self._sample(document.ngrams)
            split.documents = [document for document in split.documents if len(document.ngrams)]
        self._used_bytes = sum(
            _BYTES_PER_DOCUMENT + _BYTES_PER_NGRAM * len(document.ngrams) for document in self._documents()
        )


def _ngrams_of(text: str) -> Hashes:
    return ngram_hashes(word_hashes(text), NGRAM_WORDS)


def _worst(documents: list[_HeldOutDocument], shares: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    """Source and share of the documents with the largest shares, of equal ones those that come first by name."""
    num_candidates = np.count_nonzero(shares)
    candidates = np.argsort(-shares, kind="stable")[:num_candidates]
    if num_candidates > _WORST_DOCUMENTS:
        # All that have the share of the tenth, so that names decide among them.
        candidates = candidates[shares[candidates] >= shares[candidates[_WORST_DOCUMENTS - 1]]]
    ranked = sorted((-float(shares[row]), documents[row].source) for row in candidates)
    return [{"source": source, "share": -share} for share, source in ranked[:_WORST_DOCUMENTS]]
