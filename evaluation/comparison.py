"""An earlier and a newer model on the same texts, questions and tasks, and what speaks against the newer one.

Knows neither how they came about nor what is done with the verdict.
"""

import dataclasses
import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.device_manager import DeviceManager
from core.errors import DataError
from core.training_config import EvaluationConfig
from data_processing.rows.conversations import Conversation, read_conversations
from data_processing.rows.learned_texts import LearnedTexts
from data_processing.rows.splits import text_key
from data_processing.rows.token_rows import TokenRows
from evaluation.answers import Answer, Question, ask, evenly_spaced, questions_in
from evaluation.intervals import differing_by_chance
from evaluation.language_model import of_chat_model
from evaluation.perplexity import evaluate_rows
from evaluation.run_places import DataPlaces
from evaluation.suite import Suite, place_of_results, run_suite
from evaluation.task_files import read_tasks
from evaluation.texts import Text, evaluate_texts, texts_of_split
from inference.chat import ChatModel
from tokenization.chat_template import render_chat

CHANCE = 0.01
"""Fewer right answers count when equally good models differ so much, in either direction, less often than this. At the
usual 0.05, one in four comparisons by a dozen tasks would be refused for nothing."""

ANSWERS_TOLERANCE = 0.1
"""How much the loss of held-out answers may rise, as a share: tuning anew on the same records moves it by a few
percent. Few questions say nothing by being right or wrong, and a model that had none right cannot lose any."""


@dataclass(frozen=True)
class Two:
    """Where the earlier and the newer model of one kind are; the same directory where nothing was trained."""

    old: Path
    new: Path


def compare_models(
    config: EvaluationConfig,
    device_manager: DeviceManager,
    *,
    continuing: Two,
    answering: Two | None,
    earlier: DataPlaces | None,
    now: DataPlaces | None,
    conversations: Path | None,
    corrections: Sequence[Path],
    scores: Path,
) -> dict[str, Any]:
    """Both models' figures, side by side.

    Args:
        continuing: The models that continue text.
        answering: Those that answer; None where the newer run has none.
        earlier: Corpus and dataset that the earlier model was made from; None with
        now: those of the newer one, where no text was learned.
        conversations: Directory of the newer run's conversations, of which both are asked those that are held out.
        corrections: Files of what people said of answers; both are asked what was corrected.
        scores: Where results of tasks are kept.

    Returns:
        `text`: by "earlier" and "new", held-out documents that the earlier run knew or did not; `answers` and
        `corrections`: of questions; `tasks`. Each has `old` and `new`; what was not measured is not there.

    Raises:
        DataError: a task or a corpus cannot be read, or a model's loss is no number.
    """
    device = str(device_manager.device)
    found: dict[str, Any] = {"text": {}, "tasks": []}
    if earlier is not None and now is not None and config.num_documents:
        texts = _held_out(earlier, now, most=config.num_documents)
        models = [
            of_chat_model(ChatModel.load(path, device=device)) for path in (continuing.old, continuing.new)
        ]
        for name, some in texts.items():
            if some:
                old, new = (
                    evaluate_texts(model, some, description=f"predicting {name} text") for model in models
                )
                for path, figures in ((continuing.old, old), (continuing.new, new)):
                    _check_is_number(figures["bits_per_byte"], path, f"{name} held-out text")
                found["text"][name] = {"old": _whole(old), "new": _whole(new)}
    answerers = [ChatModel.load(path, device=device) for path in dataclasses.astuple(answering or continuing)]
    if answering is not None and conversations is not None and (conversations / "validation").is_dir():
        rows = TokenRows(conversations / "validation")
        questions = evenly_spaced(
            list(questions_in(rows, answerers[1].tokenizer)), config.num_validation_questions
        )
        losses = [
            evaluate_rows(
                model.engine.model,
                rows,
                model.tokenizer,
                device_manager,
                document_masking=True,
                max_batches=config.max_batches,
                description="reading held-out answers",
            ).loss_nats
            for model in answerers
        ]
        for path, loss in zip(dataclasses.astuple(answering), losses, strict=True):
            _check_is_number(loss, path, "held-out answers")
        found["answers"] = {
            **_asked(answerers, questions, config, description="asking held-out questions"),
            "loss_nats": dict(zip(("old", "new"), losses, strict=True)),
        }
    if answering is not None and (questions := list(_corrected(corrections, answerers[1]))):
        found["corrections"] = _asked(answerers, questions, config, description="asking what was corrected")
    if tasks := read_tasks(config.tasks):
        suite = Suite(tasks=tasks, num_shots=config.num_shots)
        both = [
            run_suite(model, suite, place_of_results(model, scores)).tasks
            for model in map(of_chat_model, answerers)
        ]
        found["tasks"] = [_task(old, new) for old, new in zip(*both, strict=True)]
    return found


def _held_out(earlier: DataPlaces, now: DataPlaces, *, most: int) -> dict[str, list[Text]]:
    """Documents that neither model has learned: those that the earlier run held out too, and new ones."""
    known = LearnedTexts.of(text_key(text.text) for text in texts_of_split(earlier, "validation"))

    def some(*, of_earlier: bool) -> list[Text]:
        texts = (text for text in texts_of_split(now, "validation") if (text.text in known) == of_earlier)
        # By hash: a corpus stands source by source, and the first ones would say nothing of the others.
        return heapq.nsmallest(most, texts, key=lambda text: text_key(text.text))

    return {"earlier": some(of_earlier=True), "new": some(of_earlier=False)}


