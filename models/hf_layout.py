"""A model as a directory that transformers, vLLM and llama.cpp load unmodified, and back.

Knows the names and shapes of tensors in three architectures. Knows nothing of training state; no pickle is read.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from core.errors import CorruptArtifactError, DataError, MismatchError
from core.files import LOCAL_DISK, Disk, write_json
from core.json_files import read_json_object
from core.training_config import ModelConfig
from models.hf_settings import (
    ARCHITECTURES,
    CONFIG_FILE,
    GENERATION_CONFIG_FILE,
    generation_config,
    hf_config,
    model_config_from_hf,
    warn_of_foreign_parts,
)
from models.safetensors_file import FLOAT_DTYPES, read_shapes, read_tensors, write_safetensors
from models.transformer_lm import TransformerLM

__all__ = [
    "from_hf_state_dict",
    "generation_config",
    "hf_config",
    "load_model",
    "model_config_from_hf",
    "save_model",
    "save_tensors",
    "to_hf_state_dict",
    "to_hf_tensors",
    "weight_files",
]

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
PICKLE_FILES = (
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.pt",
    "model.pth",
    "consolidated.00.pth",
)

MODERN_NAMES = {
    "embedding": "model.embed_tokens",
    "blocks": "model.layers",
    "attention_norm": "input_layernorm",
    "attention": "self_attn",
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "output": "o_proj",
    "query_norm": "q_norm",
    "key_norm": "k_norm",
    "feed_forward_norm": "post_attention_layernorm",
    "feed_forward": "mlp",
    "gate": "gate_proj",
    "up": "up_proj",
    "down": "down_proj",
    "final_norm": "model.norm",
    "head": "lm_head",
}
"""Part by part of a dotted name, ours and that of both Llama and Qwen3."""

GPT2_NAMES = {
    "embedding": "transformer.wte",
    "position_embedding": "transformer.wpe",
    "blocks": "transformer.h",
    "attention_norm": "ln_1",
    "attention": "attn",
    "query_key_value": "c_attn",
    "output": "c_proj",
    "feed_forward_norm": "ln_2",
    "feed_forward": "mlp",
    "up": "c_fc",
    "down": "c_proj",
    "final_norm": "transformer.ln_f",
    "head": "lm_head",
}
"""Part by part of a dotted name, ours and GPT-2's. `query_key_value` is none of our modules: see `_fuse`."""

GPT2_LINEARS = ("query_key_value.weight", "attention.output.weight", "up.weight", "down.weight")
"""GPT-2 keeps these as (inputs, outputs), because its linear layer was once written as a convolution."""

HEAD = "lm_head.weight"

NO_PARAMETERS = re.compile(r"\.rotary_emb\.inv_freq$|\bh\.\d+\.attn\.(masked_)?bias$")
"""Tables that older directories keep beside the weights and that follow from the configuration."""


def save_model(
    model: TransformerLM,
    directory: str | Path,
    *,
    bos_id: int | None,
    eos_id: int | Sequence[int] | None,
    pad_id: int | None,
    dtype: torch.dtype | None = None,
    disk: Disk = LOCAL_DISK,
) -> None:
    """Write `config.json`, `generation_config.json` and `model.safetensors` into a directory.

    Each file appears whole or not at all; for all three at once, write into `core.files.new_directory`.

    Args:
        eos_id: The token, or the tokens, that end a text.
        dtype: Of the weights on disk; None = as the model has them.

    Raises:
        DiskError: the disk is full, read-only or failing.
    """
    dtype = model.embedding.weight.dtype if dtype is None else dtype
    save_tensors(
        to_hf_state_dict(model),
        model.config,
        directory,
        bos_id=bos_id,
        eos_id=eos_id,
        pad_id=pad_id,
        dtype=dtype,
        disk=disk,
    )


def save_tensors(
    tensors: Mapping[str, Tensor],
    config: ModelConfig,
    directory: str | Path,
    *,
    bos_id: int | None,
    eos_id: int | Sequence[int] | None,
    pad_id: int | None,
    dtype: torch.dtype,
    disk: Disk = LOCAL_DISK,
) -> None:
    """As `save_model`, of what `to_hf_tensors` returned for a state dict that was gathered elsewhere.

    Raises:
        DiskError: the disk is full, read-only or failing.
    """
    directory = Path(directory)
    warn_of_foreign_parts(config)
    settings = hf_config(config, bos_id=bos_id, eos_id=eos_id, pad_id=pad_id, dtype=dtype)
    ends = generation_config(bos_id=bos_id, eos_id=eos_id, pad_id=pad_id)
    write_json(directory / CONFIG_FILE, settings, disk=disk)
    write_json(directory / GENERATION_CONFIG_FILE, ends, disk=disk)
    write_safetensors(directory / WEIGHTS_FILE, tensors, metadata={"format": "pt"}, dtype=dtype, disk=disk)


