import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import DataError
from data_processing.rows.json_records import read_json_lines, read_json_records

json_objects = st.dictionaries(
    st.text(max_size=4), st.text(max_size=8) | st.integers() | st.none(), max_size=3
)


@settings(deadline=None, max_examples=30)
@given(st.lists(json_objects, max_size=6), st.sampled_from([None, 1]), st.booleans())
def test_an_array_and_lines_give_the_same_values_each_with_the_line_it_begins_on(
    tmp_path_factory, values, indent, ascii_only
):
    base = tmp_path_factory.mktemp("records")
    (base / "a.json").write_text(json.dumps(values, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    lines = "".join(json.dumps(value, ensure_ascii=ascii_only) + "\n" for value in values)
    (base / "a.jsonl").write_text(lines, encoding="utf-8")
    from_array = list(read_json_records(base / "a.json"))
    from_lines = list(read_json_records(base / "a.jsonl"))
    assert [record.value for record in from_array] == [record.value for record in from_lines] == values
    assert all(record.problem is None for record in from_array + from_lines)
    assert [record.line for record in from_lines] == list(range(1, len(values) + 1))
    text_lines = (base / "a.json").read_text(encoding="utf-8").split("\n")
    for record in from_array:
        assert "{" in text_lines[record.line - 1]
    if indent is None:
        assert all(record.line == 1 for record in from_array)
    else:
        assert len({record.line for record in from_array}) == len(values)


def test_a_broken_line_is_reported_and_the_next_is_read(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": \n\xff\n   \n{"a": 2}')
    first, broken, undecodable, last = read_json_lines(path)
    assert (first.line, first.value) == (1, {"a": 1})
    assert (broken.line, broken.value) == (3, None)
    assert "not JSON (Expecting value at column" in broken.problem
    assert undecodable.line == 4
    assert "not UTF-8" in undecodable.problem
    assert (last.line, last.value) == (6, {"a": 2})


def test_a_byte_order_mark_is_no_part_of_the_first_record(tmp_path):
    for name, text in (("x.jsonl", '{"a": 1}'), ("x.json", '[{"a": 1}]')):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8-sig")
        assert [record.value for record in read_json_records(path)] == [{"a": 1}]


def test_deep_nesting_is_a_problem_of_its_line_and_not_of_the_program(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a":' + "[" * 100_000 + "]" * 100_000 + '}\n{"a": 1}\n')
    deep, good = read_json_lines(path)
    assert "nested too deeply" in deep.problem
    assert good.value == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ('[\n{"a": 1},\n{"a": 2\n', 3, "Expecting ',' delimiter at column"),
        ('[\n{"a": 1},\n', 3, "not closed by ]"),
        ('[\n{"a": 1}\n{"a": 2}]', 3, "expected , or ] before"),
        ('[\n{"a": 1}]\n{"a": 2}', 2, "something follows the array"),
    ],
)
def test_a_broken_array_gives_what_stands_before_the_break_and_names_its_line(tmp_path, text, line, problem):
    path = tmp_path / "x.json"
    path.write_text(text)
    *good, broken = read_json_records(path)
    assert [record.value for record in good] == [{"a": 1}]
    assert broken.line == line
    assert problem in broken.problem


def test_a_file_that_is_not_there_or_no_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"missing\.jsonl: no such file"):
        list(read_json_records(tmp_path / "missing.jsonl"))
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        list(read_json_lines(tmp_path))


def test_an_array_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(DataError, match=r"x\.json: not UTF-8"):
        list(read_json_records(path))
