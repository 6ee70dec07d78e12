"""What the user reads at the end: where things are, what was measured, how it sounds, what to do next."""

import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.training_config import PipelineConfig
from data_processing.reports.data_report import PAGE_NAME
from evaluation.line_evaluation import shown_answers, texts_of
from evaluation.run_report import PAGE_NAME as RUN_PAGE_NAME
from pipeline.run import TrainedLine
from pipeline.stages import stage_metrics
from pipeline.tuning import no_instructions, uses_default_instructions
from training.preference_loss import PREFERENCE_METRICS

WIDTH = 100
ACCURACY, MARGIN = PREFERENCE_METRICS


def closing_page(result: TrainedLine, command: str) -> str:
    """The page as text.

    Args:
        command: The command that was run, to be shown as the one that resumes.
    """
    parts = [
        _places(result),
        _data(result),
        _training("Pretraining", stage_metrics(result.artifacts, "pretrain")),
        _training("Instruction tuning", stage_metrics(result.artifacts, "finetune")),
        _preference(result),
        _evaluation(stage_metrics(result.artifacts, "evaluate")),
        _next_steps(result, command),
    ]
    return "\n\n".join(part for part in parts if part)


def _heading(text: str) -> str:
    return f"── {text} " + "─" * (WIDTH - len(text) - 4)


def _places(result: TrainedLine) -> str:
    rows = [f"  {name:<13} {artifact.directory}" for name, artifact in result.artifacts.items()]
    return "\n".join([_heading("Where things are"), *rows])


def _data(result: TrainedLine) -> str:
    collected = stage_metrics(result.artifacts, "collect")
    tokenizer = stage_metrics(result.artifacts, "tokenizer")
    dataset = stage_metrics(result.artifacts, "dataset")
    lines = [_heading("The data in numbers")]
    if collected:
        dropped: Mapping[str, int] = collected["dropped"]
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in dropped.items()) or "none"
        lines.append(
            f"  documents     {collected['documents_in']:,} in = {collected['kept']:,} kept + "
            f"{sum(dropped.values()):,} dropped ({reasons})"
        )
    if tokenizer:
        lines.append(f"  vocabulary    {tokenizer['vocab_size']:,} tokens")
    for split, values in dataset.get("splits", {}).items():
        lines.append(
            f"  {split:<13} {values['documents']:,} documents, {values['tokens']:,} tokens in {values['rows']:,} rows"
        )
    instructions = stage_metrics(result.artifacts, "instructions")
    if instructions:
        reasons = (
            ", ".join(f"{number:,} {reason}" for reason, number in instructions["dropped"].items()) or "none"
        )
        lines.append(
            f"  records       {instructions['records']:,} in = {instructions['conversations']:,} kept + "
            f"{sum(instructions['dropped'].values()):,} dropped ({reasons}); {instructions['truncated']:,} cut"
        )
    for split, values in instructions.get("splits", {}).items():
        lines.append(
            f"  {'conv. ' + split:<13} {values['documents']:,} conversations, {values['tokens']:,} tokens"
        )
    return "\n".join(lines) if len(lines) > 1 else ""


def _training(title: str, metrics: Mapping[str, Any], *, unit: str = "nats a token") -> str:
    if not metrics:
        return ""
    lines = [
        _heading(title),
        (
            f"  {metrics['num_steps']:,} steps, {metrics['num_tokens']:,} tokens, {metrics['elapsed_seconds']:,.0f} s "
            "in the last process"
        ),
    ]
    before, after = metrics["initial_validation"], metrics["final_validation"]
    if before and after:
        lines.append(
            f"  validation loss {before['validation/loss']:.3f} → {after['validation/loss']:.3f} {unit}"
        )
        if "validation/bits_per_byte" in before:
            lines.append(
                f"  bits per byte   {before['validation/bits_per_byte']:.3f} → "
                f"{after['validation/bits_per_byte']:.3f}"
            )
    return "\n".join(lines)


def _preference(result: TrainedLine) -> str:
    metrics = stage_metrics(result.artifacts, "preference")
    if not metrics or not metrics["final_validation"]:
        return _training("Preference tuning", metrics, unit="a pair")
    pairs, after = stage_metrics(result.artifacts, "preferences"), metrics["final_validation"]
    return (
        f"{_training('Preference tuning', metrics, unit='a pair')}\n"
        f"  of {pairs['pairs']:,} pairs, {after[ACCURACY]:.1%} of those held out are preferred as they should be, by "
        f"{after[MARGIN]:.2f} nats on the average"
    )


