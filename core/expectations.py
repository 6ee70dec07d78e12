"""What was expected of a value, in the words of this project instead of a library's. Knows no setting."""

from collections.abc import Callable, Mapping
from typing import Any

EXPECTED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than_equal": lambda limit: f"{_number(limit['ge'])} or more",
    "greater_than": lambda limit: f"more than {_number(limit['gt'])}",
    "less_than_equal": lambda limit: f"{_number(limit['le'])} or less",
    "less_than": lambda limit: f"less than {_number(limit['lt'])}",
    "finite_number": lambda _: "a finite number",
    "int_type": lambda _: "a whole number",
    "int_from_float": lambda _: "a whole number",
    "float_type": lambda _: "a number",
    "bool_type": lambda _: "true or false",
    "string_type": lambda _: "a text",
    "string_too_short": lambda limit: f"a text of {limit['min_length']} or more characters",
    "string_too_long": lambda limit: f"a text of {limit['max_length']} or fewer characters",
    "list_type": lambda _: "a list",
    "tuple_type": lambda _: "a list",
    "too_short": lambda limit: f"a list of {limit['min_length']} or more",
    "too_long": lambda limit: f"a list of {limit['max_length']} or fewer",
    "dict_type": lambda _: "an object {...}",
    "model_type": lambda _: "an object {...}",
    "model_attributes_type": lambda _: "an object {...}",
    "literal_error": lambda choice: str(choice["expected"]),
    "none_required": lambda _: "null",
}
"""Kind of a mistake, as pydantic calls it (https://docs.pydantic.dev/latest/errors/validation_errors) -> what was
expected, from the limits that it names."""


def expectation(mistake: Mapping[str, Any]) -> str:
    """What was expected, from an entry of pydantic's `ValidationError.errors()`; of a rare kind in its own words.

    >>> expectation({"type": "greater_than_equal", "ctx": {"ge": 0.0}, "msg": "…"})
    'expected 0 or more'
    """
    words = EXPECTED.get(mistake["type"])
    if words is None:
        return str(mistake["msg"]).replace("Input should be", "expected")
    return f"expected {words(mistake.get('ctx', {}))}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)
