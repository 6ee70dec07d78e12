"""The answers of an exported model beside our own: what differs, by how much, and whether that is allowed.

Knows neither formats nor engines. Shapes: V tokens of the vocabulary, P predicted tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.export.questions import Answers, Questions
from models.transformer_lm import TransformerLM
from tokenization.chat_template import render_chat
from tokenization.model_file import SPACE_SYMBOL
from tokenization.tokenizer import Tokenizer

CERTIFICATE_NAME = "certificate.json"

Excuse = Callable[[str, Tokenizer], bool]


def spells_special_token(text: str, tokenizer: Tokenizer) -> bool:
    """Whether the name of a special token stands in `text`."""
    return any(
        piece.text in text
        for piece, length in zip(tokenizer.pieces, tokenizer.byte_lengths, strict=True)
        if not length
    )


def holds_space_symbol(text: str, tokenizer: Tokenizer) -> bool:
    """Whether SentencePiece's sign for a space stands in `text`."""
    return SPACE_SYMBOL in text


SPECIAL_TOKEN_EXCUSE = "the name of a special token in a text becomes that token"
SPACE_EXCUSE = "U+2581 in a text becomes a space"

EXCUSES: Mapping[str, Excuse] = {
    SPECIAL_TOKEN_EXCUSE: spells_special_token,
    SPACE_EXCUSE: holds_space_symbol,
}
"""In what an engine may differ without being wrong, with the texts that this can happen to. What of it happened is
counted in the certificate."""


def compare_ids(
    questions: Questions, answers: Answers, tokenizer: Tokenizer, *, excuses: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """What the certificate says of token ids, and what is wrong with them.

    Args:
        excuses: Which of `EXCUSES` the engine has.
    """
    report: dict[str, Any] = {}
    problems: list[str] = []
    if answers.text_ids is not None:
        expected = tokenizer.encode_batch(list(questions.texts))
        different = [
            number for number, ids in enumerate(expected) if list(answers.text_ids[number]) != list(ids)
        ]
        excused: dict[str, int] = {}
        for number in different:
            text = questions.texts[number]
            excuse = next((name for name in excuses if EXCUSES[name](text, tokenizer)), None)
            if excuse is not None:
                excused[excuse] = excused.get(excuse, 0) + 1
            elif not problems:
                problems.append(
                    f"the text {text[:60]!r} has the ids {_some(answers.text_ids[number])}, expected "
                    f"{_some(expected[number])}"
                )
        report["texts"] = {
            "compared": len(expected),
            "equal": len(expected) - len(different),
            "excused": excused,
        }
    if answers.conversation_ids is not None:
        equal = 0
        for messages, found in zip(questions.conversations, answers.conversation_ids, strict=True):
            ids = render_chat(messages, tokenizer, add_generation_prompt=True).ids
            if list(found) == ids:
                equal += 1
            else:
                problems.append(
                    f"the conversation that ends with {messages[-1]['content'][:40]!r} has the ids {_some(found)}, "
                    f"expected {_some(ids)}"
                )
        report["conversations"] = {"compared": len(questions.conversations), "equal": equal}
    return report, problems


def compare_scores(
    questions: Questions, answers: Answers, model: TransformerLM, *, tolerance: Mapping[str, float]
) -> tuple[dict[str, Any], list[str]]:
    """What the certificate says of the scores, and what is wrong with them.

    Args:
        model: Computes what is expected, in float32 and without a cache.
        tolerance: The largest `max_difference` and `mean_kl_nats` that are allowed; see `differences`.
    """
    pairs = []
    for prompt, continuation, found in zip(
        questions.prompts, answers.continuations, answers.scores, strict=True
    ):
        ours = logits_of(model, [*prompt, *continuation][:-1])[-len(found) :]
        if ours.shape != found.shape:
            return {}, [f"scores of {found.shape[-1]} tokens, expected {ours.shape[-1]}"]
        pairs.append((log_softmax(ours) if answers.scores_are == "log_probabilities" else ours, found))
    report = differences(pairs) | {"of": answers.scores_are, "tolerance": dict(tolerance)}
    problems = [
        f"{name} of the {answers.scores_are.replace('_', '-')} is {report[name]:.3g}, expected {limit:g} at most"
        for name, limit in tolerance.items()
        if not report[name] <= limit  # NaN is no number that is small enough
    ]
    return report, problems


def differences(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> dict[str, Any]:
    """How far scores are from what was expected.

    Args:
        pairs: (P, V) each: what was expected, and what was found.

    Returns:
        `predictions`: tokens whose scores were compared; `max_difference` and `mean_difference` of scores, in units of
        the standard deviation of the expected ones, which is `standard_deviation`; `max_absolute_difference` and
        `mean_absolute_difference`, the same in their own unit; `mean_kl_nats` and `max_kl_nats` of the distributions,
        found from expected; `equal_argmax`, the share of rows whose best token is the same.
    """
    expected = np.concatenate([ours for ours, _ in pairs]).astype(np.float64)
    found = np.concatenate([theirs for _, theirs in pairs]).astype(np.float64)
    difference = np.abs(expected - found)
    deviation = float(expected.std())
    log_p, log_q = log_softmax(expected), log_softmax(found)
    kl = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    return {
        "predictions": len(expected),
        "max_difference": float(difference.max()) / deviation,
        "mean_difference": float(difference.mean()) / deviation,
        "standard_deviation": deviation,
        "max_absolute_difference": float(difference.max()),
        "mean_absolute_difference": float(difference.mean()),
        # Of equal distributions rounding makes it a little less than nothing.
        "mean_kl_nats": max(0.0, float(kl.mean())),
        "max_kl_nats": max(0.0, float(kl.max())),
        "equal_argmax": float((expected.argmax(axis=-1) == found.argmax(axis=-1)).mean()),
    }


@torch.inference_mode()
def logits_of(model: TransformerLM, ids: Sequence[int]) -> NDArray[np.float32]:
    """(P, V): the logits of the token after each of `ids`, without a cache."""
    logits: NDArray[np.float32] = model(torch.tensor([list(ids)]))[0].float().numpy()
    return logits


def log_softmax(scores: NDArray[Any]) -> NDArray[Any]:
    """(P, V) to the logarithms of the probabilities that the scores stand for."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    result: NDArray[Any] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _some(ids: Sequence[int], limit: int = 12) -> str:
    return str(list(ids[:limit])).rstrip("]") + (", …]" if len(ids) > limit else "]")
