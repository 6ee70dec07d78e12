"""Results of one or several models as text for a terminal, side by side. Measures nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from core.progress import short_number
from data_processing.reports.shown import size
from evaluation.intervals import differing_by_chance
from evaluation.suite import Results
from evaluation.task_results import num_asked, title_of
from inference.model_directory import PRETRAINING

Row = tuple[str, ...]


def result_page(all_results: Sequence[Results]) -> str:
    """The figures of each model in a column of its own, and where they are in full."""
    parts = [
        _table("Text", ["text", "figure"], _text_rows(all_results), all_results),
        _of_tuned(all_results),
        _table("Tasks", ["task", "figure"], _task_rows(all_results), all_results),
        _differences(all_results),
        _table("What it writes", ["", ""], _quality_rows(all_results), all_results),
        _table("Speed", ["", ""], _speed_rows(all_results), all_results),
        "\n".join(
            f"{letter}  {results.model}  ({results.directory})" for letter, results in _lettered(all_results)
        ),
    ]
    return "\n\n".join(part for part in parts if part)


def _lettered(all_results: Sequence[Results]) -> Iterator[tuple[str, Results]]:
    for index, results in enumerate(all_results):
        yield chr(ord("A") + index), results


def _table(title: str, names: Sequence[str], rows: Sequence[Row], all_results: Sequence[Results]) -> str:
    if not rows:
        return ""
    head = (*names, *(letter for letter, _ in _lettered(all_results)))
    if len(rows[0]) > len(head):
        head = (*head, "chance", "trigrams", "questions")
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if index < len(names) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join([f"── {title} " + "─" * max(0, len(lines[0]) - len(title) - 4), *lines])


def _text_rows(all_results: Sequence[Results]) -> list[Row]:
    figures = {
        "loss_nats": "loss, nats a token",
        "perplexity": "perplexity a token",
        "bits_per_byte": "bits per byte",
        "token_accuracy": "likeliest token right",
    }
    return [
        (
            _with_limit(name, all_results[0]),
            title,
            *(_shown(results.texts[name].get(key)) for results in all_results),
        )
        for name in all_results[0].texts
        for key, title in figures.items()
    ]


def _with_limit(name: str, results: Results) -> str:
    number, limit = results.texts[name]["num_documents"], results.texts[name]["recipe"]["limit"]
    return name if limit is None or number < limit else f"{name}, first {limit:,} documents"


def _of_tuned(all_results: Sequence[Results]) -> str:
    """Why a model that answers predicts text worse than the one that it was."""
    lines = []
    for letter, results in _lettered(all_results):
        begun_with = results.manifest.get("initialised_from")
        if results.texts and begun_with is not None and results.manifest["stage"] != PRETRAINING:
            lines.append(
                f"{letter} was tuned to answer, and learned text before that: it continues text worse than what it was "
                f"tuned from, which python scripts/evaluate.py {begun_with} measures"
            )
    return "\n".join(lines)


def _task_rows(all_results: Sequence[Results]) -> list[Row]:
    rows = []
    for number, task in enumerate(all_results[0].tasks):
        of_task = [results.tasks[number] for results in all_results]
        for name, score in task["scores"].items():
            cells = [_with_interval(result["scores"][name]) for result in of_task]
            rows.append(
                (
                    title_of(task),
                    name.replace("_", " "),
                    *cells,
                    _shown(score["random"]),
                    _shown(score["ngram"]),
                    num_asked(task),
                )
            )
    return rows


def _differences(all_results: Sequence[Results]) -> str:
    """How sure it is that each other model is better or worse than the first."""
    lines = []
    for letter, results in list(_lettered(all_results))[1:]:
        for first, second in zip(all_results[0].tasks, results.tasks, strict=True):
            pairs = list(zip(first["right"], second["right"], strict=True))
            only_first, only_second = pairs.count(("1", "0")), pairs.count(("0", "1"))
            chance = differing_by_chance(only_first, only_second)
            lines.append(
                f"{first['task']}: {only_first} questions right in A alone, {only_second} in {letter} alone; "
                f"equally good models differ so much with probability {chance:.3f}"
            )
    return "\n".join(lines)


def _quality_rows(all_results: Sequence[Results]) -> list[Row]:
    qualities = [results.quality for results in all_results]
    first = next((quality for quality in qualities if quality is not None), None)
    if first is None:
        return []
    rows: list[Row] = [
        (name.replace("_", " "), "", *(_shown(q["figures"].get(name) if q else None) for q in qualities))
        for name in first["figures"]
    ]
    found = [_personal(quality) for quality in qualities]
    return [*rows, ("samples with personal data", "", *found)]


def _personal(quality: Mapping[str, Any] | None) -> str:
    if quality is None:
        return "–"
    kinds = {name: number for name, number in quality["personal_data"].items() if number}
    return ", ".join(f"{number} {name}" for name, number in kinds.items()) or "0"


def _speed_rows(all_results: Sequence[Results]) -> list[Row]:
    if all(results.speed is None for results in all_results):
        return []
    shown: dict[str, tuple[str, Callable[[Any], str]]] = {
        "time_to_first_token_seconds": ("time to first token", lambda value: f"{1000 * value:.1f} ms"),
        "prefill_tokens_per_second": ("reading, tokens a second", short_number),
        "decode_tokens_per_second": ("writing, tokens a second", short_number),
        "batch_tokens_per_second": ("writing 8 at once", short_number),
        "weights_bytes": ("weights", size),
        "cache_bytes_per_token": ("keys and values a token", size),
        "peak_memory_bytes": ("most memory of the process", size),
    }
    return [
        (title, "", *("–" if results.speed is None else write(results.speed[key]) for results in all_results))
        for key, (title, write) in shown.items()
    ]


def _with_interval(score: Mapping[str, Any]) -> str:
    if score["low"] is None:
        return _shown(score["value"])
    return f"{_shown(score['value'])} ({_shown(score['low'])}–{_shown(score['high'])})"


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"
