"""The data card: what was measured of a corpus, as Markdown with the front matter that dataset hubs read.

States facts alone: nothing is said of the texts' licences or authors, because nothing was measured of them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_processing.reports.report import CODE_LANGUAGE, REASONS, UNKNOWN_LANGUAGE
from data_processing.reports.shown import by_size, markdown, number, share, size, words
from data_processing.reports.token_sections import overlap_facts, vocabulary_facts

MIN_LANGUAGE_SHARE = 0.01
"""A language with fewer of the documents than this is not listed in the front matter: among many documents some are
always mistaken for another language. The table has them all. Arbitrary."""

MOST_SOURCES = 50

_SIZE_LIMITS = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")

Facts = Mapping[str, Any]


def data_card(facts: Facts) -> str:
    """The card.

    Args:
        facts: As `data_report.gather_facts` returns them.
    """
    sections = (
        ("Sources", _sources(facts)),
        ("Languages", _languages(facts)),
        ("What was left out", _left_out(facts)),
        ("Rules and thresholds", _rules(facts)),
        ("Duplicates", _duplicates(facts)),
        ("Personal data", _personal_data(facts)),
        ("Splits", _splits(facts)),
        ("Tokenizer", _tokenizer(facts)),
        ("How to make it again", _origin(facts)),
    )
    collection = facts["collection"]
    lines = [
        *_front_matter(facts),
        "",
        "# Data card",
        "",
        (
            f"{number(collection['kept'])} documents, {number(collection['bytes_kept'])} bytes of UTF-8 text "
            f"({size(collection['bytes_kept'])}), out of {number(collection['documents_in'])} documents and "
            f"{number(collection['bytes_in'])} bytes that were found. Everything below was measured when the corpus "
            "was made; the licences and the authors of the texts are not known to the program that wrote this."
        ),
    ]
    for title, content in sections:
        body = list(content)
        if body:
            lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def size_category(documents: int) -> str:
    """The hub's name for a number of documents.

    >>> size_category(999), size_category(1000), size_category(5_000_000)
    ('n<1K', '1K<n<10K', '1M<n<10M')
    """
    above = [limit for power, limit in enumerate(_SIZE_LIMITS, start=3) if documents >= 10**power]
    if not above:
        return f"n<{_SIZE_LIMITS[0]}"
    if above[-1] == _SIZE_LIMITS[-1]:
        return f"n>{_SIZE_LIMITS[-1]}"
    return f"{above[-1]}<n<{_SIZE_LIMITS[len(above)]}"


def _front_matter(facts: Facts) -> Iterator[str]:
    collection = facts["collection"]
    languages = [
        language
        for language, counts in _by(collection["languages"], "documents")
        if language != UNKNOWN_LANGUAGE and counts["documents"] >= MIN_LANGUAGE_SHARE * collection["kept"]
    ]
    # JSON strings are YAML strings, so nothing in a name can end the front matter.
    yield "---"
    if languages:
        yield "language:"
        yield from (f"- {json.dumps(language)}" for language in languages)
    yield "size_categories:"
    yield f"- {size_category(collection['kept'])}"
    yield "task_categories:"
    yield "- text-generation"
    yield "---"


def _sources(facts: Facts) -> Iterator[str]:
    groups = _by(facts["collection"]["groups"], "bytes_kept")
    yield from _table(
        ["source", "documents found", "kept", "bytes found", "bytes kept"],
        [
            [
                name,
                number(g["documents_in"]),
                number(g["kept"]),
                number(g["bytes_in"]),
                number(g["bytes_kept"]),
            ]
            for name, g in groups[:MOST_SOURCES]
        ],
    )
    if len(groups) > MOST_SOURCES:
        yield ""
        yield f"{number(len(groups) - MOST_SOURCES)} smaller sources are in data_report.json."
    yield ""
    yield "A source is the first directory of a path; a dot stands for the directory itself."


def _languages(facts: Facts) -> Iterator[str]:
    languages, total = facts["collection"]["languages"], facts["collection"]["bytes_kept"]
    yield from _table(
        ["language", "documents", "bytes", "share of bytes"],
        [
            [name, number(counts["documents"]), number(counts["bytes"]), share(counts["bytes"], total)]
            for name, counts in _by(languages, "bytes")
        ],
    )
    if CODE_LANGUAGE in languages:
        yield ""
        yield "`code` is source code, whose language is not told."


def _left_out(facts: Facts) -> Iterator[str]:
    collection = facts["collection"]
    dropped = by_size(collection["dropped"])
    if dropped:
        yield from _table(
            ["reason", "meaning", "documents", "share", "bytes"],
            [
                [
                    reason,
                    REASONS.get(reason, ""),
                    number(times),
                    share(times, collection["documents_in"]),
                    number(collection["bytes_dropped"].get(reason, 0)),
                ]
                for reason, times in dropped
            ],
        )
    else:
        yield "No document was left out."
    removed = by_size(collection["removed_by"])
    if removed:
        yield ""
        yield "Taken from the texts that were kept:"
        yield ""
        yield from _table(["step", "bytes"], [[words(step), number(taken)] for step, taken in removed])


def _rules(facts: Facts) -> Iterator[str]:
    rows = [[key, json.dumps(value, ensure_ascii=False)] for key, value in facts["settings"].items()]
    if rows:
        yield from _table(["setting", "value"], rows)


def _duplicates(facts: Facts) -> Iterator[str]:
    dropped, duplicates = facts["collection"]["dropped"], facts["duplicates"]
    yield (
        f"{number(dropped.get('duplicate', 0))} documents had the same text as an earlier one and were left out, "
        f"{number(dropped.get('near_duplicate', 0))} nearly the text of one that was kept."
    )
    if duplicates is not None:
        yield ""
        yield (
            f"Clusters of near duplicates: {number(duplicates['clusters'])}, with {number(duplicates['documents'])} "
            "documents in them."
        )


def _personal_data(facts: Facts) -> Iterator[str]:
    policy = {key: value for key, value in facts["settings"].items() if "privacy." in key}
    if not policy:
        return
    yield from _table(
        ["kind", "treatment"], [[words(key.rpartition(".")[2]), value] for key, value in policy.items()]
    )
    yield ""
    left_out = facts["collection"]["dropped"].get("personal_data", 0)
    yield f"Documents left out because of personal data: {number(left_out)}."
    counts = facts["collection"]["counts"]
    if counts:
        yield ""
        yield "What the steps counted in the documents that were kept:"
        yield ""
        yield from _table(
            ["what", "number"], [[words(name), number(times)] for name, times in sorted(counts.items())]
        )


def _splits(facts: Facts) -> Iterator[str]:
    dataset = facts["dataset"]
    if dataset is None:
        return
    yield from _table(
        ["split", "documents", "tokens", "bytes of text", "bytes a token"],
        [
            [
                split,
                number(values["documents"]),
                number(values["tokens"]),
                number(values["text_bytes"]),
                f"{values['bytes_per_token']:.3f}",
            ]
            for split, values in dataset["splits"].items()
        ],
    )
    for split, values in (dataset.get("overlap") or {}).items():
        if isinstance(values, Mapping):
            yield ""
            facts_of_split = [
                f"{what} {share(value, 1) if what.startswith('share') else number(value)}"
                for what, value in overlap_facts(values).items()
            ]
            yield f"Overlap of {markdown(split)} with train: {markdown('; '.join(facts_of_split))}."


def _tokenizer(facts: Facts) -> Iterator[str]:
    dataset, report = facts["dataset"], facts["tokenizer"]
    known = vocabulary_facts(report) if report is not None else {}
    if dataset is not None:
        known |= {key: dataset[key] for key in ("vocab_size", "tokenizer_fingerprint") if key in dataset}
    if report is not None:
        known["bytes_per_token"] = report["compression"]["overall"]["bytes_per_token"]
    if known:
        rows = [
            [words(key), value if isinstance(value, str) else number(value)] for key, value in known.items()
        ]
        yield from _table(["", "value"], rows)


def _origin(facts: Facts) -> Iterator[str]:
    origin = facts["origin"]
    if origin["command"]:
        # Indented, because no run of backticks in a file name can end an indented block.
        yield from (f"    {line}" for line in origin["command"].splitlines())
        yield ""
    rows = [["settings", origin["settings_fingerprint"]]]
    rows += [[name, artifact["fingerprint"]] for name, artifact in origin["artifacts"].items()]
    yield from _table(["SHA-256 of", "fingerprint"], rows)
    versions: Mapping[str, str] = next(
        (artifact["versions"] for artifact in origin["artifacts"].values()), {}
    )
    if versions:
        yield ""
        yield (
            "Made with "
            + ", ".join(f"{markdown(name)} {markdown(value)}" for name, value in versions.items())
            + "."
        )


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(map(markdown, row))} |"


def _by(counts: Mapping[str, Mapping[str, Any]], key: str) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(counts.items(), key=lambda item: (-item[1][key], item[0]))
