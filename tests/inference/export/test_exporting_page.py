"""What docs/exporting.md says to type works."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from inference.export.tolerances import TOLERANCES
from scripts.export import main
from tests.inference.export.exportable_models import saved_model
from tokenization.tokenizer import Tokenizer

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "exporting.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.mark.filterwarnings(r"ignore:.*torch\.jit\.load")  # which the page says
def test_every_command_and_every_block_of_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_tokenizer: Tokenizer
) -> None:
    for package in ("transformers", "xllamacpp", "onnx", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    saved_model(
        Path("runs/mine/finetune/final"), small_tokenizer, "qwen3-grouped", max_position_embeddings=256
    )
    commands = re.findall(r"^python scripts/export\.py (.*?)(?:  +#.*)?$", PAGE, re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        assert main(shlex.split(command)) == 0
    assert {shlex.split(command)[2] for command in commands} == TOLERANCES.keys()
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, "docs/exporting.md", "exec"), {})


def test_the_table_of_formats_is_that_of_the_program() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| ([\w, ]+) \| .* \| .* \|$", PAGE, re.MULTILINE)
    assert {name: dtypes.split(", ") for name, dtypes in rows} == {
        name: list(dtypes) for name, dtypes in TOLERANCES.items()
    }


def test_every_key_of_a_certificate_is_explained(model_of: Callable[[str], Path], tmp_path: Path) -> None:
    from inference.export.exporting import export_model

    pytest.importorskip("onnxruntime")
    _, certificate = export_model(model_of("llama"), "onnx", output=tmp_path / "out")
    known = {"format", "dtype", "proven"}
    assert {key for key in certificate if f"`{key}`" not in PAGE} - known == set()
