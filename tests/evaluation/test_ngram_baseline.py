import math
from collections import Counter

import numpy as np
import pytest
import torch

from evaluation.ngram_baseline import ngram_model


def probabilities(ids: list[int], vocab_size: int, before: int, last: int) -> list[float]:
    """Witten and Bell's interpolation, counted by hand."""
    found = [(ids.count(token) + 1) / (len(ids) + vocab_size) for token in range(vocab_size)]
    for history in ((last,), (before, last)):
        n = len(history)
        behind = Counter(ids[i + n] for i in range(len(ids) - n) if tuple(ids[i : i + n]) == history)
        if behind:
            total, kinds = behind.total(), len(behind)
            found = [(behind[token] + kinds * found[token]) / (total + kinds) for token in range(vocab_size)]
    return found


def test_trigrams_are_counted_and_interpolated(tiny_language_model) -> None:
    generator = np.random.default_rng(1)
    ids = generator.integers(0, 6, 80)
    model = ngram_model(tiny_language_model, ids, vocab_size=7, counted="chance")
    rows = torch.tensor([[2, 3, 0, 6, 5]])
    features = model.features(rows)
    assert features.shape == (1, 5, 2)
    found = model.logits(features[0]).exp()
    assert found.sum(-1) == pytest.approx(torch.ones(5, dtype=torch.float64))
    for place, (before, last) in enumerate([(2, 2), (2, 3), (3, 0), (0, 6), (6, 5)]):
        assert found[place].tolist() == pytest.approx(probabilities(ids.tolist(), 7, before, last))


def test_a_text_that_was_counted_is_likelier_than_its_words_in_another_order(tiny_language_model) -> None:
    ids = np.array([4, 5, 6, 7] * 50)
    model = ngram_model(tiny_language_model, ids, vocab_size=8, counted="a cycle")

    def nats(row: list[int]) -> float:
        scores = model.logits(model.features(torch.tensor([row]))[0])
        return -sum(float(scores[i, row[i + 1]]) for i in range(len(row) - 1))

    assert nats([4, 5, 6, 7, 4]) < 0.2 < math.log(8) < nats([4, 7, 6, 5, 4])
