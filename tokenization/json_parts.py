"""The parts of which a tokenizer.json is put together. Knows the format, not what a vocabulary is for."""

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any

Part = dict[str, Any]


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """The bytes of a tokenizer.json: UTF-8, without white space."""
    text = json.dumps(content, ensure_ascii=False, indent=None, separators=(",", ":"))
    return (text + "\n").encode("utf-8")


def added_token(name: str, token: int) -> Part:
    """The entry of a special token."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": token, "content": name, **flags, "special": True}


def bos_in_front(name: str, token: int) -> Part:
    """The post-processor that puts the beginning-of-sequence token in front of each text."""
    bos = {"SpecialToken": {"id": name, "type_id": 0}}
    first, second = ({"Sequence": {"id": part, "type_id": number}} for number, part in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [bos, first],
        "pair": [bos, first, {"SpecialToken": {"id": name, "type_id": 1}}, second],
        "special_tokens": {name: {"id": name, "ids": [token], "tokens": [name]}},
    }


def split_at(pattern: str, behavior: str = "Isolated") -> Part:
    """The pre-tokenizer that makes a word of each match of `pattern` and of what is between, or joins the two."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


BYTES_AS_CHARACTERS: Part = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": False,
}
"""The pre-tokenizer that writes each byte of a word as a character, and the decoder that takes it back."""


def sequence(pre_tokenizers: Iterable[Part]) -> Part:
    """One pre-tokenizer after the other."""
    return {"type": "Sequence", "pretokenizers": list(pre_tokenizers)}


def bpe_model(vocab: Mapping[str, int], merges: Iterable[Iterable[str]], **settings: Any) -> Part:
    """The model that joins pairs, the first listed first."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": dict(vocab),
        "merges": [list(pair) for pair in merges],
        **settings,
    }


def every_merge(tokens: Iterable[str], known: Container[str]) -> list[tuple[str, str]]:
    """Every pair of known tokens that makes one of `tokens`, in the order of these.

    With all of them, those neighbours are joined whose union comes first, however it came about when it was learned:
    what SentencePiece and tiktoken do.
    """
    return [
        (token[:cut], token[cut:])
        for token in tokens
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    ]


def whole(
    *,
    model: Part,
    special_tokens: Mapping[str, int],
    pre_tokenizer: Part | None,
    decoder: Part | None,
    bos: str | None,
) -> Part:
    """A tokenizer.json without a normaliser.

    Args:
        bos: Name of the special token that goes in front of each text; None = none does.
    """
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [added_token(name, token) for name, token in special_tokens.items()],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None if bos is None else bos_in_front(bos, special_tokens[bos]),
        "decoder": decoder,
        "model": model,
    }
