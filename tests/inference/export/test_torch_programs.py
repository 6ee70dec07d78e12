"""Programs of torch alone are the same model for any number of rows and tokens, and need no code of this project."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import ConfigError, MismatchError
from inference.chat import ChatModel
from inference.export import torch_programs
from inference.export.certificate import logits_of
from inference.export.exporting import export_model
from tests.inference.export.exportable_models import SHAPES, saved_model
from tokenization.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.mark.parametrize("format_name", ["torchscript", "torch-export"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_proven(
    shape: str, format_name: str, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    _, certificate = export_model(model_of(shape), format_name, output=tmp_path / "out")
    assert certificate["scores"]["max_difference"] < 1e-4
    assert certificate["ids"]["texts"]["equal"] == 100


def test_a_model_with_a_part_of_its_own_goes_to_torch_and_nowhere_else(
    tmp_path: Path, small_tokenizer: Tokenizer
) -> None:
    source = saved_model(
        tmp_path / "final", small_tokenizer, "llama", feed_forward="plain", activation="relu_squared"
    )
    _, certificate = export_model(source, "torchscript", output=tmp_path / "out")
    assert certificate["proven"]
    for format_name in ("hf", "gguf", "onnx"):
        with pytest.raises(
            ConfigError, match=f"cannot be exported to {format_name}: model.feed_forward=plain "
        ):
            export_model(source, format_name, output=tmp_path / format_name)


LOADED_ALONE = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
path = sys.argv[1]
program = torch.export.load(path).module() if path.endswith(".pt2") else torch.jit.load(path)
rows = torch.tensor([[1, 20, 30], [1, 40, 50], [2, 60, 70]])
torch.save(program(rows).detach(), sys.argv[2])
assert program(rows[:1, :1]).shape[:2] == (1, 1)
assert not {"models", "core", "inference", "tokenization"} & {name.split(".")[0] for name in sys.modules}
"""


@pytest.mark.parametrize(
    ("format_name", "name"), [("torchscript", "model.ts"), ("torch-export", "model.pt2")]
)
def test_a_program_runs_where_this_project_is_not(
    format_name: str, name: str, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    output, _ = export_model(model_of("qwen3-grouped"), format_name, output=tmp_path / "out")
    subprocess.run(
        [sys.executable, "-I", "-c", LOADED_ALONE, output / name, tmp_path / "logits.pt"],
        check=True,
        cwd=tmp_path,
    )
    found = torch.load(tmp_path / "logits.pt", weights_only=True).numpy()
    model = ChatModel.load(model_of("qwen3-grouped")).engine.model
    for row, logits in zip([[1, 20, 30], [1, 40, 50], [2, 60, 70]], found, strict=True):
        assert np.abs(logits - logits_of(model, row)).max() < 2e-5


def test_a_program_that_forgets_positions_is_refused(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(torch_programs.Decoder):
        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            features_at = self.model.features_at
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    self.model, "features_at", lambda ids, places, mask: features_at(ids, places * 0, mask)
                )
                return super().forward(input_ids)

    monkeypatch.setattr(torch_programs, "Decoder", Forgetful)
    with pytest.raises(MismatchError, match="of the logits is"):
        export_model(model_of("llama"), "torchscript", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
