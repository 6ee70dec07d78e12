"""The sections of a report page about the corpus itself: what is alike in it, how long its texts are, which languages.

Each is a function of the facts (`data_report.gather_facts`) and gives nothing where there are no facts for it.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from data_processing.reports.plots import Bar, Column, Part, bar_chart, histogram
from data_processing.reports.report_markup import (
    Figure,
    beside,
    details,
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
from data_processing.reports.shown import Html, counted, number, share, size

Facts = Mapping[str, Any]


def duplicates_section(facts: Facts) -> Html:
    """Exact and near duplicates: how many, in clusters of which sizes, and the largest of them."""
    collection, duplicates = facts["collection"], facts["duplicates"]
    statistics = collection.get("near_duplicates") or {}
    if duplicates is None and not statistics:
        return Html("")
    dropped = collection["dropped"]
    summary = [
        ["the same text as an earlier document", num(dropped.get("duplicate", 0))],
        ["nearly the text of a kept document", num(dropped.get("near_duplicate", 0))],
    ]
    numbers = (
        table("Documents left out as duplicates", ["", "documents"], summary),
        scalars("How near duplicates were found", statistics),
    )
    if duplicates is None or not duplicates["clusters"]:
        body = side_by_side(*numbers)
    else:
        plot = _cluster_plot(duplicates["sizes"])
        body = Html(
            beside(plot, *numbers)
            + subsection("The largest clusters", openings(*map(_cluster, duplicates["largest"])))
        )
    return section(
        "duplicates",
        "Duplicates",
        "A cluster is a group of texts that pairs of near duplicates connect; of each, one text stands for all.",
        body,
    )


def _cluster_plot(sizes: Mapping[str, int]) -> Html:
    ranges = _ranges(sizes)
    plot = histogram(
        [
            Column(label, clusters, f"{counted(clusters, 'cluster')} of {label} documents")
            for label, clusters in ranges
        ],
        identifier="clusters-plot",
        title="Clusters of near duplicates, by number of documents in them",
        description=listed(ranges),
    )
    rows = [[label, num(clusters)] for label, clusters in ranges]
    return Html(plot + table("Clusters by size", ["documents", "clusters"], rows))


def _ranges(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    """Numbers of members in ranges that double, such as 2, 3–4, 5–8, with the number of clusters in each."""
    counts: Counter[int] = Counter()
    for members, clusters in sizes.items():
        counts[(int(members) - 1).bit_length()] += clusters
    return [
        (f"{2 ** (power - 1) + 1}–{2**power}" if power > 1 else "2", counts[power])
        for power in range(1, max(counts) + 1)
    ]


def _cluster(cluster: Mapping[str, Any]) -> Html:
    rows = [
        [
            name(member["source"]),
            Figure(f"{member['similarity']:.3f}"),
            num(member["num_characters"]),
            "stands for all" if member["source"] == cluster["kept"] else "",
        ]
        for member in cluster["members"]
    ]
    members = cluster["num_members"]
    summary = Html(f'{name(cluster["kept"])} <span class="count">{counted(members, "document")}</span>')
    columns = ["document", "similarity", "characters", ""]
    return details(summary, table(f"Cluster {cluster['cluster']}", columns, rows, total=members))


def texts_section(facts: Facts) -> Html:
    """Lengths and languages of the texts that were kept."""
    collection = facts["collection"]
    return section(
        "texts",
        "The texts that were kept",
        f"{number(collection['characters_kept'])} characters in {number(collection['kept'])} documents.",
        subsection("Lengths", _lengths(collection["lengths"])),
        subsection("Languages", _languages(collection["languages"])),
    )


def _lengths(lengths: Mapping[str, int]) -> Html:
    counts = {int(start): documents for start, documents in lengths.items()}
    if not counts:
        return Html("")
    starts = [0] if 0 in counts else []
    if above := [start for start in counts if start]:
        starts += [1 << power for power in range(min(above).bit_length() - 1, max(above).bit_length())]
    found = [(start, counts.get(start, 0)) for start in starts]
    plot = histogram(
        [
            Column(_binary(start), times, f"{counted(times, 'document')} of {_span(start)} characters")
            for start, times in found
        ],
        identifier="lengths-plot",
        title="Kept documents by length",
        description=f"Numbers of characters from {_span(starts[0])} up to {_span(starts[-1])}.",
    )
    total = sum(counts.values())
    rows = [[_span(start), num(times), share_of(times, total)] for start, times in found]
    key = paragraph(
        "The label of a column is the fewest characters in it; the next column begins at twice as many."
    )
    return beside(
        Html(plot + key), table("Kept documents by length", ["characters", "documents", "share"], rows)
    )


def _span(start: int) -> str:
    return f"{start:,} to {2 * start - 1:,}" if start > 1 else str(start)


def _binary(value: int) -> str:
    for power, unit in ((30, "G"), (20, "M"), (10, "k")):
        if value >= 1 << power:
            return f"{value >> power}{unit}"
    return str(value)


def _languages(languages: Mapping[str, Mapping[str, int]]) -> Html:
    ordered = sorted(languages.items(), key=lambda item: (-item[1]["bytes"], item[0]))
    total = sum(counts["bytes"] for _, counts in ordered)
    drawn = largest([(language, counts["bytes"]) for language, counts in ordered])
    plot = bar_chart(
        [Bar(language, [Part("kept", found, size(found))], share(found, total)) for language, found in drawn],
        identifier="languages-plot",
        title="Kept text by language",
        description="; ".join(f"{language}: {share(found, total)}" for language, found in drawn),
    )
    rows = [
        [language, num(counts["documents"]), size_of(counts["bytes"]), share_of(counts["bytes"], total)]
        for language, counts in ordered
    ]
    return beside(
        plot, table("Kept text by language", ["language", "documents", "bytes", "share of bytes"], rows)
    )
