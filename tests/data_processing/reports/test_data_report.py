"""The report of a run's data: its facts, its page, its card."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from core.errors import CorruptArtifactError, DataError
from core.files import write_json
from data_processing.document import Dropped
from data_processing.reports.data_card import data_card, size_category
from data_processing.reports.data_report import (
    NUM_LARGEST,
    NUM_MEMBERS,
    gather_facts,
    settings_in_force,
    write_data_report,
)
from data_processing.reports.report import Kept, Ledger
from data_processing.reports.report_markup import MOST_BARS, MOST_ROWS
from data_processing.reports.report_page import report_page
from data_processing.reports.shown import visible
from tests.data_processing.reported_corpus import (
    BIDI_NAME,
    HOSTILE,
    PIPE_NAME,
    SCRIPT_NAME,
    write_corpus_directory,
    write_dataset_report,
    write_lines,
    write_tokenizer_report,
)

LOADING_ATTRIBUTES = {
    "src",
    "srcset",
    "data",
    "action",
    "formaction",
    "background",
    "poster",
    "ping",
    "manifest",
}
VOID = {"meta", "br", "wbr", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """A page as a browser reads it: elements, text, identifiers, links; every element must be closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data
        if "td" in self._open or "th" in self._open:
            self.tables[-1][-1][-1] += data

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    write_corpus_directory(tmp_path / "corpus")
    write_dataset_report(tmp_path / "dataset")
    write_tokenizer_report(tmp_path / "tokenizer")
    return {name: tmp_path / name for name in ("corpus", "tokenizer", "dataset")}


@pytest.fixture
def page(places: dict[str, Path]) -> Page:
    return Page(report_page(gather_facts(**places, command="python x.py --data '<raw>'")))


# --- facts ---


