"""Adapters as a directory that `peft` loads unmodified. Knows its names and settings, nothing of training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from core.files import LOCAL_DISK, Disk, atomic_write, write_json
from core.training_config import ModelConfig
from models.counting import vocabulary_of
from models.hf_layout import GPT2_NAMES, MODERN_NAMES, translate
from models.lora import DOWN, ROWS, UP
from models.safetensors_file import write_safetensors
from models.transformer_lm import Adapters

ADAPTER_DIRECTORY = "adapter"
"""Beside the weights of a model directory, in which they are merged already."""

ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG_FILE = "adapter_config.json"

README_FILE = "README.md"
README = """\
# Adapters

For peft's PeftModel, and for the model that they were added to, with {vocabulary} rows of embedding. One from elsewhere
has fewer where tokens of chats were added to its tokenizer. Give it room first:

```python
base.resize_token_embeddings({vocabulary})
tuned = PeftModel.from_pretrained(base, "{directory}")
```

The directory above holds a plain model in which they are merged already.
"""

FUSED = ("query", "key", "value")
"""Of GPT-2, which has one layer for the three."""


class Adapter(NamedTuple):
    """Adapters and how they were added."""

    added: Adapters
    tensors: Mapping[str, Tensor]
    """By our names of parameters."""


def save_adapter(adapter: Adapter, config: ModelConfig, directory: Path, *, disk: Disk = LOCAL_DISK) -> None:
    """Write `adapter_model.safetensors`, `adapter_config.json` and what model they fit into a new directory.

    Args:
        config: The shape of the model that they were added to.

    Raises:
        DiskError: the disk is full, read-only or failing.
    """
    directory.mkdir()
    tensors, settings, is_gpt2 = (
        peft_tensors(adapter.tensors, config),
        adapter.added.settings,
        config.architecture == "gpt2",
    )
    assert settings.rank is not None
    fused = {"c_attn": len(FUSED)} if is_gpt2 else {}
    values: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,  # a path of this machine would mean nothing elsewhere
        "inference_mode": True,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": sorted({name.split(".")[-3] for name in tensors if ".lora_A." in name}),
        "trainable_token_indices": _indices(adapter, config),
        "rank_pattern": {name: times * settings.rank for name, times in fused.items()},
        "alpha_pattern": {name: times * settings.alpha for name, times in fused.items()},
        "fan_in_fan_out": is_gpt2,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
    }
    write_json(directory / ADAPTER_CONFIG_FILE, values, disk=disk)
    readme = README.format(vocabulary=vocabulary_of(config), directory=ADAPTER_DIRECTORY)
    atomic_write(directory / README_FILE, readme, disk=disk)
    write_safetensors(directory / ADAPTER_FILE, tensors, metadata={"format": "pt"}, disk=disk)


def _indices(adapter: Adapter, config: ModelConfig) -> Any:
    """The tokens whose rows learn, as peft has them: a list where embedding and head are one."""
    tokens = list(adapter.added.tokens)
    if not tokens:
        return None
    if config.tie_word_embeddings:
        return tokens
    return {"wte" if config.architecture == "gpt2" else "embed_tokens": tokens, "lm_head": tokens}


def peft_tensors(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The adapters' matrices under peft's names.

    GPT-2's queries, keys and values are one layer there: their adapters become one of three times the rank, block by
    block, which with three times the alpha computes the same.
    """
    names = GPT2_NAMES if config.architecture == "gpt2" else MODERN_NAMES
    result: dict[str, Tensor] = {}
    for weight, rows in ROWS.items():
        if rows in tensors:
            place = translate(weight.removesuffix(".weight"), names)
            result[f"base_model.model.{place}.token_adapter.trainable_tokens_delta"] = tensors[rows]
    for name in tensors:
        layer, _, last = name.rpartition(".")
        if last != UP:
            continue
        parts = [layer]
        if config.architecture == "gpt2" and layer.endswith(FUSED):
            if not layer.endswith(FUSED[0]):
                continue
            stem = layer.removesuffix(FUSED[0])
            parts, layer = [stem + one for one in FUSED], f"{stem}query_key_value"
        place = f"base_model.model.{translate(layer, names)}"
        result[f"{place}.lora_A.weight"] = torch.cat([tensors[f"{part}.{DOWN}"] for part in parts])
        result[f"{place}.lora_B.weight"] = _block_diagonal([tensors[f"{part}.{UP}"] for part in parts])
    return result


def _block_diagonal(blocks: Sequence[Tensor]) -> Tensor:
    result: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return result
