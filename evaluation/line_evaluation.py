"""The short evaluation at the end of the line: losses, answers and samples of one run. Knows no stage."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.device_manager import DeviceManager
from core.files import atomic_write, write_json
from core.training_config import EvaluationConfig
from data_processing.reports.corpus_files import CORPUS_NAME
from data_processing.rows.token_rows import TokenRows
from evaluation.answers import Answer, ask, evenly_spaced, questions_in, score
from evaluation.language_model import of_chat_model
from evaluation.perplexity import evaluate_rows
from evaluation.run_places import DataPlaces
from evaluation.suite import Suite, place_of_results, run_suite
from evaluation.task_files import read_tasks
from inference.chat import ChatModel

NUM_SHOWN_QUESTIONS = 3
SAMPLE_PROMPT_TOKENS = 24
SAMPLE_NEW_TOKENS = 64


def evaluate_line(
    config: EvaluationConfig,
    device_manager: DeviceManager,
    *,
    corpus: Path,
    dataset: Path,
    pretrained: Path,
    tuned: tuple[str, Path] | None,
    before_preferences: Path | None,
    instructions: Path | None,
    document_masking: bool,
    scores: Path,
    out: Path,
) -> dict[str, Any]:
    """Write `evaluation.json` and `evaluation.md` into `out` and return the numbers.

    Args:
        corpus: Directory of the documents, with
        dataset: the directory with the splits of the text dataset.
        pretrained: Checkpoint of the pretrained model.
        tuned: The stage that tuned last and its checkpoint, if there is one.
        before_preferences: What preference tuning began with, if that was last; its text tells what preferring cost.
        instructions: With `tuned`, the directory of its conversations.
        document_masking: As in pretraining.
        scores: Where results of single models are kept, so that a killed evaluation goes on with those that it lacks.

    Raises:
        DataError: a task cannot be read; the message names file and line.
    """
    tasks = read_tasks(config.tasks)
    device = str(device_manager.device)
    model = ChatModel.load(pretrained, device=device)

    def on_text(model: ChatModel) -> dict[str, Any]:
        return {
            split: _on_rows(model, dataset / split, device_manager, config, document_masking=document_masking)
            for split in ("validation", "test")
            if (dataset / split).is_dir()
        }

    metrics: dict[str, Any] = {"text": on_text(model)}
    metrics["samples"] = _samples(model, dataset, config.num_samples)
    places = DataPlaces(corpus, dataset)
    splits = metrics["text"] if config.num_documents and (corpus / CORPUS_NAME).is_file() else ()
    suite = Suite(
        tasks=tasks, num_shots=config.num_shots, texts=tuple(splits), limit=config.num_documents or None
    )
    last = tuned is None or instructions is None
    before = dataclasses.replace(suite, quality=last and config.quality, speed=last and config.speed)
    metrics["models"] = {"pretrain": _results(model, before, scores, places)}
    if tuned is not None and instructions is not None:
        stage, checkpoint = tuned
        answering = ChatModel.load(checkpoint, device=device)
        if before_preferences is not None:
            metrics["text_before_preferences"] = on_text(ChatModel.load(before_preferences, device=device))
        metrics["text_after_tuning"] = on_text(answering)
        metrics |= _questions(answering, model, instructions, config)
        after = dataclasses.replace(suite, texts=(), quality=config.quality, speed=config.speed)
        places = DataPlaces(corpus, dataset, instructions)
        metrics["models"][stage] = _results(answering, after, scores, places)
    write_json(out / "evaluation.json", metrics)
    atomic_write(out / "evaluation.md", _as_markdown(metrics))
    return metrics


def _on_rows(
    model: ChatModel,
    split: Path,
    device_manager: DeviceManager,
    config: EvaluationConfig,
    *,
    document_masking: bool,
) -> dict[str, Any]:
    result = evaluate_rows(
        model.engine.model,
        TokenRows(split),
        model.tokenizer,
        device_manager,
        document_masking=document_masking,
        max_batches=config.max_batches,
        description=f"evaluating on {split.name}",
    )
    perplexity = result.perplexity if math.isfinite(result.perplexity) else None
    return {**dataclasses.asdict(result), "perplexity": perplexity}


def texts_of(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Which model, which split, and the figures of the held-out text: before tuning, after it, and where there are
    preferences between instructions and these."""
    tuned = "preference-tuned" if "text_before_preferences" in metrics else "tuned"
    for model, key in (
        ("pretrained", "text"),
        ("instruction-tuned", "text_before_preferences"),
        (tuned, "text_after_tuning"),
    ):
        for split, values in metrics.get(key, {}).items():
            yield model, split, values


