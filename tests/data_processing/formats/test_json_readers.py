"""Readers of JSON and of lines of JSON."""

import io
import json
import logging
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data_config import ReadingConfig
from core.errors import DataError
from data_processing.document import Document, Dropped
from data_processing.formats import json_readers, text_lines
from data_processing.formats.json_readers import read_json, read_json_lines
from data_processing.formats.raw_input import RawInput, Reading
from data_processing.formats.readers import read_file
from data_processing.sources.raw_files import RawFile


def read_text(
    path: Path, text: str | bytes, *, text_field: str = "text", **limits: int
) -> list[Document | Dropped]:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    reader = read_json if path.suffix == ".json" else read_json_lines
    raw = RawInput(io.BytesIO(data), path.name, path.suffix, len(data))
    items = list(reader(raw, Reading(text_field, ReadingConfig.from_dict(limits))))
    assert sum(item.num_bytes or 0 for item in items) == len(data)
    return items


def texts(items: list[Document | Dropped]) -> list[str]:
    return [item.text for item in items if isinstance(item, Document)]


def reasons(items: list[Document | Dropped]) -> list[tuple[str, str]]:
    return [(item.source, item.reason) for item in items if isinstance(item, Dropped)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"text": "a", "n": 1}', ["a"]),
        (' [ {"text": "a"} , "b",\n {"text": "é"} ] \n', ["a", "b", "é"]),
        ('["a"]', ["a"]),
        ('"a"', ["a"]),
        ('{"text": "a"}\n{"text": "b"}\n', ["a", "b"]),
        ('{"text": "a"}\n\n', ["a"]),
        ('{\n "text": "a",\n "b": {\n}}', ["a"]),
        ('\ufeff["a"]', ["a"]),
    ],
)
def test_the_shapes_of_json_files_are_read(tmp_path: Path, text: str, expected: list[str]):
    items = read_text(tmp_path / "a.json", text)
    assert (texts(items), reasons(items)) == (expected, [])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "windows-1252"])
def test_json_in_other_encodings_is_read_to_the_last_byte(tmp_path: Path, encoding: str):
    values = ["Le café est fermé jusqu'à demain matin."] * 5
    assert (
        texts(read_text(tmp_path / "a.json", json.dumps(values, ensure_ascii=False).encode(encoding)))
        == values
    )


def test_an_array_is_kept_up_to_its_first_mistake_which_is_named_by_line(tmp_path: Path):
    items = read_text(tmp_path / "a.json", '["one",\n"two",\n"three" "four"]')
    assert texts(items) == ["one", "two", "three"]
    assert reasons(items) == [("a.json:3", "malformed_json")]
    assert isinstance(items[-1], Dropped)
    assert "delimiter" in items[-1].detail


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "malformed_json"),
        ("[", "malformed_json"),
        ('["a",]', "malformed_json"),
        ('["a"] x', "malformed_json"),
        ("not json", "malformed_json"),
        ("[" * 200_000, "malformed_json"),
        ('{"a":' * 200_000, "malformed_json"),
        ('{"text": "a", "text": "b"}', "malformed_json"),
        ('{"text": "a", "x": NaN}', "malformed_json"),
        ('{"text": "a", "x": -Infinity}', "malformed_json"),
        ('{"x": ' + "1" * 5000 + "}", "malformed_json"),
        ('{"body": "a"}', "no_text_field"),
        ('{"text": ["a"]}', "no_text_field"),
        ("[17]", "no_text_field"),
        ("[]", "empty"),
        (" \n", "empty"),
        ("\x00\x01", "binary"),
    ],
)
@pytest.mark.parametrize("extension", [".json", ".jsonl"])
def test_what_is_no_record_is_dropped_with_its_reason(tmp_path: Path, text: str, reason: str, extension: str):
    items = read_text(tmp_path / f"a{extension}", text)
    found = reasons(items)[-1][1]
    if extension == ".jsonl" and text in ("[]", '["a",]', '["a"] x', "[17]", "\x00\x01"):
        assert found in ("no_text_field", "malformed_json")
    else:
        assert found == reason


