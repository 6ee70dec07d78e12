import json
from pathlib import Path

import pytest

from evaluation.stored_results import stored


def test_a_result_is_the_same_when_it_is_made_and_when_it_is_found(tmp_path: Path) -> None:
    made = stored(tmp_path / "a.json", {"of": (1, 2)}, lambda: {"values": (1, 2), "by": {"x": ()}})
    found = stored(tmp_path / "a.json", {"of": (1, 2)}, lambda: pytest.fail("it is there"))
    assert made == found == json.loads((tmp_path / "a.json").read_text())
    assert made["values"] == [1, 2]


def test_a_result_says_of_what_recipe_it_is_whatever_was_computed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        stored(tmp_path / "a.json", {"of": 1}, lambda: {"recipe": "another"})
    assert not (tmp_path / "a.json").exists()
    assert stored(tmp_path / "a.json", {"of": 2}, lambda: {"value": 1})["recipe"] == {"of": 2}
