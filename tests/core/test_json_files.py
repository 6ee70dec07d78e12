import os
from pathlib import Path

import pytest

from core.errors import ConfigError, CorruptArtifactError
from core.json_files import LARGEST_BYTES, json_object, read_json_object


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "key 'a' stands twice"),
        ('{"a": 1,\n "b" 2}', r":2: not valid JSON"),
        ("[1]", r"expected a JSON object \{\.\.\.\}, found list"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "Exceeds the limit"),
    ],
    ids=["twice", "no colon", "list", "deep", "long number"],
)
def test_a_broken_file_says_where_and_what(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_json_object(path)
    with pytest.raises(CorruptArtifactError, match=message):
        json_object(path, mistake=CorruptArtifactError)


def test_a_missing_file_and_one_that_is_not_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.json: no such configuration file"):
        read_json_object(tmp_path / "none.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ConfigError, match=r"bytes\.json: not UTF-8"):
        read_json_object(tmp_path / "bytes.json")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        read_json_object(tmp_path)


def test_a_file_of_holes_larger_than_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.touch()
    os.truncate(path, 1 << 42)
    with pytest.raises(ConfigError, match=f"larger than {LARGEST_BYTES >> 20} MiB"):
        read_json_object(path)
