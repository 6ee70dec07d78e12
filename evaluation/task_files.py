"""Tasks out of jsonl files: what is asked, among which answers, and which is right. Knows no model and no score."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.errors import DataError
from core.files import sha256_file
from core.seeds import derive_seed
from data_processing.rows.json_records import read_json_records

Kind = Literal["multiple_choice", "schema", "cloze", "free_answer"]


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        contexts: What stands before the answer: one text, or in a schema one for each option.
        answers: The choices; in a schema or cloze the one continuation; of a free answer all that are accepted.
        gold: Which of the choices or options is right; 0 where there is one.
    """

    contexts: tuple[str, ...]
    answers: tuple[str, ...]
    gold: int

    def solved(self, delimiter: str) -> str:
        """Context and right answer, as an example for other questions."""
        context = self.contexts[self.gold if len(self.contexts) > 1 else 0]
        answer = self.answers[self.gold if len(self.answers) > 1 else 0]
        return context + delimiter + answer


@dataclass(frozen=True)
class Task:
    """A file of questions of one kind.

    Attributes:
        items: All of the file, from which examples are drawn too.
        asked: The numbers of those that are asked.
        delimiter: What stands between context and answer.
    """

    name: str
    path: Path
    sha256: str
    kind: Kind
    items: tuple[Item, ...]
    asked: Sequence[int]
    delimiter: str


@dataclass(frozen=True)
class Format:
    """How the records of a kind look.

    Attributes:
        keys: Those that a record must have; others are ignored.
        read: The question in such a record; a ValueError says what is wrong with it.
    """

    keys: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Item]


def _multiple_choice(record: Mapping[str, Any]) -> Item:
    choices = _texts(record, "choices", at_least=2)
    return Item((_text(record, "query"),), choices, _index(record, "gold", len(choices)))


def _schema(record: Mapping[str, Any]) -> Item:
    options = _texts(record, "context_options", at_least=2)
    return Item(options, (_text(record, "continuation"),), _index(record, "gold", len(options)))


def _cloze(record: Mapping[str, Any]) -> Item:
    return Item((_text(record, "context"),), (_text(record, "continuation"),), 0)


def _free_answer(record: Mapping[str, Any]) -> Item:
    answer = _text(record, "answer")
    others = _texts(record, "aliases", at_least=0) if "aliases" in record else ()
    return Item((_text(record, "context"),), tuple(dict.fromkeys((answer, *others))), 0)


FORMATS: dict[Kind, Format] = {
    "multiple_choice": Format(("query", "choices", "gold"), _multiple_choice),
    "schema": Format(("context_options", "continuation", "gold"), _schema),
    "cloze": Format(("context", "continuation"), _cloze),
    "free_answer": Format(("context", "answer"), _free_answer),
}
"""The kinds of questions; the first whose keys the first record of a file has is that of the file."""

TASKS: dict[str, dict[str, str]] = {
    "arc_challenge": {"delimiter": "\nAnswer: "},
    "arc_easy": {"delimiter": "\nAnswer: "},
    "piqa": {"delimiter": "Answer: "},
}
"""Known benchmarks by the stem of their file, and how they are asked where it is not with a space as delimiter. A file
with another name is a benchmark too."""

DEFAULT_DELIMITER = " "


def read_task(path: str | Path, *, limit: int | None = None) -> Task:
    """The questions of a jsonl file (or of one JSON array).

    Args:
        limit: So many questions are asked, spread evenly over the file; None = all.

    Raises:
        DataError: the file is missing or empty, or a record is none of its kind; the message names file and line.
    """
    path = Path(path)
    kind: Kind | None = None
    items = []
    for line, record, problem, _ in read_json_records(path):
        place = f"{path}:{line}"
        if problem is not None:
            raise DataError(f"{place}: {problem}; mend or remove the line")
        if not isinstance(record, dict):
            raise DataError(f"{place}: expected an object {{...}}, found {type(record).__name__}")
        kind = kind or _kind_of(record, place)
        if lacking := [key for key in FORMATS[kind].keys if key not in record]:
            raise DataError(
                f"{place}: lacks {' and '.join(lacking)}, which the records before have; a file holds one kind of task"
            )
        try:
            items.append(FORMATS[kind].read(record))
        except ValueError as error:
            raise DataError(f"{place}: {error}") from None
    if kind is None:
        raise DataError(f"{path}: holds no record; expected one JSON object a line ({_expected()})")
    delimiter = TASKS.get(path.stem, {}).get("delimiter", DEFAULT_DELIMITER)
    number = len(items) if limit is None else min(limit, len(items))
    asked = [index * len(items) // number for index in range(number)]
    return Task(path.stem, path, sha256_file(path), kind, tuple(items), asked, delimiter)


def read_tasks(paths: Sequence[str | Path], *, limit: int | None = None) -> list[Task]:
    """As `read_task`, for several files.

    Raises:
        DataError: as `read_task`; or two files have the same name, and so would have their results.
    """
    names = [Path(path).stem for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(
            f"{names.count(twice[0])} files of questions are called {twice[0]}, and so would be their results; "
            "rename one"
        )
    return [read_task(path, limit=limit) for path in paths]


def prompts(task: Task, *, num_shots: int, seed: int) -> list[tuple[str, ...]]:
    """The contexts of each question that is asked, with `num_shots` solved ones in front, which are others of the file.

    The examples depend on the seed, the task and the number of the question alone.

    Raises:
        DataError: the file has too few questions.
    """
    if num_shots >= len(task.items):
        raise DataError(
            f"{task.path}: {len(task.items)} questions, {num_shots} examples were asked for besides the one that is "
            "asked; ask for fewer examples"
        )
    found = []
    for number in task.asked:
        shown = [task.items[i].solved(task.delimiter) for i in _others(number, task, num_shots, seed)]
        found.append(tuple("\n\n".join([*shown, context]) for context in task.items[number].contexts))
    return found


def _others(number: int, task: Task, num_shots: int, seed: int) -> Sequence[int]:
    """`num_shots` different numbers of questions other than `number`, in the order in which they are shown."""
    if not num_shots:
        return ()
    generator = random.Random(derive_seed(seed, "examples", task.name, number))
    drawn = generator.sample(range(len(task.items) - 1), num_shots)
    return [other + (other >= number) for other in drawn]


def _kind_of(record: Mapping[str, Any], place: str) -> Kind:
    for kind, form in FORMATS.items():
        if all(key in record for key in form.keys):
            return kind
    raise DataError(
        f"{place}: no known kind of task: found the keys {sorted(record)}, expected {_expected()}"
    )


def _expected() -> str:
    return " or ".join(", ".join(form.keys) for form in FORMATS.values())


def _text(record: Mapping[str, Any], key: str) -> str:
    value = record[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} is of type {type(value).__name__}, expected a text")
    if not value.strip() and key != "context":
        raise ValueError(f"{key} is empty")
    return value


def _texts(record: Mapping[str, Any], key: str, *, at_least: int) -> tuple[str, ...]:
    value = record[key]
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise ValueError(f"{key} is {value!r:.80}, expected a list of texts that are not empty")
    if len(value) < at_least:
        raise ValueError(f"{key} has {len(value)} texts, expected {at_least} or more")
    return tuple(value)


def _index(record: Mapping[str, Any], key: str, number: int) -> int:
    value = record[key]
    if type(value) is not int or not 0 <= value < number:
        raise ValueError(f"{key} is {value!r:.80}, expected a number from 0 to {number - 1}")
    return value
