"""Tasks one after the other, each result in a file of its own. Knows neither how one asks nor how one judges."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.language_model import LanguageModel
from evaluation.ngram_baseline import MAX_TOKENS, ngram_model
from evaluation.stored_results import stored
from evaluation.task_files import Task
from evaluation.tasks import as_dict, run_task
from evaluation.training_text import TrainingText, copied_ngrams

VERSION = 1
"""To be raised when equal questions to an equal model give other figures."""


def evaluate_tasks(
    model: LanguageModel,
    tasks: Sequence[Task],
    out: Path,
    *,
    training: TrainingText | None,
    num_shots: int,
    seed: int,
) -> list[dict[str, Any]]:
    """The result of each task, which is also in `out`, a file a task; those that are there already are read.

    A result says under `whole` which file is for that of all questions, whether it is that one or of a part.

    Args:
        training: What the model was trained on, if that is known. The trigram baseline counts it, otherwise the
            contexts of the task; and questions that stand in it are counted.

    Raises:
        DataError: a task has too few questions for `num_shots` examples.
        DiskError: a result cannot be written; those before it are kept.
    """
    counting = _Counting(model, training)
    return [
        stored(
            out / _file_name(task, num_shots, len(task.asked)),
            _recipe(model, task, training, num_shots=num_shots, seed=seed),
            partial(_ask, model, task, counting, num_shots=num_shots, seed=seed),
        )
        for task in tasks
    ]


def _file_name(task: Task, num_shots: int, num_questions: int) -> str:
    """Of the result; that of a part of the questions never takes the place of that of all."""
    number = len(task.items)
    part = "" if num_questions == number else f"-{num_questions}-of-{number}"
    return f"{task.name}-{num_shots}-shot{part}.json"


def title_of(result: Mapping[str, Any]) -> str:
    """A task and how it was asked, for people: `piqa, 3-shot`."""
    shots = result["recipe"]["num_shots"]
    return str(result["task"]) + (f", {shots}-shot" if shots else "")


def num_asked(result: Mapping[str, Any]) -> str:
    """How many questions were asked, for people: `500 of 1,838`."""
    asked = result["recipe"]["num_questions"]
    number = result["recipe"].get("num_in_file", asked)  # which earlier versions did not write
    return f"{asked:,}" if asked == number else f"{asked:,} of {number:,}"


def _recipe(
    model: LanguageModel, task: Task, training: TrainingText | None, *, num_shots: int, seed: int
) -> dict[str, Any]:
    return {
        "version": VERSION,
        "model": model.fingerprint,
        "task": task.sha256,
        "kind": task.kind,
        "delimiter": task.delimiter,
        "num_questions": len(task.asked),
        "num_in_file": len(task.items),
        "num_shots": num_shots,
        "seed": seed,
        "training_text": training.fingerprint if training else None,
    }


class _Counting:
    """The trigram baseline, which is made when the first task needs it: of the training text, or of each task anew."""

    def __init__(self, model: LanguageModel, training: TrainingText | None) -> None:
        self.training = training
        self._model = model
        self._of_training: LanguageModel | None = None

    def baseline(self, task: Task) -> LanguageModel:
        """The model to compare with in a task."""
        if self.training is None:
            contexts = [text for item in task.items for text in item.contexts]
            ids = np.array([token for own in self._model.encode(contexts) for token in own], dtype=np.int64)
            return self._counted(ids, "the contexts of the task")
        if self._of_training is None:
            self._of_training = self._counted(self.training.sample_ids(MAX_TOKENS), "the training text")
        return self._of_training

    def _counted(self, ids: np.ndarray[Any, Any], what: str) -> LanguageModel:
        with torch.inference_mode():
            first = torch.tensor([[self._model.boundary_id]], device=self._model.device)
            num_scores = self._model.logits(self._model.features(first)[0]).shape[-1]
        return ngram_model(self._model, ids, vocab_size=num_scores, counted=what)


def _ask(
    model: LanguageModel, task: Task, counting: _Counting, *, num_shots: int, seed: int
) -> Mapping[str, Any]:
    baseline, training = counting.baseline(task), counting.training
    outcome = run_task(model, task, ngram=baseline, num_shots=num_shots, seed=seed)
    solved = [task.items[number].solved(task.delimiter) for number in task.asked]
    return {
        "task": task.name,
        "whole": _file_name(task, num_shots, len(task.items)),
        "file": str(task.path),
        "model": model.name,
        "baseline": baseline.name,
        **as_dict(outcome),
        # Questions of which a run of words stands in the training text, with the right answer.
        "num_in_training_text": sum(bool(own.any()) for own in copied_ngrams(solved, training))
        if training
        else None,
    }
