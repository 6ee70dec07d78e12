"""How the next token is chosen: the settings, their ranges and defaults. Loads no tensor library."""

from collections.abc import Sequence
from typing import Annotated, TypedDict

from pydantic import Field

from core.config import VERBATIM, Config


class SamplingSettings(Config):
    """How tokens are chosen and when to stop. The order of work is: penalty, temperature, top_k, top_p, min_p.

    Values from outside go through `from_dict` or `replace`, whose ConfigError names the setting, what was found and
    what was expected.

    >>> SamplingSettings.from_dict({"temperature": 0}).replace(max_tokens=8).max_tokens
    8
    """

    max_tokens: int = Field(128, ge=1, le=1_048_576, description="Longest answer, in tokens.")
    temperature: float = Field(
        0.8,
        ge=0.0,
        le=100.0,
        allow_inf_nan=False,
        description="Scores are divided by it (dimensionless): below 1 the likely becomes likelier; 0 = always the "
        "likeliest token.",
    )
    top_k: int | None = Field(
        50,
        ge=1,
        le=4_194_304,
        description="Only this number of likeliest tokens can be chosen (Fan et al. 2018); null = all.",
    )
    top_p: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Only the likeliest tokens that together reach this probability can be chosen (Holtzman et al. "
        "2020); null = all.",
    )
    min_p: float | None = Field(
        None,
        gt=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="Only tokens at least this share as likely as the likeliest can be chosen (Nguyen et al. 2024): "
        "few where the model is sure, many where it is not; null = all.",
    )
    repetition_penalty: float = Field(
        1.0,
        gt=0.0,
        le=100.0,
        allow_inf_nan=False,
        description="Scores of tokens that were there before, in prompt or answer, are divided by it when positive "
        "and multiplied when negative (Keskar et al. 2019, section 4.1); 1 = no penalty. Stop tokens are exempt: "
        "every turn of a chat has one, and the answers would never end.",
    )
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="Seed of the choices (a plain number): equal seeds give equal answers; null = another each time.",
    )
    stop_ids: tuple[int, ...] = Field((), description="Token ids that end an answer and are no part of it.")
    stop: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(
        (),
        max_length=16,
        description='Texts that end an answer and are no part of it, such as "###"; on a command line one text, or '
        'several as JSON: ["###", "\\n\\n"].',
        json_schema_extra=VERBATIM,
    )
    num_logprobs: int | None = Field(
        None,
        ge=0,
        le=20,
        description="Report ln p of each chosen token under the model (temperature 1, before penalty and filters) and "
        "this number of likeliest tokens beside it; null = report nothing.",
    )


class SamplingOptions(TypedDict, total=False):
    """The settings that a caller who thinks in text may give, by keyword; what they mean is said above."""

    max_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    seed: int | None
    stop: Sequence[str]