def _results(model: ChatModel, suite: Suite, scores: Path, places: DataPlaces) -> dict[str, Any]:
    """The figures of a model, but for those of its speed, which differ from hour to hour."""
    language_model = of_chat_model(model)
    found = run_suite(language_model, suite, place_of_results(language_model, scores), places=places)
    kept = ("task", "scores", "num_cut", "num_in_training_text", "baseline", "recipe")
    return {
        "num_parameters": found.num_parameters,
        "texts": {name: _without_origin(result) for name, result in found.texts.items()},
        "tasks": [{key: result[key] for key in kept} for result in found.tasks],
        "quality": _without_origin(found.quality) if found.quality else None,
    }


def _without_origin(result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in result.items()
        if key not in ("fingerprint", "recipe", "whole", "elapsed_seconds", "samples")
    }


def _questions(
    model: ChatModel, pretrained: ChatModel, instructions: Path, config: EvaluationConfig
) -> dict[str, Any]:
    """What the tuned model answers, and what the pretrained one wrote behind the same held-out questions."""
    metrics: dict[str, Any] = {}
    for name, split, number in (
        ("held_in", "train", config.num_questions),
        ("held_out", "validation", config.num_validation_questions),
    ):
        if number == 0 or not (instructions / split).is_dir():
            continue
        questions = list(questions_in(TokenRows(instructions / split), model.tokenizer))
        if not questions:  # every true answer was cut off at the context
            continue
        asked = evenly_spaced(questions, number)
        answers = ask(
            model,
            asked,
            max_tokens=config.max_answer_tokens,
            batch_size=config.batch_size,
            description=f"asking {name.replace('_', '-')} questions",
        )
        metrics[name] = score(answers) | {"answers": [_answer_facts(answer) for answer in answers]}
        if name == "held_out":
            before = ask(
                pretrained,
                asked,
                max_tokens=config.max_answer_tokens,
                batch_size=config.batch_size,
                description="asking the pretrained model",
            )
            metrics["held_out_before_tuning"] = score(before)
    return metrics


def _answer_facts(answer: Answer) -> dict[str, Any]:
    return {
        "question": answer.question.text,
        "true_answer": answer.question.answer,
        "answer": answer.text,
        "right": answer.is_right,
        "stopped": answer.stopped,
    }


def _samples(model: ChatModel, dataset: Path, number: int) -> list[dict[str, str]]:
    """Beginnings of held-out documents and how the model goes on."""
    split = next((dataset / name for name in ("validation", "train") if (dataset / name).is_dir()), None)
    if split is None or number == 0:
        return []
    rows = TokenRows(split)
    samples = []
    for index in range(min(number, len(rows))):
        ids = rows.tokens(index * len(rows) // number if number < len(rows) else index)
        prompt = model.tokenizer.decode(ids[:SAMPLE_PROMPT_TOKENS].tolist())
        if prompt.strip():
            text = model.generate(prompt, max_tokens=SAMPLE_NEW_TOKENS, temperature=0.7, top_k=40, seed=index)
            samples.append({"prompt": prompt, "continuation": text})
    return samples


def shown_answers(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """A few held-in questions with their answers, spread evenly over those that were asked."""
    answers = metrics.get("held_in", {}).get("answers", [])
    number = min(NUM_SHOWN_QUESTIONS, len(answers))
    return [answers[(2 * index + 1) * len(answers) // (2 * number)] for index in range(number)]


def _as_markdown(metrics: dict[str, Any]) -> str:
    head = "| model | split | loss (nats) | perplexity | bits per byte |"
    lines = ["# Evaluation", "", head, "|---|---|---|---|---|"]
    for model, split, values in texts_of(metrics):
        bits = f"{values['bits_per_byte']:.3f}" if values["bits_per_byte"] is not None else ""
        lines.append(
            f"| {model} | {split} | {values['loss_nats']:.3f} | {values['perplexity'] or math.inf:.2f} | {bits} |"
        )
    for name in ("held_in", "held_out"):
        if name in metrics:
            values = metrics[name]
            lines += [
                "",
                f"## {name.replace('_', '-').capitalize()} questions",
                "",
                (
                    f"{values['num_questions']} questions, first sentence right: "
                    f"{values['right_first_sentence_share']:.1%}, ended by themselves: {values['stopped_share']:.1%}"
                ),
                "",
            ]
            for answer in values["answers"]:
                mark = "right" if answer["right"] else "wrong"
                lines += [
                    f"- **{answer['question']}** ({mark})",
                    f"  - model: {answer['answer']}",
                    f"  - truth: {answer['true_answer']}",
                ]
    lines += ["", "## Samples", ""]
    for sample in metrics["samples"]:
        lines += ["```", sample["prompt"] + "⟶" + sample["continuation"], "```", ""]
    return "\n".join(lines) + "\n"
