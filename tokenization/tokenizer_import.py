"""A tokenizer from elsewhere made fit for this project: with all our special tokens, and alone in its file.

Knows the formats (tokenizer.json, tiktoken's lines), not where files lie.
"""

import base64
import binascii
import json
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from core.errors import ConfigError, DataError
from tokenization.byte_level import TIKTOKEN_PATTERNS, to_characters
from tokenization.json_encoder import IMPORTED, JsonEncoder
from tokenization.json_parts import (
    BYTES_AS_CHARACTERS,
    added_token,
    bos_in_front,
    bpe_model,
    every_merge,
    json_bytes,
    sequence,
    split_at,
    whole,
)
from tokenization.json_structure import Structure
from tokenization.vocabulary import NAME_OF_ROLE, SpecialIds

logger = logging.getLogger(__name__)

EQUIVALENTS: Mapping[str, tuple[str, ...]] = {
    "eos": ("</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>", "<｜end▁of▁sentence｜>", "[SEP]"),
    "bos": ("<s>", "<|begin_of_text|>", "<|startoftext|>", "<bos>", "<｜begin▁of▁sentence｜>", "[CLS]"),
    "pad": ("<pad>", "<|pad|>", "<|finetune_right_pad_id|>", "<|padding|>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
    "system": (),
    "user": (),
    "assistant": (),
    "end": (),
}
"""Names under which tokenizers of known models have our special tokens (Llama 2 and 3, GPT-2, Gemma, DeepSeek, Phi,
BERT, T5). eos comes first: GPT-2 has one token for three parts, and the end of a document is what it learned of it."""

TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+=* \d+")


def import_tokenizer_json(content: bytes, config: Mapping[str, Any] | None = None) -> JsonEncoder:
    """The encoder of a tokenizer.json from elsewhere.

    The special tokens that it lacks are added behind its own, and a text gets the beginning of sequence in front, as in
    all our tokenizers. Truncation, padding and dropout are switched off. What it loses of a text is logged.

    Args:
        config: The tokenizer_config.json beside it, which may name its special tokens.

    Raises:
        DataError: it is no tokenizer.json.
        ConfigError: it cannot be used here; the message says why.
    """
    parsed = _parse(content)
    structure = Structure.from_json(content)
    parsed["added_tokens"] = list(parsed.get("added_tokens") or ())
    _check_added_ids(parsed["added_tokens"], structure)
    special_ids, added = choose_special_ids(structure.tokens, structure.special, config or {})
    parsed["added_tokens"] += [added_token(name, token) for name, token in added.items()]
    names = {token: name for name, token in {**structure.special, **added}.items()}
    parsed["post_processor"] = bos_in_front(names[special_ids.bos], special_ids.bos)
    parsed["truncation"] = parsed["padding"] = None
    if parsed["model"].get("dropout"):
        parsed["model"]["dropout"] = None
    encoder = JsonEncoder(json_bytes(parsed), special_ids=special_ids, model_type=IMPORTED)
    if added:
        logger.info("%d special tokens are added: %s", len(added), ", ".join(added))
    return encoder


def choose_special_ids(
    tokens: Mapping[str, int], special: Mapping[str, int], config: Mapping[str, Any]
) -> tuple[SpecialIds, dict[str, int]]:
    """Which tokens take the parts of our special tokens, and those that are to be added: name and id.

    Args:
        tokens, special: Name and id of every token, and of those that stand for no text.
        config: What tokenizer_config.json says, such as `bos_token`.

    Raises:
        ConfigError: one of our names is an ordinary token.
    """
    found: dict[str, int] = {}
    added: dict[str, int] = {}
    for role, equivalents in EQUIVALENTS.items():
        names = (*_named(config.get(f"{role}_token")), NAME_OF_ROLE[role], *equivalents)
        taken = set(found.values())
        fit = next((name for name in names if name in special and special[name] not in taken), None)
        if fit is not None:
            found[role] = special[fit]
    following = max(tokens.values(), default=-1) + 1
    for role in (role for role in SpecialIds._fields if role not in found):
        name = NAME_OF_ROLE[role]
        if name in tokens:
            raise ConfigError(
                f"{name!r} is an ordinary token in it (id {tokens[name]}), but here it is a special token, which no "
                "text may encode to; use another tokenizer"
            )
        found[role] = added[name] = following
        following += 1
    return SpecialIds(**found), added


def is_tiktoken(content: bytes) -> bool:
    """Whether the first line is one of a tiktoken file: base64 of a token, a space, its rank."""
    return TIKTOKEN_LINE.fullmatch(content.partition(b"\n")[0].rstrip(b"\r")) is not None


def import_tiktoken(content: bytes, pattern: str) -> JsonEncoder:
    """The encoder of a tiktoken file, with tiktoken's ids.

    Args:
        pattern: "gpt2", "cl100k", "o200k", or a regular expression that cuts text into words.

    Raises:
        DataError: a line is not what it should be (the message names it), or a byte has no token.
        ConfigError: the pattern is not understood by the library.
    """
    ranks = _read_ranks(content)
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise DataError(f"not a whole tiktoken file: no token for the byte {missing[0]} (0x{missing[0]:02X})")
    return import_tokenizer_json(json_bytes(tiktoken_json(ranks, TIKTOKEN_PATTERNS.get(pattern, pattern))))


def tiktoken_json(ranks: Mapping[bytes, int], pattern: str) -> dict[str, Any]:
    """The tokenizer.json that gives the ids of tiktoken with these ranks.

    tiktoken joins the neighbours whose union has the lowest rank; tokenizers wants pairs, so every pair of tokens that
    makes a token is listed. tiktoken looks a whole word up first: `ignore_merges`. A rank without a token (p50k has
    one) gets a special one, which no text has.
    """
    vocab = {to_characters(token): rank for token, rank in ranks.items()}
    holes = sorted(set(range(max(ranks.values()) + 1)) - set(ranks.values()))
    added = {f"<|unused_{rank}|>": rank for rank in holes}
    merges = every_merge(sorted(vocab, key=vocab.__getitem__), vocab)
    return whole(
        model=bpe_model({**vocab, **added}, merges, ignore_merges=True),
        special_tokens=added,
        pre_tokenizer=sequence([split_at(pattern), BYTES_AS_CHARACTERS]),
        decoder=BYTES_AS_CHARACTERS,
        bos=None,
    )


def _read_ranks(content: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if not line:
            continue
        if TIKTOKEN_LINE.fullmatch(line) is None:
            raise DataError(
                f"line {number}: expected base64 of a token, a space and its rank, found {line[:60]!r}"
            )
        encoded, rank = line.split(b" ")
        try:
            token = base64.b64decode(encoded, validate=True)
        except binascii.Error as error:
            raise DataError(f"line {number}: {encoded[:60]!r} is not base64 ({error})") from None
        if not token or token in ranks:
            raise DataError(f"line {number}: the token {token!r} is {'there already' if token else 'empty'}")
        ranks[token] = int(rank)
    if len(set(ranks.values())) < len(ranks):
        raise DataError("two tokens have one rank")
    return ranks


def _parse(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a tokenizer.json (not valid JSON: {error})") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("model"), dict):
        raise DataError('not a tokenizer.json (no object under "model")')
    return parsed


def _check_added_ids(added: list[Mapping[str, Any]], structure: Structure) -> None:
    for token in added:
        if (found := structure.tokens.get(token["content"])) != token["id"]:
            raise ConfigError(
                f"the added token {token['content']!r} has the id {token['id']} in the file, but the library gives it "
                f"{found}, because there are ids without tokens before it; number the added tokens without gaps"
            )


def _named(entry: Any) -> Iterator[str]:
    """The name in an entry of tokenizer_config.json, which is a string or an object with its "content"."""
    name = entry.get("content") if isinstance(entry, dict) else entry
    if isinstance(name, str):
        yield name