def test_other_fields_travel_along_when_they_are_short_and_simple(tmp_path: Path):
    record = {"body": "a", "url": "u", "n": 1, "ok": True, "long": "x" * 2000, "list": [1], "none": None}
    line = json.dumps(record)[:-1] + ', "huge": 1e999}'
    [document] = read_text(tmp_path / "a.jsonl", line, text_field="body")
    assert isinstance(document, Document)
    assert document.metadata["fields"] == {"url": "u", "n": 1, "ok": True}


def test_lines_are_counted_from_one_with_blank_lines_included(tmp_path: Path):
    items = read_text(tmp_path / "a.jsonl", '\n{"text": "a"}\r\n\n\n{"text": \n{"text": "b"}\n\n  ')
    assert [item.source for item in items] == ["a.jsonl:2", "a.jsonl:5", "a.jsonl:6"]
    assert (texts(items), reasons(items)) == (["a", "b"], [("a.jsonl:5", "malformed_json")])


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=20), st.booleans())
def test_whatever_json_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, values: list[str], ascii_: bool
):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    lines = [json.dumps({"text": value}, ensure_ascii=ascii_) for value in values]
    assert texts(read_text(path, "\n".join(lines))) == values
    assert texts(read_text(path.with_suffix(".json"), "[" + ",\n".join(lines) + "]")) == values


def test_a_line_in_latin1_is_read_and_a_line_of_rubbish_is_not(tmp_path: Path):
    lines = [
        b'{"text": "caf\xe9 au lait, s\'il vous pla\xeet, monsieur"}',
        b'{"text": "\xff\xfe\xfd\xfc\x81\x8d"}',
    ]
    items = read_text(tmp_path / "a.jsonl", b"\n".join(lines))
    assert texts(items) == ["café au lait, s'il vous plaît, monsieur"]
    assert reasons(items) == [("a.jsonl:2", "undecodable")]


def test_a_line_that_is_too_long_is_passed_over_without_holding_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(json_readers, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 100)
    items = read_text(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "' + "x" * 1000 + '"}\n{"text": "b"}\n')
    assert texts(items) == ["a", "b"]
    assert reasons(items) == [("a.jsonl:2", "too_large")]
    assert isinstance(items[1], Dropped)
    assert items[1].num_bytes == 1013


def test_a_json_value_that_is_too_large_is_not_read_and_says_what_to_do(tmp_path: Path):
    value = '{"text": "01"}'
    [dropped] = read_text(tmp_path / "a.json", value, max_json_bytes=13)
    assert isinstance(dropped, Dropped) and dropped.reason == "too_large"
    assert dropped.detail == (
        "one value of 14 bytes, at most 13 are read at once; convert it to jsonl, or raise "
        "data.reading.max_json_bytes"
    )
    assert texts(read_text(tmp_path / "a.json", value, max_json_bytes=14)) == ["01"]


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "utf-32"])
def test_an_array_of_any_length_is_read_up_to_an_element_that_is_too_long(tmp_path: Path, codec: str):
    values = [f"é{number}" for number in range(5000)]
    text = json.dumps(values, ensure_ascii=False, indent=1)
    assert texts(read_text(tmp_path / "a.json", text.encode(codec), max_json_bytes=10)) == values
    values[3] = "0123456789"
    items = read_text(
        tmp_path / "a.json", json.dumps(values, ensure_ascii=False, indent=1).encode(codec), max_json_bytes=10
    )
    assert texts(items) == values[:3]
    [dropped] = [item for item in items if isinstance(item, Dropped)]
    assert (dropped.source, dropped.reason) == ("a.json:4", "too_large")
    assert dropped.detail == "a value of more than 10 characters; raise data.reading.max_json_bytes"


