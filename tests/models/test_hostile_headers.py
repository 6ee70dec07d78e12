"""Model directories from anywhere: whatever their headers say, the answer is a model or one clear line, and soon."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.errors import ConfigError, CorruptArtifactError, DataError, MismatchError
from core.training_config import ModelConfig
from models.hf_layout import load_model, save_model
from models.safetensors_file import read_tensors
from models.transformer_lm import create_model_from_config
from tests.hostile_headers import changed, little_memory, read_header, refused, write_header

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the bound on memory needs Linux"
)

NUM_HEADERS = 500
SHAPE = ModelConfig(
    hidden_size=16, num_layers=1, num_attention_heads=2, vocab_size=64, max_position_embeddings=16
)


@pytest.fixture(params=["qwen3", "gpt2"])
def directory(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A small model's."""
    gpt2 = {
        "use_rms_norm": False,
        "use_swiglu": False,
        "use_rope_embeddings": False,
        "use_qk_norm": False,
        "use_bias": True,
    }
    shape = SHAPE.replace(**gpt2) if request.param == "gpt2" else SHAPE
    save_model(create_model_from_config(shape, seed=1), tmp_path, bos_id=1, eos_id=2, pad_id=3)
    return tmp_path


def attempt(read: Callable[[], object]) -> BaseException | None:
    try:
        with little_memory():
            read()
    except Exception as error:  # noqa: BLE001 - looked at by `refused`
        return error
    return None


def test_no_header_of_tensors_does_more_than_be_refused(directory: Path) -> None:
    generator = random.Random(4)
    path = directory / "model.safetensors"
    header, data = read_header(path)
    num_refused = 0
    for number in range(NUM_HEADERS // 2):
        hostile = changed(header, generator)
        promised = generator.choice([None] * 8 + [0, 1, 7, 2**31, 2**40, 2**63, 2**64 - 1])
        write_header(path, hostile, data, promised=promised)
        error = attempt(lambda: load_model(directory))
        num_refused += refused(error, f"header {number}, {json.dumps(hostile)[:300]}")
        refused(attempt(lambda: read_tensors(path)), f"tensors {number}")
    assert num_refused > NUM_HEADERS // 2 * 0.9


def test_no_configuration_of_a_model_does_more_than_be_refused(directory: Path) -> None:
    generator = random.Random(5)
    path = directory / "config.json"
    values = json.loads(path.read_text())
    num_refused = 0
    for _ in range(NUM_HEADERS // 2):
        hostile = changed(values, generator)
        path.write_text(json.dumps(hostile))
        num_refused += refused(attempt(lambda: load_model(directory)), json.dumps(hostile)[:500])
    assert num_refused > 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [10**9, 10**9]}, "not a whole safetensors file"),
        ({"shape": [1] * 10**6}, "not a whole safetensors file"),
        ({"data_offsets": [0, 2**62]}, "not a whole safetensors file"),
        ({"data_offsets": [-8, 8]}, "not a whole safetensors file"),
        ({"data_offsets": [8, 0]}, "not a whole safetensors file"),
        ({"data_offsets": [0, 0]}, "not a whole safetensors file"),
        ({"dtype": "F64"}, "not a whole safetensors file"),
        ({"dtype": "I32"}, "is of type I32; quantized weights"),
        ({"shape": [8, 32]}, r"is \[8, 32\] instead of"),
    ],
    ids=[
        "10^18 numbers",
        "10^6 dims",
        "past the end",
        "negative",
        "backwards",
        "empty",
        "wide",
        "integers",
        "shape",
    ],
)
def test_one_tensor_that_is_not_what_the_others_leave_room_for_is_refused(
    directory: Path, change: dict[str, object], message: str
) -> None:
    path = directory / "model.safetensors"
    header, data = read_header(path)
    name = next(name for name, info in header.items() if info.get("shape") == [16, 16])
    write_header(path, {**header, name: {**header[name], **change}}, data)
    with pytest.raises((CorruptArtifactError, MismatchError), match=message), little_memory():
        load_model(directory)


def test_two_tensors_in_one_place_are_refused(directory: Path) -> None:
    path = directory / "model.safetensors"
    header, data = read_header(path)
    one, other = [name for name, info in header.items() if info.get("shape") == [16, 16]][:2]
    write_header(path, {**header, one: header[other]}, data)
    with pytest.raises(CorruptArtifactError, match="not a whole safetensors file"):
        load_model(directory)


@pytest.mark.parametrize(
    "name", ["lm_head.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "surplus"]
)
def test_a_tensor_of_a_terabyte_of_holes_is_never_read(directory: Path, name: str) -> None:
    path = directory / "model.safetensors"
    header, data = read_header(path)
    if "lm_head.weight" in header:
        pytest.skip("its head is not the embedding")
    rows = 1 << 34
    end = len(data) + rows * 16 * 4
    hostile = {"dtype": "F32", "shape": [rows, 16], "data_offsets": [len(data), end]}
    write_header(path, {**header, name: hostile}, data)
    os.truncate(path, path.stat().st_size + end - len(data))
    with pytest.raises(
        (MismatchError, DataError), match=r"differs from the embedding|unexpected|memory does not hold"
    ):
        load_model(directory)


def test_a_tensor_in_two_files_is_refused(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "a.safetensors")
    header, _ = read_header(directory / "a.safetensors")
    name = next(name for name in header if name != "__metadata__")
    save_file({name: torch.ones(3)}, directory / "b.safetensors")
    index = {"weight_map": {name: "a.safetensors", "other": "b.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CorruptArtifactError, match=rf"b\.safetensors: {name} also in another file"):
        load_model(directory)


@pytest.mark.parametrize(
    "setting", ["num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings"]
)
def test_sizes_beyond_the_weights_build_no_model(directory: Path, setting: str) -> None:
    path = directory / "config.json"
    values = json.loads(path.read_text())
    theirs = {
        "num_hidden_layers": "n_layer",
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
    }
    key = setting if setting in values else theirs[setting]
    path.write_text(json.dumps({**values, key: 10**9}))
    with little_memory(), pytest.raises((MismatchError, ConfigError)):
        load_model(directory)
