"""A GGUF file is the same model to llama.cpp: weights, tokenizer, chat template."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core.errors import ConfigError, MismatchError
from inference.export import exporting, formats, gguf_model
from inference.export.engine_process import in_fresh_process
from inference.export.exporting import export_model
from inference.export.questions import make_questions
from tests.inference.export.exportable_models import SHAPES, saved_model
from tests.tokenization.foreign import FOREIGN, SENTENCEPIECE, sentencepiece_model
from tests.tokenization.hostile_text import corpus
from tests.tokenization.kinds import SIZES
from tokenization.special_tokens import SPECIAL_TOKENS
from tokenization.tokenizer import Tokenizer
from tokenization.tokenizer_trainer import TokenizerTrainer

gguf = pytest.importorskip("gguf")
pytest.importorskip("xllamacpp")

pytestmark = pytest.mark.usefixtures("in_this_process")


def fields_of(file: Path) -> dict:
    return {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items()}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_proven(shape: str, model_of: Callable[[str], Path], tmp_path: Path) -> None:
    _, certificate = export_model(model_of(shape), "gguf", output=tmp_path / "out", dtype="float32")
    assert certificate["proven"]
    assert certificate["scores"]["equal_argmax"] == 1.0
    assert certificate["ids"]["conversations"] == {"compared": 4, "equal": 4}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "q8_0"])
@pytest.mark.parametrize("shape", ["qwen3-grouped", "llama-grouped-bias-untied", "gpt2"])
def test_matrices_have_the_dtype_and_vectors_stay_exact(
    dtype: str, shape: str, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    output, certificate = export_model(model_of(shape), "gguf", output=tmp_path / "out", dtype=dtype)
    kinds = {
        tensor.name: tensor.tensor_type.name
        for tensor in gguf.GGUFReader(output / f"model-{dtype}.gguf").tensors
    }
    assert kinds["token_embd.weight"] == {"float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}[dtype]
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    assert certificate["float32_twin"]["mean_kl_nats"] < 1e-6
    assert sorted(path.name for path in output.iterdir()) == [
        "Modelfile",
        "certificate.json",
        f"model-{dtype}.gguf",
    ]
    assert certificate["rounding"]["mean_kl_nats"] > 0


def test_rows_that_no_block_divides_are_kept_in_float16(tmp_path: Path, small_tokenizer: Tokenizer) -> None:
    source = saved_model(tmp_path / "final", small_tokenizer, "llama", intermediate_size=80)
    output, _ = export_model(source, "gguf", output=tmp_path / "out", dtype="q8_0")
    kinds = {
        tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(output / "model-q8_0.gguf").tensors
    }
    assert kinds["blk.1.ffn_down.weight"] == "F16"
    assert kinds["blk.1.ffn_up.weight"] == "Q8_0"


def test_q8_0_is_the_nearest_of_255_steps_a_block() -> None:
    weights = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    blocks = weights.view(8, 2, 32)
    scale = (blocks.abs().amax(dim=-1, keepdim=True) / 127).half().float()
    stored = gguf_model.stored_in_gguf("head.weight", weights, "q8_0").view(8, 2, 32)
    assert ((stored - blocks).abs() <= 0.51 * scale).all()
    assert torch.equal(gguf_model.stored_in_gguf("head.bias", weights[0], "q8_0"), weights[0])


def test_control_tokens_are_control_and_the_template_is_inside(
    model_of: Callable[[str], Path], small_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    output, _ = export_model(model_of("qwen3-grouped"), "gguf", output=tmp_path / "out", dtype="float32")
    fields = fields_of(output / "model-float32.gguf")
    assert fields["general.architecture"] == "qwen3"
    types = dict(zip(fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"], strict=True))
    assert {types[name] for name in SPECIAL_TOKENS[1:]} == {int(gguf.TokenType.CONTROL)}
    assert types["<unk>"] == gguf.TokenType.UNKNOWN
    assert types["<0x41>"] == gguf.TokenType.BYTE
    assert len(types) == small_tokenizer.vocab_size + 16
    assert list(types.values())[-16:] == [int(gguf.TokenType.UNUSED)] * 16
    assert (
        fields["tokenizer.chat_template"] == (model_of("qwen3-grouped") / "chat_template.jinja").read_text()
    )
    assert 'PARAMETER stop "<|end|>"' in (output / "Modelfile").read_text()


def test_a_model_without_turns_gets_a_modelfile_without_them(
    tmp_path: Path, small_tokenizer: Tokenizer
) -> None:
    source = saved_model(tmp_path / "final", small_tokenizer, "llama", stage="pretraining")
    output, _ = export_model(source, "gguf", output=tmp_path / "out", dtype="float32")
    text = (output / "Modelfile").read_text()
    assert 'TEMPLATE """{{ .Prompt }}"""' in text
    assert "<|end|>" not in text


@pytest.mark.parametrize("dtype", ["float32", "q8_0"])
def test_queries_that_are_not_interleaved_are_refused(
    dtype: str, model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_model, "interleaved", lambda tensor, **_: tensor)
    with pytest.raises(MismatchError, match="of the log-probabilities is"):
        export_model(model_of("llama"), "gguf", output=tmp_path / "out", dtype=dtype)
    assert not (tmp_path / "out").exists()


def test_a_mistake_smaller_than_rounding_is_refused(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = gguf_model._tensors

    def off(source):
        for name, tensor in made(source):
            yield name, tensor * 1.002 if name == "blk.1.ffn_norm.weight" else tensor

    monkeypatch.setattr(gguf_model, "_tensors", off)
    with pytest.raises(
        MismatchError, match=r"max_difference of the log-probabilities is [\d.e-]+, expected 0.0001"
    ):
        export_model(model_of("llama"), "gguf", output=tmp_path / "out", dtype="q8_0")
    assert not (tmp_path / "out").exists()


def test_an_exchanged_token_is_refused(
    model_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = gguf_model.gguf_vocabulary

    def exchanged(*arguments, **options):
        vocabulary = made(*arguments, **options)
        tokens = vocabulary["ggml.tokens"]
        first, second = tokens.index("e"), tokens.index("t")
        tokens[first], tokens[second] = tokens[second], tokens[first]
        return vocabulary

    monkeypatch.setattr(gguf_model, "gguf_vocabulary", exchanged)
    with pytest.raises(MismatchError, match=r"the text '.+' has the ids \[.+, expected \["):
        export_model(model_of("llama"), "gguf", output=tmp_path / "out", dtype="float32")


@pytest.mark.parametrize("kind", ["bpe", "char", "byte_bpe", "byte_bpe by single digits"])
def test_every_tokenizer_that_llama_cpp_has_is_proven_on_hostile_texts(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_type, _, by_digits = kind.partition(" by ")
    trainer = TokenizerTrainer(
        SIZES[model_type],
        model_type,
        shrink_to_fit=True,
        character_coverage=1.0,
        split_digits=bool(by_digits),
    )
    trainer.train_from_iterator(corpus(), "tokenizer", tmp_path / "tokenizer")
    source = saved_model(
        tmp_path / "final", Tokenizer.from_file(tmp_path / "tokenizer"), "llama", num_layers=1
    )
    monkeypatch.setattr(exporting, "make_questions", make_questions)
    _, certificate = export_model(source, "gguf", output=tmp_path / "out", dtype="float32")
    texts = certificate["ids"]["texts"]
    assert texts["compared"] == 2000
    assert texts["equal"] + sum(texts["excused"].values()) == 2000


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unigram", "llama.cpp has no unigram tokenizer that does the same; train one of"),
        (
            "word",
            "llama.cpp has no word tokenizer that does the same; train one of model_type bpe or byte_bpe",
        ),
        ("wordpiece", "llama.cpp has no WordPiece tokenizer that does the same"),
        ("word_level", "llama.cpp has no WordLevel tokenizer that does the same"),
    ],
)
def test_a_tokenizer_that_llama_cpp_lacks_is_refused_by_name(kind: str, reason: str, tmp_path: Path) -> None:
    trainer = TokenizerTrainer(SIZES[kind], kind, shrink_to_fit=True, character_coverage=1.0)
    trainer.train_from_iterator(corpus(), "tokenizer", tmp_path / "tokenizer")
    source = saved_model(tmp_path / "final", Tokenizer.from_file(tmp_path / "tokenizer"), "llama")
    with pytest.raises(ConfigError, match=reason):
        export_model(source, "gguf", output=tmp_path / "out")


def imported(kind: str, directory: Path) -> Tokenizer:
    """A tokenizer as it is found elsewhere."""
    if kind in SENTENCEPIECE:
        (directory / "foreign.model").write_bytes(sentencepiece_model(kind))
        return Tokenizer.from_file(directory / "foreign.model")
    FOREIGN[kind.removeprefix("json ")]().save(str(directory / "foreign.json"))
    return Tokenizer.from_file(directory / "foreign.json")


@pytest.mark.parametrize("kind", ["json gpt2", "json llama3", "llama2"])
def test_a_tokenizer_from_elsewhere_is_proven(kind: str, tmp_path: Path) -> None:
    source = saved_model(tmp_path / "final", imported(kind, tmp_path), "llama", num_layers=1)
    _, certificate = export_model(source, "gguf", output=tmp_path / "out", dtype="float32")
    assert certificate["ids"]["texts"]["equal"] == certificate["ids"]["texts"]["compared"]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("json qwen2", "its tokenizer normalizes text, which llama.cpp does not do"),
        (
            "nfkc",
            r"its tokenizer normalizes text \(nfkc\).*; its tokenizer removes white space.*; its tokenizer has",
        ),
        ("gemma", "its tokenizer has user-defined symbols, which llama.cpp's does not"),
    ],
)
def test_a_tokenizer_from_elsewhere_that_does_more_is_refused(kind: str, reason: str, tmp_path: Path) -> None:
    source = saved_model(tmp_path / "final", imported(kind, tmp_path), "llama", num_layers=1)
    with pytest.raises(ConfigError, match=reason):
        export_model(source, "gguf", output=tmp_path / "out", dtype="float32")


def test_an_activation_that_llama_cpp_lacks_is_refused(tmp_path: Path, small_tokenizer: Tokenizer) -> None:
    source = saved_model(tmp_path / "final", small_tokenizer, "gpt2", activation="gelu")
    with pytest.raises(ConfigError, match="the activation gelu_tanh alone, the model has gelu"):
        export_model(source, "gguf", output=tmp_path / "out")


def test_interleaving_turns_the_same_pairs() -> None:
    from models.rotary import rotate, rotation_at

    vectors = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    rotation = rotation_at(torch.arange(3)[None], features_per_head=8, theta=100.0)
    ours = rotate(vectors[None, None], rotation)[0, 0]
    rows = gguf_model.interleaved(torch.eye(8), num_heads=1) @ vectors.T
    angles = torch.arange(3)[:, None] * 100.0 ** (-torch.arange(0, 8, 2) / 8)
    turned = torch.view_as_real(
        torch.view_as_complex(rows.T.reshape(3, 4, 2).contiguous()) * torch.exp(1j * angles)
    )
    assert torch.allclose(
        turned.reshape(3, 8), gguf_model.interleaved(torch.eye(8), num_heads=1).matmul(ours.T).T, atol=1e-6
    )


def test_a_file_that_is_cut_off_is_an_answer_of_the_engine(
    model_of: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    entry = formats.EXPORTS["gguf"]
    caplog.set_level(logging.DEBUG, "inference.export.engine_process")

    def cut(source, directory: Path, **options) -> None:
        entry.write(source, directory, **options)
        file = next(directory.glob("*.gguf"))
        file.write_bytes(file.read_bytes()[:-5000])

    monkeypatch.setitem(formats.EXPORTS, "gguf", dataclasses.replace(entry, write=cut))
    monkeypatch.setattr(exporting, "in_fresh_process", in_fresh_process)
    with pytest.raises(MismatchError, match="the engine could not use the export: "):
        export_model(model_of("llama"), "gguf", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "Traceback" in caplog.text, "what --debug shows came from the engine's process"
