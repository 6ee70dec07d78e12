"""The sections of a report page about what was found and what became of it.

Each is a function of the facts (`data_report.gather_facts`) and gives nothing where there are no facts for it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from data_processing.reports.plots import Bar, Part, bar_chart, legend
from data_processing.reports.report import REASONS
from data_processing.reports.report_markup import (
    MOST_BARS,
    Figure,
    beside,
    details,
    excerpt_block,
    largest,
    listed,
    name,
    num,
    openings,
    paragraph,
    scalars,
    section,
    share_of,
    side_by_side,
    size_of,
    subsection,
    table,
)
from data_processing.reports.shown import Html, by_size, counted, markup, number, size, words

_FLOW = (
    ("kept", "kept"),
    ("removed", "taken from kept texts"),
    ("around", "around the texts"),
    ("dropped", "left out"),
)

Facts = Mapping[str, Any]


def flow_section(facts: Facts) -> Html:
    """What became of all documents and bytes."""
    collection = facts["collection"]
    documents, kept, num_bytes = collection["documents_in"], collection["kept"], collection["bytes_in"]
    parts = {
        "kept": collection["bytes_kept"],
        "removed": collection["bytes_removed"],
        "around": collection["bytes_around"],
        "dropped": sum(collection["bytes_dropped"].values()),
    }
    of_documents = {"kept": kept, "dropped": documents - kept}
    bars = [
        Bar(
            "Documents",
            [
                Part(kind, _portion(of_documents[kind], documents), f"{number(of_documents[kind])} {what}")
                for kind, what in _FLOW
                if kind in of_documents
            ],
            number(documents),
        ),
        Bar(
            "Bytes",
            # What made texts longer counts below zero and cannot be drawn; the table has it.
            [
                Part(kind, _portion(parts[kind], num_bytes), f"{size(parts[kind])} {what}")
                for kind, what in _FLOW
            ],
            size(num_bytes),
        ),
    ]
    plot = bar_chart(
        bars,
        identifier="flow-plot",
        title="What became of documents and bytes",
        description=f"{number(kept)} of {number(documents)} documents and {size(parts['kept'])} of {size(num_bytes)} "
        "were kept.",
        scale=1,
    )
    rows = [
        [
            what,
            num(of_documents[kind]) if kind in of_documents else Figure("–"),
            size_of(parts[kind]),
            share_of(parts[kind], num_bytes),
        ]
        for kind, what in _FLOW
    ]
    rows.append(["all that came in", num(documents), size_of(num_bytes), share_of(num_bytes, num_bytes)])
    note = (
        "Around the texts: JSON syntax, other fields, byte-order marks, and what another encoding makes of a letter; "
        "below zero where UTF-8 takes more bytes."
    )
    if collection["bytes_unpacked"]:
        note += (
            f" The files take {size(collection['bytes_on_disk'])} on the disk; unpacking archives and compressed files "
            f"makes {size(num_bytes)} of them."
        )
    return section(
        "flow",
        "What came in and what became of it",
        "Every document and every byte that was found is in exactly one row.",
        beside(
            Html(plot + legend(_FLOW)),
            table("Documents and bytes", ["", "documents", "bytes", "share of bytes"], rows),
        ),
        paragraph(note),
        _directories(collection["directories_skipped"]),
    )


def _directories(skipped: Mapping[str, int]) -> Html:
    rows = [[words(reason), num(times)] for reason, times in by_size(skipped)]
    return table("Directories that were not entered", ["reason", "directories"], rows)


def reasons_section(facts: Facts) -> Html:
    """Why documents were left out, with the first cases of each reason."""
    collection = facts["collection"]
    dropped, sizes, total = (
        by_size(collection["dropped"]),
        collection["bytes_dropped"],
        collection["documents_in"],
    )
    if not dropped:
        return section("reasons", "What was left out, and why", "", paragraph("Nothing was left out."))
    drawn = largest(dropped)
    others = sum(sizes.values()) - sum(sizes[reason] for reason, _ in drawn if reason in sizes)
    plot = bar_chart(
        [
            Bar(reason, [Part("dropped", times, counted(times, "document"))], number(times))
            for reason, times in drawn
        ],
        identifier="reasons-plot",
        title="Documents left out, by reason",
        description=listed(drawn),
    )
    rows = [
        [name(reason), num(times), share_of(times, total), size_of(sizes.get(reason, others))]
        for reason, times in drawn
    ]
    return section(
        "reasons",
        "What was left out, and why",
        "The first rule that objects gives the reason.",
        beside(plot, table("Documents left out", ["reason", "documents", "of all", "bytes of input"], rows)),
        subsection(
            "Each reason, what it means, and its first cases",
            openings(
                *(_cases(reason, times, collection["samples"].get(reason, [])) for reason, times in dropped),
            ),
        ),
        _losses(facts["files"]),
    )


def _cases(reason: str, times: int, samples: Sequence[Mapping[str, str]]) -> Html:
    meaning = f' <span class="meaning">– {markup(REASONS[reason])}</span>' if reason in REASONS else ""
    summary = Html(f'{name(reason)} <span class="count">{number(times)}</span>{meaning}')
    shown = [
        Html(
            f'<div class="sample"><p>{name(sample["source"])}'
            + (f" – {markup(sample['detail'])}" if "detail" in sample else "")
            + "</p>"
            + (excerpt_block(sample["sample"]) if "sample" in sample else "")
            + "</div>"
        )
        for sample in samples
    ]
    return details(summary, *shown)


def _losses(files: Mapping[str, Any] | None) -> Html:
    if files is None:
        return Html("")
    rows = [
        [
            name(file["source"]),
            size_of(file["num_bytes"]),
            size_of(file["bytes_kept"]),
            num(file["documents_in"]),
            num(file["kept"]),
            ", ".join(f"{reason} {number(times)}" for reason, times in by_size(file["dropped"])),
        ]
        for file in files["largest_losses"]
    ]
    lead = (
        f"Of {number(files['files'])} files that were read, {number(files['all_kept'])} gave all their documents to "
        f"the corpus, {number(files['partly_kept'])} some of them and {number(files['nothing_kept'])} none; "
        f"{number(files['unread'])} more were left out before they were opened."
    )
    columns = ["file", "bytes", "bytes kept", "documents", "kept", "left out"]
    return subsection("Files", paragraph(lead), table("The files that lost most", columns, rows))


def sources_section(facts: Facts) -> Html:
    """Documents and bytes by source, format and encoding."""
    groups = sorted(facts["collection"]["groups"].items(), key=lambda item: (-item[1]["bytes_in"], item[0]))
    rows = [
        [
            name(title),
            num(group["documents_in"]),
            share_of(group["kept"], group["documents_in"]),
            size_of(group["bytes_in"]),
            size_of(group["bytes_kept"]),
            _main_reason(group["dropped"]),
        ]
        for title, group in groups
    ]
    columns = ["source", "documents", "kept", "bytes", "bytes kept", "mostly left out as"]
    return section(
        "sources",
        "Sources",
        "A source is the first directory of a path; a dot stands for the directory itself.",
        side_by_side(
            _kept_of_found(groups, "documents_in", "kept", "Documents", number),
            _kept_of_found(groups, "bytes_in", "bytes_kept", "Bytes", size),
        ),
        legend([("kept", "in the corpus"), ("dropped", "not in the corpus")]),
        table("Documents and bytes by source", columns, rows),
        side_by_side(_formats(facts["collection"]), _encodings(facts["collection"])),
    )


def _kept_of_found(
    groups: Sequence[tuple[str, Mapping[str, int]]],
    found: str,
    kept: str,
    what: str,
    shown: Callable[[int], str],
) -> Html:
    """Bars of what is in the corpus of each source and what is not; the smallest sources are drawn as one."""
    alone = len(groups) if len(groups) <= MOST_BARS else MOST_BARS - 1
    values = [(title, group[kept], group[found]) for title, group in groups[:alone]]
    if rest := [group for _, group in groups[alone:]]:
        values.append(
            (f"{len(rest)} others", sum(group[kept] for group in rest), sum(group[found] for group in rest))
        )
    bars = [
        Bar(
            title,
            [
                Part("kept", inside, f"{shown(inside)} in the corpus"),
                Part("dropped", whole - inside, f"{shown(whole - inside)} not in it"),
            ],
            f"{shown(inside)} of {shown(whole)}",
        )
        for title, inside, whole in values
    ]
    plot = bar_chart(
        bars,
        identifier=f"sources-{kept}-plot",
        title=f"{what} in the corpus, by source",
        description="; ".join(f"{bar.label}: {bar.note}" for bar in bars),
    )
    return subsection(what, plot)


def _main_reason(dropped: Mapping[str, int]) -> str:
    return "{} ({:,})".format(*by_size(dropped)[0]) if dropped else "–"


def _formats(collection: Mapping[str, Any]) -> Html:
    formats = sorted(collection["formats"].items(), key=lambda item: (-item[1]["bytes_in"], item[0]))
    rows = [
        [
            name(extension) if extension else "text without a file",
            num(counts["documents_in"]),
            share_of(counts["kept"], counts["documents_in"]),
            size_of(counts["bytes_in"]),
        ]
        for extension, counts in formats
    ]
    columns = ["format", "documents", "kept", "bytes"]
    return subsection("Formats", table("Documents and bytes by format", columns, rows))


def _encodings(collection: Mapping[str, Any]) -> Html:
    rows = [
        [name(encoding), num(times), share_of(times, collection["kept"])]
        for encoding, times in by_size(collection["encodings"])
    ]
    return subsection(
        "Encodings", table("Kept documents by encoding", ["encoding", "documents", "share"], rows)
    )


def cleaning_section(facts: Facts) -> Html:
    """What the steps took from texts that were kept, and what they counted."""
    collection = facts["collection"]
    removed = by_size(collection["removed_by"])
    plot = bar_chart(
        [
            Bar(words(step), [Part("removed", max(taken, 0), size(taken))], size(taken))
            for step, taken in removed
        ],
        identifier="cleaning-plot",
        title="Bytes taken from kept texts, by step",
        description="; ".join(f"{words(step)}: {size(taken)}" for step, taken in removed),
    )
    before = collection["bytes_kept"] + collection["bytes_removed"]
    rows = [[words(step), size_of(taken), share_of(taken, before)] for step, taken in removed]
    counts = [[words(what), num(times)] for what, times in by_size(collection["counts"])]
    return section(
        "cleaning",
        "What was taken from kept texts",
        "Below zero where a step made texts longer, as a stand-in can that is longer than what it replaces.",
        beside(plot, table("Bytes by step", ["step", "bytes", "of these texts"], rows)) if rows else Html(""),
        side_by_side(
            subsection("What the steps counted", table("In kept documents", ["what", "number"], counts)),
            _privacy(facts),
            _recurring(collection.get("recurring_lines")),
        ),
    )


def _privacy(facts: Facts) -> Html:
    policy = {key: value for key, value in facts["settings"].items() if "privacy." in key}
    rows = [[words(key.rpartition(".")[2]), str(value)] for key, value in policy.items()]
    return subsection("Personal data", table("What becomes of it", ["kind", "treatment"], rows))


def _recurring(lines: Any) -> Html:
    """The lines that recur, where the report lists them; or the numbers that it has of them."""
    caption = "Lines that stand in many documents"
    if isinstance(lines, Mapping):
        return subsection("Recurring lines", scalars(caption, lines))
    rows = [[name(line["line"]), num(line["documents"])] for line in lines or ()]
    return subsection("Recurring lines", table(caption, ["line", "documents"], rows))


def _portion(part: int, whole: int) -> float:
    return max(part, 0) / whole if whole else 0.0
