"""What is asked of an exported model to prove it, and how the answers look. Knows neither formats nor engines.

Shapes: V tokens of the vocabulary.
"""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tokenization.hf_export import JSON_FILE_NAME
from tokenization.special_tokens import BYTE_TOKENS
from tokenization.tokenizer import Tokenizer

NUM_TEXTS = 2000
"""Of which ids are compared. What is rare shows among so many, and they take a second."""

NUM_NEW_TOKENS = 16
"""With which each prompt is continued, so that what the engine remembers between tokens is proven too."""

PROMPT_LENGTHS = (1, 2, 7, 33)
"""Of the random prompts, in tokens, and one that fills the context. Arbitrary."""

MOST_SCORES = 1 << 25
"""Scores (tokens x V) that are asked for in all, about: 134 MB. With a large vocabulary, prompts and continuations are
shorter (from 32,000 tokens on)."""

TEXTS = (
    "",
    " ",
    "The iron was heated until it glowed, and then it was struck.",
    "  two spaces,\ttabs\t\tand   more   \n\n\n\n",
    "def area(width, height):\n    return width * height  # in m²\n\n\nclass A:\n\tpass\n",
    "3.14159 = 22/7? 0123456789 1,000,000 -5e-3",
    "\r\n\r\n  \r\n",
    " " * 300,
    "a" * 300,
    "ab" * 200,
    "naïve e\u0301 é ﬁ ß İı ǆ \u202eright to left\u202c",
    "Привет, мир! 日本語のテキスト、カタカナ。 العربية हिन्दी 한국어",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 \u200d \ufffd",
    "\x00 \x01\x7f \x85\u2028\u2029 \ufeffBOM \U0010ffff \ud7ff\ue000",
    "".join(map(chr, range(256))),
    "\u2581 a\u2581b \u2581\u2581 \u2585",
    "<0x41><0xE2> <0x0A> <0x",
    "it's I'M we'll THEY'D don'T 'round",
)
"""The fixed set: what tokenizers stumble over."""

CONVERSATIONS: tuple[tuple[Mapping[str, str], ...], ...] = (
    ({"role": "user", "content": "What is iron?"},),
    ({"role": "system", "content": "Answer like a smith."}, {"role": "user", "content": " What is slag?\n"}),
    (
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "  Hello!\n\nHow are you?  "},
        {"role": "user", "content": "日本語 👍🏽 {{ braces }} {% if %} \"quotes\" 'too' \\n"},
    ),
    ({"role": "user", "content": ""},),
)
"""Each ends with the user's words, after which the model is to speak."""


@dataclass(frozen=True)
class Questions:
    """What an exported model is asked.

    Attributes:
        texts: To be encoded, without special tokens around them.
        conversations: Messages, to be encoded up to where the assistant speaks.
        prompts: Token ids, to be continued greedily by up to `num_new_tokens`.
    """

    texts: Sequence[str]
    conversations: Sequence[Sequence[Mapping[str, str]]]
    prompts: Sequence[Sequence[int]]
    num_new_tokens: int


@dataclass(frozen=True)
class Answers:
    """What an engine says to `Questions`; None where it does not know texts.

    Attributes:
        continuations: Of each prompt, the ids that the engine generated.
        scores: Of each prompt (P, V) float32: the scores by which the last P tokens of prompt and continuation were
            predicted, or would have been.
        scores_are: Logits, or their logarithms after the softmax, which say the same but for a number a row.
        versions: Of the engine and what it needs.
    """

    text_ids: Sequence[Sequence[int]] | None
    conversation_ids: Sequence[Sequence[int]] | None
    continuations: Sequence[Sequence[int]]
    scores: Sequence[NDArray[np.float32]]
    scores_are: Literal["logits", "log_probabilities"]
    versions: Mapping[str, str]


def make_questions(tokenizer: Tokenizer, *, context: int, num_rows: int, seed: int) -> Questions:
    """The fixed and the random questions for a model.

    Args:
        context: The longest input of the model, in tokens.
        num_rows: Tokens that the model knows, V; those without a text in the tokenizer are asked too.
        seed: Of the random ones.
    """
    draw = random.Random(seed)
    num_new_tokens = min(NUM_NEW_TOKENS, context - 1, max(2, MOST_SCORES // (64 * num_rows)))
    longest = min(context, max(2 * num_new_tokens, MOST_SCORES // (4 * num_rows))) - num_new_tokens
    prompts = [
        [tokenizer.bos_id, *tokenizer.encode(text)][:longest]
        for text in (TEXTS[2], TEXTS[4], CONVERSATIONS[0][0]["content"])
    ]
    prompts += [
        [draw.randrange(num_rows) for _ in range(length)]
        for length in [*(length for length in PROMPT_LENGTHS if length < longest), longest]
    ]
    fixed = [*TEXTS, *_special_names(tokenizer)]
    texts = fixed + list(itertools.islice(_random_texts(tokenizer, draw), NUM_TEXTS - len(fixed)))
    return Questions(texts, CONVERSATIONS, prompts, num_new_tokens)


def _special_names(tokenizer: Tokenizer) -> list[str]:
    special = [
        piece.text
        for piece, length in zip(tokenizer.pieces, tokenizer.byte_lengths, strict=True)
        if not length
    ]
    return [*special[:32], " ".join(special[:8]), f"a {tokenizer.pieces[tokenizer.end_id].text} b"]


def _random_texts(tokenizer: Tokenizer, draw: random.Random) -> Iterator[str]:
    """Without end: random characters, and pieces of this vocabulary joined at random, with what is odd between."""
    words = [
        tokenizer.decode([token]) for token in range(tokenizer.vocab_size) if tokenizer.byte_lengths[token]
    ]
    odd = (
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "\r\n",
        "\u2581",
        "\x00",
        "'s",
        "'T",
        "<|",
        "|>",
        "<0x",
        *BYTE_TOKENS[64:66],
    )
    highest = (0x80, 0x800, 0xD800, 0x110000)
    while True:
        kind = draw.randrange(4)
        if kind == 0:
            codes = (draw.randrange(draw.choice(highest)) for _ in range(draw.randrange(40)))
            yield "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
        elif kind == 1:
            yield "".join(draw.choices(words, k=draw.randrange(1, 40)))
        elif kind == 2:
            yield "".join(
                draw.choice(words if draw.random() < 0.7 else odd) for _ in range(draw.randrange(40))
            )
        else:
            yield "".join(draw.choices((*odd, *words[-64:]), k=draw.randint(1, 4))) * draw.randint(1, 30)


def ids_by_tokenizer_json(directory: Path, texts: Sequence[str]) -> list[list[int]] | None:
    """The ids of each text by the `tokenizer.json` in `directory`, without special tokens; None if there is none."""
    import tokenizers

    if not (directory / JSON_FILE_NAME).is_file():
        return None
    library = tokenizers.Tokenizer.from_file(str(directory / JSON_FILE_NAME))
    library.encode_special_tokens = True
    return [library.encode(text, add_special_tokens=False).ids for text in texts]
