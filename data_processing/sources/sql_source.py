"""Documents out of a database: the rows of one SELECT, streamed and never written to. Knows no rule of quality."""

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from core.config import nearest
from core.data_config import SqlConfig
from core.errors import ConfigError, DataError, MissingDependencyError, UnreachableError
from core.files import sha256_json
from data_processing.document import Document, Dropped
from data_processing.formats.record_fields import scalar_fields

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 100
"""Rows that are in memory at a time. Arbitrary: of long novels 100 MB, of web pages half a megabyte a round trip."""

# What a dialect understands as "nothing is written from here on". PostgreSQL has an option of the connection instead.
# Elsewhere the words of the query and the rollback have to do.
_READ_ONLY = {
    "sqlite": "PRAGMA query_only = ON",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
}

_FIRST_WORDS = frozenset({"SELECT", "WITH", "VALUES", "TABLE"})
_WRITING_WORDS = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "INTO"})
"""What writes within a statement that begins like a SELECT: WITH ... DELETE ... RETURNING, SELECT ... INTO, and locks
(FOR UPDATE)."""

_NOT_CODE = re.compile(
    r"'(?:[^']|'')*' | \"(?:[^\"]|\"\")*\" | `[^`]*` | \[[^\]]*\] | --[^\n]* | /\*.*?\*/ | \$(\w*)\$.*?\$\1\$",
    re.DOTALL | re.VERBOSE,
)
_PASSWORD = re.compile(r"://[^/@:]*:[^/@]+@")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_SECRET_PARAMETER = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)


def sql_documents(config: SqlConfig) -> Iterator[Document | Dropped]:
    """The rows as documents, in the order in which the database gives them, `ROWS_AT_ONCE` in memory at a time.

    Source is `sql[17]`, the number of the row from 0; short simple columns beside the text go to
    `metadata["fields"]`. Everything runs in one transaction, read-only where the database can do that, which is
    rolled back.

    Raises:
        ConfigError: the URL cannot be read, names a variable that is not set, or the query is not a plain SELECT.
        MissingDependencyError: SQLAlchemy or the driver of the database is not installed.
        UnreachableError: no connection, or it was lost.
        DataError: the database refuses the query, or the column of the text is missing.
    """
    query = _checked_query(config)
    if "ORDER" not in _words(query):
        logger.warning(
            "data.sql.query has no ORDER BY: a database may give the rows in another order each time, and the corpus "
            "then differs from run to run; add one"
        )
    with _connection(config) as database, _explained(database):
        result = database.connection.execution_options(
            stream_results=True, yield_per=ROWS_AT_ONCE, no_parameters=True
        ).exec_driver_sql(query)
        with contextlib.closing(result):
            columns = list(result.keys()) if result.returns_rows else []
            place = _text_place(columns, config.text_column)
            for number, row in enumerate(result):
                yield _item(number, row, columns, place)


def sql_fingerprint(config: SqlConfig) -> dict[str, Any]:
    """What the documents are made of, to tell later whether it changed; reads every row.

    Returns:
        A JSON object: `sha256` over the rest; `url` without the password, `query`, `text_column`; `num_rows`,
        `num_bytes` of text, and `rows`, a SHA-256 over what `sql_documents` makes of each row, in order.

    Raises:
        As `sql_documents`.
    """
    digest = hashlib.sha256()
    num_rows = num_bytes = 0
    for item in sql_documents(config):
        content = (
            [item.text, item.metadata.get("fields")]
            if isinstance(item, Document)
            else [item.reason, item.detail]
        )
        # ASCII, because half a surrogate pair has no UTF-8.
        digest.update(json.dumps(content, sort_keys=True).encode() + b"\n")
        num_rows += 1
        num_bytes += item.input_bytes if isinstance(item, Document) else item.num_bytes
    facts = {
        "url": _without_secrets(_parsed_url(config)),
        "query": config.query,
        "text_column": config.text_column,
        "num_rows": num_rows,
        "num_bytes": num_bytes,
        "rows": digest.hexdigest(),
    }
    return {"sha256": sha256_json(facts), **facts}


class _Database(NamedTuple):
    connection: "Connection"
    url: "URL"


@contextlib.contextmanager
def _connection(config: SqlConfig) -> Iterator[_Database]:
    """A connection that cannot write where the dialect knows how to forbid it; rolled back at the end."""
    url = _parsed_url(config)
    from sqlalchemy import NullPool, create_engine
    from sqlalchemy.exc import SQLAlchemyError

    shown = _without_secrets(url)
    _check_database_file(url, shown)
    try:
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"data.sql.url {shown}: the driver {error.name!r} is not installed; install it (pip install "
            f"{error.name}), or name another one, such as {url.get_backend_name()}+driver://..."
        ) from None
    except SQLAlchemyError as error:
        raise ConfigError(
            f"data.sql.url {shown}: {_reason(error, url)}; expected dialect+driver://user:password@host/database"
        ) from None
    try:
        connection = engine.connect()
    except SQLAlchemyError as error:
        raise UnreachableError(
            f"data.sql.url {shown}: no connection ({_reason(error, url)}); check that the database runs, its address, "
            "user and password"
        ) from None
    with connection:
        try:
            with _explained(_Database(connection, url)):
                _forbid_writing(connection)
            yield _Database(connection, url)
        finally:
            connection.rollback()


def _forbid_writing(connection: "Connection") -> None:
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.execution_options(postgresql_readonly=True)
    elif dialect in _READ_ONLY:
        connection.exec_driver_sql(_READ_ONLY[dialect])
    if dialect == "sqlite":
        # Otherwise one text that is not UTF-8 ends the whole stream.
        connection.connection.driver_connection.text_factory = _text_or_bytes  # type: ignore[union-attr]


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


