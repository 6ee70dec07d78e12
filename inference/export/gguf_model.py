"""A model as one GGUF file for llama.cpp and all that is built on it, with a Modelfile for Ollama.

The format and the quantisation are the `gguf` package's, which llama.cpp's own converter uses.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.files import atomic_write
from core.training_config import ModelConfig
from inference.chat import ChatModel
from inference.export.gguf_vocabulary import gguf_vocabulary
from models.hf_layout import to_hf_state_dict
from models.hf_settings import foreign_parts

if TYPE_CHECKING:
    import gguf

KINDS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}
"""Our names and those of GGML's types."""

FILE_KINDS = {"float32": "ALL_F32", "float16": "MOSTLY_F16", "bfloat16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}

Q8_0_BLOCK = 32
"""Values that share a scale. A matrix whose rows are no multiple of it is kept in float16."""

OLLAMA_TEMPLATE = "{{- range .Messages }}<|{{ .Role }}|>{{ .Content }}<|end|>{{ end }}<|assistant|>"
"""`CHAT_TEMPLATE` in the words of Go; `<s>` is put in front by the tokenizer."""


def write_gguf(source: ChatModel, directory: Path, *, dtype: str) -> None:
    """Write `model-DTYPE.gguf` and `Modelfile` into `directory`, one tensor at a time.

    Args:
        dtype: "float32", "float16", "bfloat16" or "q8_0", of matrices; vectors and positions stay in float32.
    """
    import gguf

    assert source.directory is not None
    model, tokenizer = source.engine.model, source.tokenizer
    config = model.config
    name = f"model-{dtype}.gguf"
    writer = gguf.GGUFWriter(directory / name, config.architecture)
    writer.add_type("model")
    writer.add_name(source.directory.name)
    writer.add_file_type(gguf.LlamaFileType[FILE_KINDS[dtype]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, config)
    vocabulary = gguf_vocabulary(source.directory, tokenizer, num_rows=model.embedding.num_embeddings)
    for key, value in vocabulary.items():
        _add_value(writer, f"tokenizer.{key}", value)

    for tensor_name, tensor in _tensors(source):
        kind = _kind(tensor_name, tensor.shape, dtype)
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        num_bytes = tensor.numel() // block * block_bytes
        # The writer takes float32 for the type that the shape is counted in; what is written is of the kind.
        writer.add_tensor_info(
            tensor_name, tuple(tensor.shape), np.dtype(np.float32), num_bytes, raw_dtype=kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor_name, tensor in _tensors(source):
        writer.write_tensor_data(_packed(tensor, _kind(tensor_name, tensor.shape, dtype)))
    writer.close()
    atomic_write(directory / "Modelfile", modelfile(source, name))


def stored_in_gguf(name: str, tensor: Tensor, dtype: str) -> Tensor:
    """A parameter as whoever reads the file gets it, in float32."""
    import gguf

    # Which type a tensor has follows from its shape, and positions are the only matrix that is told apart by name.
    kind = _kind("position_embd.weight" if name == "position_embedding.weight" else name, tensor.shape, dtype)
    packed = _packed(tensor.detach(), kind)
    return torch.from_numpy(gguf.dequantize(packed, kind).astype(np.float32).reshape(tuple(tensor.shape)))


def objections_to_shape(config: ModelConfig) -> list[str]:
    """Why llama.cpp cannot compute what the model does; empty if it can."""
    objections = [f"{part} is no part of llama.cpp's {config.architecture}" for part in foreign_parts(config)]
    if config.architecture == "gpt2" and config.activation != "gelu_tanh" and not objections:
        objections.append(
            f"llama.cpp's gpt2 has the activation gelu_tanh alone, the model has {config.activation}"
        )
    return objections


def modelfile(source: ChatModel, name: str) -> str:
    """What `ollama create NAME -f Modelfile` reads."""
    template = OLLAMA_TEMPLATE if source.answers_messages else "{{ .Prompt }}"
    stops = [source.tokenizer.pieces[token].text for token in source.stop_ids]
    lines = [
        f"FROM ./{name}",
        f'TEMPLATE """{template}"""',
        f"PARAMETER num_ctx {source.engine.model.config.max_position_embeddings}",
        *(f"PARAMETER stop {json.dumps(stop)}" for stop in stops),
    ]
    return "\n".join(lines) + "\n"


def _add_shape(writer: "gguf.GGUFWriter", config: ModelConfig) -> None:
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.feed_forward_size)
    writer.add_head_count(config.num_attention_heads)
    if config.architecture == "gpt2":
        writer.add_layer_norm_eps(config.norm_epsilon)
        return
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.features_per_head)
    writer.add_value_length(config.features_per_head)
    writer.add_rope_dimension_count(config.features_per_head)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)


def _add_value(writer: "gguf.GGUFWriter", key: str, value: Any) -> None:
    import gguf

    kinds = {bool: "BOOL", int: "UINT32", str: "STRING", list: "ARRAY"}
    writer.add_key_value(key, value, gguf.GGUFValueType[kinds[type(value)]])


def _tensors(source: ChatModel) -> Iterator[tuple[str, Tensor]]:
    """Name and value of each tensor, as llama.cpp's architecture has them."""
    import gguf

    model = source.engine.model
    config = model.config
    architecture = {kind: number for number, kind in gguf.MODEL_ARCH_NAMES.items()}[config.architecture]
    names = gguf.get_tensor_name_map(architecture, config.num_layers)
    for name, tensor in to_hf_state_dict(model).items():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert theirs is not None, name
        if config.architecture == "llama" and ".q_proj." in name:
            tensor = interleaved(tensor, num_heads=config.num_attention_heads)
        elif config.architecture == "llama" and ".k_proj." in name:
            tensor = interleaved(tensor, num_heads=config.kv_heads)
        elif config.architecture == "gpt2" and ".h." in name and tensor.ndim == 2:
            tensor = tensor.T.contiguous()
        yield theirs, tensor


def interleaved(tensor: Tensor, *, num_heads: int) -> Tensor:
    """The rows (or values) of each head with feature i beside feature i + H/2, where llama.cpp's Llama looks for the
    partner of a rotation; H features a head."""
    halves = tensor.view(num_heads, 2, -1, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def _kind(name: str, shape: torch.Size, dtype: str) -> "gguf.GGMLQuantizationType":
    import gguf

    if len(shape) < 2 or name == "position_embd.weight":
        return gguf.GGMLQuantizationType.F32
    if dtype == "q8_0" and shape[-1] % Q8_0_BLOCK:
        return gguf.GGMLQuantizationType.F16
    return gguf.GGMLQuantizationType[KINDS[dtype]]


def _packed(tensor: Tensor, kind: "gguf.GGMLQuantizationType") -> NDArray[Any]:
    import gguf

    packed: NDArray[Any] = gguf.quantize(tensor.float().contiguous().numpy(), kind)
    return packed
