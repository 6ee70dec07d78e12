"""Texts that tokenizers stumble over, for several tests."""

import random

import hypothesis.strategies as st

from tokenization.special_tokens import BYTE_TOKENS, SPECIAL_TOKENS

HAND_PICKED = [
    "",
    " ",
    "  ",
    " a",
    "a ",
    "  a  b   ",
    "\u2581",
    "\u2581\u2581 \u2581a\u2581",
    "a\u2581b \u2581 c",
    "\u2585",
    "\x00",
    "a\x00b \x00 \x00\x00",
    "\x00 \u2581",
    "".join(map(chr, range(256))),
    "\r\n\r\n  \r\n",
    "\n" * 50,
    "\t\tx\t",
    " " * 1000,
    "a" * 1000,
    "ab" * 500,
    "aab" * 300 + "a",
    "0123456789" * 20,
    "१२३ ٣٤٥ １２３",
    "\ufeffBOM \ufffe \uffff \U0010ffff \ud7ff\ue000",
    "\ufffd\ufffd",
    "\u2028\u2029\x85\x1c\x1f\x7f",
    "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈",
    "e\u0301 é \u0301",
    "\u202eright to left\u202c",
    "İı ſ ß ﬁ ǆ",
    "日本語のテキスト、カタカナ。Привет мир",
    "def f(x):\n    return x == 1  # ok\n\n\nclass A:\n\tpass\n",
    "<0x41><0xE2> <0x0A>",
    "<unk><s></s><pad>",
    *SPECIAL_TOKENS,
    *("".join(pair) for pair in zip(SPECIAL_TOKENS, reversed(SPECIAL_TOKENS), strict=True)),
    " <|end|> <|user|>x<|assistant|> </s>",
]

ALPHABET = [
    *"ab 01\n\t=<>|_-.x",
    *(
        "  ",
        "    ",
        "\u2581",
        "\u2585",
        "\x00",
        "\r\n",
        "the ",
        "aab",
        "abab",
        "return ",
        "日",
        "日本語",
        "мир",
        "é",
    ),
    *(
        "👩‍👩‍👧",
        "\u200d",
        "\u0301",
        "\ufffd",
        "<|",
        "|>",
        "<0x",
        "end",
        *SPECIAL_TOKENS[:8],
        *BYTE_TOKENS[64:67],
    ),
]

texts = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from(ALPHABET), max_size=60).map("".join),
    st.tuples(st.lists(st.sampled_from(ALPHABET), min_size=1, max_size=4), st.integers(1, 60)).map(
        lambda drawn: "".join(drawn[0]) * drawn[1]
    ),
    st.sampled_from(HAND_PICKED),
)
"""Anything that UTF-8 can hold, with what is special here more often."""


def many_texts(number: int, seed: int) -> list[str]:
    """Random texts, faster than Hypothesis makes them; the hand-picked ones come first."""
    draw = random.Random(seed)

    def character() -> str:
        limit = draw.choice([0x20, 0x80, 0x800, 0xD800, 0x110000])
        code = draw.randrange(limit)
        return "\u2581" if 0xD800 <= code < 0xE000 else chr(code)

    def text() -> str:
        kind = draw.randrange(4)
        if kind == 0:
            return "".join(character() for _ in range(draw.randrange(40)))
        if kind == 1:
            return "".join(draw.choice(ALPHABET) for _ in range(draw.randrange(60)))
        if kind == 2:
            return "".join(
                draw.choice("aaaab ") * draw.randrange(1, 12) for _ in range(draw.randrange(1, 20))
            )
        return "".join(draw.choices(ALPHABET, k=draw.randint(1, 4))) * draw.randint(1, 60)

    return HAND_PICKED + [text() for _ in range(number - len(HAND_PICKED))]


FRAGMENTS = (
    *"the of and iron furnace furnaces heat heated heating smith hammer bloom aab abab aaaa".split(),  # noqa: SIM905
    *"def return self.value == != (x) [0] -> None: import os.path # --- ''' 1 22 2026 3.14".split(),  # noqa: SIM905
    *"Привет мир добрый день 日本語 カタカナ こんにちは 東京 العربية हिन्दी 한국어 é naïve".split(),  # noqa: SIM905
    *("👩‍👩‍👧", "🏽"),
)
SEPARATORS = (" ",) * 8 + ("\n", "\n\n", "\n    ", "\n        ", ", ", ". ", "\t", "  ", "")


def corpus(seed: int = 0, num_texts: int = 120) -> list[str]:
    """Texts with code, several scripts and odd characters; every seed gives others."""
    draw = random.Random(seed)
    return [
        "".join(draw.choice(FRAGMENTS) + draw.choice(SEPARATORS) for _ in range(draw.randint(20, 200)))
        for _ in range(num_texts)
    ]
