"""What `--plan` prints: what each stage would do and why, and what the run needs."""

from collections.abc import Mapping, Sequence
from typing import Any

from core.device_manager import DeviceManager
from core.stage import Decision
from core.training_config import DataConfig, ModelConfig, PipelineConfig
from data_processing.reports.shown import size
from models.counting import count_parameters, flops_per_token
from pipeline.preflight import Estimate
from training.memory_model import needed_bytes, step_memory
from training.run_length import resolve_total_steps
from training.scaling_law import loss_range, small_loss_range


def plan_page(config: PipelineConfig, decisions: Sequence[Decision], estimate: Estimate) -> str:
    """The plan as text."""
    shape = config.model.replace(vocab_size=config.model.vocab_size or config.data.tokenizer_vocab_size)
    count = count_parameters(shape)
    settings = config.training
    tokens_per_step = (
        settings.batch_size * settings.gradient_accumulation_steps * config.model.max_position_embeddings
    )
    flops = tokens_per_step * flops_per_token(shape, context=shape.max_position_embeddings)
    lines = [f"run directory {config.run.directory}", "", *map(str, decisions), ""]
    data = config.data
    lines += [
        f"data          {_place_of_data(data)}",
        f"device        {DeviceManager(settings.device).device}",
        f"model         {shape.architecture}, {count.total:,} parameters ({count.embedding:,} in embeddings)",
        *_memory(config, shape),
        f"disk          {size(estimate.checkpoint_bytes)} a checkpoint, at most {size(estimate.disk_bytes)} at a time",
        f"step          {tokens_per_step:,} tokens, {flops:.3g} FLOPs",
        f"length        {_length(config, decisions, tokens_per_step, count.total)}",
        *_expectation(estimate.planned, shape),
    ]
    return "\n".join(lines)


def _memory(config: PipelineConfig, shape: ModelConfig) -> list[str]:
    """What a step holds, part by part, and what to change where that is more than there is."""
    device = DeviceManager(config.training.device)
    kind = device.device.type
    memory = step_memory(
        shape, config.training, compute_dtype=device.compute_dtype(config.training.mixed_precision)
    )
    parts = ", ".join(f"{name.replace('_', ' ')} {size(value)}" for name, value in memory.parts().items())
    needed, total = needed_bytes(memory, kind), device.total_memory_bytes()
    unmeasured = "" if kind == "cpu" else f" (by a model that was not measured on {kind})"
    lines = [
        f"memory        about {size(int(needed))} at the peak{unmeasured}, of {size(total)}",
        f"              {parts}",
    ]
    if needed > total:
        lines.append(
            "              DOES NOT FIT: set training.gradient_checkpointing=selective or full, a smaller "
            "training.batch_size (with more gradient_accumulation_steps), or a smaller model"
        )
    return lines


def _expectation(expected: Mapping[str, Any] | None, shape: ModelConfig) -> list[str]:
    """What a plan for a time budget, and the law of losses, expect."""
    if expected is None:
        return []
    tokens = expected["tokens"]
    flops = flops_per_token(shape, context=shape.max_position_embeddings) * tokens
    sizes = expected["parameters"], tokens, expected["unique_tokens"]
    if (found := loss_range(*sizes)) is not None:
        says = (
            f"{found[0]:.2f} to {found[1]:.2f} nats a token, roughly (Besiroglu et al. 2024, of other text)"
        )
    elif (found := small_loss_range(*sizes)) is not None:
        says = (
            f"{found[0]:.2f} to {found[1]:.2f} bits per byte, if the text is like Python's standard library"
        )
    else:
        says = "not foreseen: no runs of such a size are known here"
    seconds = f"{expected['pretraining_seconds']:,.0f} s of pretraining, {expected['tuning_seconds']:,.0f} s of tuning"
    return [
        f"time          {seconds}",
        f"tokens        {tokens:,} in pretraining, {flops:.3g} FLOPs",
        f"loss          {says}",
    ]


def _place_of_data(data: DataConfig) -> str:
    match data.corpus:
        case "python_standard_library":
            return "the standard library of this Python"
        case "sql":
            return "the query in data.sql"
        case "hub":
            return f"the public dataset {data.hub.dataset}, {data.hub.target_tokens or 'all'} tokens of it"
    return str(data.file_list or data.raw_dir)


def _length(
    config: PipelineConfig, decisions: Sequence[Decision], tokens_per_step: int, num_parameters: int
) -> str:
    settings = config.training
    if settings.time_budget_seconds is not None:
        return f"about {settings.time_budget_seconds:,.0f} s; the number of steps is measured at the start"
    dataset = next((d.artifact for d in decisions if d.stage == "dataset" and d.artifact), None)
    if dataset is None and settings.total_steps is None:
        rule = f"{settings.epochs:g} passes" if settings.epochs else "20 tokens a parameter, at most 4 passes"
        return (
            f"{rule} over the data; the number of steps is known when the dataset is there (--until dataset)"
        )
    rows = dataset.metrics["splits"]["train"]["rows"] if dataset is not None else 1
    steps, because = resolve_total_steps(
        settings,
        steps_per_epoch=rows / (settings.batch_size * settings.gradient_accumulation_steps),
        tokens_per_step=tokens_per_step,
        num_parameters=num_parameters,
    )
    known = f" ({because})" if dataset is not None else ""
    return f"{steps:,} steps = {steps * tokens_per_step:,} tokens{known}"
