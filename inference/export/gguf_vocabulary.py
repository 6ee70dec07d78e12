"""A tokenizer in the words of a GGUF file, or why llama.cpp has none that does the same. Knows no tensor.

What is said here of llama.cpp was read in its `src/llama-vocab.cpp` and is proven for each export by comparing ids.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inference.export.certificate import SPACE_EXCUSE, SPECIAL_TOKEN_EXCUSE
from tokenization.byte_level import GPT2_PATTERN, GROUPED_DIGITS_PATTERN, SINGLE_DIGITS_PATTERN
from tokenization.chat_template import CHAT_TEMPLATE
from tokenization.hf_export import JSON_FILE_NAME, MODEL_FILE_NAME
from tokenization.model_file import SPACE_SYMBOL, ModelFile, PieceType, parse_model
from tokenization.tokenizer import Tokenizer

SENTENCEPIECE_KINDS = ("bpe", "char")
"""Kinds of SentencePiece models that llama.cpp's "llama" is; a character model is BPE in which nothing is merged. Its
"t5" is unigram, but makes <unk> of what the vocabulary lacks instead of bytes, and adds scores up otherwise: none of
three unigram models of SentencePiece's had its ids there."""

CUTTING = {
    (GROUPED_DIGITS_PATTERN, False): "dbrx",
    (GROUPED_DIGITS_PATTERN, True): "llama-bpe",
    (SINGLE_DIGITS_PATTERN, False): "qwen2",
    (GPT2_PATTERN, False): "gpt-2",
}
"""llama.cpp's name for a way of cutting words (regular expression, and whether a word that is a token is taken without
looking at merges): that of a model that has it."""

REMEDY = "train one of model_type bpe or byte_bpe"

UNUSED_NAME = "<|unused_{}|>"
"""Of a row of the embedding without a token."""


def objections_of_llama_cpp(directory: Path) -> list[str]:
    """Why llama.cpp cannot encode as the tokenizer in `directory` does; empty if it can."""
    if (directory / MODEL_FILE_NAME).is_file():
        return _objections_to_sentencepiece(parse_model((directory / MODEL_FILE_NAME).read_bytes()))
    content = json.loads((directory / JSON_FILE_NAME).read_bytes())
    model = content["model"]
    if model.get("type", "BPE") != "BPE":
        return [f"llama.cpp has no {model['type']} tokenizer that does the same; {REMEDY}"]
    if content.get("normalizer"):
        return ["its tokenizer normalizes text, which llama.cpp does not do"]
    if _cutting(content) is None:
        return ["its tokenizer cuts words in a way that llama.cpp does not know"]
    return []


def excuses_of_llama_cpp(tokenizer: Tokenizer) -> list[str]:
    """In what llama.cpp differs from a tokenizer that it has, as `certificate.EXCUSES` names it."""
    if not any(piece.text == SPACE_SYMBOL for piece in tokenizer.pieces):
        return []
    return [SPECIAL_TOKEN_EXCUSE, SPACE_EXCUSE]


def gguf_vocabulary(directory: Path, tokenizer: Tokenizer, *, num_rows: int) -> dict[str, Any]:
    """What a GGUF file says of the tokenizer in `directory`, of which `objections_of_llama_cpp` has none: keys without
    `tokenizer.` in front, and values.

    Args:
        num_rows: Of the embedding; those without a token are named and never used.
    """
    pieces = tokenizer.pieces
    texts = [piece.text for piece in pieces]
    types = [int(piece.type) for piece in pieces]
    scores = [piece.score for piece in pieces]
    kind: dict[str, Any]
    if (directory / MODEL_FILE_NAME).is_file():
        parsed = parse_model((directory / MODEL_FILE_NAME).read_bytes())
        kind = {
            "ggml.model": "llama",
            "ggml.pre": "default",
            "ggml.add_space_prefix": bool(parsed.settings["add_dummy_prefix"]),
        }
    else:
        content = json.loads((directory / JSON_FILE_NAME).read_bytes())
        # Bytes are ordinary tokens there.
        types = [int(PieceType.NORMAL) if number == PieceType.BYTE else number for number in types]
        kind = {
            "ggml.model": "gpt2",
            "ggml.pre": _cutting(content),
            "ggml.merges": [
                merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]
            ],
        }
    unused = range(len(pieces), num_rows)
    return {
        **kind,
        "ggml.tokens": [*texts, *(UNUSED_NAME.format(number) for number in unused)],
        "ggml.scores": [*scores, *(0.0 for _ in unused)],
        "ggml.token_type": [*types, *(int(PieceType.UNUSED) for _ in unused)],
        "ggml.bos_token_id": tokenizer.bos_id,
        "ggml.eos_token_id": tokenizer.eos_id,
        "ggml.eot_token_id": tokenizer.end_id,
        "ggml.unknown_token_id": tokenizer.unk_id,
        "ggml.padding_token_id": tokenizer.pad_id,
        "ggml.add_bos_token": True,
        "ggml.add_eos_token": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _objections_to_sentencepiece(parsed: ModelFile) -> list[str]:
    if parsed.model_type not in SENTENCEPIECE_KINDS:
        return [f"llama.cpp has no {parsed.model_type} tokenizer that does the same; {REMEDY}"]
    settings = parsed.settings
    found = {
        f"normalizes text ({parsed.normalizer})": bool(parsed.charsmap) or parsed.denormalizes,
        "removes white space": settings["remove_extra_whitespaces"],
        "puts spaces behind words": settings["treat_whitespace_as_suffix"],
        "has user-defined symbols": any(piece.type == PieceType.USER_DEFINED for piece in parsed.pieces),
        "has no tokens for bytes": not settings["byte_fallback"],
    }
    return [f"its tokenizer {what}, which llama.cpp's does not" for what, is_so in found.items() if is_so]


def _cutting(content: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for how a tokenizer.json cuts words; None if it has none."""
    part = content.get("pre_tokenizer") or {}
    steps: Sequence[Mapping[str, Any]] = part.get("pretokenizers", [part])
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    if len(steps) == 1:
        pattern = GPT2_PATTERN if steps[0].get("use_regex", True) else None
    elif len(steps) == 2 and steps[0].get("type") == "Split" and not steps[1].get("use_regex", True):
        pattern = steps[0].get("pattern", {}).get("Regex")
    else:
        pattern = None
    return None if pattern is None else CUTTING.get((pattern, bool(content["model"].get("ignore_merges"))))
