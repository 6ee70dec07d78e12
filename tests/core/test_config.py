import json
import typing
from pathlib import Path

import pytest
from pydantic import Field

from core.config import Config, merge, parse_overrides
from core.errors import ConfigError


class Blast(Config):
    pressure_bar: float = Field(1.5, gt=0, le=10, description="Pressure, in bar.")


class Oven(Config):
    """A furnace.

    This paragraph is for readers of the code.
    """

    temperature_celsius: int = Field(1200, ge=0, le=2000, description="Heat, in degrees Celsius.")
    fuel: typing.Literal["coal", "charcoal"] = Field("charcoal", description="What burns.")
    blast: Blast = Blast()


class Smithy(Config):
    oven: Oven = Oven()
    anvils: tuple[str, ...] = Field(("small",), description="Anvils, by name.")
    plans: tuple[Path, ...] = Field((), description="Files of drawings.")
    fuels: tuple[typing.Literal["coal", "charcoal"], ...] = Field((), description="What is in store.")
    ledger: Path | None = Field(None, description="File of accounts.")
    sign: str = Field("Smith", description="What stands over the door, up to this many characters.")
    weights: dict[int, float] = Field({1: 2.0}, description="Hammers.")


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
        (
            {"blast": {"pressure_bar": 2}},
            r"'blast\.pressure_bar'; did you mean 'oven\.blast\.pressure_bar'\?",
        ),
        ({"pressure_bar": 2}, r"'pressure_bar'; did you mean 'oven\.blast\.pressure_bar'\?"),
        ({"blast": {"presure": 2}}, r"'blast'; did you mean 'oven\.blast'\?"),
        ({"oven": {"anvils": []}}, r"'oven\.anvils'; did you mean 'anvils'\?"),
        ({"temperature_celcius": 9}, r"'temperature_celcius'; did you mean 'oven\.temperature_celsius'\?"),
        ({"max_characters": 9}, r"'max_characters' \(known here: anvils, "),
        ({"degrees_heat": 9}, r"'degrees_heat'; did you mean 'oven\.temperature_celsius'\?"),
        ({"ovn": 1}, r"'ovn' \(known here"),  # a setting is meant, and oven is none
        ({"description": 1}, r"'description' \(known here"),
    ],
)
def test_an_unknown_key_is_looked_for_in_all_sections(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match="unknown setting " + message):
        Smithy.from_dict(values)


def test_of_several_settings_with_the_unknown_name_all_are_named() -> None:
    class Forge(Config):
        left: Oven = Oven()
        right: Oven = Oven()

    with pytest.raises(ConfigError, match=r"'fuel'; did you mean 'left\.fuel' or 'right\.fuel'\?"):
        Forge.from_dict({"fuel": "coal"})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ledger": ""}, "in file: ledger: is empty; set it to null to leave it unset$"),
        ({"sign": " "}, 'in file: sign: is empty; leave it out for the default, "Smith"$'),
        ({"plans": ["a", ""]}, r"in file: plans: is empty; leave out what is empty; \[\] is an empty list$"),
        ({"plans": ""}, "in file: plans: is empty; leave out what is empty"),
        ({"oven": {"fuel": ""}}, 'in file: oven.fuel: is empty; leave it out for the default, "charcoal"$'),
    ],
)
def test_an_empty_text_is_no_value(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Smithy.from_dict(values, origin="in file")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ledger": "a\0b"}, r"in file: ledger: 'a\\x00b' holds a NUL character, .*; leave it out$"),
        ({"plans": ["a", "\0"]}, r"in file: plans: '\\x00' holds a NUL character"),
        ({"ledger": Path("a\0b")}, "in file: ledger: .* holds a NUL character"),
        ({"ledger": "caf\udce9"}, r"in file: ledger: 'caf\\udce9' is no UTF-8; rename what it names"),
        (
            {"ledger": "~nobody_of_this_name/x"},
            r"in file: ledger: '~nobody_of_this_name/x': no home directory is",
        ),
        (
            {"ledger": "a/" + "ä" * 128},
            r"in file: ledger: a name of 256 bytes \('a/ä+…\), file systems take 255",
        ),
    ],
)
def test_a_name_that_no_file_can_have_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Smithy.from_dict(values, origin="in file")


