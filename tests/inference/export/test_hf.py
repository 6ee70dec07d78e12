"""A Hugging Face directory in another dtype and in shards is the same model to transformers."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core.errors import MismatchError
from inference.export import formats
from inference.export.exporting import export_model
from models.hf_layout import load_model, to_hf_state_dict
from models.safetensors_file import read_tensors, write_safetensors
from tests.inference.export.exportable_models import SHAPES, saved_model
from tokenization.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_proven(shape: str, model_of: Callable[[str], Path], tmp_path: Path) -> None:
    output, certificate = export_model(model_of(shape), "hf", output=tmp_path / "out", dtype="float32")
    assert certificate["proven"]
    assert certificate["scores"]["max_difference"] < 1e-4
    assert certificate["ids"]["texts"]["equal"] == certificate["ids"]["texts"]["compared"] == 100
    assert json.loads((output / "certificate.json").read_bytes()) == certificate
    assert certificate["source"]["step"] == 7


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_are_rounded_once_and_sharded_by_size(
    dtype: str, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    source = model_of("qwen3-untied")
    output, certificate = export_model(
        source, "hf", output=tmp_path / "out", dtype=dtype, max_shard_bytes=60_000
    )
    names = sorted(path.name for path in output.glob("*.safetensors"))
    assert names[0] == f"model-00001-of-{len(names):05}.safetensors"
    assert len(names) > 3
    assert all(path.stat().st_size < 60_000 + 4096 for path in output.glob("*.safetensors"))
    index = json.loads((output / "model.safetensors.index.json").read_bytes())
    expected = to_hf_state_dict(load_model(source))
    assert index["weight_map"].keys() == expected.keys()
    for name, tensor in expected.items():
        found = read_tensors(output / index["weight_map"][name], names=[name])[name]
        assert torch.equal(found, tensor.to(getattr(torch, dtype))), name
    assert certificate["rounding"]["mean_kl_nats"] > 0
    assert certificate["scores"]["max_difference"] < 1e-4, "the proof is of the rounded weights, and exact"


def test_a_weight_that_float16_cannot_hold_is_named(tmp_path: Path, small_tokenizer: Tokenizer) -> None:
    from models.hf_layout import save_model

    source = saved_model(tmp_path / "final", small_tokenizer, "llama")
    model = load_model(source)
    with torch.no_grad():
        model.blocks[1].feed_forward.up.weight[0, 0] = 70_000.0
    (source / "MANIFEST.json").unlink()
    save_model(model, source, bos_id=1, eos_id=2, pad_id=3)
    with pytest.raises(
        MismatchError, match=r"blocks.1.feed_forward.up.weight has a value that float16 cannot hold"
    ):
        export_model(source, "hf", output=tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()


def test_exchanged_weights_are_refused_and_nothing_is_left(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = formats.EXPORTS["hf"]

    def exchange(source, directory: Path, **options) -> None:
        entry.write(source, directory, **options)
        tensors = read_tensors(directory / "model.safetensors")
        first, second = (f"model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 1))
        tensors[first], tensors[second] = tensors[second], tensors[first]
        write_safetensors(directory / "model.safetensors", tensors, metadata={"format": "pt"})

    monkeypatch.setitem(formats.EXPORTS, "hf", dataclasses.replace(entry, write=exchange))
    with pytest.raises(
        MismatchError, match=r"max_difference of the logits is [\d.]+, expected 0.0001 at most"
    ):
        export_model(model_of("llama"), "hf", output=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_head_that_is_said_to_be_tied_and_is_not_is_refused(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = formats.EXPORTS["hf"]

    def tie(source, directory: Path, **options) -> None:
        entry.write(source, directory, **options)
        settings = json.loads((directory / "config.json").read_bytes())
        (directory / "config.json").write_text(json.dumps({**settings, "tie_word_embeddings": True}))
        tensors = read_tensors(directory / "model.safetensors")
        del tensors["lm_head.weight"]
        write_safetensors(directory / "model.safetensors", tensors, metadata={"format": "pt"})

    monkeypatch.setitem(formats.EXPORTS, "hf", dataclasses.replace(entry, write=tie))
    with pytest.raises(MismatchError, match="of the logits is"):
        export_model(model_of("qwen3-untied"), "hf", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_vocabulary_is_refused_by_the_text_that_shows_it(
    model_of: Callable[[str], Path],
    small_tokenizer: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = formats.EXPORTS["hf"]

    def exchange(source, directory: Path, **options) -> None:
        entry.write(source, directory, **options)
        content = json.loads((directory / "tokenizer.json").read_bytes())
        vocabulary = content["model"]["vocab"]
        vocabulary["e"], vocabulary["t"] = vocabulary["t"], vocabulary["e"]
        (directory / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")

    monkeypatch.setitem(formats.EXPORTS, "hf", dataclasses.replace(entry, write=exchange))
    with pytest.raises(MismatchError, match=r"the text '.+' has the ids \[.+, expected \["):
        export_model(model_of("llama"), "hf", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
