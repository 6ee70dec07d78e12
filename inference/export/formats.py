"""The formats that a model can be exported to. One entry a format; a new one is a file with two functions and a line here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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
from tokenization.tokenizer import Tokenizer

EXTRA = "pip install 'bloomery[export]'"


class Writes(Protocol):
    """What writes an export."""

    def __call__(self, source: ChatModel, directory: Path, *, dtype: str, max_shard_bytes: int) -> None:
        """Write all files of it into `directory`."""


@dataclass(frozen=True)
class Format:
    """How a model is exported to one format.

    Attributes:
        write: Writes the files.
        answer: Loads them in the engine that will run them, in a fresh process, and answers.
        dtypes: Of the weights, the default first, with the tolerance that `certificate.compare_scores` takes.
        writing_packages, proving_packages: Names to import, without which it cannot be written, or not be proven.
        stored: A parameter (its name in our model, its dtype) as somebody who reads the file gets it, in float32.
        objections: Why a model cannot be expressed, a sentence each; none if it can.
        excuses: Of `certificate.EXCUSES`, those that its engine has for a tokenizer.
    """

    write: Writes
    answer: Callable[[Path, Questions], Answers]
    dtypes: Mapping[str, Mapping[str, float]]
    stored: Callable[[str, Tensor, str], Tensor]
    objections: Callable[[ChatModel], Sequence[str]]
    excuses: Callable[[Tokenizer], Sequence[str]]
    writing_packages: Sequence[str] = ()
    proving_packages: Sequence[str] = ()


def _rounded(name: str, tensor: Tensor, dtype: str) -> Tensor:
    import torch

    return tensor.to(getattr(torch, dtype)).float()


def _no_architecture(source: ChatModel) -> list[str]:
    config = source.engine.model.config
    return [f"{part} is no part of the architecture {config.architecture}" for part in foreign_parts(config)]


def _no_gguf(source: ChatModel) -> list[str]:
    assert source.directory is not None
    config = source.engine.model.config
    return [*objections_to_shape(config), *objections_of_llama_cpp(source.directory, source.tokenizer)]


EXACT = {"max_difference": 1e-4, "mean_kl_nats": 1e-6}
"""Of float32 sums in another order. Measured: 5e-6 in transformers, 2e-5 in llama.cpp."""

LLAMA_CPP_TOLERANCES = {
    "float32": {"max_difference": 2e-3, "mean_kl_nats": 1e-6},
    "float16": {"max_difference": 0.02, "mean_kl_nats": 1e-4},
    "bfloat16": {"max_difference": 0.15, "mean_kl_nats": 2e-3},
    "q8_0": {"max_difference": 0.5, "mean_kl_nats": 2e-2},
}
"""llama.cpp rounds what a matrix is multiplied with to the type of the matrix, and looks GELU up in a table of float16.
Measured: 2e-5 in float32, with GELU 6e-4; with the quickstart's model 0.004, 0.03 and 0.14, and 2e-6, 1e-4 and 2e-3 nats."""

EXPORTS: dict[str, Format] = {
    "hf": Format(
        write=write_hf,
        answer=answer_with_transformers,
        dtypes={"bfloat16": EXACT, "float32": EXACT, "float16": EXACT},
        stored=_rounded,
        objections=_no_architecture,
        excuses=lambda tokenizer: [],
        proving_packages=("transformers", "jinja2"),
    ),
    "gguf": Format(
        write=write_gguf,
        answer=answer_with_llama_cpp,
        dtypes={name: LLAMA_CPP_TOLERANCES[name] for name in ("q8_0", "float16", "bfloat16", "float32")},
        stored=stored_in_gguf,
        objections=_no_gguf,
        excuses=excuses_of_llama_cpp,
        writing_packages=("gguf",),
        proving_packages=("xllamacpp",),
    ),
    "onnx": Format(
        write=write_onnx,
        answer=answer_with_onnxruntime,
        dtypes={"float32": EXACT},
        stored=_rounded,
        objections=objections_to_onnx,
        excuses=lambda tokenizer: [],
        writing_packages=("onnx",),
        proving_packages=("onnxruntime",),
    ),
    "torch-export": Format(
        write=write_exported_program,
        answer=answer_with_exported_program,
        dtypes={"float32": EXACT},
        stored=_rounded,
        objections=lambda source: [],
        excuses=lambda tokenizer: [],
    ),
    "torchscript": Format(
        write=write_torchscript,
        answer=answer_with_torchscript,
        dtypes={"float32": EXACT},
        stored=_rounded,
        objections=lambda source: [],
        excuses=lambda tokenizer: [],
    ),
}