def test_a_path_from_the_home_directory_lies_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    smithy = Smithy.from_dict({"ledger": "~/ledger", "plans": ["~", "a~b", "a/~"]})
    assert smithy.ledger == tmp_path / "ledger"
    assert smithy.plans == (tmp_path, Path("a~b"), Path("a/~"))
    assert Smithy().replace(ledger="~/x").to_dict()["ledger"] == str(tmp_path / "x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature_celsius": "hot"}, 'temperature_celsius: expected a whole number, found "hot"'),
        ({"temperature_celsius": 2001}, "temperature_celsius: expected 2000 or less, found 2001"),
        ({"temperature_celsius": True}, "temperature_celsius: expected a whole number, found true"),
        ({"fuel": "wood"}, "fuel: expected 'coal' or 'charcoal', found \"wood\""),
        ({"blast": {"pressure_bar": 0}}, "blast.pressure_bar: expected more than 0, found 0"),
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


def test_overrides_are_read_as_json_where_they_are_json() -> None:
    assert parse_overrides(["a.b=1e-3", "a.c=true", "a.d=null", "a.e=plain text", "f=[1, 2]", "a.g==x"]) == {
        "a": {"b": 1e-3, "c": True, "d": None, "e": "plain text", "g": "=x"},
        "f": [1, 2],
    }


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("anvils=a,b", ["a", "b"]),
        ("anvils= a , b c ", ["a", "b c"]),
        ("anvils=*.md", ["*.md"]),
        ("anvils=[ab]*.txt,c", ["[ab]*.txt", "c"]),
        ("anvils=2024", ["2024"]),
        ("anvils=2024,true", ["2024", "true"]),
        ("anvils=1e3", ["1e3"]),
        ("anvils=", []),
        ("anvils=[]", []),
        ('anvils=["a,b"]', ["a,b"]),
        ("plans=a/b,c", ["a/b", "c"]),
        ("fuels=coal,charcoal", ["coal", "charcoal"]),
    ],
)
def test_a_list_of_texts_needs_no_json(assignment: str, expected: list[str]) -> None:
    name = assignment.partition("=")[0]
    values = parse_overrides([assignment], configured=Smithy)
    assert values == {name: expected}
    assert Smithy.from_dict(values).to_dict()[name] == expected


@pytest.mark.parametrize("text", ["a,,b", ",a", "a,", ","])
def test_a_list_with_nothing_between_commas_is_refused(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"anvils=.*: nothing stands .* expected anvils=a,b or JSON, as in anv"
    ):
        parse_overrides([f"anvils={text}"], configured=Smithy)


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("sign=a,b", "a,b"),
        ("oven.fuel=a,b", "a,b"),
        ("anvils=null", None),
        ('anvils="a"', "a"),
        ("x.y=a,b", "a,b"),
    ],
)
def test_what_is_no_list_of_texts_is_not_taken_apart(assignment: str, expected: object) -> None:
    value: object = parse_overrides([assignment], configured=Smithy)
    for part in assignment.partition("=")[0].split("."):
        assert isinstance(value, dict)
        value = value[part]
    assert value == expected


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
    assert "Heat, in degrees Celsius. [≥ 0, ≤ 2,000]" in text
    assert 'oven.fuel  ("coal" | "charcoal", default "charcoal")' in text
    assert "oven.blast.pressure_bar" in text


def test_help_fits_a_terminal_and_says_what_each_section_is() -> None:
    lines = Smithy.describe("smithy.").splitlines()
    assert all(len(line) <= 79 for line in lines)
    assert "smithy.oven: A furnace." in lines
    assert '  smithy.anvils  (list of str, default ["small"])' in lines
    assert '  smithy.fuels  (list of "coal" | "charcoal", default [])' in lines
    assert '  smithy.weights  (int -> float, default {"1": 2.0})' in lines
    # What is in a section stands under its heading.
    assert lines.index("smithy.oven: A furnace.") > lines.index(
        '  smithy.weights  (int -> float, default {"1": 2.0})'
    )


def test_values_survive_json() -> None:
    assert Oven.from_dict(json.loads(json.dumps(Oven().to_dict()))) == Oven()