def _evaluation(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return ""
    lines = [_heading("Evaluation")]
    texts = [(f"{model} model on {split} text:", values) for model, split, values in texts_of(metrics)]
    width = max((len(title) for title, _ in texts), default=0)
    for title, values in texts:
        bits = f", {values['bits_per_byte']:.3f} bits per byte" if values["bits_per_byte"] is not None else ""
        perplexity = values["perplexity"] or math.inf
        lines.append(f"  {title:<{width}} loss {values['loss_nats']:.3f}, perplexity {perplexity:.2f}{bits}")
    for name, meaning in (("held_in", "trained on"), ("held_out", "never shown")):
        if name in metrics:
            values = metrics[name]
            lines.append(
                f"  {values['num_questions']} questions it was {meaning}: "
                f"first sentence right {values['right_first_sentence_share']:.1%}, "
                f"ended by themselves {values['stopped_share']:.1%}"
            )
    for sample in metrics["samples"]:
        lines += ["", "  A held-out text and how the model goes on (⟶):"]
        lines.append(_indented(f"{sample['prompt']}⟶{sample['continuation']}", max_lines=8))
    for answer in shown_answers(dict(metrics)):
        lines += [
            "",
            _labelled("question", answer["question"]),
            _labelled("model", answer["answer"]),
            _labelled("true answer", answer["true_answer"]),
        ]
    return "\n".join(lines)


def _next_steps(result: TrainedLine, command: str) -> str:
    run: Path = result.config.run.directory
    lines = [_heading("What comes next")]
    if {"finetune", "preference"} & result.artifacts.keys():
        lines.append(f"  talk to it         python scripts/chat.py {run}")
    elif "pretrain" in result.artifacts:
        lines.append(f"  let it continue    python scripts/chat.py {run}")
    if "evaluate" in result.artifacts:
        lines.append(f"  look at the run    {result.artifacts['evaluate'].directory / RUN_PAGE_NAME}")
        lines.append(
            f"                     python scripts/evaluate.py {run}      (more tasks and texts: --help)"
        )
    elif {"finetune", "preference"} & result.artifacts.keys():
        lines.append(
            f"  measure it         python scripts/evaluate.py {run} --report      (tasks and texts: --help)"
        )
    if "data_report" in result.artifacts:
        lines.append(f"  look at the data   {result.artifacts['data_report'].directory / PAGE_NAME}")
        lines.append(
            f"                     python scripts/inspect_data.py {run} why FILE      (or trace, sample, forget)"
        )
    if {"collect", "pretrain"} <= result.artifacts.keys():
        lines.append(
            f"  teach it more      python scripts/update.py {run} --data NEW      (or --feedback FILE)"
        )
    if "collect" in result.artifacts:
        lines.append(f"  see what is done   {command} --plan")
    lines.append(f"  after a stop       {command}      (goes on where it was)")
    if result.config.data.corpus == "python_standard_library":
        lines += [
            "  your own data      put files into data/datasets/raw, or:",
            "                     python scripts/train_llm_from_scratch.py --data DIR run.name=mine",
        ]
    if "pretrain" in result.artifacts and not _has_own_instructions(result.config):
        lines += [
            '  your own answers   data/instruction_data.jsonl with one {"instruction": …, "response": …} a line, or:',
            "                     the same command with --instruction-data FILE",
        ]
    return "\n".join(lines)


def _has_own_instructions(config: PipelineConfig) -> bool:
    return no_instructions(config) is None and not uses_default_instructions(config)


def _labelled(label: str, text: str) -> str:
    first, *rest = textwrap.wrap(" ".join(text.split()), WIDTH - 17) or [""]
    return "\n".join([f"  {label:<13}{first}", *(f"{'':15}{line}" for line in rest[:4])])


def _indented(text: str, *, max_lines: int) -> str:
    lines = [piece for line in text.splitlines() for piece in (textwrap.wrap(line, WIDTH - 4) or [""])]
    shown = lines[:max_lines] + (["…"] if len(lines) > max_lines else [])
    return textwrap.indent("\n".join(shown), "    ", lambda _line: True)
