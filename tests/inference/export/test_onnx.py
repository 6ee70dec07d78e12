"""An ONNX model is the same model to onnxruntime, remembered tokens and padded rows included."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.errors import MismatchError
from inference.chat import ChatModel
from inference.export import onnx_model
from inference.export.certificate import logits_of
from inference.export.exporting import export_model
from tests.inference.export.exportable_models import SHAPES, saved_model
from tokenization.tokenizer import Tokenizer

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_proven(shape: str, model_of: Callable[[str], Path], tmp_path: Path) -> None:
    output, certificate = export_model(model_of(shape), "onnx", output=tmp_path / "out")
    assert certificate["scores"]["max_difference"] < 1e-4
    assert certificate["scores"]["equal_argmax"] == 1.0
    onnx.checker.check_model(output / "model.onnx", full_check=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("shape", ["qwen3-grouped", "gpt2"])
def test_weights_of_half_the_size_are_proven_as_closely_and_asked_as_before(
    shape: str, dtype: str, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    whole, _ = export_model(model_of(shape), "onnx", output=tmp_path / "whole")
    output, certificate = export_model(model_of(shape), "onnx", dtype=dtype, output=tmp_path / "out")
    assert certificate["scores"]["max_difference"] < 1e-4
    assert certificate["rounding"]["max_kl_nats"] > 0, "nothing was rounded"
    half, full = (onnx.load(directory / "model.onnx") for directory in (output, whole))
    assert (half.graph.input, half.graph.output) == (full.graph.input, full.graph.output)
    stored = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    parameters = {name for name, _ in ChatModel.load(model_of(shape)).engine.model.named_parameters()}
    assert parameters <= stored.keys()
    code = onnx.TensorProto.DataType.Value(dtype.upper())
    assert {stored[name] for name in parameters} == {code}
    assert code not in {kind for name, kind in stored.items() if name not in parameters}
    onnx.checker.check_model(output / "model.onnx", full_check=True)


def test_weights_that_are_rounded_otherwise_than_is_said_are_refused(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = onnx_model.Graph.weight

    def more_coarsely(self, name: str, values: np.ndarray, *, dtype: str | None = None) -> str:
        return weight(self, name, values, dtype=dtype and "bfloat16")

    monkeypatch.setattr(onnx_model.Graph, "weight", more_coarsely)
    with pytest.raises(MismatchError, match="of the logits is"):
        export_model(model_of("llama"), "onnx", dtype="float16", output=tmp_path / "out")


@pytest.mark.parametrize("activation", ["gelu", "relu", "relu_squared"])
def test_every_activation_of_gpt2_is_proven(
    activation: str, tmp_path: Path, small_tokenizer: Tokenizer
) -> None:
    source = saved_model(tmp_path / "final", small_tokenizer, "gpt2", activation=activation)
    _, certificate = export_model(source, "onnx", output=tmp_path / "out")
    assert certificate["proven"]


@pytest.mark.parametrize("shape", ["qwen3-grouped", "gpt2"])
def test_rows_of_different_lengths_do_not_see_their_padding(
    shape: str, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    output, _ = export_model(model_of(shape), "onnx", output=tmp_path / "out")
    model = ChatModel.load(model_of(shape)).engine.model
    session = onnxruntime.InferenceSession(output / "model.onnx", providers=["CPUExecutionProvider"])
    rows = [[1, 20, 30, 40, 50, 60], [1, 70, 80]]
    ids = np.array([rows[0], [3, 3, 3, *rows[1]]])
    mask = np.array([[1] * 6, [0, 0, 0, 1, 1, 1]])
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0)
    past = {
        value.name: np.zeros((2, value.shape[1], 0, value.shape[3]), dtype=np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past")
    }
    logits = session.run(
        ["logits"], {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **past}
    )[0]
    for row, found in zip(rows, logits, strict=True):
        assert np.abs(found[-len(row) :] - logits_of(model, row)).max() < 2e-5


def test_keys_without_their_rotation_are_refused(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model._Decoder, "_rotate", lambda self, x, rotation: x)
    with pytest.raises(MismatchError, match="of the logits is"):
        export_model(model_of("llama"), "onnx", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_large_weights_lie_in_a_file_of_their_own(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_model, "EXTERNAL_FROM_BYTES", 1)
    output, certificate = export_model(model_of("llama"), "onnx", output=tmp_path / "out")
    assert (output / "model.onnx.data").stat().st_size > 100_000 > (output / "model.onnx").stat().st_size
    assert "model.onnx.data" in {file["path"] for file in certificate["files"]}
