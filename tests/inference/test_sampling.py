"""The choice of tokens against brute force, against transformers, and against the probabilities it should have."""

import math
from collections import Counter

import pytest
import torch

from core.errors import ConfigError, DataError
from inference.command_line import changed_sampling
from inference.sampling import SamplingSettings, row_generators, sample

PLAIN = {"top_k": None, "top_p": None, "temperature": 1.0}


def settings(**values: object) -> SamplingSettings:
    return SamplingSettings.from_dict({**PLAIN, **values})


def seen_in(previous: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """(B, V) bool from ids (B, S)."""
    return torch.nn.functional.one_hot(previous, num_tokens).any(dim=1)


def frequencies(
    logits: torch.Tensor, chosen: SamplingSettings, number: int = 20_000, **more: object
) -> torch.Tensor:
    """How often each token comes out, from independent rows."""
    rows = logits.expand(number, -1)
    ids = sample(rows, chosen, row_generators(7, number), **more)
    return torch.bincount(ids, minlength=logits.shape[-1]) / number


def brute_force(logits: list[float], chosen: SamplingSettings) -> list[float]:
    """The probabilities by the definitions, token by token, in Python's floats."""
    weights = {i: math.exp(score / chosen.temperature) for i, score in enumerate(logits) if score > -math.inf}
    likeliest = sorted(weights, key=lambda i: -weights[i])
    if chosen.top_k is not None:
        likeliest = likeliest[: chosen.top_k]
    total = sum(weights[i] for i in likeliest)
    kept, reached = [], 0.0
    for i in likeliest:
        if chosen.top_p is not None and kept and reached >= chosen.top_p:
            break
        kept.append(i)
        reached += weights[i] / total
    if chosen.min_p is not None:
        kept = [i for i in kept if weights[i] >= chosen.min_p * weights[likeliest[0]]]
    total = sum(weights[i] for i in kept)
    return [weights[i] / total if i in kept else 0.0 for i in range(len(logits))]


LOGITS = [0.3, 2.0, -1.0, 1.1, 0.9, -3.0, 1.9, 0.0]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"temperature": 0.4},
        {"temperature": 3.0},
        {"top_k": 3},
        {"top_k": 1},
        {"top_k": 100},
        {"top_p": 0.6},
        {"top_p": 0.01},
        {"top_p": 1.0},
        {"min_p": 0.3},
        {"min_p": 1.0},
        {"min_p": 0.1, "top_k": 5, "top_p": 0.95, "temperature": 1.5},
        {"top_k": 5, "top_p": 0.7, "temperature": 0.7},
    ],
    ids=str,
)
def test_tokens_come_out_as_often_as_the_definitions_say(values: dict[str, object]) -> None:
    chosen = settings(**values)
    expected = torch.tensor(brute_force(LOGITS, chosen))
    found = frequencies(torch.tensor([LOGITS]), chosen)
    # Five standard deviations of a share of 20,000 draws at most; a token that cannot be chosen never is.
    torch.testing.assert_close(found, expected, atol=5 * math.sqrt(0.25 / 20_000), rtol=0)
    assert not found[expected == 0].any()


def test_the_chosen_sets_are_those_of_transformers() -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(3)) * 2
    for top_k, top_p, temperature in [(5, None, 1.0), (None, 0.8, 1.3), (10, 0.5, 0.7), (30, 0.95, 1.0)]:
        theirs = TemperatureLogitsWarper(temperature)(None, logits)
        if top_k is not None:
            theirs = TopKLogitsWarper(top_k)(None, theirs)
        if top_p is not None:
            theirs = TopPLogitsWarper(top_p)(None, theirs)
        found = frequencies(logits, settings(top_k=top_k, top_p=top_p, temperature=temperature))
        torch.testing.assert_close(found, theirs.softmax(-1)[0], atol=0.02, rtol=0)
        assert not found[theirs[0] == -math.inf].any()


@pytest.mark.parametrize("temperature", [0.0, 1e-30, 1e-300, 1e-7, 1e-5])
def test_a_temperature_of_zero_or_nearly_is_the_likeliest_token(temperature: float) -> None:
    logits = torch.tensor([[1.0, 5.0, 4.999, -2.0], [40.0, -1e30, 39.9, 1.0]])
    generators = row_generators(0, 2)
    for _ in range(20):
        ids = sample(logits, settings(temperature=temperature), generators)
        assert ids.tolist() == [1, 0]


def test_a_large_temperature_makes_all_tokens_alike() -> None:
    found = frequencies(torch.tensor([LOGITS]), settings(temperature=100.0))
    torch.testing.assert_close(found, torch.full((8,), 1 / 8), atol=0.02, rtol=0)


@pytest.mark.parametrize("penalty", [1.0, 1.2, 2.0, 0.5])
def test_the_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(6, 12, generator=torch.Generator().manual_seed(1)) * 3
    previous = torch.randint(0, 12, (6, 7), generator=torch.Generator().manual_seed(2))
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(previous, logits)
    chosen = settings(temperature=0, repetition_penalty=penalty)
    ours = sample(logits, chosen, row_generators(0, 6), seen=seen_in(previous, 12))
    assert torch.equal(ours, theirs.argmax(-1))


def test_the_repetition_penalty_is_the_formula_of_keskar_2019_in_distribution() -> None:
    logits, previous = torch.tensor([[2.0, -1.0, 1.5, 0.5]]), torch.tensor([[0, 1, 1, 0]])
    penalized = torch.tensor([2.0 / 1.5, -1.0 * 1.5, 1.5, 0.5])
    number = 20_000
    ids = sample(
        logits.expand(number, -1),
        settings(repetition_penalty=1.5),
        row_generators(5, number),
        seen=seen_in(previous, 4).expand(number, -1),
    )
    torch.testing.assert_close(torch.bincount(ids) / number, penalized.softmax(-1), atol=0.02, rtol=0)


