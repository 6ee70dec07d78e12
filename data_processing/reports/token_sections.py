"""The sections of a report page about the tokenizer and the splits. Knows their reports, not how they are made.

Each is a function of the facts (`data_report.gather_facts`) and gives nothing where there are no facts for it.
"""

from collections.abc import Mapping
from typing import Any

from data_processing.reports.plots import Bar, Part, bar_chart, legend
from data_processing.reports.report_markup import (
    MOST_BARS,
    Figure,
    beside,
    name,
    num,
    records,
    scalars,
    section,
    share_of,
    side_by_side,
    size_of,
    subsection,
    table,
)
from data_processing.reports.shown import Html, number

_SPLIT_COLOURS = {"train": "kept", "validation": "kept-2", "test": "kept-3"}

Facts = Mapping[str, Any]


def tokens_section(facts: Facts) -> Html:
    """What the tokenizer makes of the texts, beside other tokenizers."""
    report = facts["tokenizer"]
    if report is None:
        return Html("")
    compression = report["compression"]
    references = {reference["name"]: reference["compression"] for reference in report["references"]}
    return section(
        "tokens",
        "Tokens",
        "Bytes of text that one token stands for: more is fewer tokens for the same text.",
        _rates(compression, references),
        *(_rates_by(key, compression, references) for key in ("by_source", "by_language", "by_kind")),
        subsection("The vocabulary", scalars("The tokenizer in numbers", vocabulary_facts(report))),
        subsection(
            "Worst documents",
            records(
                "Fewest bytes a token; of long documents the beginning counts", report["worst_documents"]
            ),
        ),
    )


def vocabulary_facts(report: Facts) -> dict[str, Any]:
    """What a tokenizer report says in single numbers and words."""
    tokenizer, round_trip = report["tokenizer"], report["round_trip"]
    return {
        "model_type": tokenizer["model_type"],
        "vocab_size": tokenizer["vocab_size"],
        "what is lost": "; ".join(tokenizer["losses"]) or "nothing",
        "tokens_per_word": report["tokens_per_word"],
        "tokens never used": report["unused_tokens"]["count"],
        "share of tokens that are single bytes": report["byte_tokens"]["share"],
        "documents in the sample": report["sample"]["documents"],
        "documents that do not come back": round_trip["different"],
        "fingerprint": tokenizer["fingerprint"],
    }


def _rates(compression: Facts, references: Mapping[str, Facts]) -> Html:
    """The tokenizer beside the references."""
    shown = [("this tokenizer", compression, "kept")]
    shown += [(title, reference, "around") for title, reference in references.items()]
    rates = [(title, found["overall"]["bytes_per_token"], kind) for title, found, kind in shown]
    plot = bar_chart(
        [Bar(title, [Part(kind, rate)], f"{rate:.3f}") for title, rate, kind in rates],
        identifier="tokens-plot",
        title="Bytes a token, beside other tokenizers",
        description="; ".join(f"{title}: {rate:.3f}" for title, rate, _ in rates),
    )
    rows = [[name(title), Figure(f"{rate:.3f}")] for title, rate, _ in rates]
    return beside(plot, table("Bytes a token, on the same texts", ["tokenizer", "bytes a token"], rows))


def _rates_by(key: str, compression: Facts, references: Mapping[str, Facts]) -> Html:
    found: Facts = compression[key]
    what = key.removeprefix("by_")
    shown = list(found.items())[:MOST_BARS]  # the largest come first
    plot = bar_chart(
        [
            Bar(title, [Part("kept", row["bytes_per_token"])], f"{row['bytes_per_token']:.3f}")
            for title, row in shown
        ],
        identifier=f"tokens-{what}-plot",
        title=f"Bytes a token by {what}",
        description="; ".join(f"{title}: {row['bytes_per_token']:.3f}" for title, row in shown),
    )
    rows = [
        [
            name(title),
            size_of(row["bytes"]),
            Figure(f"{row['bytes_per_token']:.3f}"),
            *(Figure(f"{reference[key][title]['bytes_per_token']:.3f}") for reference in references.values()),
        ]
        for title, row in found.items()
    ]
    columns = [what, "text", "bytes a token", *references]
    return subsection(f"By {what}", beside(plot, table(f"Bytes a token by {what}", columns, rows)))


def splits_section(facts: Facts) -> Html:
    """The splits, and how much of what is held out stands in the training text too."""
    dataset = facts["dataset"]
    if dataset is None:
        return Html("")
    splits: Mapping[str, Any] = dataset["splits"]
    tokens = {split: values["tokens"] for split, values in splits.items()}
    total = sum(tokens.values())
    parts = [
        Part(_colour(split), found, f"{split}: {number(found)} tokens") for split, found in tokens.items()
    ]
    plot = bar_chart(
        [Bar("Tokens", parts, number(total))],
        identifier="splits-plot",
        title="Tokens by split",
        description="; ".join(part.title for part in parts),
    )
    rows = [
        [
            split,
            num(values["documents"]),
            num(values["tokens"]),
            share_of(values["tokens"], total),
            size_of(values["text_bytes"]),
            Figure(f"{values['bytes_per_token']:.3f}"),
            num(values["rows"]),
            num(values["padding_tokens"]),
        ]
        for split, values in splits.items()
    ]
    columns = ["split", "documents", "tokens", "share", "text", "bytes a token", "rows", "padding tokens"]
    return section(
        "splits",
        "Splits",
        "What is trained on, and what is held out to measure by.",
        plot,
        legend([(_colour(split), split) for split in splits]),
        table("Splits", columns, rows),
        side_by_side(
            _overlap(dataset.get("overlap")),
            subsection("How the rows are made", scalars("The dataset in numbers", dataset)),
        ),
    )


_OVERLAP_WORDS = {
    "num_documents": "documents",
    "num_documents_measured": "documents measured",
    "num_ngrams": "n-grams",
    "ngrams_in_train_share": "share of n-grams that stand in train",
    "documents_mostly_in_train_share": "share of documents with most n-grams in train",
}


def overlap_facts(values: Mapping[str, Any]) -> dict[str, float]:
    """What `split_overlap` says of one split in single numbers."""
    return {
        _OVERLAP_WORDS.get(key, key): value for key, value in values.items() if isinstance(value, int | float)
    }


def _overlap(overlap: Mapping[str, Any] | None) -> Html:
    parts = []
    for split, values in (overlap or {}).items():
        if isinstance(values, Mapping):
            parts.append(scalars(f"Overlap of {split} with train", overlap_facts(values)))
            parts.append(records(f"Documents of {split} that overlap most", values.get("worst") or []))
    return subsection("Held-out text that stands in the training text", *parts)


def _colour(split: str) -> str:
    return _SPLIT_COLOURS.get(split, "around")
