import math

import pytest
import torch

from evaluation.language_model import LanguageModel
from evaluation.likelihoods import Pair, Row, log_likelihoods, score_rows

PAIRS = [
    Pair("the furnace", " is hot"),
    Pair("the furnace ", "is hot"),
    Pair("", "iron"),
    Pair("a hammer and a tongs and a bellows stand beside the furnace", " in the morning"),
    Pair("iron", "s"),
    Pair("the slag runs out of the furnace " * 12, "and cools"),
]


def alone(model: LanguageModel, pair: Pair) -> tuple[float, bool]:
    """The likelihood of one pair, token after token, in float64, without batches or padding."""
    whole = model.encode([pair.context + pair.continuation])[0]
    num_context = min(len(model.encode([pair.context.rstrip()])[0]), len(whole) - 1)
    ids = [*(model.start_ids or ([] if num_context else [model.boundary_id])), *whole]
    first = len(ids) - (len(whole) - num_context)
    total, is_greedy = 0.0, True
    for place in range(first, len(ids)):
        begin = max(0, len(ids) - 1 - model.context)
        with torch.no_grad():
            features = model.features(torch.tensor([ids[begin:place]]))
            scores = model.logits(features[0, -1:]).double()[0].log_softmax(-1)
        total += float(scores[ids[place]])
        is_greedy &= int(scores.argmax()) == ids[place]
    return total, is_greedy


@pytest.mark.parametrize("batch_tokens", [1, 100, 8192])
@pytest.mark.parametrize("which", ["tiny_language_model", "foreign_language_model"])
def test_batched_likelihoods_equal_those_of_single_tokens(
    which: str, batch_tokens: int, request: pytest.FixtureRequest
) -> None:
    model: LanguageModel = request.getfixturevalue(which)
    found = log_likelihoods(model, PAIRS, description="", batch_tokens=batch_tokens)
    for likelihood, pair in zip(found, PAIRS, strict=True):
        total, is_greedy = alone(model, pair)
        assert likelihood.log_probability == pytest.approx(total, abs=2e-4), pair
        assert likelihood.is_greedy == is_greedy
    assert [likelihood.is_cut for likelihood in found] == [False] * 5 + [True]


def test_white_space_belongs_to_the_continuation_wherever_it_was_written(tiny_language_model) -> None:
    first, second = log_likelihoods(tiny_language_model, PAIRS[:2], description="")
    assert first == second


def test_what_the_model_would_write_is_greedy_and_nothing_else(tiny_chat_model, tiny_language_model) -> None:
    context = "the furnace"
    text = tiny_chat_model.generate(context, max_tokens=4, temperature=0.0)
    ids = tiny_language_model.encode([context + text])[0]
    written = Row([1, *ids], len(ids) - len(tiny_language_model.encode([context])[0]))
    other = written._replace(ids=[*written.ids[:-1], 20 if written.ids[-1] != 20 else 21])
    assert [found.is_greedy for found in score_rows(tiny_language_model, [written, other])] == [True, False]


def test_probabilities_of_all_next_tokens_add_up_to_one(tiny_language_model) -> None:
    rows = [Row([1, 50, 60, token], 1) for token in range(400)]
    assert math.fsum(
        math.exp(f.log_probability) for f in score_rows(tiny_language_model, rows)
    ) == pytest.approx(1)
