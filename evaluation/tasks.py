"""How a model does in a task, in figures beside what chance and counting achieve. Knows no file but the task's own.

Every figure is a `Score`: the value, its 95 % interval, and the same figure of the two baselines.
"""

import dataclasses
import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.progress import progress
from evaluation.intervals import mean_interval, wilson_interval
from evaluation.language_model import LanguageModel
from evaluation.likelihoods import Likelihood, Pair, log_likelihoods
from evaluation.task_files import Item, Kind, Task, prompts

MAX_ANSWER_TOKENS = 32
"""Longest free answer; a line break ends it earlier. Arbitrary: the answers of TriviaQA have at most 15 words."""

COMPLETED_AT_ONCE = 32


@dataclasses.dataclass(frozen=True)
class Score:
    """A figure with the interval in which the true one lies with 95 % confidence, and what it is to be compared with.

    Attributes:
        low, high: None where there are too few questions to tell.
        random: Of guessing; None where guessing has no value.
        ngram: Of the trigram model; None where there is none.
    """

    value: float
    low: float | None
    high: float | None
    random: float | None = None
    ngram: float | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of the questions of a task.

    Attributes:
        scores: By name; the first is the one to quote.
        right: For each question that was asked "1" or "0", by the first score.
        num_cut: Questions that lost the beginning of their context, because they are longer than the model's.
        answers: What the model wrote, of free answers.
    """

    scores: Mapping[str, Score]
    right: str
    num_cut: int
    answers: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class _Answered:
    """What a model said to one question: the likelihood of each choice (or option), or what it wrote."""

    item: Item
    likelihoods: Sequence[Likelihood] = ()
    text: str = ""


Measure = Callable[[_Answered], float]


def run_task(
    model: LanguageModel, task: Task, *, ngram: LanguageModel | None, num_shots: int, seed: int
) -> Outcome:
    """Ask the model (and the trigram model) the questions of a task.

    Raises:
        DataError: the task has too few questions for `num_shots` examples.
    """
    contexts = prompts(task, num_shots=num_shots, seed=seed)
    answered = _ask(model, task, contexts, description=f"asking {task.name}")
    counted = _ask(ngram, task, contexts, description=f"counting for {task.name}") if ngram else []
    scores = {
        name: _score(name, [measure(a) for a in answered], [measure(a) for a in counted])
        for name, measure in MEASURES[task.kind].items()
    }
    first = next(iter(scores))
    chance = _of_chance(answered)
    scores = {
        name: dataclasses.replace(score, random=chance if name not in MEANS else None)
        for name, score in scores.items()
    }
    measure = MEASURES[task.kind][first]
    return Outcome(
        scores=scores,
        right="".join(str(int(measure(a))) for a in answered),
        num_cut=sum(any(likelihood.is_cut for likelihood in a.likelihoods) for a in answered),
        answers=[a.text for a in answered] if task.kind == "free_answer" else (),
    )


def _ask(
    model: LanguageModel, task: Task, contexts: Sequence[tuple[str, ...]], *, description: str
) -> list[_Answered]:
    items = [task.items[number] for number in task.asked]
    if task.kind == "free_answer":
        texts = _complete(model, [own[0] + task.delimiter.rstrip() for own in contexts], description)
        return [_Answered(item, text=text) for item, text in zip(items, texts, strict=True)]
    pairs = [
        Pair(context + task.delimiter, answer)
        for own, item in zip(contexts, items, strict=True)
        for context in own
        for answer in item.answers
    ]
    found = iter(log_likelihoods(model, pairs, description=description))
    return [
        _Answered(item, [next(found) for _ in range(len(own) * len(item.answers))])
        for own, item in zip(contexts, items, strict=True)
    ]


def _complete(model: LanguageModel, texts: Sequence[str], description: str) -> list[str]:
    """The first line of what the model writes behind each text."""
    found: list[str] = []
    with progress(total=len(texts), description=description, unit="question") as bar:
        for start in range(0, len(texts), COMPLETED_AT_ONCE):
            part = texts[start : start + COMPLETED_AT_ONCE]
            found += [_first_line(text) for text in model.complete(part, MAX_ANSWER_TOKENS)]
            bar.update(len(part))
    return found


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip()


def _accuracy(answered: _Answered) -> float:
    return float(_likeliest([found.log_probability for found in answered.likelihoods]) == answered.item.gold)


def _accuracy_per_byte(answered: _Answered) -> float:
    rates = [
        found.log_probability / len(answer.encode("utf-8"))
        for found, answer in zip(answered.likelihoods, answered.item.answers, strict=True)
    ]
    return float(_likeliest(rates) == answered.item.gold)


def _likeliest(values: Sequence[float]) -> int:
    """The first of the largest."""
    return max(range(len(values)), key=lambda index: values[index])


def _cloze_accuracy(answered: _Answered) -> float:
    return float(answered.likelihoods[0].is_greedy)


def _nats(answered: _Answered) -> float:
    return -answered.likelihoods[0].log_probability


def _exact_match(answered: _Answered) -> float:
    return float(normalized(answered.text) in {normalized(answer) for answer in answered.item.answers})


def _token_f1(answered: _Answered) -> float:
    return max(_shared_words(answered.text, answer) for answer in answered.item.answers)


MEASURES: Mapping[Kind, Mapping[str, Measure]] = {
    "multiple_choice": {"accuracy": _accuracy, "accuracy_per_byte": _accuracy_per_byte},
    "schema": {"accuracy": _accuracy},
    "cloze": {"accuracy": _cloze_accuracy, "perplexity": _nats},
    "free_answer": {"exact_match": _exact_match, "word_f1": _token_f1},
}
"""What is measured of each question of a kind: 1 or 0, but for `MEANS`."""

MEANS: Mapping[str, Callable[[float], float]] = {
    "perplexity": lambda nats: math.exp(min(nats, 700.0)),
    "word_f1": lambda share: share,
}
"""Figures that are no share of right answers: what becomes of the mean over the questions and of the ends of its
interval. `perplexity` is that of a whole continuation, as LAMBADA is reported."""


def _score(name: str, values: Sequence[float], counted: Sequence[float]) -> Score:
    shown: Callable[[float], float] = MEANS.get(name, float)
    ends = mean_interval(values) if name in MEANS else wilson_interval(round(sum(values)), len(values))
    return Score(
        value=shown(math.fsum(values) / len(values)),
        low=None if ends is None else shown(ends[0]),
        high=None if ends is None else shown(ends[1]),
        ngram=shown(math.fsum(counted) / len(counted)) if counted else None,
    )


def _of_chance(answered: Sequence[_Answered]) -> float:
    """The expected share of right answers of somebody who rolls dice; 0 where anything could be written."""
    return math.fsum(1 / len(a.likelihoods) for a in answered if len(a.likelihoods) > 1) / len(answered)


def normalized(text: str) -> str:
    """What of an answer counts: its words in lower case, without punctuation and articles.

    As for SQuAD (Rajpurkar et al. 2016), and Unicode's other punctuation and forms besides.

    >>> normalized("The  Great “Wall”!")
    'great wall'
    """
    kept = "".join(
        character
        for character in unicodedata.normalize("NFKC", text).lower()
        if character not in string.punctuation and not unicodedata.category(character).startswith("P")
    )
    return " ".join(_ARTICLE.sub(" ", kept).split())


_ARTICLE = re.compile(r"\b(a|an|the)\b")


def _shared_words(text: str, answer: str) -> float:
    """Twice the words that both have, as a share of the words of both."""
    ours, theirs = normalized(text).split(), normalized(answer).split()
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON can hold it."""
    return {
        "scores": {name: dataclasses.asdict(score) for name, score in outcome.scores.items()},
        "right": outcome.right,
        "num_cut": outcome.num_cut,
        "answers": list(outcome.answers),
    }
