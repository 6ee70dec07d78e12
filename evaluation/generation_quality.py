"""What a model writes by itself: variety, repetition, copies of the training text, personal data. Judges no content.

The prompts are those of `prompts.jsonl`: a model that answers is asked the question, another continues the beginning.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.progress import progress
from data_processing.rules.privacy import KINDS
from evaluation.training_text import NGRAM_WORDS, TrainingText, copied_ngrams
from inference.chat import ChatModel, Prompt, Reply

PROMPTS = Path(__file__).with_name("prompts.jsonl")

SAMPLES_A_PROMPT = 4
MAX_TOKENS = 96
"""Longest sample: long enough for two 13-grams of words in most vocabularies. Arbitrary."""


def evaluate_quality(model: ChatModel, training: TrainingText | None, *, seed: int) -> dict[str, Any]:
    """Samples for each prompt, and what can be counted in them.

    Args:
        training: What the model was trained on; None = unknown, and copies are not looked for.

    Returns:
        `figures` by name, `personal_data` by kind, and `samples`, a record for each.
    """
    kind = "question" if model.answers_messages else "beginning"
    prompts = [prompt[kind] for prompt in read_prompts()]
    fitting = [
        prompt for prompt in prompts if len(model.render(_prompt(model, prompt))) <= model.engine.context // 2
    ]
    repeated = [prompt for prompt in fitting for _ in range(SAMPLES_A_PROMPT)]
    replies = _replies(model, repeated, seed)
    texts = [reply.text for reply in replies]
    samples: list[dict[str, Any]] = [
        {"prompt": prompt, "text": text} for prompt, text in zip(repeated, texts, strict=True)
    ]
    copied = copies(texts, training) if training and texts else None
    if copied is not None:
        for sample, (num_words, _) in zip(samples, copied, strict=True):
            sample["longest_copy_words"] = num_words
    return {
        "figures": {
            "num_samples": len(texts),
            "num_prompts_too_long": len(prompts) - len(fitting),
            "stopped_share": _mean([float(reply.finish_reason == "stop") for reply in replies]),
            "mean_tokens": _mean([float(reply.num_tokens) for reply in replies]),
            **{f"distinct_{n}": distinct(texts, n) for n in (1, 2, 3)},
            "repeated_4_grams_share": _mean([repeated_share(text, 4) for text in texts]),
            "self_bleu": _mean(
                [
                    self_bleu(texts[start : start + SAMPLES_A_PROMPT])
                    for start in range(0, len(texts), SAMPLES_A_PROMPT)
                ]
            ),
            **(_copy_figures(copied) if copied is not None else {}),
            **({"searched_share_of_training_text": training.searched_share} if training else {}),
        },
        "personal_data": personal_data(texts),
        "samples": samples,
    }


def read_prompts() -> list[dict[str, str]]:
    """The prompt suite."""
    return [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]


def _prompt(model: ChatModel, text: str) -> Prompt:
    return [{"role": "user", "content": text}] if model.answers_messages else text


def _replies(model: ChatModel, prompts: Sequence[str], seed: int) -> list[Reply]:
    asked = [_prompt(model, text) for text in prompts]
    # All else as it is for who asks for nothing else, so what users meet.
    replies = model.complete(asked, max_tokens=MAX_TOKENS, seed=seed)
    return list(progress(replies, total=len(asked), description="writing samples", unit="sample"))


def distinct(texts: Sequence[str], n: int) -> float | None:
    """Different n-grams of words as a share of all (Li et al. 2016); None where there are none."""
    found = [ngram for text in texts for ngram in _ngrams(text.split(), n)]
    return len(set(found)) / len(found) if found else None


def repeated_share(text: str, n: int) -> float | None:
    """The share of a text's n-grams of words that stand in it before; None where it has none.

    >>> repeated_share("a b a b a", 2)
    0.5
    """
    found = _ngrams(text.split(), n)
    return 1 - len(set(found)) / len(found) if found else None


def self_bleu(texts: Sequence[str]) -> float | None:
    """How alike samples of one prompt are: the mean BLEU-4 of each with the others as references (Zhu et al. 2018).

    Precisions of n-grams that are never met count as half a match, so that short samples have a figure too (Chen and
    Cherry 2014, smoothing 1, with 1/2). Samples without words are left out; None where fewer than two are left.
    """
    words = [text.split() for text in texts if text.split()]
    if len(words) < 2:
        return None
    return _mean([_bleu(own, words[:index] + words[index + 1 :]) for index, own in enumerate(words)])


def _bleu(words: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    logarithms = []
    for n in range(1, min(4, len(words)) + 1):
        own = Counter(_ngrams(words, n))
        most: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            most |= Counter(_ngrams(reference, n))
        logarithms.append(math.log(max((own & most).total(), 0.5) / own.total()))
    nearest = min(
        (len(reference) for reference in references), key=lambda length: (abs(length - len(words)), length)
    )
    brevity = min(0.0, 1 - nearest / len(words))
    return math.exp(math.fsum(logarithms) / len(logarithms) + brevity)


def copies(texts: Sequence[str], training: TrainingText) -> list[tuple[int, float | None]]:
    """Of each text the words of its longest copy from the training text, and the share of its 13-grams that are copies.

    Copies of fewer than 13 words are not looked for and count as 0. The longest one is the longest row of 13-grams that
    all stand in the training text: at most what could be copied in one piece.
    """
    found = []
    for is_copy in copied_ngrams(texts, training):
        longest = _longest_row(is_copy.tolist())
        share = float(is_copy.mean()) if len(is_copy) else None
        found.append((longest + NGRAM_WORDS - 1 if longest else 0, share))
    return found


def _longest_row(flags: Sequence[bool]) -> int:
    longest = current = 0
    for flag in flags:
        current = current + 1 if flag else 0
        longest = max(longest, current)
    return longest


def _copy_figures(copied: Sequence[tuple[int, float | None]]) -> dict[str, Any]:
    return {
        "longest_copy_words": max((num_words for num_words, _ in copied), default=0),
        "copied_13_grams_share": _mean([share for _, share in copied]),
        "samples_with_a_copy_share": _mean([float(num_words > 0) for num_words, _ in copied]),
    }


def personal_data(texts: Sequence[str]) -> dict[str, int]:
    """How many samples hold something that looks like personal data, by kind, by the rules that cleaning uses."""
    return {name: sum(any(find(text, code=False)) for text in texts) for name, find in KINDS.values()}


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are there."""
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there else None
