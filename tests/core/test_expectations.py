"""What a user reads of a wrong value, against what pydantic really reports of one."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from core.expectations import EXPECTED, expectation


class Part(BaseModel):
    """A nested object."""


CASES: list[tuple[Any, Any, str]] = [
    (Annotated[int, Field(ge=1)], 0, "1 or more"),
    (Annotated[float, Field(gt=0.5)], 0.5, "more than 0.5"),
    (Annotated[float, Field(le=2.0)], 3.0, "2 or less"),
    (Annotated[int, Field(lt=2**63)], 2**63, "less than 9223372036854775808"),
    (Annotated[float, Field(allow_inf_nan=False)], float("nan"), "a finite number"),
    (int, "1", "a whole number"),
    (int, 1.5, "a whole number"),
    (float, "1", "a number"),
    (bool, 1, "true or false"),
    (str, 1, "a text"),
    (Annotated[str, Field(min_length=1)], "", "a text of 1 or more characters"),
    (Annotated[str, Field(max_length=2)], "abc", "a text of 2 or fewer characters"),
    (list[int], "a", "a list"),
    (tuple[int, ...], 5, "a list"),
    (Annotated[list[int], Field(min_length=1)], [], "a list of 1 or more"),
    (Annotated[list[int], Field(max_length=1)], [1, 2], "a list of 1 or fewer"),
    (dict[str, int], 5, "an object {...}"),
    (Part, 5, "an object {...}"),
    (Literal["a", "b"], "c", "'a' or 'b'"),
    (None, 5, "null"),
]


@pytest.mark.parametrize(("kind", "value", "words"), CASES, ids=str)
def test_each_mistake_is_told_in_our_words(kind: Any, value: Any, words: str) -> None:
    config = None if kind is Part else ConfigDict(strict=True)
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind, config=config).validate_python(value)
    (mistake,) = caught.value.errors()
    assert mistake["type"] in EXPECTED
    assert expectation(mistake) == f"expected {words}"


def test_a_rare_mistake_is_told_in_the_words_that_there_are() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Annotated[int, Field(multiple_of=2)]).validate_python(3)
    assert expectation(caught.value.errors()[0]) == "expected a multiple of 2"
