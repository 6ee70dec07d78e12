"""A decoder as a program of torch alone: an exported program (.pt2), or TorchScript. Neither has a KV cache.

Both are traced from one forward in which nothing depends on the sizes of a batch. Shapes: B rows, T tokens, V tokens of
the vocabulary.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from core.files import atomic_writer
from inference.chat import ChatModel
from inference.export.torch_answers import EXPORTED_NAME, SCRIPT_NAME
from models.transformer_lm import TransformerLM

EXAMPLE_SHAPE = (2, 5)
"""B and T while tracing. Not 1: torch takes that for a size that stays."""


class Decoder(nn.Module):
    """Token ids (B, T) int64 to logits (B, T, V): `TransformerLM.forward` with the mask written out, because it
    otherwise asks whether there is more than one token, and the answer would be part of the program. (With positions it
    makes the mask of packed documents, which torch.export finds to exclude two tokens.)"""

    def __init__(self, model: TransformerLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        """The logits of the token after each."""
        model = self.model
        positions = torch.arange(input_ids.shape[1])[None]
        mask = (positions[:, :, None] >= positions[:, None, :])[:, None]
        return model.logits(model.features_at(input_ids, positions, mask))


def write_exported_program(source: ChatModel, directory: Path, *, dtype: str) -> None:
    """Write `model.pt2` and the tokenizer's files: any number of rows, any length up to the context."""
    model = source.engine.model
    lengths = torch.export.Dim("length", min=1, max=model.config.max_position_embeddings)
    program = torch.export.export(
        Decoder(model).eval(),
        (torch.zeros(EXAMPLE_SHAPE, dtype=torch.int64),),
        dynamic_shapes={"input_ids": {0: torch.export.Dim("rows", min=1, max=1 << 16), 1: lengths}},
    )
    torch.export.save(program, directory / EXPORTED_NAME)
    source.tokenizer.save(directory, model_max_length=model.config.max_position_embeddings)


def write_torchscript(source: ChatModel, directory: Path, *, dtype: str) -> None:
    """Write `model.ts` and the tokenizer's files."""
    model = source.engine.model
    with warnings.catch_warnings():
        # Torch deprecates TorchScript in favour of torch.export, which the documents say too.
        for category in (DeprecationWarning, FutureWarning):  # up to torch 2.13, and from 2.14 on
            warnings.simplefilter("ignore", category)
        # "Whether the heads are grouped" is asked of sizes; the answer becomes part of the program, as it should.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        with torch.no_grad():
            program = torch.jit.trace(  # type: ignore[no-untyped-call]
                Decoder(model).eval(), torch.zeros(EXAMPLE_SHAPE, dtype=torch.int64), check_trace=False
            )
        with atomic_writer(directory / SCRIPT_NAME) as file:
            torch.jit.save(program, file)
    source.tokenizer.save(directory, model_max_length=model.config.max_position_embeddings)
