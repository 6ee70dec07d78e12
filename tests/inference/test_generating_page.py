"""docs/generating.md: its commands and its Python are run on a small model, and its tables name all that there is."""

import io
import re
import shlex
from pathlib import Path

import pytest

from inference.command_line import NAMES
from inference.terminal import BLOCK, COMMANDS
from inference.weight_formats import WEIGHT_FORMATS
from tests.inference.test_chat_scripts import script
from tests.inference.tiny_models import save_tiny_model
from tests.test_docs import commands
from tokenization.tokenizer import Tokenizer

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "generating.md").read_text(encoding="utf-8")
COMMAND_LINES = commands(PAGE)
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def place(small_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the run and the files that the page names."""
    place = tmp_path_factory.mktemp("place")
    run = place / "runs" / "mine"
    save_tiny_model(run / "pretrain" / "final", small_tokenizer, stage="pretraining")
    save_tiny_model(run / "finetune" / "final", small_tokenizer)
    (place / "prompts.txt").write_text("import \ndef \n")
    (place / "questions.jsonl").write_text('{"prompt": "What is iron?", "id": 1}\n')
    return place


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_each_command_of_the_page_does_its_work(
    line: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.stdin", io.StringIO("iron?\n/exit\n"))
    words = shlex.split(line)
    assert words[0] == "python"
    assert script(Path(words[1]).stem).main([*words[2:], "--device", "cpu"]) == 0
    if "--output" in words:
        assert (place / words[words.index("--output") + 1]).stat().st_size > 0
    else:
        assert capsys.readouterr().out


@pytest.mark.parametrize("code", PYTHON, ids=["text", "ids"])
def test_the_python_of_the_page_runs(
    code: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    names: dict[str, object] = {}
    exec(code, names)  # what a reader would type
    assert capsys.readouterr().out


def test_the_page_names_every_command_setting_and_format_and_no_other() -> None:
    assert len(COMMAND_LINES) == 6 and len(PYTHON) == 2
    for command in COMMANDS:
        assert f"`{command}" in PAGE or f", `{command.split()[0]}" in PAGE, command
    assert f"`{BLOCK}`" in PAGE
    table = PAGE.partition("## Settings")[2].partition("## In Python")[0]
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))) == set(
        NAMES
    )
    table = PAGE.partition("## Weights")[2]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == ["float32", "float16", "bfloat16", "int8"]
    assert set(WEIGHT_FORMATS) == {"float32", "float16", "bfloat16", "int8"}
