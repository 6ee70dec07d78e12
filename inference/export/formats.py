"""The formats that a model can be exported to. One entry a format; a new one is a file with two functions and a line here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from core.training_config import ModelConfig
from inference.chat import ChatModel
from inference.export.hf import answer_with_transformers, write_hf
from inference.export.questions import Answers, Questions
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
        stored: A tensor (its name in our model, its dtype) as somebody who reads the file gets it, in float32.
        objections: Why a model cannot be expressed, a sentence each; none if it can.
        excuses: Of `certificate.EXCUSES`, those that its engine has for a tokenizer.
    """

    write: Writes
    answer: Callable[[Path, Questions], Answers]
    dtypes: Mapping[str, Mapping[str, float]]
    stored: Callable[[str, Tensor, str], Tensor]
    objections: Callable[[ModelConfig, Tokenizer], Sequence[str]]
    excuses: Callable[[Tokenizer], Sequence[str]]
    writing_packages: Sequence[str] = ()
    proving_packages: Sequence[str] = ()


def _rounded(name: str, tensor: Tensor, dtype: str) -> Tensor:
    import torch

    return tensor.to(getattr(torch, dtype)).float()


def _foreign(config: ModelConfig, tokenizer: Tokenizer) -> list[str]:
    return [f"{part} is no part of the architecture {config.architecture}" for part in foreign_parts(config)]


EXACT = {"max_difference": 1e-4, "mean_kl_nats": 1e-6}
"""Of float32 sums in another order."""

EXPORTS: Mapping[str, Format] = {
    "hf": Format(
        write=write_hf,
        answer=answer_with_transformers,
        dtypes={"bfloat16": EXACT, "float32": EXACT, "float16": EXACT},
        stored=_rounded,
        objections=_foreign,
        excuses=lambda tokenizer: [],
        proving_packages=("transformers", "jinja2"),
    ),
}