@pytest.mark.parametrize("text", [" " * 50, " " * 50 + "[]", "[" + " " * 50 + "1]", "[1" + " " * 50 + "]"])
def test_white_space_without_end_is_too_large(tmp_path: Path, text: str):
    [*_, last] = read_text(tmp_path / "a.json", text, max_json_bytes=49)
    assert isinstance(last, Dropped) and last.reason == "too_large"
    assert last.detail == "white space of more than 49 characters; raise data.reading.max_json_bytes"
    assert last.reason not in {reason for _, reason in reasons(read_text(tmp_path / "a.json", text))}


def test_an_array_takes_the_memory_of_its_longest_element(tmp_path: Path):
    path = tmp_path / "a.json"
    element = json.dumps({"text": "x" * 20_000})
    with path.open("w") as file:
        file.write("[" + f"{element},\n" * 1999 + element + "]")
    tracemalloc.start()
    try:
        items = read_file(RawFile(path, "a.json", path.stat().st_size), Reading())
        assert sum(len(item.text) for item in items if isinstance(item, Document)) == 2000 * 20_000
        assert tracemalloc.get_traced_memory()[1] < 12e6  # of 40 MB; 4 MB on a machine with Python 3.11
    finally:
        tracemalloc.stop()


def test_one_bad_line_in_twenty_is_counted_and_two_stop_the_run(tmp_path: Path):
    good, bad = '{"text": "a"}\n', '{"text": "a\n'
    items = read_text(tmp_path / "a.jsonl", good * 19 + bad)
    assert reasons(items) == [("a.jsonl:20", "malformed_json")]
    with pytest.raises(
        DataError, match=r"a\.jsonl:3: .*first of 2 malformed records among 21.*repair it, move it"
    ):
        read_text(tmp_path / "a.jsonl", good * 2 + bad + good * 17 + bad)


def test_nineteen_bad_lines_are_too_few_to_judge(tmp_path: Path):
    assert len(reasons(read_text(tmp_path / "a.jsonl", "bad\n" * 19))) == 19


def test_records_without_the_text_field_are_counted_and_the_log_names_the_setting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        items = read_text(tmp_path / "a.jsonl", '{"instruction": "x", "output": "y"}\n' * 50)
    assert len(reasons(items)) == 50
    assert "set data.text_field" in caplog.text
    assert "fields here: instruction, output" in caplog.text


