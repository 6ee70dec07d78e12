"""py3langid's model asked about many texts at once, with the answers that it gives one by one. Knows no documents.

The model (Naive Bayes over byte sequences, 140 languages, Lui & Baldwin 2012) comes with its package, so nothing is
downloaded. Reading it takes 0.6 s and 110 MB in every process. Its own code goes through the bytes of one text in
Python and turns half the numbers it looks up from 16 bits into 32: 104 µs a text of 240 characters. Going through 256
texts side by side, a byte of each at a time, takes 30.

T texts, F features (byte sequences), C classes (languages, two of them under two scripts), S states of the automaton
that finds features.
"""

import functools
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from core.files import explain_temporary_errors

Scores = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.integer]


class _Model(NamedTuple):
    """The tables of py3langid.

    Attributes:
        weights: What a feature says for a class, float32 (F, C).
        prior: What is said before anything is seen, float32 (C,).
        classes: The language of each class, C codes.
        next_states: The state behind each byte, 256 for each distinct row, uint32.
        rows: Where the row of each state begins in `next_states`, (S,).
        features: The feature that ends in each state, (S,); -1 = none.
        aliases: Pairs of classes that are one language.
    """

    weights: Scores
    prior: Scores
    classes: list[str]
    next_states: Numbers
    rows: Numbers
    features: Numbers
    aliases: list[tuple[int, int]]


def classify(texts: Sequence[str]) -> list[tuple[str, float]]:
    """The most probable language of each text, by the model's own code for it, and its probability.

    Equal to `py3langid.langid.LanguageIdentifier.classify` with `norm_probs=True`, to the last bit.
    """
    if not texts:
        return []
    model = language_model()
    encoded = [_encode(text) for text in texts]
    scores = np.stack([_score(found, model) for found in _found_features(encoded, model)])
    scores *= np.array([1.0 / math.sqrt(len(data) or 1) for data in encoded], np.float32)[:, None]
    np.exp(scores - scores.max(axis=1, keepdims=True), out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    for first, other in model.aliases:
        scores[:, first] += scores[:, other]
        scores[:, other] = 0.0
    best = scores.argmax(axis=1)
    return [
        (model.classes[index], float(row[index])) for index, row in zip(best.tolist(), scores, strict=True)
    ]


@functools.cache
def language_model() -> _Model:
    """The model, read once in a process.

    Raises:
        DiskError: there is no room to unpack it.
    """
    from py3langid.langid import MODEL_DIR, MODEL_FILE
    from py3langid.modelio import load_model

    # It is unpacked into a temporary file of 68 MB.
    with explain_temporary_errors(
        "for the model that tells languages (data.languages.detect=false does without)"
    ):
        weights, prior, classes, next_states, rows, features = load_model(MODEL_DIR / MODEL_FILE)
    first = {code: index for index, code in reversed(list(enumerate(classes)))}
    return _Model(
        # It is kept in 16 bits. Turning what is looked up into 32 each time takes longer than all the rest.
        weights.astype(np.float32),
        np.asarray(prior, np.float32),
        classes,
        np.asarray(next_states),
        np.asarray(rows, np.int64) << 8,
        np.asarray(features, np.int32),
        [(first[code], index) for index, code in enumerate(classes) if first[code] != index],
    )


def _encode(text: str) -> bytes:
    if text.isupper():
        text = text.lower()
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")


def _found_features(encoded: Sequence[bytes], model: _Model) -> Iterator["Counter[int]"]:
    """How often each feature stands in each text, in the order in which they are first found."""
    longest_first = sorted(range(len(encoded)), key=lambda index: -len(encoded[index]))
    lengths = np.array([len(encoded[index]) for index in longest_first])
    letters = np.zeros((lengths[0], len(encoded)), np.uint8)
    for column, index in enumerate(longest_first):
        letters[: lengths[column], column] = np.frombuffer(encoded[index], np.uint8)
    found = np.full(letters.shape, -1, np.int32)
    states: Numbers = np.zeros(len(encoded), np.int64)
    num_left = np.searchsorted(-lengths, -np.arange(len(letters)))
    for step, left in enumerate(num_left.tolist()):
        states = model.next_states.take(model.rows.take(states[:left]) + letters[step, :left])
        model.features.take(states, out=found[step, :left], mode="clip")
    row_of = dict(zip(longest_first, np.ascontiguousarray(found.T), strict=True))
    for index in range(len(encoded)):
        row = row_of[index]
        yield Counter(row[row >= 0].tolist())


def _score(found: "Counter[int]", model: _Model) -> Scores:
    """The logarithm of each class's probability, but for a constant, float32 (C,); all 0 where nothing was found."""
    if not found:
        return np.zeros(len(model.classes), np.float32)
    features = np.fromiter(found.keys(), np.intp, len(found))
    counts = np.fromiter(found.values(), np.float32, len(found))
    scores: Scores = np.log1p(counts) @ model.weights.take(features, axis=0) + model.prior
    return scores
