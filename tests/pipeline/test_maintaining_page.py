"""docs/maintaining.md: its commands are run one after the other on a small run, and then its Python."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from core.errors import UsageError
from inference.model_directory import latest_number
from pipeline.run import TrainedLine
from scripts import update as script
from tests.line_kit import REPOSITORY
from tests.small_texts import make_documents

PAGE = (REPOSITORY / "docs" / "maintaining.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    return [shlex.split(line)[1:] for line in PAGE.splitlines() if line.startswith("python ")]


@pytest.fixture
def place(trained: tuple[Path, TrainedLine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with everything that the page names."""
    shutil.copytree(trained[0] / "run", tmp_path / "runs" / "mine")
    for number, name in enumerate(("new_texts", "even_more")):
        (tmp_path / name).mkdir()
        for index, text in enumerate(make_documents(12, seed=60 + number)):
            (tmp_path / name / f"{index}.txt").write_text(text)
    more = "".join(json.dumps({"text": text}) + "\n" for text in make_documents(4, seed=62))
    (tmp_path / "more.jsonl").write_text(more)
    turns = [{"role": "user", "content": "What is a nail?"}, {"role": "assistant", "content": "?"}]
    record = {"messages": turns, "rating": -1, "correction": "A piece of iron."}
    (tmp_path / "runs" / "mine" / "feedback.jsonl").write_text(json.dumps(record) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_do_what_the_page_says(place: Path, capsys) -> None:
    run = place / "runs" / "mine"
    used = []
    for name, *arguments in commands():
        assert name == "scripts/update.py"
        if "--give-up" in arguments:
            with pytest.raises(UsageError, match="no update of it is unfinished"):
                script.main(arguments)
            continue
        more = [] if latest_number(run) == 3 or "--use" in arguments else ["--tolerance", "10"]
        assert script.main([*arguments, *more]) == 0, capsys.readouterr().out
        used.append(latest_number(run))
    assert used == [1, 2, 3, 2, 2, 2]
    rates = [
        json.loads((run / "updates" / number / "settings.json").read_text())["training"]["learning_rate"]
        for number in ("1", "3")
    ]
    assert rates[0] == rates[1]  # a share of the run's own, not of the update's before
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "docs/maintaining.md", "exec"), {})
    assert latest_number(run) in (2, 4)


def test_the_flags_and_settings_that_the_page_names_are_there() -> None:
    known = set(script.parser().format_help().split())
    flags = set(re.findall(r"(--[a-z][a-z-]+)", PAGE))
    assert len(flags) >= 8
    assert {flag for flag in flags if flag not in known and f"[{flag}" not in known} == set()
    settings = set(re.findall(r"`((?:training|instruction|preference|evaluation)\.\w+)", PAGE))
    assert len(settings) >= 6
    help_text = script.parser().format_help()
    assert {name for name in settings if f"{name}  (" not in help_text} == set()
