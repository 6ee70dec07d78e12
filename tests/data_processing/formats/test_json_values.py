"""Elements of a JSON array that comes in pieces."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_processing.formats import json_values
from data_processing.formats.json_values import (
    JSON_ERRORS,
    HeldText,
    TooLongError,
    array_elements,
    explain,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def pieces_of(text: str, longest: int, seed: int) -> Iterator[str]:
    generator = random.Random(seed)
    place = 0
    while place < len(text):
        size = generator.randint(1, longest)
        yield text[place : place + size]
        place += size


def read(pieces: Iterator[str], *, most: int = 1 << 20) -> tuple[list[Any], str, str]:
    """The elements, what is complained of with its line, and the text of the elements and of what is left."""
    held = HeldText(pieces, most=most)
    elements, parts, problem = [], [], ""
    try:
        for value, part in array_elements(held):
            elements.append(value)
            parts.append(part)
    except JSON_ERRORS as error:
        place = error.pos if isinstance(error, json.JSONDecodeError) else 0
        problem = f"{explain(error)} in line {held.line_of(place)}"
        held.grow(1 << 20)
        parts.append(held.text)
    return elements, problem, "".join(parts)


@given(st.lists(VALUES, max_size=8), st.booleans(), st.sampled_from([None, 1]), st.integers(0, 1000))
def test_elements_are_those_of_the_whole_wherever_it_is_cut(
    values: list[Any], ascii_: bool, indent: int | None, seed: int
):
    text = json.dumps(values, ensure_ascii=ascii_, indent=indent)
    elements, problem, parts = read(pieces_of(text, 3, seed))
    assert (elements, problem) == (values, "")
    assert text.startswith(parts)
    assert text[len(parts) :].strip() in ("]", "[]")


@settings(max_examples=300)
@given(
    st.lists(VALUES, min_size=1, max_size=5),
    st.booleans(),
    st.randoms(use_true_random=False),
    st.text('"\\\\[]{},:u0-9eE.tfnNI \n\ud800', max_size=3),
)
def test_mistakes_are_those_of_the_whole_wherever_it_is_cut(
    values: list[Any], ascii_: bool, generator: random.Random, inserted: str
):
    text = json.dumps(values, ensure_ascii=ascii_, indent=1)
    begin = generator.randrange(1, len(text))
    end = generator.choice([begin, min(len(text), begin + 1), len(text)])
    broken = text[:begin] + inserted + text[end:]
    whole = read(iter([broken]))
    for longest in (1, 7, 100):
        in_pieces = read(pieces_of(broken, longest, begin))
        assert repr(in_pieces) == repr(whole)  # as text, because 1e999 and True are equal to others
    _, problem, parts = whole
    assert broken == parts if problem else broken.startswith(parts)


def test_what_was_read_is_forgotten_and_lines_are_counted_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(json_values, "FORGET_CHARACTERS", 5)
    text = "[\n" + ",\n".join(map(str, range(100))) + ",\n oops]"
    held = HeldText(pieces_of(text, 4, 1), most=10)
    elements = []
    with pytest.raises(json.JSONDecodeError) as caught:
        for value, _ in array_elements(held):
            elements.append(value)
            assert (
                len(held.text) < 60
            )  # of 394: what is forgotten at once, and what numbers are looked at beyond their end
    assert elements == list(range(100))
    assert held.line_of(caught.value.pos) == 102


@pytest.mark.parametrize("longest", [1, 3, 1000])
@pytest.mark.parametrize("element", ["12345678", '"123456"', "[1, 2,3]"])
def test_an_element_may_have_the_longest_length_and_no_more_wherever_it_is_cut(element: str, longest: int):
    text = f"[{element}, {element}]"
    assert read(pieces_of(text, longest, 0), most=8)[0] == [json.loads(element)] * 2
    with pytest.raises(TooLongError, match="a value of more than 7 characters"):
        list(array_elements(HeldText(pieces_of(text, longest, 0), most=7)))


def test_a_long_element_in_small_pieces_takes_time_in_proportion():
    text = json.dumps(["x" * 4_000_000, ["y"] * 500_000])
    [first, second], problem, _ = read(
        (text[at : at + 1000] for at in range(0, len(text), 1000)), most=1 << 23
    )
    assert (len(first), len(second), problem) == (4_000_000, 500_000, "")