@contextlib.contextmanager
def _explained(database: _Database) -> Iterator[None]:
    """Turn what the database says against the query into one line."""
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        shown, reason = _without_secrets(database.url), _reason(error, database.url)
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise UnreachableError(
                f"data.sql.url {shown}: the connection was lost ({reason}); run the same command again"
            ) from None
        raise DataError(
            f"data.sql.query: {shown} refuses it ({reason}); correct the query, or the rights of the user"
        ) from None


def _parsed_url(config: SqlConfig) -> "URL":
    if config.url is None:
        raise ConfigError("data.sql.url is not set; set it, for example to sqlite:///notes.db")
    try:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "data.sql needs SQLAlchemy, which is not installed; pip install -e '.[sql]'"
        ) from None
    url = _with_variables(config.url)
    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        # Not shown: it cannot be told which part of it is the password.
        raise ConfigError(
            "data.sql.url is no URL; expected dialect+driver://user:password@host:port/database, such as "
            "sqlite:///notes.db or postgresql://reader:${PASSWORD}@db.example.org/texts"
        ) from None


def holds_password(config: SqlConfig) -> bool:
    """Whether a password stands in the URL itself, and not the name of an environment variable that has it."""
    if config.url is None:
        return False
    url = _VARIABLE.sub("", config.url)
    return bool(_PASSWORD.search(url) or any(_SECRET_PARAMETER.search(part) for part in _set_parameters(url)))


def _set_parameters(url: str) -> list[str]:
    """The names of those parameters of a URL that have a value."""
    pairs = [pair.partition("=") for pair in url.partition("?")[2].split("&")]
    return [name for name, _, value in pairs if value]


def _with_variables(url: str) -> str:
    """The URL with `${NAME}` replaced, so that a password need not stand in a file of settings."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(
                f"data.sql.url: the environment variable {match[1]} is not set; set it, or write the URL out"
            )
        text = os.environ[match[1]]
        # A part of a URL is quoted, so that @ and / in a password stay in the password; a whole URL is one already.
        return text if match[0] == url else quote(text, safe="")

    return _VARIABLE.sub(value, url)


def _check_database_file(url: "URL", shown: str) -> None:
    """Refuse a file that is not there: SQLite would create it and find it empty."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return
    if not url.database.startswith("file:") and not Path(url.database).is_file():
        raise DataError(
            f"data.sql.url {shown}: no such file {url.database} (seen from {Path.cwd()}); correct the URL: three "
            "slashes begin a relative path, four an absolute one"
        )


def _without_secrets(url: "URL") -> str:
    """The URL for messages and recipes."""
    secret = {name: "***" for name in url.query if _SECRET_PARAMETER.search(name)}
    shown = url.update_query_dict(secret).render_as_string(hide_password=True)
    return shown.replace(quote("***"), "***")


def _reason(error: Exception, url: "URL") -> str:
    """What the database or its driver says, on one line, without secrets."""
    text = " ".join(str(getattr(error, "orig", None) or error).split())
    text = text.partition(" (Background on this error")[0]
    parameters = [value for name, value in url.query.items() if _SECRET_PARAMETER.search(name)]
    for secret in [url.password, *parameters]:
        for written in {str(secret), quote(str(secret), safe="")} if secret else ():
            text = text.replace(written, "***")
    return text


def _checked_query(config: SqlConfig) -> str:
    """The query, which is one statement that only reads, as far as its words show."""
    query = config.query or ""
    words = _words(query)
    if not words:
        raise ConfigError(
            "data.sql.query is empty; set it, for example to SELECT id, text FROM notes ORDER BY id"
        )
    if words[0] not in _FIRST_WORDS:
        raise ConfigError(
            f"data.sql.query begins with {words[0]}, expected SELECT, WITH, VALUES or TABLE; nothing is ever written"
        )
    if ";" in words[:-1]:
        raise ConfigError("data.sql.query holds several statements (a ; in the middle); keep one SELECT")
    if writing := next((word for word in words if word in _WRITING_WORDS), None):
        raise ConfigError(
            f"data.sql.query holds {writing}, which writes or locks; only reading is allowed. A column or table of "
            "that name has to stand in quotation marks"
        )
    return query


def _words(query: str) -> list[str]:
    """The words of a query in capitals, and its semicolons, without quoted names, texts and comments."""
    words: list[str] = re.findall(r"[^\W\d]\w*|;", _NOT_CODE.sub(" ", query).upper())
    return words


def _text_place(columns: Sequence[str], wanted: str) -> int:
    if wanted not in columns:
        raise DataError(
            f"data.sql.text_column {wanted!r}: the query gives no such column{nearest(wanted, columns)} (columns: "
            f"{', '.join(columns) or 'none'}); name one of them, or give one the name with AS in data.sql.query"
        )
    return columns.index(wanted)


def _item(number: int, row: Sequence[Any], columns: Sequence[str], place: int) -> Document | Dropped:
    source, value = f"sql[{number}]", row[place]
    if not isinstance(value, str):
        size = len(value) if isinstance(value, bytes | bytearray | memoryview) else 0
        found = "NULL" if value is None else f"{size} bytes" if size else type(value).__name__
        detail = f"column {columns[place]!r} holds {found}, expected text; CAST it in data.sql.query"
        return Dropped(source, "no_text_field", detail, num_bytes=size)
    others = (pair for at, pair in enumerate(zip(columns, row, strict=True)) if at != place)
    fields = scalar_fields(others)
    return Document.of(value, source=source, metadata={"fields": fields} if fields else {})
