"""What `--plan` prints: what each stage would do and why, and what the run needs."""

from collections.abc import Sequence

from core.device_manager import DeviceManager
from core.stage import Decision
from core.training_config import DataConfig, PipelineConfig
from data_processing.reports.shown import size
from models.counting import count_parameters, flops_per_token
from pipeline.preflight import Estimate
from training.run_length import resolve_total_steps


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
        f"memory        {size(estimate.state_bytes)} for weights, gradients and optimizer; activations on top",
        f"disk          {size(estimate.checkpoint_bytes)} a checkpoint, at most {size(estimate.disk_bytes)} at a time",
        f"step          {tokens_per_step:,} tokens, {flops:.3g} FLOPs",
        f"length        {_length(config, decisions, tokens_per_step, count.total)}",
    ]
    return "\n".join(lines)


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
