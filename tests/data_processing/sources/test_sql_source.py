"""Documents out of a database."""

import datetime
import decimal
import json
import math
import sqlite3
import sys
import tracemalloc
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from core.data_config import SqlConfig
from core.errors import ConfigError, DataError, MissingDependencyError, UnreachableError
from data_processing.document import Document, Dropped
from data_processing.formats.record_fields import scalar_fields
from data_processing.sources.sql_source import (
    _parsed_url,
    _reason,
    _without_secrets,
    holds_password,
    sql_documents,
    sql_fingerprint,
)

ROWS = 50_000


def text_of(number: int) -> str:
    return f"Report {number}. " + "The ore is red and the slag is black. " * (number % 7)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of 50,000 texts."""
    path = tmp_path_factory.mktemp("sql") / "large.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT, author TEXT, score REAL, raw BLOB)"
        )
        database.executemany(
            "INSERT INTO notes VALUES (?, ?, ?, ?, ?)",
            (
                (number, text_of(number), f"author {number % 10}", number / 4, b"\x00\x01")
                for number in range(ROWS)
            ),
        )
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A database of five rows, some of them odd."""
    path = tmp_path / "small.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text, long TEXT)")
        database.executemany(
            "INSERT INTO notes VALUES (?, ?, ?)",
            [
                (1, "one", "x" * 1000),
                (2, None, ""),
                (3, b"\x00\x01\x02", ""),
                (4, 17, ""),
                (5, "", "x" * 1001),
            ],
        )
        database.execute("INSERT INTO notes VALUES (6, CAST(x'636166e9' AS TEXT), '')")
    return path


def config(path: Path, query: str = "SELECT * FROM notes ORDER BY id", **others: Any) -> SqlConfig:
    return SqlConfig(url=f"sqlite:///{path}", query=query, **others)


def test_every_row_is_a_document_with_its_number_and_its_short_simple_columns(large: Path):
    documents = list(sql_documents(config(large)))
    assert len(documents) == ROWS
    for number, document in enumerate(documents):
        assert isinstance(document, Document)
        assert document.text == text_of(number)
        assert document.source == f"sql[{number}]"
        assert document.metadata == {
            "fields": {"id": number, "author": f"author {number % 10}", "score": number / 4}
        }
        assert document == Document.of(document.text, source=document.source, metadata=document.metadata)


