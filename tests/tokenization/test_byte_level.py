import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tokenization.hostile_text import many_texts
from tokenization.byte_level import (
    BYTE_CHARACTERS,
    GPT2_PATTERN,
    GROUPED_DIGITS_PATTERN,
    SINGLE_DIGITS_PATTERN,
    TIKTOKEN_PATTERNS,
    cuts_of_pattern,
    from_characters,
    to_characters,
)
from tokenization.chunks import find_chunks

tokenizers = pytest.importorskip("tokenizers")

PATTERNS = {
    **TIKTOKEN_PATTERNS,
    "gpt2 as in tokenizers": GPT2_PATTERN,
    "llama 3": GROUPED_DIGITS_PATTERN,
    "qwen 2": SINGLE_DIGITS_PATTERN,
}
SNIPPETS = [
    *"ab1 '/.(_\n\r\t",
    "\r\n",
    "  ",
    "'s",
    "'LL",
    "é",
    "\u0301",
    "日",
    "\u00a0",
    "\u3000",
    "\x0b",
    "\x85",
    "ǅ",
    "²",
]


@given(data=st.binary(max_size=50))
def test_bytes_as_characters_come_back(data: bytes) -> None:
    assert from_characters(to_characters(data)) == data
    assert len(to_characters(data)) == len(data)


def test_the_characters_are_those_of_the_library() -> None:
    assert sorted(BYTE_CHARACTERS) == sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert to_characters(b" a\n") == "ĠaĊ"
    assert from_characters("a b") is None


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_words_of_the_chunks_are_the_words_of_the_text(pattern: str) -> None:
    cuts = cuts_of_pattern(pattern)
    assert cuts is not None and cuts.sum() > 2000
    split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated").pre_tokenize_str
    draw = random.Random(0)
    batch = many_texts(1500, seed=30)
    batch += ["".join(draw.choices(SNIPPETS, k=draw.randrange(2, 12))) for _ in range(6000)]
    num_chunks = 0
    for text in batch:
        data = text.encode()
        starts = find_chunks(data, [len(data)], cuts).tolist()
        chunks = [data[start:end].decode() for start, end in itertools.pairwise(starts)]
        num_chunks += len(chunks)
        found = [word for chunk in chunks for word, _ in split(chunk)]
        assert found == [word for word, _ in split(text)], ascii(text)
    assert num_chunks > 3 * len(batch)


def test_a_pattern_that_is_not_known_is_not_cut() -> None:
    assert cuts_of_pattern(r"\S+|\s+") is None