def test_a_file_that_grows_while_it_is_read_gives_its_first_lines_and_says_so(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    items = read_file(RawFile(path, "a.jsonl", 28), Reading())
    first = next(items)
    with path.open("a") as other:
        other.write('{"text": "c"}\n')
    rest = list(items)
    assert texts([first, *rest]) == ["a", "b"]
    assert reasons(rest) == [("a.jsonl", "changed")]


@pytest.mark.parametrize(
    "line", ['{"text": "a"}x', '{"text": "a"}x\n', '{"text": "a"} {}\n', "\ufeff", '{"text": "a"}]']
)
def test_a_line_with_something_behind_its_value_is_malformed(tmp_path: Path, line: str):
    assert reasons(read_text(tmp_path / "a.jsonl", line)) == [("a.jsonl:1", "malformed_json")]


@pytest.mark.parametrize(
    ("record", "field", "expected"),
    [
        ({"meta": {"body": "a"}}, "meta.body", {"": "a"}),
        ({"meta.body": "whole key", "meta": {"body": "a"}}, "meta.body", {"": "whole key"}),
        ({"items": [{"text": "a"}, {"text": "é"}]}, "items[].text", {"[0]": "a", "[1]": "é"}),
        ({"paragraphs": ["a", "b"]}, "paragraphs[]", {"[0]": "a", "[1]": "b"}),
        (
            {"d": {"pages": [[{"t": "a"}], [{"t": "b"}, {"t": "c"}]]}},
            "d.pages[][].t",
            {"[0][0]": "a", "[1][0]": "b", "[1][1]": "c"},
        ),
    ],
)
@pytest.mark.parametrize("extension", [".json", ".jsonl"])
def test_a_path_leads_into_objects_and_through_arrays(
    tmp_path: Path, record: object, field: str, expected: dict[str, str], extension: str
):
    items = read_text(tmp_path / f"a{extension}", json.dumps(record, ensure_ascii=False), text_field=field)
    place = "a.json" if extension == ".json" else "a.jsonl:1"
    assert {item.source: item.text for item in items if isinstance(item, Document)} == {
        place + suffix: text for suffix, text in expected.items()
    }


@pytest.mark.parametrize(
    ("record", "field", "detail"),
    [
        (
            {"text": ["a", "b"]},
            "text",
            "holds an array, expected a string; data.text_field=text[] makes a document",
        ),
        (
            {"meta": {"title": "x"}},
            "meta.body",
            "no field 'body', the path 'meta.body' ends there (fields here: title)",
        ),
        ({"meta": "x"}, "meta.body", "a string, expected an object"),
        ({"items": "x"}, "items[].text", "field 'items' holds a string, expected an array"),
        ({"items": []}, "items[].text", "the array 'items' has no elements"),
        ({"items": [{"text": 7}]}, "items[].text", "field 'items[].text' holds a number, expected a string"),
        ({"text": None}, "text", "holds null, expected a string"),
    ],
)
def test_a_path_that_leads_nowhere_says_where_it_ends(
    tmp_path: Path, record: object, field: str, detail: str
):
    [dropped] = read_text(tmp_path / "a.jsonl", json.dumps(record), text_field=field)
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "no_text_field"
    assert detail in dropped.detail


def test_elements_without_text_are_dropped_one_by_one(tmp_path: Path):
    items = read_text(
        tmp_path / "a.json", '{"items": [{"text": "a"}, {}, {"text": "b"}]}', text_field="items[].text"
    )
    assert texts(items) == ["a", "b"]
    assert reasons(items) == [("a.json[1]", "no_text_field")]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("extension", [".json", ".jsonl"])
def test_lines_of_json_in_utf16_are_read_with_their_numbers(tmp_path: Path, codec: str, extension: str):
    text = '{"text": "über"}\r\n\r\n{"text": "日本"}\r\n{"text": \r\n'
    items = read_text(tmp_path / f"a{extension}", text.encode(codec))
    assert texts(items) == ["über", "日本"]
    assert reasons(items) == [(f"a{extension}:4", "malformed_json")]
    assert isinstance(items[0], Document)
    assert items[0].metadata["encoding"] == codec[:6]


def test_a_nul_in_one_line_costs_that_line(tmp_path: Path):
    items = read_text(tmp_path / "a.jsonl", b'{"text": "a"}\n{"text": "\x00"}\n{"text": "b"}\n')
    assert texts(items) == ["a", "b"]
    assert reasons(items) == [("a.jsonl:2", "malformed_json")]


def test_lines_of_json_in_a_json_file_are_read_however_many_there_are(tmp_path: Path):
    items = read_text(tmp_path / "a.json", '{"text": "a"}\n' * 50, max_json_bytes=100)
    assert texts(items) == ["a"] * 50


def test_the_share_of_malformed_lines_is_a_setting():
    data = b'{"text": "a"}\n' * 10 + b"x\n" * 10
    raw = RawInput(io.BytesIO(data), "a.jsonl", ".jsonl", len(data))
    reading = Reading(limits=ReadingConfig(max_record_share_malformed=0.5))
    assert len(texts(list(read_json_lines(raw, reading)))) == 10
    with pytest.raises(
        DataError, match=r"a\.jsonl:11: .* more than 49%.*data\.reading\.max_record_share_malformed"
    ):
        list(read_json_lines(raw, Reading(limits=ReadingConfig(max_record_share_malformed=0.49))))