def test_rows_are_not_held_in_memory(large: Path):
    next(sql_documents(config(large)))  # what SQLAlchemy loads
    tracemalloc.start()
    try:
        size = sum(document.input_bytes for document in sql_documents(config(large)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 6_000_000
    assert peak < 1_000_000


def test_what_is_no_text_is_left_out_with_what_was_found(small: Path):
    found = list(sql_documents(config(small)))
    assert [type(item) for item in found] == [Document, Dropped, Dropped, Dropped, Document, Dropped]
    assert isinstance(found[0], Document)
    assert found[0].metadata["fields"] == {"id": 1, "long": "x" * 1000}
    assert isinstance(found[4], Document)
    assert (found[4].text, found[4].metadata["fields"]) == ("", {"id": 5})
    dropped = [item for item in found if isinstance(item, Dropped)]
    assert [(item.source, item.reason, item.num_bytes) for item in dropped] == [
        ("sql[1]", "no_text_field", 0),
        ("sql[2]", "no_text_field", 3),
        ("sql[3]", "no_text_field", 0),
        ("sql[5]", "no_text_field", 4),
    ]
    for item, what in zip(
        dropped, ("holds NULL", "holds 3 bytes", "holds int", "holds 4 bytes"), strict=True
    ):
        assert what in item.detail
        assert "column 'text'" in item.detail


def test_another_column_can_hold_the_text_and_a_join_may_repeat_names(small: Path):
    query = "SELECT a.id, a.long AS body, b.id FROM notes a JOIN notes b ON a.id = b.id ORDER BY a.id"
    first = next(sql_documents(config(small, query, text_column="body")))
    assert isinstance(first, Document)
    assert (first.text, first.metadata) == ("x" * 1000, {"fields": {"id": 1}})


def test_a_missing_column_is_an_error_that_names_the_others(small: Path):
    with pytest.raises(
        DataError, match=r"text_column 'txet'.*did you mean 'text'\? \(columns: id, text, long\)"
    ):
        list(sql_documents(config(small, text_column="txet")))


def test_the_query_reaches_the_database_as_it_stands(small: Path):
    query = "SELECT 'a:b 100% %s :name ; DELETE ''x''' AS text, \"id\" FROM notes WHERE id = 1 -- ; DROP\n ORDER BY id;"
    (document,) = sql_documents(config(small, query))
    assert isinstance(document, Document)
    assert document.text == "a:b 100% %s :name ; DELETE 'x'"


# --- nothing is written


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("DELETE FROM notes", "begins with DELETE"),
        ("  -- SELECT\n drop table notes", "begins with DROP"),
        ("PRAGMA query_only = OFF", "begins with PRAGMA"),
        ("INSERT INTO notes (text) VALUES ('x') RETURNING text", "begins with INSERT"),
        ("SELECT 1 AS text; DROP TABLE notes", "holds several statements"),
        ("WITH x AS (DELETE FROM notes RETURNING *) SELECT * FROM x", "holds DELETE"),
        ("SELECT * INTO copy FROM notes", "holds INTO"),
        ("SELECT * FROM notes FOR UPDATE", "holds UPDATE"),
        ("", "is empty"),
        ("/* nothing */", "is empty"),
    ],
)
def test_a_query_that_does_more_than_read_is_refused(small: Path, query: str, reason: str):
    before = small.read_bytes()
    with pytest.raises(ConfigError, match=f"data.sql.query {reason}"):
        list(sql_documents(config(small, query)))
    assert small.read_bytes() == before


@pytest.mark.parametrize(
    "query",
    [
        "SELECT text, 'DELETE; INSERT INTO' AS \"update\" FROM notes ORDER BY id",
        "select replace(text, 'a', 'b') as text, deleted_at from (select *, 1 as deleted_at from notes) order by id",
        "WITH updates AS (SELECT * FROM notes) SELECT * FROM updates ORDER BY id",
        "VALUES ('text')",
    ],
)
def test_words_that_only_look_like_writing_are_let_through(small: Path, query: str):
    column = "column1" if query.startswith("VALUES") else "text"
    assert list(sql_documents(config(small, query, text_column=column)))


def test_the_database_itself_refuses_to_write_what_the_words_did_not_show(
    small: Path, monkeypatch: pytest.MonkeyPatch
):
    from data_processing.sources import sql_source

    monkeypatch.setattr(sql_source, "_checked_query", lambda config: config.query)
    with pytest.raises(DataError, match=r"data.sql.query: .*small.db refuses it .*readonly database"):
        list(sql_documents(config(small, "DELETE FROM notes RETURNING text")))
    with closing(sqlite3.connect(small)) as database:
        assert database.execute("SELECT count(*) FROM notes").fetchone() == (6,)


# --- errors


def test_a_query_that_the_database_does_not_understand_is_one_line_with_its_reason(small: Path):
    with pytest.raises(DataError, match=r"refuses it \(no such table: nots\); correct the query") as caught:
        list(sql_documents(config(small, "SELECT * FROM nots ORDER BY 1")))
    assert "\n" not in str(caught.value)
    assert "sqlalche.me" not in str(caught.value)


def test_a_query_that_fails_half_way_is_an_error_and_not_an_end(small: Path):
    query = "SELECT text, abs(CASE id WHEN 3 THEN -9223372036854775807 - 1 ELSE 1 END) FROM notes ORDER BY id"
    with pytest.raises(DataError, match="integer overflow"):
        list(sql_documents(config(small, query)))


