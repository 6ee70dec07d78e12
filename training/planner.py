"""The model, the batch and the split of time that promise the lowest loss within a budget on this machine and data.

Knows settings, formulas and measured speed. Reads no data and trains nothing; what a user has set is kept.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

from core.errors import ConfigError
from core.training_config import ModelConfig, PipelineConfig
from models.counting import count_parameters, flops_per_token
from training.scaling_law import expected_loss
from training.schedules import rate_beside_muon
from training.speed_probe import Speed

SECONDS_AROUND_A_TRAINING = 1.5
"""For opening the data before the first step, and for report, picture and digests after the last: 0.7 to 1.4 s measured
on two cores, 2.7 to 3.9 s with three busy processes beside."""

SHARE_FOR_STEPS = 0.93
"""Of the time of a training; the rest is for evaluations and checkpoints (measured: 4 to 8 % in the quickstart)."""

WIDTHS = (*range(128, 512, 64), *range(512, 1024, 128), *range(1024, 2048, 256), *range(2048, 8193, 512))
"""From 128 on: the law knows nothing of models below 44 million parameters and would take 64 for a few minutes, where
128 with three layers learned more in equal time (docs/experiments.md)."""

FEWEST_LAYERS = 3
FEATURES_PER_LAYER = 64
"""Width over depth: the shapes that Levine et al. 2020 and nanochat's scaling runs find best lie around it."""

VOCABULARIES = ((1e6, 1024), (4e6, 2048), (3e7, 4096), (3e8, 8192), (3e9, 16_384), (math.inf, 32_000))
"""Up to so many bytes of text → tokens. The quickstart's 10 MB and 4,096 and the usual 32,000 of some gigabytes are
the fixed points; between, the vocabulary grows as the text to the power of 0.4 (Tao et al. 2024 find it to
grow more slowly than the model)."""

BYTES_PER_TOKEN = {1024: 2.2, 2048: 2.5, 4096: 2.8, 8192: 3.1, 16_384: 3.4, 32_000: 3.6}
"""About, of English text and code (docs/experiments.md, "Which tokenizer")."""

CONTEXTS = ((8e6, 256), (3e7, 512), (2e8, 1024), (math.inf, 2048))
"""Up to so many parameters → tokens of context, as in the shipped presets."""

TOKENS_A_STEP, AT_TOKENS = {"adamw": 1024, "muon": 2048}, 1e6
"""The best batch grows as the root of the tokens of the run and hardly with the model (Zhang et al. 2024, "How does
critical batch size scale in pre-training?"); fixed where it was measured here, for AdamW and for Muon, whose cost is by
the step (docs/experiments.md)."""

TUNING_PASSES, TUNING_TOKENS = 22.0, 55_000
"""So many passes over so many tokens of conversations taught the quickstart nearly all of its answers."""
FEWEST_TUNING_PASSES = 3.0
LARGEST_TUNING_SHARE = 220 / 380
"""Of the time; the quickstart's."""

WORTH_IT = 0.001
"""A larger model has to promise a loss lower by this share (arbitrary)."""

