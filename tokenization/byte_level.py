"""Bytes written as printable characters, and the patterns that cut text into words, as GPT-2 and its heirs do both.

The patterns are written for Oniguruma, the engine of Hugging Face tokenizers: without possessive quantifiers, and with
`\\z` for the end of the text. tiktoken's give the same words (tests/tokenization/test_tiktoken_file.py compares both).
"""

import string
from collections.abc import Mapping

import numpy as np

from tokenization.chunks import NUM_PAIRS, Cuts


def _characters() -> tuple[str, ...]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = (byte for byte in range(256) if byte not in printable)
    moved = {byte: chr(256 + number) for number, byte in enumerate(others)}
    return tuple(moved.get(byte, chr(byte)) for byte in range(256))


BYTE_CHARACTERS = _characters()
"""What stands for each byte (GPT-2, encoder.py: bytes_to_unicode)."""

BYTE_OF_CHARACTER: Mapping[str, int] = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}


def to_characters(data: bytes) -> str:
    """`data` with a printable character for each byte."""
    return "".join(map(BYTE_CHARACTERS.__getitem__, data))


def from_characters(token: str) -> bytes | None:
    """The inverse of `to_characters`; None if a character stands for no byte."""
    codes = [BYTE_OF_CHARACTER.get(character) for character in token]
    return None if None in codes else bytes(code for code in codes if code is not None)


CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LETTERS_AND_REST = r"|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

GROUPED_DIGITS_PATTERN = CONTRACTIONS + LETTERS_AND_REST % r"\p{N}{1,3}"
"""What GPT-4 does, in the words of Llama 3's tokenizer.json, which other programs recognise."""
SINGLE_DIGITS_PATTERN = CONTRACTIONS + LETTERS_AND_REST % r"\p{N}"
"""The same with each digit for itself, in the words of Qwen2's tokenizer.json."""

_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"

TIKTOKEN_PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+\z|\s+(?!\S)|\s",
    "cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s+\z|\s*[\r\n]|\s+(?!\S)|\s",
    "o200k": rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
"""The patterns of tiktoken 0.14 (tiktoken_ext/openai_public.py), by encoding."""

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What `ByteLevel` with `use_regex` does in tokenizers."""

GPT2_LIKE = {GPT2_PATTERN, TIKTOKEN_PATTERNS["gpt2"]}
GPT4_LIKE = {GROUPED_DIGITS_PATTERN, SINGLE_DIGITS_PATTERN, TIKTOKEN_PATTERNS["cl100k"]}


def cuts_of_pattern(pattern: str) -> Cuts | None:
    """Pairs of ASCII bytes between which a word of `pattern` always ends, whatever stands around; None if unknown.

    Each pair was read off the pattern: no alternative matches over it, and none in front of it looks beyond it. White
    space in front of a cut would be looked at (`\\s+(?!\\S)`), except when it ends in a line end, which GPT-4's pattern
    always takes whole.
    """
    letters, digits, punctuation = string.ascii_letters, string.digits, string.punctuation
    cuts = np.zeros((256, 256), dtype=np.bool_)

    def allow(before: str, after: str) -> None:
        cuts[np.ix_([*before.encode()], [*after.encode()])] = True

    allow(letters + digits + punctuation, " \t")
    allow(letters + digits, "\r\n")
    allow(letters, digits)
    allow(digits, letters + punctuation)
    allow(punctuation, digits)
    if pattern in GPT2_LIKE:
        allow(letters, punctuation)
        allow(punctuation, "\r\n")
        allow(punctuation.replace("'", ""), letters)
    elif pattern in GPT4_LIKE:
        allow(letters, punctuation)
        allow("\r\n", letters + digits + punctuation)
    elif pattern == TIKTOKEN_PATTERNS["o200k"]:
        allow(letters, punctuation.replace("'", ""))
        allow("\r\n", letters + digits + punctuation.replace("/", ""))
    else:
        return None
    return cuts.reshape(NUM_PAIRS)
