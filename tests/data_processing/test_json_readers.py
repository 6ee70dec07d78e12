"""Readers of JSON and of lines of JSON."""

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from data_processing import json_readers
from data_processing.document import Document, Dropped
from data_processing.json_readers import read_json, read_json_lines


def read_text(path: Path, text: str | bytes, *, text_field: str = "text") -> list[Document | Dropped]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    reader = read_json if path.suffix == ".json" else read_json_lines
    items = list(reader(path, source=path.name, text_field=text_field))
    assert sum(item.num_bytes or 0 for item in items) == path.stat().st_size
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
    monkeypatch.setattr(json_readers, "MAX_RECORD_BYTES", 100)
    items = read_text(tmp_path / "a.jsonl", '{"text": "a"}\n{"text": "' + "x" * 1000 + '"}\n{"text": "b"}\n')
    assert texts(items) == ["a", "b"]
    assert reasons(items) == [("a.jsonl:2", "too_large")]
    assert isinstance(items[1], Dropped)
    assert items[1].num_bytes == 1013


def test_a_json_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(json_readers, "MAX_JSON_BYTES", 10)
    assert reasons(read_text(tmp_path / "a.json", '["0123456789"]')) == [("a.json", "too_large")]


def test_one_bad_line_in_twenty_is_counted_and_two_stop_the_run(tmp_path: Path):
    good, bad = '{"text": "a"}\n', '{"text": "a\n'
    items = read_text(tmp_path / "a.jsonl", good * 19 + bad)
    assert reasons(items) == [("a.jsonl:20", "malformed_json")]
    with pytest.raises(
        DataError, match=r"a\.jsonl:3: .*first of 2 malformed lines among 21.*repair it, move it"
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
    items = read_json_lines(path, source="a.jsonl", text_field="text")
    first = next(items)
    with path.open("a") as other:
        other.write('{"text": "c"}\n')
    rest = list(items)
    assert texts([first, *rest]) == ["a", "b"]
    assert reasons(rest) == [("a.jsonl", "changed")]
