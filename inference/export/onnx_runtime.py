"""What onnxruntime answers from a model with a KV cache. Loads neither torch nor the project's models."""

from pathlib import Path
from typing import Any

import numpy as np

from inference.export.onnx_graph import MODEL_NAME
from inference.export.questions import Answers, Questions, ids_by_tokenizer_json


def answer_with_onnxruntime(directory: Path, questions: Questions) -> Answers:
    """What onnxruntime makes of `model.onnx`: each prompt in one piece, then token by token from what it remembers."""
    import onnxruntime

    session = onnxruntime.InferenceSession(directory / MODEL_NAME, providers=["CPUExecutionProvider"])
    empty = {
        value.name: np.zeros((1, value.shape[1], 0, value.shape[3]), dtype=np.float32)
        for value in session.get_inputs()
        if value.name.startswith("past_key_values.")
    }
    continuations, scores = [], []
    for prompt in questions.prompts:
        ids, new, past = list(prompt), list(prompt), empty
        rows = []
        for _ in range(questions.num_new_tokens):
            logits, past = _step(session, new, past, length=len(ids))
            rows.append(logits)
            new = [int(logits[-1].argmax())]
            ids += new
        continuations.append(ids[len(prompt) :])
        scores.append(np.concatenate(rows))
    return Answers(
        text_ids=ids_by_tokenizer_json(directory, questions.texts),
        conversation_ids=None,
        continuations=continuations,
        scores=scores,
        scores_are="logits",
        versions={"onnxruntime": onnxruntime.__version__},
    )


def _step(session: Any, new: list[int], past: dict[str, Any], *, length: int) -> tuple[Any, dict[str, Any]]:
    """(T, V) logits of the new tokens, and what is remembered after them.

    Args:
        length: Of all tokens, the new ones included.
    """
    logits, *present = session.run(
        None,
        {
            "input_ids": np.array([new], dtype=np.int64),
            "attention_mask": np.ones((1, length), dtype=np.int64),
            "position_ids": np.arange(length - len(new), length, dtype=np.int64)[None],
            **past,
        },
    )
    return logits[0], dict(zip(past, present, strict=True))
