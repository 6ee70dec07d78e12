import json
import typing
from pathlib import Path

import pytest
from pydantic import Field

from core.config import Config, merge, parse_overrides, read_json_object
from core.errors import ConfigError


class Blast(Config):
    pressure_bar: float = Field(1.5, gt=0, le=10, description="Pressure, in bar.")


class Oven(Config):
    temperature_celsius: int = Field(1200, ge=0, le=2000, description="Heat, in degrees Celsius.")
    fuel: typing.Literal["coal", "charcoal"] = Field("charcoal", description="What burns.")
    blast: Blast = Blast()


def test_an_unknown_key_names_the_nearest_one_and_the_file() -> None:
    with pytest.raises(
        ConfigError, match=r"oven\.json: unknown setting 'temperature_celcius'; did you mean 'temp"
    ):
        Oven.from_dict({"temperature_celcius": 3}, origin="oven.json")


def test_an_unknown_key_in_a_section_is_named_with_its_path() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'blast\.presure'; did you mean 'pressure_bar'\?"):
        Oven.from_dict({"blast": {"presure": 2}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature_celsius": "hot"}, 'temperature_celsius: .*integer, found "hot"'),
        ({"temperature_celsius": 2001}, "temperature_celsius: .*less than or equal to 2000, found 2001"),
        ({"temperature_celsius": True}, "temperature_celsius: .*integer, found true"),
        ({"fuel": "wood"}, "fuel: .*'coal' or 'charcoal', found \"wood\""),
        ({"blast": {"pressure_bar": 0}}, "blast.pressure_bar: .*greater than 0, found 0"),
    ],
)
def test_a_wrong_value_is_refused_with_key_found_and_expected(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Oven.from_dict(values)


def test_a_configuration_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Oven().fuel = "coal"  # type: ignore[misc]


def test_saving_and_reading_gives_the_same_configuration(tmp_path: Path) -> None:
    oven = Oven(temperature_celsius=900, blast=Blast(pressure_bar=2.0))
    oven.save(tmp_path / "oven.json")
    assert Oven.from_file(tmp_path / "oven.json") == oven


def test_replace_checks_like_the_constructor_and_reaches_into_sections() -> None:
    assert Oven().replace(blast={"pressure_bar": 3}).blast.pressure_bar == 3
    with pytest.raises(ConfigError, match="temperature_celsius"):
        Oven().replace(temperature_celsius=-1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "key 'a' stands twice"),
        ('{"a": 1,\n "b" 2}', r":2: not valid JSON"),
        ("[1]", "expected a JSON object"),
    ],
)
def test_a_broken_file_says_where_and_what(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_json_object(path)


def test_a_missing_file_and_one_that_is_not_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: no such configuration file"):
        read_json_object(tmp_path / "none.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ConfigError, match=r"bytes\.json: not UTF-8"):
        read_json_object(tmp_path / "bytes.json")


def test_overrides_are_read_as_json_where_they_are_json() -> None:
    assert parse_overrides(["a.b=1e-3", "a.c=true", "a.d=null", "a.e=plain text", "f=[1, 2]", "a.g==x"]) == {
        "a": {"b": 1e-3, "c": True, "d": None, "e": "plain text", "g": "=x"},
        "f": [1, 2],
    }


@pytest.mark.parametrize("assignment", ["training.learning_rate", "=3", "--=3"])
def test_an_override_without_key_or_sign_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError, match=r"expected section\.setting=value"):
        parse_overrides([assignment])


def test_merge_goes_section_by_section_and_leaves_its_arguments_alone() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merge(base, {"a": {"y": 5}, "c": 6}) == {"a": {"x": 1, "y": 5}, "b": 3, "c": 6}
    assert base == {"a": {"x": 1, "y": 2}, "b": 3}


def test_help_shows_type_default_unit_and_range() -> None:
    text = Oven.describe("oven.")
    assert "oven.temperature_celsius  (int, default 1200)" in text
    assert "Heat, in degrees Celsius. [≥ 0, ≤ 2000]" in text
    assert 'oven.fuel  ("coal" | "charcoal", default "charcoal")' in text
    assert "oven.blast.pressure_bar" in text


def test_values_survive_json() -> None:
    assert Oven.from_dict(json.loads(json.dumps(Oven().to_dict()))) == Oven()
