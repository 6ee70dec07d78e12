"""The sections of the page about a run that show what was measured of its models. Reads no file, computes no figure.

`scores` are, by the name of a model, its results by the name of their files.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from core.progress import short_number
from data_processing.reports.plots import Bar, Part, bar_chart, legend
from data_processing.reports.report_markup import (
    details,
    excerpt_block,
    name,
    num,
    openings,
    section,
    share_of,
    side_by_side,
    subsection,
    table,
)
from data_processing.reports.shown import Html, markup, number, size, words
from evaluation.generation_quality import SAMPLES_A_PROMPT
from evaluation.line_evaluation import texts_of
from evaluation.task_results import num_asked, title_of
from inference.sampling_settings import SamplingSettings

Facts = Mapping[str, Any]
Scores = Mapping[str, Mapping[str, Facts]]

USUAL = SamplingSettings()
SAMPLED = f"In samples at temperature {USUAL.temperature:g} among the {USUAL.top_k} likeliest tokens"
SHOWN_SAMPLES = 24
ROWS_IN_A_TABLE = 25


def texts_section(evaluation: Facts, scores: Scores) -> Html:
    """How well held-out text is predicted: as a whole, by source and by length."""
    rows = [
        [model, split, num(v["loss_nats"]), _optional(v["perplexity"]), _optional(v["bits_per_byte"])]
        for model, split, v in texts_of(evaluation)
    ]
    parts = [
        table(
            "On the rows of the dataset",
            ["model", "split", "loss, nats a token", "perplexity", "bits per byte"],
            rows,
        )
    ]
    opened = [
        details(f"{model} on {_text_of(result)}, by {what}", *_groups(result[key], what))
        for model, results in scores.items()
        for result in _of_kind(results, "text")
        for key, what in (("by_source", "source"), ("by_length", "length of the document"))
    ]
    parts.append(openings(*opened))
    return _section("texts", "Held-out text", "Text that no model of this run was trained on.", *parts)


def _text_of(result: Facts) -> str:
    limit = result["recipe"]["limit"]
    return str(result["recipe"]["text"][0]) + ("" if limit is None else f" (at most {limit:,} documents)")


def _groups(groups: Mapping[str, Facts], what: str) -> list[Html]:
    """Tables of the figures of each group that has any."""
    keys = ("num_documents", "bits_per_byte", "perplexity", "token_accuracy")
    rows = [
        [name(label), *(num(figures[key]) for key in keys)]
        for label, figures in groups.items()
        if "bits_per_byte" in figures
    ]
    columns = [what, "documents", "bits per byte", "perplexity", "likeliest token right"]
    return [
        table(f"By {what}", columns, rows[start : start + ROWS_IN_A_TABLE])
        for start in range(0, len(rows), ROWS_IN_A_TABLE)
    ]


def tasks_section(scores: Scores) -> Html:
    """Questions with known answers, beside what chance and counting achieve."""
    parts = []
    for model, results in scores.items():
        rows, bars = [], []
        for result in _of_kind(results, "task"):
            for figure, score in result["scores"].items():
                task = title_of(result)
                rows.append(
                    [
                        name(task),
                        words(figure),
                        num(score["value"]),
                        _interval(score),
                        _optional(score["random"]),
                        _optional(score["ngram"]),
                        num_asked(result),
                        _optional(result["num_in_training_text"]),
                    ]
                )
                if score["random"] is not None:
                    bars.append(_bar(f"{task}: {words(figure)}", score))
        if rows:
            chart = bar_chart(
                bars,
                identifier=f"tasks-{model}",
                title=f"Tasks, {model}",
                description="; ".join(f"{bar.label}: {bar.note}" for bar in bars),
                scale=1.0,
            )
            columns = [
                "task",
                "figure",
                "value",
                "95 % interval",
                "chance",
                "trigrams",
                "questions",
                "in training",
            ]
            parts.append(
                subsection(
                    model,
                    chart,
                    legend(
                        [
                            ("kept", "right at least, with 95 % confidence"),
                            ("kept-3", "right at most"),
                        ]
                    ),
                    table(f"Tasks, {model}", columns, rows),
                )
            )
    return _section(
        "tasks",
        "Tasks",
        "Shares of right answers with Wilson's interval; chance is rolling dice, trigrams a model that has counted "
        "three tokens in a row (in the training text, where that is known). “In training” are questions of which 13 "
        "words in a row stand there.",
        *parts,
    )


def _bar(label: str, score: Facts) -> Bar:
    note = f"{number(round(score['value'], 4))} (chance {number(round(score['random'], 4))})"
    low = score["low"] or 0.0
    return Bar(
        label,
        [Part("kept", low, "lower end"), Part("kept-3", (score["high"] or low) - low, "interval")],
        note,
    )


def answers_section(evaluation: Facts) -> Html:
    """Questions of the instruction data, before and after tuning, and some of the answers."""
    titles = {
        "held_out_before_tuning": "never shown, pretrained model",
        "held_out": "never shown, tuned model",
        "held_in": "trained on, tuned model",
    }
    shares = ("right_first_sentence_share", "stopped_share")
    rows = [
        [title, num(v["num_questions"]), *(share_of(v[share], 1) for share in shares)]
        for key, title in titles.items()
        if (v := evaluation.get(key)) and v["num_questions"]
    ]
    shown = [
        details(
            markup(f"{answer['question']} — {'right' if answer['right'] else 'not right'}"),
            subsection("Model", excerpt_block(answer["answer"])),
            subsection("True answer", excerpt_block(answer["true_answer"])),
        )
        for answer in evaluation.get("held_out", {}).get("answers", [])[:SHOWN_SAMPLES]
    ]
    columns = ["questions", "asked", "first sentence right", "ended by themselves"]
    return _section(
        "answers",
        "Instructions",
        "Right is an answer whose first sentence is that of the true answer.",
        table("Before and after tuning", columns, rows),
        openings(*shown),
    )


def quality_section(scores: Scores, evaluation: Facts) -> Html:
    """What the models write by themselves."""
    parts = []
    for model, results in scores.items():
        quality = results.get("quality.json")
        if quality is None:
            continue
        rows = [[words(key), _optional(value)] for key, value in quality["figures"].items()]
        kinds = [[words(kind), num(count)] for kind, count in quality["personal_data"].items()]
        parts.append(
            subsection(
                model,
                side_by_side(
                    table(SAMPLED, [], rows),
                    table("Samples with what looks like personal data", ["kind", "samples"], kinds),
                ),
                openings(
                    *(
                        details(markup(sample["prompt"]), excerpt_block(sample["text"]))
                        for sample in quality["samples"][::SAMPLES_A_PROMPT]
                    )
                ),
            )
        )
    continued = [
        details(markup(sample["prompt"].strip()), excerpt_block(sample["continuation"]))
        for sample in evaluation.get("samples", [])
    ]
    if continued:
        parts.append(subsection("Held-out documents, continued", openings(*continued)))
    return _section(
        "writing", "What it writes", "The first of the samples for each prompt: nobody chose them.", *parts
    )


def speed_section(scores: Scores) -> Html:
    """Seconds and bytes on the machine that measured them."""
    rows = []
    for model, results in scores.items():
        speed = results.get("speed.json")
        if speed is not None:
            rows.append(
                [
                    name(model),
                    f"{1000 * speed['time_to_first_token_seconds']:.0f} ms",
                    short_number(speed["prefill_tokens_per_second"]),
                    short_number(speed["decode_tokens_per_second"]),
                    short_number(speed["batch_tokens_per_second"]),
                    size(speed["weights_bytes"]),
                    size(speed["peak_memory_bytes"]),
                    f"{speed['machine']}, {speed['threads']} threads, {speed['compute_dtype']}",
                ]
            )
    columns = [
        "model",
        "first token",
        "reading/s",
        "writing/s",
        "8 at once/s",
        "weights",
        "most memory",
        "machine",
    ]
    return _section(
        "speed", "Speed", "Tokens a second while the evaluation ran.", table("Speed", columns, rows)
    )


def _section(identifier: str, title: str, lead: str, *parts: Html) -> Html:
    """A section, or nothing where all of its parts are empty."""
    return section(identifier, title, lead, *parts) if any(parts) else Html("")


def _of_kind(results: Mapping[str, Facts], key: str) -> Sequence[Facts]:
    """The results whose recipe is about a text or a task."""
    return [result for file, result in sorted(results.items()) if key in result.get("recipe", {})]


def _interval(score: Facts) -> str:
    if score["low"] is None:
        return "–"
    return f"{number(round(score['low'], 4))} – {number(round(score['high'], 4))}"


def _optional(value: float | None) -> Any:
    return "–" if value is None else num(value)