def test_three_files_are_written_and_equal_inputs_give_equal_bytes(places: dict[str, Path], tmp_path: Path):
    facts = write_data_report(**places, out=tmp_path / "one")
    write_data_report(**places, out=tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["DATA_CARD.md", "data_report.html", "data_report.json"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert json.loads((tmp_path / "one" / "data_report.json").read_text()) == facts


def test_the_facts_hold_the_account_and_the_reports_as_they_are(places: dict[str, Path]):
    facts = gather_facts(**places)
    assert Ledger.from_dict(facts["collection"]).kept == 5
    assert facts["dataset"]["overlap"]["validation"]["ngrams_in_train_share"] == 0.0123
    assert facts["tokenizer"]["unused_tokens"]["count"] == 17
    assert facts["files"] == {
        "files": 6,
        "all_kept": 4,
        "partly_kept": 1,
        "nothing_kept": 1,
        "unread": 2,
        "largest_losses": facts["files"]["largest_losses"],
    }
    assert [file["source"] for file in facts["files"]["largest_losses"]] == [PIPE_NAME, "records.jsonl"]
    assert facts["duplicates"]["sizes"] == {"2": 1}


def test_a_corpus_alone_is_enough(places: dict[str, Path], tmp_path: Path):
    for name in ("files.jsonl", "duplicates.jsonl", "dropped.jsonl"):
        (places["corpus"] / name).unlink()
    facts = write_data_report(
        corpus=places["corpus"], tokenizer=tmp_path / "none", dataset=None, out=tmp_path / "o"
    )
    assert (facts["tokenizer"], facts["dataset"], facts["files"], facts["duplicates"]) == (
        None,
        None,
        None,
        None,
    )
    page = Page((tmp_path / "o" / "data_report.html").read_text())
    assert "tokens" not in page.values("id") and "splits" not in page.values("id")
    assert "## Splits" not in (tmp_path / "o" / "DATA_CARD.md").read_text()


def test_an_empty_corpus_has_a_report_too(tmp_path: Path):
    write_json(tmp_path / "collection_report.json", Ledger().to_dict())
    facts = write_data_report(corpus=tmp_path, tokenizer=None, dataset=None, out=tmp_path / "out")
    Page(report_page(facts))
    assert "n<1K" in data_card(facts)


def test_only_the_largest_clusters_and_losses_are_named(places: dict[str, Path]):
    clusters = [
        {
            "cluster": f"{number:032x}",
            "kept": f"{number}/0",
            "members": [
                {"source": f"{number}/{member}", "similarity": 0.9, "num_characters": 9}
                for member in range(number)
            ],
        }
        for number in range(2, 40)
    ]
    write_lines(places["corpus"] / "duplicates.jsonl", clusters)
    duplicates = gather_facts(**places)["duplicates"]
    assert (duplicates["clusters"], duplicates["documents"]) == (38, sum(range(2, 40)))
    assert [cluster["num_members"] for cluster in duplicates["largest"]] == list(
        range(39, 39 - NUM_LARGEST, -1)
    )
    assert all(len(cluster["members"]) == NUM_MEMBERS for cluster in duplicates["largest"])
    page = Page(report_page(gather_facts(**places)))
    assert f"and {39 - NUM_MEMBERS} more" in page.text


def test_thresholds_of_rules_that_were_not_asked_are_not_shown():
    settings = {
        "quality": {
            "rules": ["gopher_quality"],
            "gopher_min_words": 50,
            "gopher_max_top_ngrams": {"2": 0.2},
            "c4_min_sentences": 5,
            "code_max_data_share": 0.5,
        },
        "min_text_length": 50,
    }
    assert settings_in_force({"data": settings}) == {
        "data.quality.rules": ["gopher_quality"],
        "data.quality.gopher_min_words": 50,
        "data.quality.gopher_max_top_ngrams": {"2": 0.2},
        "data.min_text_length": 50,
    }


def test_what_stands_out_is_said_first(places: dict[str, Path]):
    notable = gather_facts(**places)["notable"]
    assert notable == [
        "20.0 % of the documents were left out as too_short: fewer characters than data.min_text_length.",
        "Nothing was kept of 1 of 3 sources: lost.",
    ]
    ledger = Ledger()
    ledger.enter(Kept.of(_document(), "x" * 60))
    for reason, number in (("changed", 1), ("needs_extra", 2)):
        for index in range(number):
            ledger.drop(Dropped(f"{reason}{index}.pdf", reason))
    write_json(places["corpus"] / "collection_report.json", ledger.to_dict())
    notable = gather_facts(**places)["notable"]
    assert (
        "Some files could not be read as they stood (changed 1); collecting again may find them." in notable
    )
    assert "2 files need a package that was not installed; the details name the extra." in notable


def _document() -> Any:
    from data_processing.document import Document

    return Document.of("x" * 60, source="a.txt")


# --- what can be wrong with the inputs ---


def test_a_directory_without_an_account_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"holds no collection_report\.json; name a directory"):
        gather_facts(corpus=tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("collection_report.json", "{", CorruptArtifactError, "not valid JSON.*changed after it was written"),
        ("collection_report.json", '{"kept": 1}', DataError, "missing; it was written by an earlier version"),
        ("files.jsonl", '{"source": 1\n', CorruptArtifactError, r"files\.jsonl:1: not JSON"),
        ("duplicates.jsonl", "[]\n", CorruptArtifactError, r"duplicates\.jsonl:1: not a JSON object"),
    ],
)
def test_a_damaged_file_is_named(
    places: dict[str, Path], name: str, content: str, error: type[Exception], message: str
):
    (places["corpus"] / name).write_text(content)
    with pytest.raises(error, match=message):
        gather_facts(**places)


def test_an_account_that_does_not_add_up_is_refused(places: dict[str, Path]):
    path = places["corpus"] / "collection_report.json"
    report = json.loads(path.read_text())
    write_json(path, {**report, "bytes_in": report["bytes_in"] + 1})
    with pytest.raises(CorruptArtifactError, match=r"not the account of a collection \(bytes do not add up"):
        gather_facts(**places)
    write_json(path, {**report, "groups": {"books": {"documents_in": 3}}})
    with pytest.raises(DataError, match="'dropped' is missing"):
        gather_facts(**places)
    write_json(path, {**report, "lengths": 3})
    with pytest.raises(CorruptArtifactError, match="not the account of a collection"):
        gather_facts(**places)


# --- the page ---


def test_the_page_asks_nothing_of_anybody(page: Page):
    assert not {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "video",
        "image",
        "use",
    } & set(page.tags)
    assert not LOADING_ATTRIBUTES & {name for _, name, _ in page.attributes}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert all(target.startswith("#") for name in ("href", "xlink:href") for target in page.values(name))
    policy = [value for tag, name, value in page.attributes if tag == "meta" and name == "content"]
    assert "default-src 'none'; style-src 'unsafe-inline'" in policy


