"""The settings of any training run: batch, schedule, precision, cadence. Knows neither data nor what is learned."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from core.config import RUNTIME, Config


class OptimizationConfig(Config):
    """One training run: batch, schedule, precision, cadence. `step` always means one optimizer update."""

    batch_size: int = Field(16, ge=1, le=65_536, description="Rows in one micro-batch (a number of rows).")
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=65_536, description="Number of micro-batches in one step."
    )
    global_batch_tokens: int | None = Field(
        None,
        ge=1,
        le=10_000_000_000,
        description="Tokens of one step on all devices together; batch_size is then the most rows that a device takes "
        "at a time, and gradient_accumulation_steps is worked out. null = batch_size x gradient_accumulation_steps "
        "rows on each device.",
    )
    parallel: Literal["auto", "ddp", "fsdp", "hsdp"] = Field(
        "auto",
        description="How several processes (torchrun) train one model: ddp = each holds all of it, fsdp = it is spread "
        "over all, hsdp = over those of a machine; auto = ddp where it fits, else fsdp.",
        json_schema_extra=RUNTIME,
    )
    total_steps: int | None = Field(
        None, ge=1, le=1_000_000_000, description="Length of the run, in steps; null = by epochs or time."
    )
    epochs: float | None = Field(
        None, gt=0.0, le=100_000.0, description="Length of the run, in passes over the training rows."
    )
    time_budget_seconds: float | None = Field(
        None,
        gt=0.0,
        le=1e8,
        description="Length of the run, in seconds: the speed is measured on the first start, the number of steps is "
        "fixed from it and kept when the run is resumed.",
    )
    optimizer: str = Field(
        "adamw",
        description="adamw for all parameters; muon for the matrices of the blocks and adamw for the rest; or one of "
        "your own.",
    )
    learning_rate: float = Field(
        1e-3, gt=0.0, le=10.0, description="Peak learning rate of what AdamW moves (dimensionless)."
    )
    matrix_learning_rate: float = Field(
        0.02, gt=0.0, le=10.0, description="Peak learning rate of what Muon moves (dimensionless)."
    )
    min_learning_rate: float = Field(
        0.0, ge=0.0, le=10.0, description="Learning rate at the end of the decay (dimensionless)."
    )
    schedule: str = Field(
        "cosine",
        description="Course of the learning rate after the warm-up: cosine, linear, constant, warmup_stable_decay or "
        "one of your own.",
    )
    warmup_steps: int | None = Field(
        None, ge=0, le=1_000_000_000, description="Length of the warm-up, in steps; null = by warmup_ratio."
    )
    warmup_ratio: float = Field(
        0.02, ge=0.0, le=1.0, description="Length of the warm-up, as a share of all steps (0 to 1)."
    )
    decay_ratio: float = Field(
        0.2,
        gt=0.0,
        le=1.0,
        description="Length of the decay of warmup_stable_decay, as a share of all steps (0 to 1).",
    )
    weight_decay: float = Field(
        0.1, ge=0.0, le=10.0, description="Decoupled decay of matrices, a step and unit of learning rate."
    )
    beta1: float = Field(0.9, ge=0.0, lt=1.0, description="AdamW's decay of the mean (a factor).")
    beta2: float = Field(0.95, ge=0.0, lt=1.0, description="AdamW's decay of the square (a factor).")
    epsilon: float = Field(1e-8, gt=0.0, le=1.0, description="AdamW's epsilon (dimensionless).")
    max_gradient_norm: float | None = Field(
        1.0, gt=0.0, le=1e9, description="Gradients are scaled down to this L2 norm; null = never."
    )
    loss_spike_sigmas: float | None = Field(
        6.0,
        gt=0.0,
        le=1e6,
        description="A run whose smoothed loss stays so many standard deviations above the usual one goes back to a "
        "checkpoint and leaves out the data that led there (a number of deviations); null = losses are not watched.",
        json_schema_extra=RUNTIME,
    )
    max_rollbacks: int | None = Field(
        5,
        ge=1,
        le=1_000_000,
        description="A run that has gone back so many times ends with an error instead (a number of times); null = it "
        "never goes back.",
        json_schema_extra=RUNTIME,
    )
    early_stopping_patience: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Stop after this number of evaluations without a better validation loss; null = never.",
    )
    document_masking: bool = Field(
        False, description="Whether attention stays within one document of a packed row."
    )
    seed: int = Field(
        1337, ge=0, lt=2**63, description="Seed of weights, order and dropout (a plain number)."
    )
    mixed_precision: Literal["auto", "bf16", "fp16", "fp8", "fp32"] = Field(
        "auto",
        description="Precision of the products; weights stay fp32. auto = bf16 where the device is faster with it, "
        "fp16 with a scaled loss on CUDA devices without bf16. fp8 = bf16, and fp8 in the linear layers of blocks "
        "(compute capability 8.9; pays from about 1B parameters). true means auto, false means fp32.",
    )
    deterministic: bool = Field(
        False,
        description="Whether CUDA adds up in the same order each time, so that a resumed run is bit-exact there too; "
        "slower. On CPU it is so anyway.",
        json_schema_extra=RUNTIME,
    )
    gradient_checkpointing: Literal["none", "selective", "full"] = Field(
        "none",
        description="What the backward pass computes again instead of keeping it, for less memory and more time: "
        "selective = norms, rotations and activations; full = whole blocks. true means full, false means none.",
        json_schema_extra=RUNTIME,
    )
    compile: Literal["auto", "on", "off"] = Field(
        "auto",
        description="torch.compile, which takes some seconds at the start and fewer for each step after: auto = where "
        "it works and the run is long enough to win by it. true means on, false means off.",
        json_schema_extra=RUNTIME,
    )
    verify_data: bool = Field(
        True,
        description="Whether all bytes of the training rows are compared with their checksums once in every pass, "
        "beside the training.",
        json_schema_extra=RUNTIME,
    )
    allow_data_change: bool = Field(
        False,
        description="Whether a run may go on with other rows than it began with (same tokenizer); recorded in "
        "events.jsonl.",
        json_schema_extra=RUNTIME,
    )
    eval_steps: int = Field(
        250,
        ge=1,
        le=1_000_000_000,
        description="Steps between evaluations (a number of steps).",
        json_schema_extra=RUNTIME,
    )
    eval_batches: int | None = Field(
        50,
        ge=1,
        le=1_000_000,
        description="Most batches an evaluation reads (a number of batches); null = all.",
        json_schema_extra=RUNTIME,
    )
    num_samples: int = Field(
        2,
        ge=0,
        le=1000,
        description="Number of held-out prompts that the model continues at each evaluation, into samples.jsonl.",
        json_schema_extra=RUNTIME,
    )
    save_steps: int = Field(
        250,
        ge=1,
        le=1_000_000_000,
        description="Steps between checkpoints (a number of steps).",
        json_schema_extra=RUNTIME,
    )
    save_total_limit: int | None = Field(
        2,
        ge=1,
        le=1_000_000,
        description="Number of step_N checkpoints kept, besides best and final, 2 at least; null = all.",
        json_schema_extra=RUNTIME,
    )
    save_in_background: bool = Field(
        True,
        description="Whether checkpoints are written while training goes on, from a copy in memory (12 bytes a "
        "parameter); otherwise training waits for them.",
        json_schema_extra=RUNTIME,
    )
    logging_steps: int = Field(
        10,
        ge=1,
        le=1_000_000,
        description="Steps between lines of metrics.jsonl (a number of steps).",
        json_schema_extra=RUNTIME,
    )
    tensorboard: bool = Field(
        False, description="Also write TensorBoard event files.", json_schema_extra=RUNTIME
    )
    wandb: Literal["disabled", "offline", "online"] = Field(
        "disabled",
        description="Weights & Biases: offline writes files only and needs no account; online uses the network.",
        json_schema_extra=RUNTIME,
    )
    wandb_project: str = Field(
        "bloomery", description="Project name in Weights & Biases.", json_schema_extra=RUNTIME
    )
    output_dir: Path | None = Field(
        None,
        description="Where checkpoints go; null = a directory of the run.",
        json_schema_extra=RUNTIME,
    )

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _from_switch(cls, value: Any) -> Any:
        return {True: "auto", False: "fp32"}[value] if isinstance(value, bool) else value

    @field_validator("compile", mode="before")
    @classmethod
    def _from_compile_switch(cls, value: Any) -> Any:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value

    @field_validator("gradient_checkpointing", mode="before")
    @classmethod
    def _from_checkpointing_switch(cls, value: Any) -> Any:
        return {True: "full", False: "none"}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        given = [n for n in ("total_steps", "epochs", "time_budget_seconds") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(given)} both say how long to train; keep one, set others to null"
            )
        if self.global_batch_tokens is not None and self.gradient_accumulation_steps != 1:
            raise ValueError(
                f"global_batch_tokens and gradient_accumulation_steps={self.gradient_accumulation_steps} both say how "
                "large a step is; keep one"
            )
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate {self.min_learning_rate} is above learning_rate {self.learning_rate}"
            )
        if (
            self.warmup_steps is not None
            and self.total_steps is not None
            and self.warmup_steps > self.total_steps
        ):
            raise ValueError(f"warmup_steps {self.warmup_steps} is above total_steps {self.total_steps}")
        return self

    def fingerprint_settings(self) -> dict[str, Any]:
        """As for every section, but of a step's rows their number counts, and not how they are divided.

        With early stopping the cadence of evaluations decides where the run ends.
        """
        values = super().fingerprint_settings()
        rows = values.pop("batch_size") * values.pop("gradient_accumulation_steps")
        if self.global_batch_tokens is None:
            values["batch_size x gradient_accumulation_steps"] = rows
        if self.early_stopping_patience is not None:
            values |= {"eval_steps": self.eval_steps, "eval_batches": self.eval_batches}
        return values