NUM_EVALUATIONS = 8


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """How much there is to learn from."""

    text_bytes: float | None
    """Of all splits; None = unknown, and taken for endless."""
    instruction_bytes: int | None
    """None = no instruction tuning."""
    origin: str
    """Where the first number comes from, in words."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One shape and what is expected of it."""

    shape: ModelConfig
    num_parameters: int
    pretraining_seconds: float
    tuning_seconds: float
    num_tokens: float
    unique_tokens: float
    loss: float
    """Nats a token, by the law."""

    @property
    def passes(self) -> float:
        """Over the training text."""
        return self.num_tokens / self.unique_tokens

    def __str__(self) -> str:
        shape = self.shape
        return (
            f"{shape.num_layers} x {shape.hidden_size}, context {shape.max_position_embeddings}: "
            f"{self.num_parameters:,} parameters, {self.num_tokens:,.0f} tokens ({self.passes:.2f} passes), "
            f"{self.loss:.3f} by the law"
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """What was decided, why, and what else was thought of."""

    choices: dict[str, dict[str, Any]]
    """Section → setting → value, to be laid over the user's settings."""
    chosen: Candidate
    considered: list[Candidate]
    """The best first."""


def vocabulary_for(config: PipelineConfig, facts: DataFacts) -> int:
    """Tokens of the vocabulary: the user's number, or by the size of the text."""
    given = config.model.vocab_size
    if given is not None or "tokenizer_vocab_size" in config.data.model_fields_set:
        return given or config.data.tokenizer_vocab_size
    size = math.inf if facts.text_bytes is None else facts.text_bytes
    return next(tokens for up_to, tokens in VOCABULARIES if size <= up_to)


def candidate_shapes(config: PipelineConfig, *, vocabulary: int) -> Iterator[ModelConfig]:
    """Shapes from small to large that other tools load, with everything in them that the user has set."""
    given = config.model.model_dump(exclude_unset=True)
    fixed_width, fixed_depth = given.get("hidden_size"), given.get("num_layers")
    for width in (fixed_width,) if fixed_width is not None else WIDTHS:
        depth = fixed_depth or max(FEWEST_LAYERS, round(width / FEATURES_PER_LAYER))
        values = {
            "hidden_size": width,
            "num_layers": depth,
            "num_attention_heads": _num_heads(width),
            "vocab_size": vocabulary,
            "max_position_embeddings": 2048,
            **{name: value for name, value in given.items() if value is not None},
        }
        shape = config.model.replace(**values)
        if "max_position_embeddings" not in given:
            parameters = count_parameters(shape).total
            shape = shape.replace(
                max_position_embeddings=next(context for most, context in CONTEXTS if parameters <= most)
            )
        yield shape


def _num_heads(width: int) -> int:
    """Heads of 64 features, from width 1,024 on of 128; of a width that is no multiple of 64 as many as divide it."""
    size = 128 if width >= 1024 and width % 128 == 0 else 64
    return next(n for n in range(max(1, width // size), 0, -1) if width % n == 0 and width // n % 2 == 0)


def candidates(
    config: PipelineConfig, facts: DataFacts, speed: Speed, *, budget_seconds: float
) -> list[Candidate]:
    """Each shape with its share of the time and the loss that is expected of it; the best first.

    A tie goes to the smaller one: a larger model has to promise `WORTH_IT` more.
    """
    vocabulary = vocabulary_for(config, facts)
    found = [
        _candidate(shape, config, facts, speed, budget_seconds)
        for shape in candidate_shapes(config, vocabulary=vocabulary)
    ]
    found = [one for one in found if one.num_tokens >= 2 * one.shape.max_position_embeddings] or found[:1]
    best = min(one.loss for one in found)
    return sorted(
        found,
        key=lambda one: (
            one.loss > best * (1 + WORTH_IT),
            max(one.loss, best * (1 + WORTH_IT)),
            one.num_parameters,
        ),
    )


def _candidate(
    shape: ModelConfig, config: PipelineConfig, facts: DataFacts, speed: Speed, budget_seconds: float
) -> Candidate:
    seconds_a_token = speed.seconds_per_token(shape)
    bytes_a_token = bytes_per_token(shape.vocab_size or config.data.tokenizer_vocab_size)
    tuning = _tuning_seconds(config, facts, seconds_a_token, bytes_a_token, budget_seconds)
    pretraining = config.training.time_budget_seconds or budget_seconds - tuning
    tokens = SHARE_FOR_STEPS * pretraining / seconds_a_token
    unique = tokens
    if facts.text_bytes is not None:
        unique = max(1.0, facts.text_bytes * config.data.train_split / bytes_a_token)
    parameters = count_parameters(shape).total
    loss = expected_loss(parameters, tokens, unique)
    return Candidate(shape, parameters, pretraining, tuning, tokens, unique, loss)


def _tuning_seconds(
    config: PipelineConfig,
    facts: DataFacts,
    seconds_a_token: float,
    bytes_a_token: float,
    budget_seconds: float,
) -> float:
    if facts.instruction_bytes is None:
        return 0.0
    if config.instruction.time_budget_seconds is not None:
        return config.instruction.time_budget_seconds
    if config.training.time_budget_seconds is not None:
        return budget_seconds - config.training.time_budget_seconds
    tokens = facts.instruction_bytes / bytes_a_token
    wanted = tuning_passes(tokens) * tokens * seconds_a_token / SHARE_FOR_STEPS
    return min(wanted, LARGEST_TUNING_SHARE * budget_seconds)


def making_up_for(config: PipelineConfig, pretraining_seconds: float) -> PipelineConfig:
    """With less time for tuning where pretraining took more than was planned, and with more where it took less: it is
    the whole run that ends on time. The time for tuning changes by half at most.
    """
    planned, tuning = config.training.time_budget_seconds, config.instruction.time_budget_seconds
    if config.run.time_budget is None or planned is None or tuning is None:
        return config
    late = pretraining_seconds - planned - SECONDS_AROUND_A_TRAINING
    left = min(max(tuning - late, 0.5 * tuning), 1.5 * tuning)
    return config.replace(instruction=config.instruction.replace(time_budget_seconds=round(left, 1)))


def tuning_passes(num_tokens: float) -> float:
    """Passes over so many tokens of conversations: many over few, three over many (the root between, arbitrary)."""
    passes = TUNING_PASSES * math.sqrt(TUNING_TOKENS / max(num_tokens, 1.0))
    return min(TUNING_PASSES, max(FEWEST_TUNING_PASSES, passes))


def bytes_per_token(vocabulary: int) -> float:
    """About, for a vocabulary of this size."""
    nearest = min(BYTES_PER_TOKEN, key=lambda known: abs(math.log(known / vocabulary)))
    return BYTES_PER_TOKEN[nearest]


def tokens_a_step(num_tokens: float, optimizer: str) -> float:
    """The batch of a run of so many tokens, in tokens."""
    least = TOKENS_A_STEP.get(optimizer, TOKENS_A_STEP["adamw"])
    return least * math.sqrt(max(num_tokens, AT_TOKENS) / AT_TOKENS)


def learning_rate_for(shape: ModelConfig, num_tokens: float, batch_tokens: float) -> float:
    """Peak learning rate: DeepSeek LLM (Bi et al. 2024, section 3.1) has 0.3118 C^-0.125 with batches of 0.292 C^0.3271
    tokens for C operations; smaller batches take less by the root of the ratio (Malladi et al. 2022, for Adam).

    The 0.003 of 6 x 256 and a million tokens, found by experiment, comes out as 0.0024.
    """
    compute = flops_per_token(shape, context=shape.max_position_embeddings) * num_tokens
    usual_batch = 0.2920 * compute**0.3271
    rate = 0.3118 * compute**-0.1250 * min(1.0, batch_tokens / usual_batch) ** 0.5
    return float(f"{rate:.2g}")


def choices_for(
    candidate: Candidate, config: PipelineConfig, *, micro_batch_tokens: int
) -> dict[str, dict[str, Any]]:
    """The settings that carry out `candidate`, without those that the user has given.

    Args:
        micro_batch_tokens: Most tokens that go through the model at a time.
    """
    shape = candidate.shape
    context = shape.max_position_embeddings
    optimizer = config.training.optimizer
    batch = tokens_a_step(candidate.num_tokens, optimizer)
    adamw_rate = learning_rate_for(shape, candidate.num_tokens, batch)
    rate = rate_beside_muon(shape.hidden_size) if optimizer == "muon" else adamw_rate
    rows, accumulation = _rows_and_accumulation(batch / context, micro_batch_tokens // context)
    training = _schedule(candidate.num_tokens, rows * accumulation * context) | {
        "batch_size": rows,
        "gradient_accumulation_steps": accumulation,
        "learning_rate": float(f"{rate:.2g}"),
        "time_budget_seconds": round(candidate.pretraining_seconds, 1),
    }
    wanted: dict[str, dict[str, Any]] = {
        "model": {
            name: getattr(shape, name)
            for name in ("hidden_size", "num_layers", "num_attention_heads", "max_position_embeddings")
        },
        "data": {"tokenizer_vocab_size": shape.vocab_size},
        "tokenizer": {"shrink_to_fit": True},
        "training": training,
    }
    if candidate.tuning_seconds:
        tuning_tokens = candidate.num_tokens * candidate.tuning_seconds / candidate.pretraining_seconds
        rows = max(1, min(4, micro_batch_tokens // context))
        wanted["instruction"] = _schedule(tuning_tokens, rows * context) | {
            "batch_size": rows,
            # Tuning is AdamW's; the quickstart does it with two thirds of the rate that it would learn to read with.
            "learning_rate": float(f"{2 / 3 * adamw_rate:.2g}"),
            "time_budget_seconds": round(candidate.tuning_seconds, 1),
        }
    return _without_given(wanted, config)


def _rows_and_accumulation(rows: float, most_rows: int) -> tuple[int, int]:
    """Rows of a micro-batch and number of micro-batches that come nearest to `rows` in a step."""
    most = max(1, most_rows)
    accumulation = max(1, math.ceil(rows / most))
    return max(1, min(most, round(rows / accumulation))), accumulation


def _schedule(num_tokens: float, step_tokens: int) -> dict[str, Any]:
    """How often to look and to save: as often in a long run as in a short one, at a cost of a few percent."""
    steps = max(1, int(num_tokens / step_tokens))
    every = max(1, steps // NUM_EVALUATIONS)
    # A batch without a backward pass costs a third of a step: eight evaluations of 1.5 % of the steps each cost 4 %.
    return {
        "eval_steps": every,
        "eval_batches": max(1, min(50, round(0.015 * steps))),
        "save_steps": every,
    }


def _without_given(
    wanted: Mapping[str, Mapping[str, Any]], config: PipelineConfig
) -> dict[str, dict[str, Any]]:
    left = {}
    for section, values in wanted.items():
        given = getattr(config, section).model_fields_set
        left[section] = {
            name: value
            for name, value in values.items()
            if name not in given or getattr(getattr(config, section), name) is None
        }
    if config.model.vocab_size is not None:
        left["data"].pop("tokenizer_vocab_size", None)
    return {section: values for section, values in left.items() if values}


def check_budget(config: PipelineConfig, budget_seconds: float, facts: DataFacts) -> None:
    """Refuse what leaves no time for a part of the line.

    Raises:
        ConfigError: what is given for one training is not less than the whole.
    """
    for name in ("training", "instruction"):
        given = getattr(config, name).time_budget_seconds
        if given is not None and facts.instruction_bytes is not None and given >= budget_seconds:
            raise ConfigError(
                f"{name}.time_budget_seconds {given:g} leaves nothing of run.time_budget, {budget_seconds:g} s, for "
                "the other training; lower it, or raise run.time_budget"
            )