def test_the_style_sheet_loads_nothing(places: dict[str, Path]):
    style = re.findall(r"<style>(.*?)</style>", report_page(gather_facts(**places)), re.DOTALL)
    assert len(style) == 1
    assert not re.search(r"url\(|@import|expression|//", style[0])
    assert "prefers-color-scheme: dark" in style[0] and "@media print" in style[0]


def test_every_reference_within_the_page_leads_somewhere_and_identifiers_are_unique(page: Page):
    identifiers = page.values("id")
    assert len(identifiers) == len(set(identifiers))
    assert {target.removeprefix("#") for target in page.values("href")} <= set(identifiers)
    assert {name for names in page.values("aria-labelledby") for name in names.split()} <= set(identifiers)


def test_hostile_names_and_texts_are_shown_and_do_nothing(page: Page):
    for name in HOSTILE:
        assert visible(name) in page.text
    assert "A “sample” &\nwith <lines> and [U+202E] marks" in page.text
    assert "\u202e" not in page.text
    assert "python x.py --data '<raw>'" in page.text


def test_every_plot_is_described_and_has_a_table_in_its_section(places: dict[str, Path], page: Page):
    plots = [value for tag, name, value in page.attributes if tag == "svg" and name == "id"]
    assert set(plots) == {
        *(
            "flow-plot",
            "reasons-plot",
            "sources-kept-plot",
            "sources-bytes_kept-plot",
            "cleaning-plot",
            "clusters-plot",
            "lengths-plot",
        ),
        *(
            "languages-plot",
            "tokens-plot",
            "tokens-source-plot",
            "tokens-language-plot",
            "tokens-kind-plot",
            "splits-plot",
        ),
    }
    html = report_page(gather_facts(**places))
    for section in re.findall(r"<section.*?</section>", html, re.DOTALL):
        # The two plots of sources share the columns of one table.
        assert section.count('<svg class="plot"') <= section.count("<table>")


def test_the_numbers_of_the_page_are_those_of_the_account(page: Page):
    flow = next(table for table in page.tables if table[0] == ["", "documents", "bytes", "share of bytes"])
    documents = [int(row[1].replace(",", "")) for row in flow[1:] if row[1] != "–"]
    assert documents == [5, 5, 10]
    reasons = next(table for table in page.tables if table[0][0] == "reason" and len(table[0]) == 4)
    assert reasons[1][:3] == ["too_short", "2", "20.0 %"]
    overlap = next(
        table for table in page.tables if ["share of n-grams that stand in train", "1.2 %"] in table
    )
    assert ["documents", "3"] in overlap
    assert ["emails", "replace"] in next(table for table in page.tables if table[0] == ["kind", "treatment"])
    assert ["email", "10"] in next(table for table in page.tables if table[0] == ["what", "number"])


def test_a_reason_of_ones_own_is_shown_without_a_meaning(page: Page):
    assert "house_rule 1" in " ".join(page.text.split())
    assert "too_short 2 – fewer characters than data.min_text_length" in " ".join(page.text.split())


def test_many_reasons_and_sources_are_summed_up_and_none_is_lost(tmp_path: Path):
    ledger = Ledger()
    for number in range(MOST_ROWS + 20):
        for _ in range(number + 1):
            ledger.drop(Dropped(f"source{number}/a.txt", f"reason{number}", num_bytes=10))
    write_json(tmp_path / "collection_report.json", ledger.to_dict())
    page = Page(report_page(gather_facts(corpus=tmp_path)))
    reasons = next(table for table in page.tables if table[0][:2] == ["reason", "documents"])
    assert len(reasons) == 1 + MOST_BARS
    assert reasons[-1][0] == f"{MOST_ROWS + 20 - MOST_BARS + 1} others"
    assert sum(int(row[1].replace(",", "")) for row in reasons[1:]) == ledger.documents_in
    sources = next(table for table in page.tables if table[0][0] == "source")
    assert len(sources) == 1 + MOST_ROWS + 1 and sources[-1] == ["and 20 more"]
    for number in range(MOST_ROWS + 20):
        assert f"reason{number} {number + 1}" in " ".join(page.text.split())


def test_what_made_texts_longer_is_told(tmp_path: Path):
    from data_processing.document import Document

    ledger = Ledger()
    ledger.keep(Document.of("x" * 10, source="a"), "x" * 30, {"personal_data": -20})
    write_json(tmp_path / "collection_report.json", ledger.to_dict())
    page = Page(report_page(gather_facts(corpus=tmp_path)))
    assert ["personal data", "-20 B", "-200.0 %"] in next(
        table for table in page.tables if table[0][0] == "step"
    )


