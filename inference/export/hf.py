"""A Hugging Face model directory in a chosen dtype, in shards, and what transformers answers from it.

Names and configuration are those of `models.hf_layout`; knows nothing of how answers are judged.
"""

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.files import write_json
from inference.chat import ChatModel
from inference.export.questions import Answers, Questions
from models.hf_layout import INDEX_FILE, WEIGHTS_FILE, to_hf_state_dict
from models.hf_settings import CONFIG_FILE, GENERATION_CONFIG_FILE, generation_config, hf_config
from models.safetensors_file import write_safetensors

MAX_SHARD_BYTES = 5_000_000_000
"""As transformers' own default was for years; hosts of models take files of this size."""


def write_hf(
    source: ChatModel, directory: Path, *, dtype: str, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write weights, configuration, tokenizer and chat template into `directory`.

    Args:
        dtype: "float32", "float16" or "bfloat16".
        max_shard_bytes: Of one file of weights; a tensor that is larger has a file of its own.
    """
    import torch

    torch_dtype = getattr(torch, dtype)
    write_surroundings(source, directory, dtype=dtype)
    tensors = to_hf_state_dict(source.engine.model)
    shards = list(_shards(tensors, max_shard_bytes=max_shard_bytes, bytes_per_value=torch_dtype.itemsize))
    if len(shards) == 1:
        names = [WEIGHTS_FILE]
    else:
        names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
        total = sum(tensor.numel() for tensor in tensors.values()) * torch_dtype.itemsize
        weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        write_json(directory / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map})
    for name, shard in zip(names, shards, strict=True):
        write_safetensors(directory / name, shard, metadata={"format": "pt"}, dtype=torch_dtype)


def write_surroundings(source: ChatModel, directory: Path, *, dtype: str) -> None:
    """Write what lies beside weights: configuration, tokenizer, chat template."""
    import torch

    config, tokenizer, ends = source.engine.model.config, source.tokenizer, source.stop_ids
    bos_id, pad_id = tokenizer.bos_id, tokenizer.pad_id
    settings = hf_config(config, bos_id=bos_id, eos_id=ends, pad_id=pad_id, dtype=getattr(torch, dtype))
    write_json(directory / CONFIG_FILE, settings)
    write_json(
        directory / GENERATION_CONFIG_FILE, generation_config(bos_id=bos_id, eos_id=ends, pad_id=pad_id)
    )
    tokenizer.save(directory, model_max_length=config.max_position_embeddings)


def _shards(
    tensors: Mapping[str, Any], *, max_shard_bytes: int, bytes_per_value: int
) -> Iterator[dict[str, Any]]:
    shard: dict[str, Any] = {}
    size = 0
    for name, tensor in tensors.items():
        tensor_bytes = tensor.numel() * bytes_per_value
        if shard and size + tensor_bytes > max_shard_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor_bytes
    yield shard


def answer_with_transformers(directory: Path, questions: Questions) -> Answers:
    """What transformers makes of the directory, computing in float32 whatever the weights are."""
    import tokenizers
    import torch

    transformers: Any = importlib.import_module("transformers")  # its functions have no types
    transformers.logging.set_verbosity_error()  # what it says of a text that is longer than the context
    transformers.logging.disable_progress_bar()
    safely = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, **safely)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, **safely).eval()
    continuations, scores = [], []
    for prompt in questions.prompts:
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=questions.num_new_tokens,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
            whole = (
                model(ids[:, :-1]).logits[0]
                if len(prompt) > 1
                else torch.empty(0, output.logits[0].shape[-1])
            )
        continuations.append(output.sequences[0, len(prompt) :].tolist())
        scores.append(torch.cat([whole, *output.logits]).numpy().astype(np.float32))
    return Answers(
        text_ids=[
            tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
            for text in questions.texts
        ],
        conversation_ids=[
            tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=False)
            for messages in questions.conversations
        ],
        continuations=continuations,
        scores=scores,
        scores_are="logits",
        versions={
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "torch": torch.__version__,
        },
    )