def _check_is_number(loss: float, model: Path, what: str) -> None:
    if not math.isfinite(loss):
        raise DataError(
            f"{model}: its loss on {what} is {loss}, which cannot be compared; its weights are damaged or it diverged "
            "in training: train it again"
        )


def _whole(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if key not in ("by_source", "by_length")}


def _asked(
    answerers: Sequence[ChatModel],
    questions: Sequence[Question],
    config: EvaluationConfig,
    *,
    description: str,
) -> dict[str, Any]:
    answers = [
        ask(
            model,
            questions,
            max_tokens=config.max_answer_tokens,
            batch_size=config.batch_size,
            description=description,
        )
        for model in answerers
    ]
    return _marked(*([_is_right(answer) for answer in own] for own in answers))


def _is_right(answer: Answer) -> bool:
    return answer.is_right


def _marked(old: Sequence[bool], new: Sequence[bool]) -> dict[str, Any]:
    """How many each has right, how many it alone has, and how probable such a difference is of equally good models."""
    only_old = sum(a and not b for a, b in zip(old, new, strict=True))
    only_new = sum(b and not a for a, b in zip(old, new, strict=True))
    return {
        "num_questions": len(old),
        "num_right": {"old": sum(old), "new": sum(new)},
        "num_right_alone": {"old": only_old, "new": only_new},
        "chance": differing_by_chance(only_old, only_new),
    }


def _corrected(files: Iterable[Path], model: ChatModel) -> Iterator[Question]:
    """What was asked where somebody wrote down the right answer, or liked the one that was given."""
    for item in itertools.chain.from_iterable(map(read_conversations, files)):
        if isinstance(item, Conversation):
            *before, answer = item.messages
            prompt = render_chat(before, model.tokenizer, add_generation_prompt=True).ids
            if len(prompt) < model.engine.model.config.max_position_embeddings:
                yield Question(tuple(prompt), before[-1]["content"], answer["content"])


def _task(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    name = next(iter(new["scores"]))
    marks = _marked([mark == "1" for mark in old["right"]], [mark == "1" for mark in new["right"]])
    return {
        "task": new["task"],
        "score": name,
        "old": old["scores"][name]["value"],
        "new": new["scores"][name]["value"],
        **marks,
    }


def objections(comparison: Mapping[str, Any], *, tolerance: float) -> list[str]:
    """What the newer model does worse than the earlier one, a sentence each; none where it can take its place.

    Held-out text may cost `tolerance` more bits per byte, and the true answers to held-out questions
    `ANSWERS_TOLERANCE` more nats. What is right counts by McNemar's test (`CHANCE`): a few answers more or less say
    nothing. Where nothing was measured, nothing speaks for the newer model.

    Args:
        tolerance: A share of what the earlier model needs; 0.02 = 2 %.
    """
    answers = comparison.get("answers")
    if not comparison["text"] and answers is None and not comparison["tasks"]:
        return [
            "nothing could be compared: no text and no question is held out, and evaluation.tasks names no task"
        ]
    found = []
    for name, both in comparison["text"].items():
        old, new = (both[which]["bits_per_byte"] for which in ("old", "new"))
        if new > old * (1.0 + tolerance):
            found.append(
                f"{name} held-out text takes {new:.3f} bits per byte instead of {old:.3f} (+{new / old - 1:.1%}, "
                f"allowed +{tolerance:.1%})"
            )
    if answers is not None:
        old, new = (answers["loss_nats"][which] for which in ("old", "new"))
        if new > old * (1.0 + ANSWERS_TOLERANCE):
            found.append(
                f"the answers to held-out questions take {new:.3f} nats a token instead of {old:.3f} "
                f"({new / old - 1:+.1%}, allowed +{ANSWERS_TOLERANCE:.0%})"
            )
    asked = [] if answers is None else [("held-out questions", answers)]
    asked += [(task["task"], task) for task in comparison["tasks"]]
    for name, marks in asked:
        old, new = marks["num_right"]["old"], marks["num_right"]["new"]
        if new < old and marks["chance"] < CHANCE:
            found.append(
                f"{name}: {new} of {marks['num_questions']} right instead of {old} (equally good models differ so "
                f"much with probability {marks['chance']:.4f})"
            )
    return found


def comparison_table(comparison: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, old, new) of every figure, as text."""
    rows = []
    for name, both in comparison["text"].items():
        old, new = (f"{both[which]['bits_per_byte']:.3f}" for which in ("old", "new"))
        number = both["new"]["num_documents"]
        rows.append((f"{name} held-out text, bits per byte ({number} documents)", old, new))
    for key, what in (("answers", "held-out questions"), ("corrections", "corrected answers")):
        if key in comparison:
            marks = comparison[key]
            rows.append(_right(f"{what}, right of {marks['num_questions']}", marks))
            if "loss_nats" in marks:
                old, new = (f"{marks['loss_nats'][which]:.3f}" for which in ("old", "new"))
                rows.append((f"{what}, loss (nats a token)", old, new))
    for task in comparison["tasks"]:
        old, new = f"{task['old']:.3f}", f"{task['new']:.3f}"
        rows.append((f"{task['task']}, {task['score']} ({task['num_questions']} questions)", old, new))
    return rows


def _right(what: str, marks: Mapping[str, Any]) -> tuple[str, str, str]:
    return what, str(marks["num_right"]["old"]), str(marks["num_right"]["new"])