def test_a_file_that_is_not_there_is_an_error_and_is_not_created(tmp_path: Path):
    missing = tmp_path / "missing.db"
    with pytest.raises(DataError, match=r"no such file .*missing.db .*three slashes begin a relative path"):
        list(sql_documents(config(missing)))
    assert not missing.exists()


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path):
    (tmp_path / "notes.db").write_text("not a database, but long enough to look at " * 30)
    with pytest.raises(DataError, match="file is not a database"):
        list(sql_documents(config(tmp_path / "notes.db")))


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("nonsense", ConfigError, "data.sql.url is no URL; expected dialect"),
        ("postgresql://u:hunter2@h:port/d", ConfigError, "data.sql.url is no URL; expected dialect"),
        (
            "nosuch://u:hunter2@h/d",
            ConfigError,
            r"data.sql.url nosuch://u:\*\*\*@h/d: .*sqlalchemy.dialects:nosuch",
        ),
        (
            "mysql+nosuchdriver://u:hunter2@h/d",
            ConfigError,
            r"data.sql.url mysql\+nosuchdriver://u:\*\*\*@h/d: .*nosuchdriver",
        ),
        (
            "mysql+pymysql://u:hunter2@h/d",
            MissingDependencyError,
            r"u:\*\*\*@h/d: the driver 'pymysql' is not installed; install it \(pip install pymysql\)",
        ),
    ],
)
def test_a_url_that_leads_nowhere_is_explained_without_its_password(url: str, error: type, message: str):
    if "pymysql" in url and any(name.startswith("pymysql") for name in sys.modules):
        pytest.skip("pymysql is installed")
    with pytest.raises(error, match=message) as caught:
        list(sql_documents(SqlConfig(url=url, query="SELECT 1 AS text ORDER BY 1")))
    assert "hunter2" not in str(caught.value)


