"""What `--plan` prints: what each stage would do and why, and what the run needs."""

from collections.abc import Sequence

from core.stage import Decision
from core.training_config import PipelineConfig
from models.counting import count_parameters, flops_per_token
from pipeline.preflight import Estimate


def plan_page(config: PipelineConfig, decisions: Sequence[Decision], estimate: Estimate) -> str:
    """The plan as text."""
    shape = config.model.replace(vocab_size=config.model.vocab_size or config.data.tokenizer_vocab_size)
    count = count_parameters(shape)
    settings = config.training
    tokens_per_step = (
        settings.batch_size * settings.gradient_accumulation_steps * config.model.max_position_embeddings
    )
    flops = tokens_per_step * flops_per_token(shape, context=shape.max_position_embeddings)
    checkpoint = f"{estimate.checkpoint_bytes / 1e9:.2f}"
    lines = [f"run directory {config.run.directory}", "", *map(str, decisions), ""]
    lines += [
        f"model         {shape.architecture}, {count.total:,} parameters ({count.embedding:,} in embeddings)",
        f"memory        {estimate.state_bytes / 1e9:.2f} GB for weights, gradients and optimizer; activations on top",
        f"disk          {checkpoint} GB a checkpoint, at most {estimate.disk_bytes / 1e9:.2f} GB at one time",
        f"step          {tokens_per_step:,} tokens, {flops:.3g} FLOPs",
        f"length        {_length(config, decisions, tokens_per_step)}",
    ]
    return "\n".join(lines)


def _length(config: PipelineConfig, decisions: Sequence[Decision], tokens_per_step: int) -> str:
    settings = config.training
    if settings.total_steps is not None:
        return f"{settings.total_steps:,} steps = {settings.total_steps * tokens_per_step:,} tokens"
    if settings.time_budget_seconds is not None:
        return f"about {settings.time_budget_seconds:,.0f} s; the number of steps is measured at the start"
    if settings.epochs is not None:
        return f"{settings.epochs:g} passes over the training rows"
    dataset = next((d.artifact for d in decisions if d.stage == "dataset" and d.artifact), None)
    known = f" ({dataset.metrics['splits']['train']['tokens']:,} tokens a pass)" if dataset else ""
    return f"20 tokens a parameter, at most 4 passes over the data{known}"
