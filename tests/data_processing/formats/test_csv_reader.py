"""Tables of text."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data_config import ReadingConfig
from core.errors import DataError
from data_processing.document import Document, Dropped
from data_processing.formats import csv_reader
from data_processing.formats.csv_reader import read_csv
from data_processing.formats.raw_input import RawInput, Reading


def read(
    text: str | bytes, *, text_field: str = "text", name: str = "t.csv", **limits: Any
) -> list[Document | Dropped]:
    data = text if isinstance(text, bytes) else text.encode()
    raw = RawInput(io.BytesIO(data), name, name[-4:], len(data))
    items = list(read_csv(raw, Reading(text_field, ReadingConfig(**limits))))
    assert sum(item.num_bytes or 0 for item in items) == len(data)
    return items


def texts(items: list[Document | Dropped]) -> list[str]:
    return [item.text for item in items if isinstance(item, Document)]


def reasons(items: list[Document | Dropped]) -> list[tuple[str, str]]:
    return [(item.source, item.reason) for item in items if isinstance(item, Dropped)]


def test_a_row_becomes_a_document_named_by_the_line_it_begins_in():
    items = read('id,text,n\n1,"two\nlines, and ""quotes""",3\r\n\r\n2,short,4\n')
    assert texts(items) == ['two\nlines, and "quotes"', "short"]
    assert [item.source for item in items] == ["t.csv:2", "t.csv:5"]
    assert isinstance(items[0], Document)
    assert items[0].metadata == {"format": ".csv", "encoding": "utf-8", "fields": {"id": "1", "n": "3"}}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("doubled", [True, False])
@settings(max_examples=25)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.sampled_from('ab ,;|é".\n'), max_size=12), st.text(st.sampled_from("ab, "), max_size=5)
        ),
        min_size=2,
        max_size=6,
    )
)
def test_what_python_writes_is_read_back(
    delimiter: str, quoting: Any, doubled: bool, rows: list[tuple[str, str]]
):
    file = io.StringIO(newline="")
    writer = csv.writer(
        file, delimiter=delimiter, quoting=quoting, doublequote=doubled, escapechar=None if doubled else "\\"
    )
    writer.writerows([("id", "text", "note"), *((index, *row) for index, row in enumerate(rows))])
    assert texts(read(file.getvalue())) == [text for text, _ in rows]


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "windows-1252"])
def test_tables_in_other_encodings_are_read_to_the_last_byte(codec: str):
    text = "Der Fuß, die Größe und das Maß der Dinge"
    items = read(f"id\ttext\r\n1\t{text}\r\n2\tnoch etwas für später\r\n".encode(codec))
    assert texts(items) == [text, "noch etwas für später"]


def test_a_table_with_tabs_and_lonely_quotation_marks_is_read_as_it_stands():
    items = read('id\ttext\n1\t"Tis late\n2\tfive" pipes\n3\tplain\n', name="t.tsv")
    assert texts(items) == ['"Tis late', 'five" pipes', "plain"]


def test_a_missing_column_names_those_that_are_there():
    [dropped] = read("id;title;body\n1;a;b\n" * 30)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "no_text_field"
    assert "no column 'text' (columns here: id, title, body); set data.text_field" in dropped.detail


def test_rows_that_do_not_fit_are_dropped_with_their_lines():
    rows = "".join(f"{n},text {n}\n" for n in range(40))
    items = read(f"id,text\n{rows}only one\n1,too,many\n")
    assert len(texts(items)) == 40
    assert reasons(items) == [("t.csv:42", "malformed_row"), ("t.csv:43", "malformed_row")]
    assert isinstance(items[-1], Dropped)
    assert items[-1].detail == "3 cells, expected 2 as in the first row"
    assert items[-1].sample == "1, too, many"


def test_too_many_malformed_rows_refuse_the_file():
    rows = "".join(f"{n},text {n}\n" for n in range(30))
    with pytest.raises(
        DataError, match=r"t\.csv:32: 1 cells, .*2 malformed records among 32, more than 5%.*repair it"
    ):
        read(f"id,text\n{rows}one\ntwo\n")
    assert len(read(f"id,text\n{rows}one\ntwo\n", max_record_share_malformed=0.1)) == 32


def test_a_quotation_mark_that_is_never_closed_costs_what_follows_and_says_so():
    rows = "".join(f"{n},text {n}\n" for n in range(30))
    items = read(f'id,text\n{rows}30,"open\n31,lost\n')
    assert len(texts(items)) == 30
    assert reasons(items) == [("t.csv:32", "malformed_row")]
    assert "end of data" in items[-1].detail  # type: ignore[union-attr]


def test_a_cell_beyond_pythons_limit_is_read_and_one_beyond_ours_is_malformed(
    monkeypatch: pytest.MonkeyPatch,
):
    long = "x" * 200_000
    assert texts(read(f"id,text\n1,{long}\n2,b\n")) == [long, "b"]
    monkeypatch.setattr(csv_reader, "MAX_CELL_CHARACTERS", 1000)
    previous = csv.field_size_limit(1000)
    try:
        items = read(f"id,text\n1,{long}\n2,b\n")
    finally:
        csv.field_size_limit(previous)
    assert (texts(items), reasons(items)) == (["b"], [("t.csv:2", "malformed_row")])


@pytest.mark.parametrize("text", ["text\n", "text"])
def test_a_table_without_rows_is_empty(text: str):
    assert reasons(read(text)) == [("t.csv", "empty")]


def test_one_column_is_a_table_too():
    assert texts(read("text\nfirst\nsecond; with a semicolon\n")) == ["first", "second; with a semicolon"]


def test_what_is_no_text_is_named():
    assert reasons(read(b"id,text\n\x00\x01\x02")) == [("t.csv", "binary")]
