"""The page that shows how a training went: one HTML file that asks nothing of anybody, in the data report's style.

Made from the files that the training leaves, so it can be made while it runs, and long after.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.files import atomic_write
from data_processing.reports.plots import Line, legend, line_chart
from data_processing.reports.report_markup import (
    details,
    name,
    note_list,
    num,
    openings,
    section,
    side_by_side,
    subsection,
    table,
    tiles,
)
from data_processing.reports.report_style import STYLE
from data_processing.reports.shown import Html, markup, number, one_line, size
from training.diagnosis import diagnose
from training.monitor_page import ago, shortest_names, state
from training.run_log import Curve, TrainingLog, read_events, read_samples, read_training, thinned

REPORT_NAME = "training_report.html"

MOST_SAMPLES = 40
ROWS_IN_A_TABLE = 25

PREFERRED = "validation/preference_accuracy"

PLOTS: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("Loss, {unit}", {"train/loss": "around", "validation/loss": "kept"}),
    ("Bits per byte of held-out text", {"validation/bits_per_byte": "kept"}),
    ("Share of held-out pairs that are preferred as they should be", {PREFERRED: "kept"}),
    ("Margin between the answers of held-out pairs, nats", {"validation/preference_margin": "kept"}),
    ("Learning rate", {"train/learning_rate": "around"}),
    ("Gradient norm before clipping", {"train/gradient_norm": "around"}),
    ("Tokens a second", {"train/tokens_per_second": "around"}),
    (
        "Update-to-weight ratio",
        {"train/update_to_weight/attention": "kept", "train/update_to_weight/feed_forward": "dropped"},
    ),
    ("Activations after the last block, root mean square", {"train/activation_rms": "around"}),
    ("Share of the gradient that is signal", {"train/gradient_signal_share": "around"}),
)
"""Title, and the class that colours each curve; `{unit}` is that of the loss."""

LABELS = {
    "train/loss": "training",
    "validation/loss": "held out",
    "train/update_to_weight/attention": "attention",
    "train/update_to_weight/feed_forward": "feed-forward",
}


def write_training_report(directory: Path, place: Path | None = None) -> Path:
    """Write the page about the training in `directory`, there or at `place`, and return where it is.

    Raises:
        DiskError: it cannot be written.
    """
    place = place or directory / REPORT_NAME
    page = training_page(read_training(directory), read_samples(directory), read_events(directory))
    atomic_write(place, page)
    return place


def training_page(
    log: TrainingLog, samples: Sequence[Mapping[str, Any]], events: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The page as HTML."""
    title = shortest_names([log.directory])[0]
    notes = [f"{f.seen[0].upper()}{f.seen[1:]} — {f.remedy}." for f in diagnose(log)]
    headline = f"{(log.stage or 'training').capitalize()}, {state(log).partition(',')[0]}."
    body = "".join(
        [curves_section(log), _events_section(events), _samples_section(samples), _settings_section(log)]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>Training report: {markup(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>Training report: {markup(title)}</h1><p class="headline">{markup(headline)}</p>{_tiles(log)}'
        f"{note_list(notes)}</header>\n<main>{body}</main>\n"
        "<footer>The numbers of this page, all of them and unrounded, are in metrics.jsonl beside it; "
        "scripts/monitor.py shows them as they come, scripts/doctor.py says what they mean.</footer>\n"
        "</body>\n</html>\n"
    )


def _tiles(log: TrainingLog) -> Html:
    shown = [("Steps", number(log.step), f"of {number(log.total_steps or log.step)}")]
    for key, title, unit in (
        ("validation/loss", "Held-out loss", _unit_of_loss(log)),
        (PREFERRED, "Held-out pairs", "preferred as they should be"),
        ("validation/bits_per_byte", "Held-out text", "bits per byte"),
    ):
        values = log.values(key)
        if values:
            shown.append((title, f"{values[-1]:.3f}", f"{unit}, {values[0]:.3f} at first"))
    tokens, epochs = log.last("train/tokens"), log.last("train/epochs")
    if tokens is not None:
        passes = f"{epochs:.2f} passes over the data" if epochs is not None else ""
        shown.append(("Tokens", number(tokens), passes))
    if log.elapsed_seconds:
        shown.append(("Time", ago(log.elapsed_seconds), _speed_note(log)))
    return tiles(shown)


def _unit_of_loss(log: TrainingLog) -> str:
    return "a pair of answers" if PREFERRED in log.curves else "nats a token"


def _speed_note(log: TrainingLog) -> str:
    used = {"MFU": log.last("train/mfu"), "of matmul speed": log.last("train/share_of_matmul_speed")}
    return "; ".join(f"{share:.0%} {label}" for label, share in used.items() if share is not None)


def curves_section(log: TrainingLog, *, identifier: str = "curves", title: str = "Curves") -> Html:
    """The curves of a training as a section of a page.

    Args:
        identifier: Of the section; those of its plots begin with it, so that a page can hold several.
    """
    plots = [
        _plot(
            f"{identifier}-plot-{index}",
            plot_title.format(unit=_unit_of_loss(log)),
            {key: log.curves[key] for key in kinds if key in log.curves},
            kinds,
            log.step,
        )
        for index, (plot_title, kinds) in enumerate(PLOTS)
    ]
    return section(
        identifier,
        title,
        "Over steps (updates). Highest and lowest value at the left.",
        side_by_side(*plots),
    )


def _plot(
    identifier: str, title: str, curves: Mapping[str, Curve], kinds: Mapping[str, str], last_step: int
) -> Html:
    if not any(len(curve) > 1 for curve in curves.values()):
        return Html("")
    described = "; ".join(
        f"{LABELS.get(key, key)}: {number(curve[-1][1])} at the end" for key, curve in curves.items()
    )
    lines = [Line(kinds[key], thinned(curve)) for key, curve in curves.items()]
    plot = line_chart(
        lines, identifier=identifier, title=title, description=described, span=(0, max(last_step, 1))
    )
    meanings = [
        (kinds[key], f"{LABELS[key]}, {curve[-1][1]:.3g} at the end")
        for key, curve in curves.items()
        if key in LABELS
    ]
    return subsection(title, plot, legend(meanings) if meanings else Html(""))


def _events_section(events: Sequence[Mapping[str, Any]]) -> Html:
    rows = [
        [num(event["step"]), name(str(event["kind"]).replace("_", " ")), name(_told(event))]
        for event in events
    ]
    tables = [
        table("Events", ["step", "what", "details"], rows[start : start + ROWS_IN_A_TABLE])
        for start in range(0, len(rows), ROWS_IN_A_TABLE)
    ]
    return section("events", "Events", "What happened besides steps.", *tables) if rows else Html("")


def _told(event: Mapping[str, Any]) -> str:
    told = {key: value for key, value in event.items() if key not in ("time", "step", "kind")}
    return "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in told.items())


def _samples_section(samples: Sequence[Mapping[str, Any]]) -> Html:
    rows = [
        [num(line["step"]), name(one_line(line["prompt"], 120)), name(one_line(line["continuation"], 200))]
        for line in samples[-MOST_SAMPLES:]
    ]
    tables = [
        table(
            "The likeliest continuation at each evaluation",
            ["step", "prompt", "model"],
            rows[start : start + ROWS_IN_A_TABLE],
        )
        for start in range(0, len(rows), ROWS_IN_A_TABLE)
    ]
    return section("samples", "Samples", "How the model went on from the same held-out prompts.", *tables)


def _settings_section(log: TrainingLog) -> Html:
    rows = [[name(key), name("none" if value is None else value)] for key, value in log.settings.items()]
    tables = [
        table("Settings", ["setting", "value"], rows[start : start + ROWS_IN_A_TABLE])
        for start in range(0, len(rows), ROWS_IN_A_TABLE)
    ]
    machine = [[key, name(value)] for key, value in log.machine.items()]
    memory = log.last("train/peak_memory_bytes")
    if memory:
        machine.append(["peak memory", name(size(int(memory)))])
    return section(
        "settings",
        "Settings and machine",
        "What decides the result, and where it was computed.",
        openings(details(Html(f'Settings <span class="count">{len(rows)}</span>'), *tables))
        if rows
        else Html(""),
        table("Machine", [], machine),
    )
