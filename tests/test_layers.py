"""The order of the rooms, as law: imports point one way, importing is quiet, and no rule ignores a source file."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

ALLOWED = {
    "core": set(),
    "models": {"core"},
    "tokenization": {"core"},
    "data_processing": {"core", "tokenization"},
    "training": {"core", "models", "tokenization", "data_processing"},
    "inference": {"core", "models", "tokenization"},
    "evaluation": {"core", "models", "tokenization", "data_processing", "training", "inference"},
}
ALLOWED["pipeline"] = {*ALLOWED, "evaluation"}
ALLOWED["scripts"] = {*ALLOWED, "pipeline"}
ALLOWED["benchmarks"] = {*ALLOWED, "pipeline"}

MAY_IMPORT_TORCH = {"core/device_manager.py", "core/distributed.py"}
WITHOUT_TORCH = ("core", "tokenization", "data_processing")


def source_files() -> list[Path]:
    return sorted(path for room in ALLOWED for path in (REPOSITORY / room).rglob("*.py"))


def imported_modules(path: Path, *, only_top_level: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if only_top_level else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", source_files(), ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_imports_point_down_the_layers(path: Path) -> None:
    room = path.relative_to(REPOSITORY).parts[0]
    rooms = {name.split(".")[0] for name in imported_modules(path)} & ALLOWED.keys()
    assert rooms - {room} <= ALLOWED[room]


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_data_rooms_do_not_load_torch_or_heavy_libraries(room: str) -> None:
    modules = [
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
        for path in (REPOSITORY / room).rglob("*.py")
        if str(path.relative_to(REPOSITORY)) not in MAY_IMPORT_TORCH and path.name != "__init__.py"
    ]
    code = (
        f"import sys, {', '.join(modules)}\n"
        "heavy = ('torch', 'datasets', 'transformers', 'wandb', 'tensorboard', 'pandas')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert result.stdout.strip() == "[]"


def test_package_files_hold_a_docstring_only() -> None:
    for room in ALLOWED:
        path = REPOSITORY / room / "__init__.py"
        if path.exists():
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1
            assert isinstance(body[0], ast.Expr)


def test_no_ignore_rule_matches_a_source_file() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    files = [str(p.relative_to(REPOSITORY)) for p in source_files()]
    result = subprocess.run(
        ["git", "check-ignore", "--no-index", *files],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert result.stdout == ""


@pytest.mark.parametrize("place", ["models/checkpoints", "models/instruction_checkpoints"])
def test_what_is_trained_in_the_default_places_is_no_source(place: str) -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    names = [f"{place}/step_1/model.safetensors", f"{place}/metrics.jsonl", f"{place}/.gitignore"]
    result = subprocess.run(
        ["git", "check-ignore", "--no-index", *names],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert result.stdout.split() == names[:2]