def test_recurring_lines_are_listed_where_the_report_lists_them(places: dict[str, Path]):
    path = places["corpus"] / "collection_report.json"
    report = json.loads(path.read_text())
    write_json(path, {**report, "recurring_lines": [{"line": "<All rights reserved>", "documents": 12}]})
    page = Page(report_page(gather_facts(**places)))
    assert ["<All rights reserved>", "12"] in next(
        table for table in page.tables if table[0] == ["line", "documents"]
    )
    write_json(path, {**report, "recurring_lines": {"num_lines": 4}})
    page = Page(report_page(gather_facts(**places)))
    assert [["lines", "4"]] in page.tables


# --- the card ---


def test_the_card_begins_with_front_matter_that_hubs_read(places: dict[str, Path]):
    yaml = pytest.importorskip("yaml")
    _, front, body = data_card(gather_facts(**places)).split("---\n", 2)
    assert yaml.safe_load(front) == {
        "language": ["en"],
        "size_categories": ["n<1K"],
        "task_categories": ["text-generation"],
    }
    assert body.startswith("\n# Data card\n")


def test_languages_that_may_be_mistakes_stay_out_of_the_front_matter(tmp_path: Path):
    from data_processing.document import Document

    ledger = Ledger()
    for number in range(200):
        language = "xh" if number == 0 else "no" if number < 10 else "unknown" if number < 50 else "en"
        ledger.keep(Document.of("x" * 60, source="a", metadata={"language": language}), "x" * 60)
    write_json(tmp_path / "collection_report.json", ledger.to_dict())
    card = data_card(gather_facts(corpus=tmp_path))
    # In quotes: without them, YAML reads the code of Norwegian as the word for false.
    assert 'language:\n- "en"\n- "no"\nsize_categories' in card
    assert "| xh | 1 |" in card


def test_the_card_states_what_was_measured(places: dict[str, Path]):
    card = data_card(gather_facts(**places, command="python x.py\nsecond line"))
    for fact in (
        "5 documents, ",
        "out of 10 documents",
        "| too\\_short | fewer characters than data.min\\_text\\_length | 2 | 20.0 % | 34 |",
        "| emails | replace |",
        "| email | 10 |",
        "| train | 3 | 100 | 300 | 3.000 |",
        "share of n-grams that stand in train 1.2 %",
        "quality.c4\\_min\\_sentences | 5 |",
        "    python x.py\n    second line",
        "Clusters of near duplicates: 1, with 2 documents in them.",
    ):
        assert fact in card, fact
    assert "gopher" not in card


def test_names_cannot_break_the_tables_of_the_card(places: dict[str, Path]):
    path = places["corpus"] / "collection_report.json"
    report = json.loads(path.read_text())
    group = report["groups"].pop("lost")
    write_json(
        path, {**report, "groups": {**report["groups"], PIPE_NAME + "\n# " + BIDI_NAME + SCRIPT_NAME: group}}
    )
    card = data_card(gather_facts(**places))
    assert "\u202e" not in card and "[U+202E]".replace("[", "\\[").replace("]", "\\]") in card
    assert not re.search(r"(?<!\\)<script>", card)
    for table in re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(columns) == 1


@pytest.mark.parametrize(
    ("documents", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**9, "1B<n<10B"), (10**12, "n>1T"), (10**15, "n>1T")],
)
def test_size_categories_are_the_hubs(documents: int, category: str):
    assert size_category(documents) == category


def test_the_artifacts_fingerprints_and_versions_are_in_page_and_card(places: dict[str, Path]):
    manifest = {
        "format_version": 1,
        "status": "complete",
        "fingerprint": "c0ffee",
        "recipe_fingerprint": "ab",
        "versions": {"python": "3.11.9", "numpy": "2.0"},
    }
    write_json(places["corpus"] / "MANIFEST.json", manifest)
    write_json(places["dataset"] / "MANIFEST.json", {**manifest, "status": "running"})
    facts = gather_facts(**places)
    assert facts["origin"]["artifacts"].keys() == {"corpus"}
    assert "c0ffee" in Page(report_page(facts)).text
    assert "Made with python 3.11.9, numpy 2.0." in data_card(facts)
