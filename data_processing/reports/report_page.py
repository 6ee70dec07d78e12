"""The page that shows what became of the data: one HTML file that asks nothing of anybody. Computes no fact.

It holds no script and refers to nothing outside itself; whatever came from files is escaped where it enters
(`shown.markup`). Every plot stands beside a table of its numbers.
"""

from collections.abc import Mapping
from typing import Any

from data_processing.reports.collection_sections import (
    cleaning_section,
    flow_section,
    reasons_section,
    sources_section,
)
from data_processing.reports.corpus_sections import duplicates_section, texts_section
from data_processing.reports.report_markup import (
    details,
    excerpt_block,
    name,
    note_list,
    openings,
    paragraph,
    section,
    table,
    tiles,
)
from data_processing.reports.report_style import STYLE
from data_processing.reports.shown import Html, markup, number, share, size
from data_processing.reports.token_sections import splits_section, tokens_section

ROWS_IN_A_TABLE = 25

Facts = Mapping[str, Any]


def report_page(facts: Facts) -> str:
    """The page as HTML.

    Args:
        facts: As `data_report.gather_facts` returns them.
    """
    sections = {
        "flow": ("What came in", flow_section(facts)),
        "reasons": ("Left out", reasons_section(facts)),
        "sources": ("Sources", sources_section(facts)),
        "cleaning": ("Cleaning", cleaning_section(facts)),
        "duplicates": ("Duplicates", duplicates_section(facts)),
        "texts": ("Texts", texts_section(facts)),
        "tokens": ("Tokens", tokens_section(facts)),
        "splits": ("Splits", splits_section(facts)),
        "settings": ("Settings", _settings_section(facts)),
    }
    links = "".join(
        f'<li><a href="#{identifier}">{markup(title)}</a></li>'
        for identifier, (title, content) in sections.items()
        if content
    )
    collection = facts["collection"]
    headline = (
        f"Of {number(collection['documents_in'])} documents ({size(collection['bytes_in'])}), "
        f"{number(collection['kept'])} are in the corpus ({size(collection['bytes_kept'])})."
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        # Should anything ever slip through, the browser still loads nothing and runs nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>Data report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>Data report</h1><p class="headline">{markup(headline)}</p>{_tiles(facts)}'
        f'{note_list(facts["notable"])}<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n'
        f"<main>{''.join(content for _, content in sections.values())}</main>\n"
        "<footer>The numbers of this page, all of them and unrounded, are in data_report.json beside it; "
        "scripts/inspect_data.py answers why a file was left out and where a sentence came from.</footer>\n"
        "</body>\n</html>\n"
    )


def _tiles(facts: Facts) -> Html:
    collection, dataset, duplicates = facts["collection"], facts["dataset"], facts["duplicates"]
    kept, found = collection["kept"], collection["documents_in"]
    bytes_kept, bytes_found = collection["bytes_kept"], collection["bytes_in"]
    shown = [
        ("Documents kept", number(kept), f"{share(kept, found)} of {number(found)}"),
        ("Text kept", size(bytes_kept), f"{share(bytes_kept, bytes_found)} of {size(bytes_found)}"),
    ]
    if duplicates is not None:
        copies = sum(collection["dropped"].get(reason, 0) for reason in ("duplicate", "near_duplicate"))
        shown.append(
            ("Duplicates left out", number(copies), f"{number(duplicates['clusters'])} clusters of near ones")
        )
    if dataset is not None and "train" in dataset["splits"]:
        train = dataset["splits"]["train"]
        shown.append(
            (
                "Tokens to train on",
                number(train["tokens"]),
                f"{train['bytes_per_token']:.2f} bytes of text a token",
            )
        )
    return tiles(shown)


def _settings_section(facts: Facts) -> Html:
    rows = [[name(key), name(_setting(value))] for key, value in facts["settings"].items()]
    tables = [
        table("Settings", ["setting", "value"], rows[start : start + ROWS_IN_A_TABLE])
        for start in range(0, len(rows), ROWS_IN_A_TABLE)
    ]
    origin = facts["origin"]
    identity = [["settings", name(origin["settings_fingerprint"])]]
    identity += [[title, name(artifact["fingerprint"])] for title, artifact in origin["artifacts"].items()]
    made_by = (
        Html(paragraph("Made by:") + excerpt_block(origin["command"])) if origin["command"] else Html("")
    )
    return section(
        "settings",
        "Settings and fingerprints",
        "Equal settings over equal files give equal fingerprints, on any number of workers.",
        made_by,
        openings(
            details(Html(f'Settings of the collection <span class="count">{len(rows)}</span>'), *tables)
        ),
        table("SHA-256", ["of", "fingerprint"], identity),
    )


def _setting(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
