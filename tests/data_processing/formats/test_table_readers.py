"""Parquet and Arrow files."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from data_processing.document import Document, Dropped
from data_processing.formats import table_readers
from data_processing.formats.raw_input import RawInput, Reading
from data_processing.formats.table_readers import read_arrow, read_parquet

ROWS = [
    {
        "text": f"text {n} – é",
        "url": f"u{n}",
        "n": n,
        "x": n / 2,
        "ok": n % 2 == 0,
        "long": "l" * 2000,
        "tags": ["a"],
    }
    for n in range(1000)
]
TABLE = pa.Table.from_pylist(ROWS)


def parquet(table: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def arrow(table: pa.Table, *, stream: bool = False, max_chunksize: int = 300) -> bytes:
    file = io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema) as writer:
        writer.write_table(table, max_chunksize)
    return file.getvalue()


def feather(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pyarrow.feather.write_feather(table, file)
    return file.getvalue()


def stream(table: pa.Table) -> bytes:
    return arrow(table, stream=True)


WRITERS = [parquet, arrow, stream, feather]


def read(data: bytes, writer: Any, *, text_field: str = "text") -> list[Document | Dropped]:
    is_parquet = writer is parquet
    raw = RawInput(io.BytesIO(data), "t", ".parquet" if is_parquet else ".arrow", len(data))
    items = list((read_parquet if is_parquet else read_arrow)(raw, Reading(text_field)))
    assert sum(item.num_bytes or 0 for item in items) == len(data)
    return items


def texts(items: list[Document | Dropped]) -> list[str]:
    return [item.text for item in items if isinstance(item, Document)]


@pytest.mark.parametrize("writer", WRITERS)
def test_every_row_is_a_document_with_its_simple_fields(writer: Any):
    items = read(writer(TABLE), writer)
    assert texts(items) == [row["text"] for row in ROWS]
    assert items[7].source == "t[7]"
    assert isinstance(items[7], Document)
    assert items[7].metadata["fields"] == {"url": "u7", "n": 7, "x": 3.5, "ok": False}


def test_rows_are_read_in_batches_whatever_the_row_groups(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(table_readers, "BATCH_BYTES", 10_000)
    for rows in (7, 300, 5000):
        assert texts(read(parquet(TABLE, row_group_size=rows), parquet)) == [row["text"] for row in ROWS]


@pytest.mark.parametrize("writer", WRITERS)
def test_paths_lead_into_structs_and_lists(writer: Any):
    rows = [{"meta": {"body": "a", "other": 1}, "parts": [{"t": "x"}, {"t": "y"}], "n": 1}]
    data = writer(pa.Table.from_pylist(rows))
    [document] = read(data, writer, text_field="meta.body")
    assert isinstance(document, Document)
    assert (document.text, document.metadata["fields"]) == ("a", {"n": 1})
    assert [
        (item.source, item.text)
        for item in read(data, writer, text_field="parts[].t")
        if isinstance(item, Document)
    ] == [
        ("t[0][0]", "x"),
        ("t[0][1]", "y"),
    ]


@pytest.mark.parametrize(
    "type_", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_all_kinds_of_strings_are_read(type_: pa.DataType):
    table = pa.table({"text": pa.array(["a", "b", "a"]).cast(type_)})
    assert texts(read(arrow(table), arrow)) == ["a", "b", "a"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_missing_column_names_those_that_are_there(writer: Any):
    [dropped] = read(writer(TABLE), writer, text_field="body")
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "no_text_field"
    assert "no column 'body' (columns here: text, url, n, x, ok, long, tags)" in dropped.detail


@pytest.mark.parametrize("writer", WRITERS)
def test_rows_without_text_are_dropped_one_by_one(writer: Any):
    table = pa.table({"text": pa.array(["a", None, "b"]), "binary": pa.array([b"x", b"y", b"z"])})
    items = read(writer(table), writer)
    assert texts(items) == ["a", "b"]
    [dropped] = [item for item in items if isinstance(item, Dropped)]
    assert (dropped.source, dropped.reason) == ("t[1]", "no_text_field")
    assert "holds null, expected a string" in dropped.detail
    assert "holds a value of type bytes" in read(writer(table), writer, text_field="binary")[0].detail  # type: ignore[union-attr]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_table_without_rows_is_empty(writer: Any):
    [dropped] = read(writer(TABLE.slice(0, 0)), writer)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "empty"


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_is_cut_off_is_malformed_and_keeps_what_it_can(writer: Any):
    data = writer(TABLE)
    items = read(data[: len(data) // 2], writer)
    assert isinstance(items[-1], Dropped)
    assert items[-1].reason == "malformed_table"
    assert len(texts(items)) == {stream: 300}.get(writer, 0)


@pytest.mark.parametrize("writer", WRITERS)
def test_flipped_bytes_never_crash(writer: Any):
    data = writer(TABLE.slice(0, 20))
    for place in range(4, len(data), max(1, len(data) // 150)):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        assert read(bytes(damaged), writer)


@pytest.mark.parametrize("writer", WRITERS)
def test_text_that_is_not_utf8_is_named_with_its_rows(writer: Any):
    data = (
        writer(pa.table({"text": ["good", "b\ue000d"]}))
        if writer is not feather
        else arrow(pa.table({"text": ["good", "b\ue000d"]}))
    )
    data = data.replace("\ue000".encode(), b"\xff\xfe\xfd")
    [dropped] = read(data, writer)
    assert isinstance(dropped, Dropped)
    assert (dropped.source, dropped.reason) == ("t[0:2]", "malformed_table")
    assert "UTF8" in dropped.detail


def test_an_error_of_the_disk_is_passed_on():
    class FailingFile(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    data = parquet(TABLE)
    raw = RawInput(FailingFile(data), "t", ".parquet", len(data))
    with pytest.raises(OSError, match="Input/output error"):
        list(read_parquet(raw, Reading()))
