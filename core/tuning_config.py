"""The settings of tuning a model that can continue text: on instructions and on preferences, perhaps by adapters."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from core.config import RUNTIME, Config
from core.optimization_config import OptimizationConfig


class LoraConfig(Config):
    """Low-rank adapters (Hu et al. 2021): the model's weights stay, and a sum of small products beside them learns."""

    rank: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="Rank of the product that is learned beside each matrix of the blocks, in features; null = no "
        "adapters, all weights are tuned.",
    )
    alpha: float = Field(
        16.0, gt=0.0, le=1e6, description="The product counts alpha / rank times (dimensionless)."
    )
    dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="Share of features dropped before the adapters (a probability)."
    )


class TuningConfig(OptimizationConfig):
    """What all tuning has in common."""

    lora: LoraConfig = LoraConfig()

    @model_validator(mode="after")
    def _check_adapters(self) -> Self:
        if self.lora.rank is not None and self.mixed_precision == "fp8":
            raise ValueError(
                "lora.rank and mixed_precision=fp8 exclude each other; set one of them to null or auto"
            )
        return self

    def fingerprint_settings(self) -> dict[str, Any]:
        """As for every training; settings of adapters count where there are adapters."""
        values = super().fingerprint_settings()
        if self.lora.rank is None:
            del values["lora"]
        return values


class InstructionConfig(TuningConfig):
    """Instruction tuning: its data, and a training run with its own defaults."""

    data: Path = Field(
        Path("data/instruction_data.jsonl"),
        description="Instruction records (jsonl or a json array). The standard-library corpus makes its own.",
    )
    more_data: dict[Path, float] = Field(
        {},
        description="Further files of records, each with how often its records are learned for once that those of data "
        "are: 2 = twice, 0.5 = a half of them, chosen by their words and data.seed.",
    )
    max_records: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="Only this number of records of data, the first ones; null = all.",
    )
    val_split: float = Field(0.05, ge=0.0, lt=1.0, description="Share of records to validate on (0 to 1).")
    long_records: Literal["split", "truncate", "drop"] = Field(
        "split",
        description="A conversation longer than the context becomes several of whole exchanges, is cut at its end, or "
        "is dropped (all are counted).",
    )
    epochs: float | None = Field(
        None, gt=0.0, le=100_000.0, description="Length of the run, in passes over the records; default 3."
    )
    learning_rate: float = Field(3e-4, gt=0.0, le=10.0, description="Peak learning rate (dimensionless).")
    weight_decay: float = Field(
        0.01, ge=0.0, le=10.0, description="Decoupled decay of matrices, a step and unit of learning rate."
    )
    document_masking: bool = Field(
        True, description="Whether attention stays within one conversation of a packed row."
    )
    embedding_noise: float | None = Field(
        None,
        gt=0.0,
        le=1000.0,
        description="NEFTune (Jain et al. 2023): uniform noise on the embeddings while training, of at most this / "
        "sqrt(tokens of the conversation x hidden_size) a feature; 5 is usual; null = none.",
    )
    replay_share: float | None = Field(
        None,
        gt=0.0,
        le=0.9,
        description="Share of rows that come from the text of pretraining, spread evenly over the steps (0 to 0.9), "
        "so that less of it is forgotten; null = none.",
    )
    replay_dataset: Path | None = Field(
        None,
        description="The dataset directory whose training rows are replayed; null = that of the run, or of the run "
        "that the model to tune lies in.",
    )

    @model_validator(mode="after")
    def _check_tuning(self) -> Self:
        for path, weight in self.more_data.items():
            if not 0.0 < weight <= 100.0:
                raise ValueError(
                    f"more_data: {str(path)!r} has the weight {weight:g}, expected above 0 to 100"
                )
        if self.data in self.more_data:
            raise ValueError(f"more_data: {str(self.data)!r} is data already; name each file once")
        if self.replay_dataset is not None and self.replay_share is None:
            raise ValueError(
                "replay_dataset is given and replay_share is null; set it to a share such as 0.1"
            )
        return self

    def fingerprint_settings(self) -> dict[str, Any]:
        """As for all tuning; what paths point to enters by its content."""
        values = super().fingerprint_settings()
        del values["more_data"], values["replay_dataset"]
        return values


class PreferenceConfig(TuningConfig):
    """Preference tuning of the model that answers: it is to find one answer likelier than another."""

    data: Path | None = Field(
        None,
        description="Pairs of answers (jsonl or a json array): prompt, chosen and rejected, or feedback of chats; "
        "null = no preference tuning.",
    )
    max_records: int | None = Field(
        None, ge=1, le=1_000_000_000, description="Only this number of records, the first ones; null = all."
    )
    val_split: float = Field(0.1, ge=0.0, lt=1.0, description="Share of records to validate on (0 to 1).")
    loss: str = Field(
        "dpo",
        description="dpo, ipo, dpo_per_token or ipo_per_token (gains divided by the length of the answer), or one of "
        "your own.",
    )
    beta: float = Field(
        0.1,
        gt=0.0,
        le=1000.0,
        description="How much a nat of the margin between two answers counts (a factor); the smaller, the further the "
        "model may go from the one that it begins with.",
    )
    epochs: float | None = Field(
        None, gt=0.0, le=100_000.0, description="Length of the run, in passes over the pairs; default 1."
    )
    batch_size: int = Field(
        4,
        ge=1,
        le=65_536,
        description="Rows in one micro-batch, each of twice the context (a number of rows).",
    )
    learning_rate: float = Field(5e-5, gt=0.0, le=10.0, description="Peak learning rate (dimensionless).")
    warmup_ratio: float = Field(
        0.1, ge=0.0, le=1.0, description="Length of the warm-up, as a share of all steps (0 to 1)."
    )
    weight_decay: float = Field(
        0.0, ge=0.0, le=10.0, description="Decoupled decay of matrices, a step and unit of learning rate."
    )
    document_masking: Literal[True] = Field(
        True, description="Attention stays within one answer of a packed row, always."
    )
    eval_steps: int = Field(
        25,
        ge=1,
        le=1_000_000_000,
        description="Steps between evaluations (a number of steps).",
        json_schema_extra=RUNTIME,
    )
    num_samples: Literal[0] = Field(
        0, description="No prompts are continued while answers are compared.", json_schema_extra=RUNTIME
    )
