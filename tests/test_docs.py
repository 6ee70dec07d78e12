"""What the documents say to type exists."""

import ast
import json
import re
from pathlib import Path

import pytest

from core.config_files import CONFIG_ROOT, load_config
from models.counting import count_parameters

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_files_that_a_document_names_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"(?:scripts|benchmarks|configs|docs|tests)/[\w/.-]*\w", text):
        assert (REPOSITORY / name).exists() or name in ("configs/NAME",), name
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_python_in_a_document_parses_and_imports_what_exists(document: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module != "transformers":
                module = __import__(str(node.module), fromlist=[alias.name for alias in node.names])
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_the_flags_in_the_readme_are_those_of_the_script() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    known = set()
    for script in (REPOSITORY / "scripts").glob("*.py"):
        known |= set(re.findall(r"\"(--[a-z-]+)\"", script.read_text(encoding="utf-8")))
    foreign = {"--editable", "--constraint", "--help", "--max-tokens"}
    assert set(re.findall(r"(?<!-)--[a-z][a-z-]+", text)) - known - foreign == set()


def test_the_table_of_sizes_is_right() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) ([MB]) \|", text, re.MULTILINE)
    assert {name for name, _, _ in rows} == {p.name for p in CONFIG_ROOT.iterdir() if p.is_dir()}
    for name, number, unit in rows:
        config = load_config(CONFIG_ROOT / name)
        shape = config.model.replace(vocab_size=config.model.vocab_size or config.data.tokenizer_vocab_size)
        total = count_parameters(shape).total / {"M": 1e6, "B": 1e9}[unit]
        assert total == pytest.approx(float(number), rel=0.01), name


def test_the_instruction_records_in_the_readme_are_understood() -> None:
    from data_processing.rows.conversations import Conversation, to_conversation

    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith('{"')]
    assert len(lines) == 5
    assert all(isinstance(to_conversation(json.loads(line), source="README"), Conversation) for line in lines)
