"""One page about a whole run, from raw files to answers. Computes no figure: it reads what is there.

Written from the files that the stages leave, in the data report's style; the page asks nothing of anybody.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.config_files import SETTINGS_FILE
from core.errors import DataError
from core.files import atomic_write
from core.json_files import json_object
from data_processing.reports.report_markup import (
    details,
    excerpt_block,
    name,
    note_list,
    num,
    openings,
    paragraph,
    section,
    side_by_side,
    table,
    tiles,
)
from data_processing.reports.report_style import STYLE
from data_processing.reports.shown import Html, markup, number, share, size
from evaluation.model_card import CARD_NAME, model_card
from evaluation.run_facts import (
    Facts,
    Places,
    default_places,
    gather_run_facts,
    headline,
)
from evaluation.run_places import TRAININGS, run_of
from evaluation.run_sections import (
    answers_section,
    quality_section,
    speed_section,
    tasks_section,
    texts_section,
)
from training.diagnosis import diagnose
from training.training_report import curves_section

PAGE_NAME = "report.html"

ROWS_IN_A_TABLE = 25


def write_run_report(places: Places, run: Path, *, settings: Facts, out: Path) -> None:
    """Write `report.html` and `MODEL_CARD.md` about a run into `out`.

    Args:
        places: Directory of each stage, by its name; those that are not there are passed over.
        run: Directory of the run, with the results of single models in `scores`, and perhaps `feedback.jsonl`.
        settings: All of them, by section.

    Raises:
        CorruptArtifactError: a result is not what was written.
        DiskError: the files cannot be written.
    """
    facts = gather_run_facts(places, run, settings=settings)
    atomic_write(out / PAGE_NAME, run_page(facts))
    atomic_write(out / CARD_NAME, model_card(facts))


def reported_run(model: Path) -> Path:
    """The run that a model directory lies in.

    Raises:
        DataError: it lies in none.
    """
    run = run_of(model)
    if run is None:
        raise DataError(
            f"--report: {model} lies in no run, so there is none to report on; leave out --report, or name a run such "
            "as runs/mine"
        )
    return run


def write_report_of(run: Path) -> Path:
    """Write both files into a run, and return where the page is.

    Raises:
        CorruptArtifactError, DiskError: as `write_run_report`.
    """
    settings = json_object(run / SETTINGS_FILE) if (run / SETTINGS_FILE).is_file() else {}
    write_run_report(default_places(run), run, settings=settings, out=run)
    return run / PAGE_NAME


def run_page(facts: Facts) -> str:
    """The page as HTML."""
    logs, evaluation, scores = facts["logs"], facts["evaluation"], facts["scores"]
    sections = {
        "data": ("Data", _data_section(facts)),
        **{
            f"curves-{stage}": (
                TRAININGS[stage],
                curves_section(log, identifier=f"curves-{stage}", title=TRAININGS[stage]),
            )
            for stage, log in logs.items()
        },
        "texts": ("Text", texts_section(evaluation, scores)),
        "tasks": ("Tasks", tasks_section(scores)),
        "answers": ("Instructions", answers_section(evaluation)),
        "writing": ("Samples", quality_section(scores, evaluation)),
        "speed": ("Speed", speed_section(scores)),
        "feedback": ("Feedback", _feedback_section(facts["feedback"])),
        "lineage": ("Lineage", _lineage_section(facts)),
    }
    links = "".join(
        f'<li><a href="#{identifier}">{markup(title)}</a></li>'
        for identifier, (title, content) in sections.items()
        if content
    )
    notes = [f"{f.seen[0].upper()}{f.seen[1:]} — {f.remedy}." for log in logs.values() for f in diagnose(log)]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>Run report: {markup(facts['name'])}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>Run report: {markup(facts["name"])}</h1><p class="headline">{markup(headline(facts))}</p>'
        f"{_tiles(facts)}{note_list([*facts['data'].get('notable', []), *notes])}"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f"<main>{''.join(content for _, content in sections.values())}</main>\n"
        "<footer>The figures of this page are in evaluation.json beside it and in the run's scores directory; "
        "scripts/evaluate.py adds more.</footer>\n</body>\n</html>\n"
    )


def _tiles(facts: Facts) -> Html:
    shown = []
    if collection := facts["data"].get("collection"):
        shown.append(("Text", size(collection["bytes_kept"]), f"{number(collection['kept'])} documents"))
    for stage, log in facts["logs"].items():
        tokens = log.last("train/tokens")
        if tokens is not None:
            shown.append((TRAININGS[stage], f"{number(int(tokens))}", f"tokens in {number(log.step)} steps"))
    for split, values in facts["evaluation"].get("text", {}).items():
        if values["bits_per_byte"] is not None:
            shown.append((f"{split.capitalize()} text", f"{values['bits_per_byte']:.3f}", "bits per byte"))
    if answered := facts["evaluation"].get("held_out"):
        right = answered["right_first_sentence_share"] or 0.0
        shown.append(("Questions never shown", share(right, 1), f"right, of {answered['num_questions']}"))
    return tiles(shown)


def _data_section(facts: Facts) -> Html:
    data, dataset = facts["data"], facts["dataset"]
    parts = []
    if collection := data.get("collection"):
        left_out = sorted(collection["dropped"].items(), key=lambda item: -item[1])
        parts.append(
            side_by_side(
                table(
                    "Documents",
                    [],
                    [
                        ["found", num(collection["documents_in"])],
                        ["kept", num(collection["kept"])],
                        ["bytes kept", size(collection["bytes_kept"])],
                    ],
                ),
                table(
                    "Left out", ["reason", "documents"], [[name(reason), num(n)] for reason, n in left_out]
                ),
            )
        )
    rows = [
        [split, num(v["documents"]), num(v["tokens"]), num(v["rows"]), num(v.get("bytes_per_token", 0.0))]
        for split, v in dataset.get("splits", {}).items()
    ]
    parts.append(table("Splits", ["split", "documents", "tokens", "rows", "bytes a token"], rows))
    if dataset:
        parts.append(
            table(
                "Tokenizer",
                [],
                [
                    ["vocabulary", num(dataset["vocab_size"])],
                    ["fingerprint", name(dataset["tokenizer_fingerprint"])],
                ],
            )
        )
    if not any(parts):
        return Html("")
    return section("data", "Data and tokenizer", "data_report.html of the run has all of it.", *parts)


def _feedback_section(feedback: Mapping[str, int] | None) -> Html:
    if not feedback or not feedback["answers"]:
        return Html("")
    rows = [
        [key.replace("_", " "), num(value), share(value, feedback["answers"])]
        for key, value in feedback.items()
    ]
    return section(
        "feedback",
        "Feedback",
        "What people said of answers.",
        table("Feedback", ["", "answers", "share"], rows),
    )


CURRICULUM_HEAD = [
    "run",
    "new documents",
    "new tokens",
    "steps",
    "learning rate",
    "replayed share",
    "conversations",
]
LEARNED = ("documents", "tokens", "steps", "learning_rate", "replay_share", "conversations")


def _learned_rows(curriculum: Sequence[Facts]) -> list[list[Any]]:
    """A row a run; none of a run that began with nothing, because the other tables say what it learned."""
    if len(curriculum) == 1:
        return []
    return [
        [name(run["run"]), *("–" if run[key] is None else num(run[key]) for key in LEARNED)]
        for run in curriculum
    ]


def _lineage_section(facts: Facts) -> Html:
    rows = [
        [
            stage["stage"],
            name(str(stage.get("fingerprint", "–"))[:16]),
            name(
                ", ".join(f"{k} {str(v)[:8]}" for k, v in stage.get("recipe", {}).get("inputs", {}).items())
                or "–"
            ),
            f"{stage['elapsed_seconds']:,.0f} s" if "elapsed_seconds" in stage else "–",
        ]
        for stage in facts["stages"]
    ]
    versions = facts["stages"][-1].get("versions", {}) if facts["stages"] else {}
    settings = [
        [name(key), name("none" if value is None else value)] for key, value in facts["settings"].items()
    ]
    tables = [
        table("Settings", ["setting", "value"], settings[start : start + ROWS_IN_A_TABLE])
        for start in range(0, len(settings), ROWS_IN_A_TABLE)
    ]
    return section(
        "lineage",
        "Lineage",
        "Equal settings over equal files give equal fingerprints.",
        paragraph("The same run again:"),
        excerpt_block(facts["command"]),
        table("What was learned, run after run", CURRICULUM_HEAD, _learned_rows(facts["curriculum"])),
        table("Stages", ["stage", "result", "made from", "time"], rows),
        table("Versions", [], [[key, name(value)] for key, value in versions.items()]),
        openings(details(Html(f'All settings <span class="count">{len(settings)}</span>'), *tables)),
    )