def load_model(
    directory: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> TransformerLM:
    """The model in a directory that `save_model` or transformers wrote, in evaluation mode.

    Names and shapes are compared with the configuration before any tensor is read or memory is reserved.

    Raises:
        DataError: the directory, its configuration or its weights are not there, or the weights are a pickle.
        CorruptArtifactError: a file of weights is cut off.
        ConfigError: the configuration asks for what we cannot represent.
        MismatchError: tensors are missing, unexpected, of another shape or quantized.
    """
    directory = Path(directory)
    files = weight_files(directory)
    config = model_config_from_hf(
        read_json_object(directory / CONFIG_FILE), origin=str(directory / CONFIG_FILE)
    )
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for file in files:
        shapes_here = read_shapes(file)
        if twice := found.keys() & shapes_here.keys():
            raise CorruptArtifactError(
                f"{file}: {_first_few(sorted(twice))} also in another file; copy them again"
            )
        found |= shapes_here
    kept = {name: _known_name(name, config) for name in found if not NO_PARAMETERS.search(name)}
    if quantized := [name for name in kept if found[name][0] not in FLOAT_DTYPES]:
        raise MismatchError(
            f"{directory}: {_first_few(quantized)} is of type {found[quantized[0]][0]}; quantized weights cannot be "
            "loaded, use the model that they were made from"
        )
    shapes = {known: found[name][1] for name, known in kept.items()}
    copy_of_embedding = shapes.pop(HEAD, None) if config.tie_word_embeddings else None
    compare_tensors(shapes, config, origin=str(directory))
    names = MODERN_NAMES if config.architecture != "gpt2" else GPT2_NAMES
    embedding = translate("embedding.weight", names)
    differs = MismatchError(
        f"{directory}: {CONFIG_FILE} says tie_word_embeddings, but {HEAD} differs from the embedding; set "
        "tie_word_embeddings to false there"
    )
    if copy_of_embedding not in (None, shapes[embedding]):
        raise differs

    tensors: dict[str, Tensor] = {}
    for file in files:
        for name, tensor in read_tensors(file, names=kept, device=device, dtype=dtype).items():
            tensors[kept[name]] = tensor
    if copy_of_embedding is not None and not torch.equal(tensors.pop(HEAD), tensors[embedding]):
        raise differs
    with torch.device("meta"):
        model = TransformerLM(config)
    model.load_state_dict(from_hf_state_dict(tensors, config), assign=True)
    return model.eval()


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model directory: one, or those that the index lists.

    Raises:
        DataError: the directory or its files are not there, or the weights are a pickle.
        CorruptArtifactError: the index names none, or files elsewhere.
    """
    if not directory.is_dir():
        raise DataError(
            f"{directory}: no such model directory; expected one that holds {CONFIG_FILE} and {WEIGHTS_FILE}"
        )
    if not (directory / CONFIG_FILE).is_file():
        raise DataError(
            f"{directory / CONFIG_FILE}: not there; a model directory holds it beside its weights, so point to "
            "the directory that was saved (for a run, to one of its step_N directories)"
        )
    if (directory / WEIGHTS_FILE).is_file():
        return [directory / WEIGHTS_FILE]
    if (directory / INDEX_FILE).is_file():
        return _indexed_files(directory / INDEX_FILE)
    if pickles := [name for name in PICKLE_FILES if (directory / name).exists()]:
        raise DataError(
            f"{directory / pickles[0]}: a pickle, which can run any code when it is opened and so is never read; "
            "if you trust its origin, convert it with transformers: "
            "AutoModelForCausalLM.from_pretrained(old).save_pretrained(new)"
        )
    raise DataError(
        f"{directory / WEIGHTS_FILE}: not there, nor {INDEX_FILE}; copy the weights beside {CONFIG_FILE}"
    )


def _indexed_files(index: Path) -> list[Path]:
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptArtifactError(f"{index}: holds no weight_map from names to files; copy it again")
    files = []
    for name in sorted(set(map(str, weight_map.values()))):
        # A name with a directory in it could reach any file of the machine.
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CorruptArtifactError(
                f"{index}: weight_map names {name!r}; expected a .safetensors file in the same directory"
            )
        if not (index.parent / name).is_file():
            raise DataError(f"{index.parent / name}: not there, but {index.name} lists it; copy it again")
        files.append(index.parent / name)
    return files


def _known_name(name: str, config: ModelConfig) -> str:
    """`name`, with the prefix that the first GPT-2 directories left out."""
    if config.architecture == "gpt2" and name != HEAD and not name.startswith("transformer."):
        return f"transformer.{name}"
    return name


def to_hf_state_dict(model: TransformerLM) -> dict[str, Tensor]:
    """The model's weights under the names and in the shapes of its architecture, detached.

    Llama and Qwen3 tensors are the model's own memory, GPT-2's matrices are not. A tied head is left out, as
    transformers leaves it out.
    """
    return to_hf_tensors(model.state_dict(), model.config)


def to_hf_tensors(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """As `to_hf_state_dict`, of a state dict that was gathered elsewhere (from the ranks of a sharded model)."""
    tensors = {name: tensor.detach() for name, tensor in state.items()}
    if config.architecture != "gpt2":
        return {translate(name, MODERN_NAMES): tensor for name, tensor in tensors.items()}
    return {
        translate(name, GPT2_NAMES): tensor.T.contiguous() if name.endswith(GPT2_LINEARS) else tensor
        for name, tensor in _fuse(tensors).items()
    }


def from_hf_state_dict(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The inverse of `to_hf_state_dict`, for `load_state_dict`: exactly the tensors that `config` asks for.

    Raises:
        MismatchError: a name is missing or unexpected, or a shape differs.
    """
    compare_tensors({name: tuple(t.shape) for name, t in tensors.items()}, config, origin="the state dict")
    names = MODERN_NAMES if config.architecture != "gpt2" else GPT2_NAMES
    state = {}
    for ours in _fuse(_shapes_of(config)):
        tensor = tensors[translate(ours, names)]
        if config.architecture == "gpt2" and ours.endswith(GPT2_LINEARS):
            tensor = tensor.T.contiguous()
        state.update(_split(ours, tensor))
    return state


def compare_tensors(shapes: Mapping[str, tuple[int, ...]], config: ModelConfig, *, origin: str) -> None:
    """Nothing, when `shapes` (by the architecture's names) are those of the model that `config` describes.

    Args:
        origin: Where they were found, for messages.

    Raises:
        MismatchError: a name is missing or unexpected, or a shape differs; the first few are named.
    """
    expected = {
        name: tuple(tensor.shape) for name, tensor in to_hf_tensors(_shapes_of(config), config).items()
    }
    problems = []
    if missing := [name for name in expected if name not in shapes]:
        problems.append(f"missing {_first_few(missing)}")
    if unexpected := [name for name in shapes if name not in expected]:
        problems.append(f"unexpected {_first_few(unexpected)}")
    different = [
        f"{name} is {list(shapes[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    if different:
        problems.append(_first_few(different))
    if problems:
        raise MismatchError(
            f"{origin}: the tensors are not those of the {ARCHITECTURES[config.architecture]} that its configuration "
            f"describes: {'; '.join(problems)}; use the {CONFIG_FILE} that these weights were saved with"
        )


def translate(name: str, names: Mapping[str, str]) -> str:
    """A dotted name of ours in the words of another architecture."""
    return ".".join(names.get(part, part) for part in name.split("."))


def _shapes_of(config: ModelConfig) -> dict[str, Tensor]:
    with torch.device("meta"):
        return TransformerLM(config).state_dict()


def _fuse(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values under one name, as GPT-2 has them; nothing changes in states of other shapes."""
    if "position_embedding.weight" not in state:
        return dict(state)
    fused = {}
    for name, tensor in state.items():
        if ".query." in name:
            parts = [tensor, *(state[name.replace(".query.", f".{other}.")] for other in ("key", "value"))]
            fused[name.replace(".query.", ".query_key_value.")] = torch.cat(parts)
        elif ".attention.key." not in name and ".attention.value." not in name:
            fused[name] = tensor
    return fused


def _split(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if ".query_key_value." not in name:
        return {name: tensor}
    parts = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
    return {name.replace("query_key_value", part): piece.clone() for part, piece in parts}


def _first_few(items: Sequence[str], limit: int = 4) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(f"{item:.200}" for item in items[:limit]) + more
