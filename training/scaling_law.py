"""The loss to expect of so many parameters, tokens and passes over the data. Knows formulas, no machine, no model."""

import math

IRREDUCIBLE, PARAMETER_FACTOR, TOKEN_FACTOR = 1.8172, 482.01, 2085.43
PARAMETER_EXPONENT, TOKEN_EXPONENT = 0.3478, 0.3658
"""E, A, B, α and β of L = E + A/N^α + B/D^β (Hoffmann et al. 2022, approach 3) as fitted again by Besiroglu et al.
2024, "Chinchilla Scaling: A replication attempt"; nats a token of about 4 bytes."""

TOKENS_HALF_LIFE, PARAMETERS_HALF_LIFE = 15.387756, 5.309743
"""R_D* and R_N* of Muennighoff et al. 2023, "Scaling Data-Constrained Language Models", equations 5 and 6: so many
repetitions after the first pass until their worth has fallen to 1/e."""

FITTED_FROM_PARAMETERS, FITTED_FROM_TOKENS = 44e6, 1e9
"""About the smallest runs that the law was fitted to. Below, it still ranks shapes (docs/experiments.md) but its losses
are too high, those of the smallest runs above guessing."""

SMALL_IRREDUCIBLE, SMALL_PARAMETER_FACTOR, SMALL_TOKEN_FACTOR = 0.712, 25.0, 81.3
"""E, A and B of the same law with the same exponents, in bits per byte: fitted to eleven runs on Python's standard
library, 0.4 to 12 million parameters, 0.26 to 4 million tokens (`benchmarks/small_runs.py`)."""

SMALL_PARAMETERS, SMALL_TOKENS = (2e5, 4e7), (2e5, 2e7)
"""Where it is believed: up to three to five times beyond those runs."""

MARGIN, SMALL_MARGIN = 0.1, 0.15
"""The range that is told is this share of the loss to both sides (arbitrary: other text, tokenizer and recipe). The
small runs are all within theirs, ten of eleven within half of it."""


def expected_loss(num_parameters: float, num_tokens: float, unique_tokens: float) -> float:
    """Nats a token after training on `num_tokens`, of which `unique_tokens` are different ones.

    >>> round(expected_loss(70e9, 1.4e12, 1.4e12), 3)
    1.974
    """
    parameters = worth_of_parameters(num_parameters, unique_tokens)
    tokens = worth_of_tokens(num_tokens, unique_tokens)
    loss: float = (
        IRREDUCIBLE
        + PARAMETER_FACTOR / parameters**PARAMETER_EXPONENT
        + TOKEN_FACTOR / tokens**TOKEN_EXPONENT
    )
    return loss


def worth_of_tokens(num_tokens: float, unique_tokens: float) -> float:
    """D': how many tokens read once are worth `num_tokens` of which only `unique_tokens` are different."""
    unique = min(num_tokens, unique_tokens)
    repetitions = num_tokens / unique - 1.0
    return unique * (1.0 + TOKENS_HALF_LIFE * -math.expm1(-repetitions / TOKENS_HALF_LIFE))


def worth_of_parameters(num_parameters: float, unique_tokens: float) -> float:
    """N': what `num_parameters` are worth on data that have no use for more than the best number for one pass."""
    base = min(num_parameters, best_parameters(unique_tokens))
    excess = num_parameters / base - 1.0
    return base * (1.0 + PARAMETERS_HALF_LIFE * -math.expm1(-excess / PARAMETERS_HALF_LIFE))


def best_parameters(num_tokens: float) -> float:
    """The number of parameters for which, at the compute they take together, `num_tokens` is the best number."""
    # From N = G (C/6)^a, D = (C/6)^b / G with C = 6ND (Hoffmann et al. 2022, equation 4).
    both = PARAMETER_EXPONENT + TOKEN_EXPONENT
    ratio = PARAMETER_EXPONENT * PARAMETER_FACTOR / (TOKEN_EXPONENT * TOKEN_FACTOR)
    g = ratio ** (1.0 / both)
    compute_over_six: float = (num_tokens * g) ** (both / PARAMETER_EXPONENT)
    best: float = g * compute_over_six ** (TOKEN_EXPONENT / both)
    return best


def loss_range(num_parameters: float, num_tokens: float, unique_tokens: float) -> tuple[float, float] | None:
    """Between which losses the run should end, in nats a token; None outside of what the law was fitted to."""
    if num_parameters < FITTED_FROM_PARAMETERS or num_tokens < FITTED_FROM_TOKENS:
        return None
    loss = expected_loss(num_parameters, num_tokens, unique_tokens)
    return loss * (1.0 - MARGIN), loss * (1.0 + MARGIN)


def small_loss_range(
    num_parameters: float, num_tokens: float, unique_tokens: float
) -> tuple[float, float] | None:
    """As `loss_range`, for runs of minutes and in bits per byte of text like Python's standard library."""
    (least, most), (fewest_tokens, most_tokens) = SMALL_PARAMETERS, SMALL_TOKENS
    if not (least <= num_parameters <= most and fewest_tokens <= num_tokens <= most_tokens):
        return None
    loss = (
        SMALL_IRREDUCIBLE
        + SMALL_PARAMETER_FACTOR / num_parameters**PARAMETER_EXPONENT
        + SMALL_TOKEN_FACTOR / worth_of_tokens(num_tokens, unique_tokens) ** TOKEN_EXPONENT
    )
    return loss * (1.0 - SMALL_MARGIN), loss * (1.0 + SMALL_MARGIN)
