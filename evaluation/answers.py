"""Does a tuned model give the answer it was taught? Compares first sentences and counts answers that end."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from core.progress import progress
from data_processing.rows.token_rows import TokenRows
from inference.chat import ChatModel
from inference.sampling import SamplingSettings
from tokenization.tokenizer import Tokenizer
from training.losses import IGNORED_LABEL

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclasses.dataclass(frozen=True)
class Question:
    """The first turn of a conversation of the dataset, as the model was shown it."""

    prompt_ids: tuple[int, ...]
    """Everything up to and including the token that opens the answer."""
    text: str
    answer: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the model said to a question."""

    question: Question
    text: str
    stopped: bool
    """Whether the answer ended with the end token rather than at the length limit."""

    @property
    def is_right(self) -> bool:
        """Whether its first sentence is the first sentence of the true answer, white space aside."""
        return first_sentence(self.text) == first_sentence(self.question.answer)


def first_sentence(text: str) -> str:
    """The text up to its first `.`, `!` or `?` that white space follows, with single spaces."""
    return " ".join(SENTENCE_END.split(text.strip(), maxsplit=1)[0].split())


def questions_in(rows: TokenRows, tokenizer: Tokenizer) -> Iterator[Question]:
    """The first question and answer of each conversation in a split, in stored order."""
    for index in range(len(rows)):
        ids, starts, labels = rows.tokens(index), rows.document_starts(index), rows.raw_labels(index)
        assert labels is not None, f"{rows.directory} holds text, not conversations"
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            question = _first_turn(ids[start:end].astype(np.int64), labels[start:end], tokenizer)
            if question is not None:
                yield question


def _first_turn(
    ids: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], tokenizer: Tokenizer
) -> Question | None:
    learned = np.flatnonzero(labels != IGNORED_LABEL)
    if len(learned) == 0:
        return None
    begin = int(learned[0])
    ends = np.flatnonzero(ids[begin:] == tokenizer.end_id)
    if len(ends) == 0:  # cut off at the context: the true answer is not known
        return None
    prompt = ids[:begin].tolist()
    return Question(
        prompt_ids=tuple(prompt),
        text=tokenizer.decode(prompt).strip(),
        answer=tokenizer.decode(ids[begin : begin + int(ends[0])].tolist()),
    )


def evenly_spaced(questions: Sequence[Question], number: int) -> list[Question]:
    """`number` of the questions (all if there are fewer), spread evenly: nobody chose them."""
    if number >= len(questions):
        return list(questions)
    return [questions[index * len(questions) // number] for index in range(number)]


def ask(
    chat_model: ChatModel,
    questions: Sequence[Question],
    *,
    max_tokens: int,
    batch_size: int,
    description: str,
) -> list[Answer]:
    """The greedy answers, in the order of the questions."""
    answers: list[Answer] = []
    settings = SamplingSettings(max_tokens=max_tokens, temperature=0.0, stop_ids=chat_model.stop_ids)
    with progress(total=len(questions), description=description, unit="question") as bar:
        for start in range(0, len(questions), batch_size):
            part = questions[start : start + batch_size]
            completions = chat_model.engine.generate(
                [question.prompt_ids for question in part],
                settings,
                allowed=chat_model.allowed,
                batch_size=batch_size,
            )
            answers += [
                Answer(question, chat_model.tokenizer.decode(completion.ids), completion.stopped)
                for question, completion in zip(part, completions, strict=True)
            ]
            bar.update(len(part))
    return answers


def score(answers: Sequence[Answer]) -> dict[str, Any]:
    """Number of questions, share with a right first sentence, share that stopped by themselves."""
    number = len(answers)
    return {
        "num_questions": number,
        "right_first_sentence_share": sum(a.is_right for a in answers) / number if number else None,
        "stopped_share": sum(a.stopped for a in answers) / number if number else None,
    }
