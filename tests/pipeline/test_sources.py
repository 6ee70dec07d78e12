"""Where a run's texts come from."""

import logging
from pathlib import Path
from typing import Any

import pytest

import pipeline.sources
from core.data_config import DataConfig
from data_processing.data_collector import DataCollector
from pipeline.sources import collect_sources, source_facts, unread_sources
from tests.small_texts import make_documents

SQL = {"url": "sqlite:///notes.db", "query": "SELECT text FROM notes ORDER BY id"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, []),
        ({"corpus": "python_standard_library"}, []),
        ({"corpus": "directory", "raw_dir": "texts", "file_list": "list.txt"}, []),
        ({"corpus": "python_standard_library", "raw_dir": "texts"}, [("raw_dir", "directory")]),
        ({"corpus": "hub", "hub": {"dataset": "c4"}, "file_list": "a"}, [("file_list", "directory")]),
        ({"corpus": "directory", "sql": SQL}, [("sql.url", "sql")]),
        ({"corpus": "sql", "sql": SQL, "hub": {"dataset": "c4"}}, [("hub.dataset", "hub")]),
    ],
    ids=str,
)
def test_a_source_is_unread_that_is_named_and_is_not_the_corpus(
    settings: dict[str, Any], expected: list[tuple[str, str]]
):
    assert unread_sources(DataConfig.from_dict(settings)) == expected


def test_a_source_that_is_named_and_not_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.txt").write_text(make_documents(1)[0], encoding="utf-8")
    config = DataConfig.from_dict({"corpus": "directory", "raw_dir": str(raw), "sql": SQL, "num_workers": 1})
    with caplog.at_level(logging.WARNING):
        collect_sources(DataCollector(tmp_path / "corpus", config=config), None, config, downloads=tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        "data.sql.url is set, but data.corpus is directory, so it is not read; set data.corpus=sql to read it"
    ]


@pytest.mark.parametrize(("corpus", "matters"), [("python_standard_library", False), ("directory", True)])
def test_what_reads_pdf_matters_where_files_of_any_kind_are_read(
    corpus: Any, matters: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("a text")
    config = DataConfig(corpus=corpus, raw_dir=tmp_path)
    facts = []
    for version in ("not installed", "7.1"):
        monkeypatch.setattr(pipeline.sources, "_version", lambda _package, version=version: version)
        facts.append(source_facts(None, config))
    assert (facts[0] != facts[1]) == matters