def test_stop_tokens_are_not_penalized() -> None:
    logits, seen = torch.tensor([[3.0, 2.9]]), torch.tensor([[True, True]])
    chosen = settings(temperature=0, repetition_penalty=2.0)
    assert sample(logits, chosen, row_generators(0, 1), seen=seen).tolist() == [0]
    stopping = chosen.replace(stop_ids=[1])
    assert sample(logits, stopping, row_generators(0, 1), seen=seen).tolist() == [1]


@pytest.mark.parametrize("values", [{}, {"top_k": 5}, {"top_p": 0.9}, {"temperature": 0}], ids=str)
def test_what_is_not_allowed_never_comes_out(values: dict[str, object]) -> None:
    allowed = torch.tensor([True, False, True, False, False, True, False, True])
    found = frequencies(torch.tensor([LOGITS]), settings(**values), allowed=allowed)
    assert not found[~allowed].any()


def test_the_logits_are_not_changed() -> None:
    logits = torch.tensor([LOGITS])
    before = logits.clone()
    sample(
        logits,
        settings(repetition_penalty=1.3, top_k=3, top_p=0.5),
        row_generators(0, 1),
        seen=seen_in(torch.tensor([[1, 2]]), 8),
        allowed=torch.arange(8) > 2,
    )
    assert torch.equal(logits, before)


def test_a_rows_choices_do_not_depend_on_its_neighbours() -> None:
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(4))
    together = sample(logits, settings(top_k=20), row_generators(11, 5))
    for row in range(5):
        alone = sample(logits[row : row + 1], settings(top_k=20), row_generators(11, 1, first_row=row))
        assert alone.item() == together[row].item()


def test_the_global_generator_is_neither_read_nor_advanced() -> None:
    results = []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        results.append(sample(torch.tensor([LOGITS]), settings(), row_generators(3, 1)).item())
        assert torch.equal(torch.get_rng_state(), before)
    assert results[0] == results[1]


def test_without_a_seed_every_call_draws_anew() -> None:
    logits = torch.zeros(1, 1000)
    found = Counter(sample(logits, settings(), row_generators(None, 1)).item() for _ in range(20))
    assert len(found) > 10


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_the_ends_of_the_random_numbers_still_give_a_token_that_can_be_chosen(number: float) -> None:
    for seed in range(100):
        logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(seed)) * 5
        logits[0, :7] = logits[0, -7:] = -math.inf
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "rand", lambda *_args, **_more: torch.tensor([number], dtype=torch.float64))
            chosen = sample(logits, settings(), row_generators(0, 1)).item()
        assert 7 <= chosen < 33


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_an_error(bad: float) -> None:
    with pytest.raises(DataError, match="scores are NaN or infinite"):
        sample(torch.tensor([[0.0, bad, 1.0]]), settings(temperature=0), row_generators(0, 1))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"temperature": -0.1}, r"temperature: .*expected 0 or more, found -0.1"),
        ({"temperature": math.nan}, r"temperature: .*finite number, found NaN"),
        ({"temperature": math.inf}, r"temperature: .*finite number"),
        ({"temperature": "warm"}, r"temperature: expected a number, found \"warm\""),
        ({"top_k": 0}, r"top_k: expected 1 or more, found 0"),
        ({"top_k": 2.5}, r"top_k: expected a whole number, found 2.5"),
        ({"top_p": 0}, r"top_p: .*expected more than 0, found 0"),
        ({"top_p": 1.01}, r"top_p: .*expected 1 or less, found 1.01"),
        ({"min_p": 0}, r"min_p: .*expected more than 0, found 0"),
        ({"num_logprobs": 21}, r"num_logprobs: .*expected 20 or less, found 21"),
        ({"max_tokens": 0}, r"max_tokens: .*expected 1 or more, found 0"),
        ({"max_tokens": 10**9}, r"max_tokens: .*expected 1048576 or less"),
        ({"repetition_penalty": 0}, r"repetition_penalty: .*expected more than 0, found 0"),
        ({"seed": -1}, r"seed: .*expected 0 or more, found -1"),
        ({"temprature": 1}, r"unknown setting 'temprature'; did you mean 'temperature'\?"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_setting_out_of_range_is_named_with_what_was_found(values: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        SamplingSettings.from_dict(values)
    with pytest.raises(ConfigError, match=reason):
        SamplingSettings().replace(**values)


def test_the_options_by_keyword_are_the_settings_that_a_caller_who_thinks_in_text_may_give() -> None:
    from inference.sampling import SamplingOptions

    assert set(SamplingOptions.__annotations__) | {"stop_ids", "num_logprobs"} == set(
        SamplingSettings.model_fields
    )


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("\n\n", ("\n\n",)),
        ("5", ("5",)),
        ('" of"', (" of",)),
        ("[a", ("[a",)),
        ('["a", "\\n"]', ("a", "\n")),
        ("off", ()),
    ],
)
def test_a_stop_text_is_taken_as_it_stands_on_a_command_line(text: str, stop: tuple[str, ...]) -> None:
    assert changed_sampling({}, [("stop", text)]) == {"stop": stop}


@pytest.mark.parametrize("text", ['[""]', "", '["a", 5]'])
def test_a_stop_text_of_nothing_or_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^stop: expected a text"):
        changed_sampling({}, [("stop", text)])
