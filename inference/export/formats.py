"""How a model is written in each format and asked there. A new one is two functions, an entry here and one in
`tolerances`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inference.chat import ChatModel
from inference.export.gguf_model import objections_to_shape, stored_in_gguf, write_gguf
from inference.export.gguf_vocabulary import excuses_of_llama_cpp, objections_of_llama_cpp
from inference.export.hf import answer_with_transformers, write_hf
from inference.export.llama_cpp import answer_with_llama_cpp
from inference.export.onnx_model import objections_to_onnx, write_onnx
from inference.export.onnx_runtime import answer_with_onnxruntime
from inference.export.questions import Answers, Questions
from inference.export.torch_answers import answer_with_exported_program, answer_with_torchscript
from inference.export.torch_programs import write_exported_program, write_torchscript
from models.hf_settings import foreign_parts
from tokenization.hf_export import JSON_FILE_NAME
from tokenization.tokenizer import Tokenizer

EXTRA = "pip install -e '.[export]'"


Writes = Callable[..., None]
"""`write(source, directory, dtype=...)`: writes all files of an export into `directory`."""


def rounded(name: str, tensor: Tensor, dtype: str) -> Tensor:
    """`tensor` in float32, as it is after it was stored in a dtype of torch's."""
    return tensor.to(getattr(torch, dtype)).float()


@dataclass(frozen=True)
class Format:
    """How a model is exported to one format.

    Attributes:
        write: Writes the files.
        has_shards: Whether `write` takes `max_shard_bytes` too, because weights can be in several files.
        answer: Loads them in the engine that will run them, in a fresh process, and answers.
        writing_packages, proving_packages: Names to import, without which it cannot be written, or not be proven.
        stored: A parameter (its name in our model, its dtype) as somebody who reads the file gets it, in float32.
        objections: Why a model cannot be expressed, a sentence each; none if it can.
        excuses: Of `certificate.EXCUSES`, those that its engine has for a tokenizer.
    """

    write: Writes
    answer: Callable[[Path, Questions], Answers]
    has_shards: bool = False
    stored: Callable[[str, Tensor, str], Tensor] = rounded
    objections: Callable[[ChatModel], Sequence[str]] = lambda source: ()
    excuses: Callable[[Tokenizer], Sequence[str]] = lambda tokenizer: ()
    writing_packages: Sequence[str] = ()
    proving_packages: Sequence[str] = ()


def _no_directory(source: ChatModel) -> list[str]:
    assert source.directory is not None
    config = source.engine.model.config
    objections = [
        f"{part} is no part of the architecture {config.architecture}" for part in foreign_parts(config)
    ]
    if not (source.directory / JSON_FILE_NAME).is_file():
        objections.append(
            f"its tokenizer has no {JSON_FILE_NAME}, because transformers has none that does the same"
        )
    return objections


def _no_gguf(source: ChatModel) -> list[str]:
    assert source.directory is not None
    config = source.engine.model.config
    return [*objections_to_shape(config), *objections_of_llama_cpp(source.directory)]


EXPORTS: dict[str, Format] = {
    "hf": Format(
        write=write_hf,
        has_shards=True,
        answer=answer_with_transformers,
        objections=_no_directory,
        proving_packages=("transformers", "jinja2"),
    ),
    "gguf": Format(
        write=write_gguf,
        answer=answer_with_llama_cpp,
        stored=stored_in_gguf,
        objections=_no_gguf,
        excuses=excuses_of_llama_cpp,
        writing_packages=("gguf",),
        proving_packages=("xllamacpp",),
    ),
    "onnx": Format(
        write=write_onnx,
        answer=answer_with_onnxruntime,
        objections=objections_to_onnx,
        writing_packages=("onnx",),
        proving_packages=("onnxruntime",),
    ),
    "torch-export": Format(
        write=write_exported_program,
        answer=answer_with_exported_program,
    ),
    "torchscript": Format(
        write=write_torchscript,
        answer=answer_with_torchscript,
    ),
}