def test_a_database_that_does_not_answer_is_unreachable(small: Path, monkeypatch: pytest.MonkeyPatch):
    def connect(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("no route to host")

    monkeypatch.setattr(sqlite3.dbapi2, "connect", connect)
    message = (
        r"data.sql.url sqlite:.*small.db: no connection \(no route to host\); check that the database runs"
    )
    with pytest.raises(UnreachableError, match=message) as caught:
        list(sql_documents(config(small)))
    assert caught.value.exit_code == 74


def test_secrets_are_masked_in_the_address_and_in_what_a_driver_says():
    from sqlalchemy import make_url

    url = make_url("postgresql://reader:s%40cret@h/d?sslmode=require&sslpassword=k3y")
    assert _without_secrets(url) == "postgresql://reader:***@h/d?sslmode=require&sslpassword=***"
    said = OSError("no route for reader:s@cret (s%40cret)\nwith sslpassword k3y")
    assert _reason(said, url) == "no route for reader:*** (***) with sslpassword ***"


def test_a_missing_sqlalchemy_names_the_extra(small: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[sql\]'"):
        list(sql_documents(config(small)))


def test_sqlalchemy_is_loaded_only_when_rows_are_asked_for():
    import subprocess

    code = "import sys, data_processing.sources.sql_source; print('sqlalchemy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_a_reader_that_stops_early_leaves_the_database_free(small: Path):
    documents = sql_documents(config(small))
    assert isinstance(documents, Iterator)
    next(documents)
    documents.close()  # type: ignore[attr-defined]
    with closing(sqlite3.connect(small, timeout=0)) as database, database:
        database.execute("DELETE FROM notes")


# --- the password and the environment


def test_a_variable_in_the_url_is_replaced_and_quoted(small: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DB_PASSWORD", "a@b/c:d")
    url = _parsed_url(SqlConfig(url="postgresql://u:${DB_PASSWORD}@h/d", query="SELECT 1"))
    assert (url.password, url.host) == ("a@b/c:d", "h")
    monkeypatch.setenv("DB", f"sqlite:///{small}")
    whole = SqlConfig(url="${DB}", query="SELECT * FROM notes ORDER BY id")
    assert len(list(sql_documents(whole))) == 6
    monkeypatch.delenv("DB")
    with pytest.raises(ConfigError, match="environment variable DB is not set"):
        list(sql_documents(whole))


# --- order and fingerprint


def test_a_query_without_an_order_is_warned_about(small: Path, caplog: pytest.LogCaptureFixture):
    list(sql_documents(config(small, "SELECT text FROM notes -- ORDER BY id")))
    assert "data.sql.query has no ORDER BY" in caplog.text
    caplog.clear()
    list(sql_documents(config(small)))
    assert caplog.text == ""


def test_one_row_of_fifty_thousand_changes_the_fingerprint(large: Path, tmp_path: Path):
    copy = tmp_path / "large.db"
    copy.write_bytes(large.read_bytes())
    before = sql_fingerprint(config(copy))
    assert (before["num_rows"], before["num_bytes"]) == (
        ROWS,
        sum(len(text_of(number)) for number in range(ROWS)),
    )
    with closing(sqlite3.connect(copy)) as database, database:
        database.execute("UPDATE notes SET text = text || '.' WHERE id = 31415")
    after = sql_fingerprint(config(copy))
    assert after["sha256"] != before["sha256"]
    assert (after["num_rows"], after["num_bytes"]) == (ROWS, before["num_bytes"] + 1)


def test_the_fingerprint_changes_with_a_column_the_order_and_the_query_and_with_nothing_else(small: Path):
    seen = [sql_fingerprint(config(small))["sha256"]]
    assert sql_fingerprint(config(small))["sha256"] == seen[0]
    for statement in (
        "UPDATE notes SET long = 'another' WHERE id = 1",
        "UPDATE notes SET text = NULL WHERE id = 1",
        "DELETE FROM notes WHERE id = 6",
    ):
        with closing(sqlite3.connect(small)) as database, database:
            database.execute(statement)
        seen.append(sql_fingerprint(config(small))["sha256"])
    seen.append(sql_fingerprint(config(small, "SELECT * FROM notes ORDER BY id DESC"))["sha256"])
    seen.append(sql_fingerprint(config(small, text_column="long"))["sha256"])
    assert len(set(seen)) == 6


def test_what_is_not_carried_along_does_not_change_the_fingerprint(small: Path):
    before = sql_fingerprint(config(small))
    with closing(sqlite3.connect(small)) as database, database:
        database.execute("UPDATE notes SET long = long || 'y' WHERE id = 5")
    assert sql_fingerprint(config(small)) == before


# --- fields


def test_values_that_databases_have_and_json_has_not_become_texts_or_stay_behind():
    moment = datetime.datetime(2024, 5, 1, 12, 30, tzinfo=datetime.UTC)
    fields = {
        "when": moment,
        "day": moment.date(),
        "time": datetime.time(12, 30),
        "price": decimal.Decimal("12.30"),
        "key": uuid.UUID(int=5),
        "yes": True,
        "one": 1,
        "half": 0.5,
        "short": "x" * 1000,
        "long": "x" * 1001,
        "none": None,
        "nan": math.nan,
        "bytes": b"x",
        "list": [1],
    }
    assert scalar_fields(fields.items()) == {
        "when": "2024-05-01T12:30:00+00:00",
        "day": "2024-05-01",
        "time": "12:30:00",
        "price": "12.30",
        "key": "00000000-0000-0000-0000-000000000005",
        "yes": True,
        "one": 1,
        "half": 0.5,
        "short": "x" * 1000,
    }
    json.dumps(scalar_fields(fields.items()), allow_nan=False)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///notes.db", False),
        ("postgresql://reader@h/d", False),
        ("postgresql://reader:${DB_PASSWORD}@h/d", False),
        ("postgresql://reader:hunter2@h/d", True),
        ("postgresql://h/d?sslpassword=k3y", True),
        ("postgresql://h/d?sslpassword=${KEY}&application_name=x", False),
    ],
)
def test_a_password_that_stands_in_the_url_is_noticed(url: str, expected: bool) -> None:
    assert holds_password(SqlConfig(url=url, query="SELECT 1")) is expected
