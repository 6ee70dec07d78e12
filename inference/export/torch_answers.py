"""What torch answers from a program that it loads, without any code of this project's models.

Shapes: T tokens, V tokens of the vocabulary.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inference.export.questions import Answers, Questions, ids_by_tokenizer_json

EXPORTED_NAME = "model.pt2"
SCRIPT_NAME = "model.ts"


def answer_with_exported_program(directory: Path, questions: Questions) -> Answers:
    """What `torch.export.load` makes of `model.pt2`."""
    import torch

    return _answers(torch.export.load(directory / EXPORTED_NAME).module(), directory, questions)


def answer_with_torchscript(directory: Path, questions: Questions) -> Answers:
    """What `torch.jit.load` makes of `model.ts`."""
    import torch

    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):  # up to torch 2.13, and from 2.14 on
            warnings.simplefilter("ignore", category)
        program: Callable[..., Any] = torch.jit.load(directory / SCRIPT_NAME)  # type: ignore[no-untyped-call]
    return _answers(program, directory, questions)


def _answers(program: Callable[..., Any], directory: Path, questions: Questions) -> Answers:
    import torch

    continuations, scores = [], []
    for prompt in questions.prompts:
        ids = list(prompt)
        for _ in range(questions.num_new_tokens):
            with torch.inference_mode():
                logits = program(torch.tensor([ids]))[0]
            ids.append(int(logits[-1].argmax()))
        continuations.append(ids[len(prompt) :])
        # The last is computed from all tokens but itself.
        scores.append(logits.numpy().astype(np.float32))
    return Answers(
        text_ids=ids_by_tokenizer_json(directory, questions.texts),
        conversation_ids=None,
        continuations=continuations,
        scores=scores,
        scores_are="logits",
        versions={"torch": torch.__version__},
    )
