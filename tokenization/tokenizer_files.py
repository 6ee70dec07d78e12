"""Which tokenizer a path holds: by the content of files, not by their names. Knows no text."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from core.errors import BloomeryError, ConfigError, CorruptArtifactError, DataError
from tokenization.byte_level import TIKTOKEN_PATTERNS
from tokenization.hf_export import CONFIG_FILE_NAME, JSON_FILE_NAME, MODEL_FILE_NAME, OWN_KEY, SHA256_KEY
from tokenization.json_encoder import JsonEncoder
from tokenization.model_file import parse_model
from tokenization.sentencepiece_encoder import SentencePieceEncoder, objections_to
from tokenization.sentencepiece_import import (
    ForeignSentencePieceEncoder,
    what_transformers_does_otherwise,
)
from tokenization.tokenizer_import import import_tiktoken, import_tokenizer_json, is_tiktoken
from tokenization.vocabulary import Encoder, SpecialIds

logger = logging.getLogger(__name__)

EXPECTED = f"{MODEL_FILE_NAME}, {JSON_FILE_NAME} or a .tiktoken file"

PATTERN_OF_SHA256 = {
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": "gpt2",  # r50k_base, GPT-2's
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069": "gpt2",  # p50k_base
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": "cl100k",
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": "o200k",
}
"""SHA-256 of the tiktoken files that OpenAI published (tiktoken_ext/openai_public.py) to the name of the pattern."""


def load_encoder(path: Path, *, tiktoken_pattern: str | None = None) -> Encoder:
    """The encoder in a file, or in a directory that holds one.

    Args:
        tiktoken_pattern: How a tiktoken file's encoding cuts text into words; None = known for the published files.

    Raises:
        ConfigError: nothing is there, or it cannot be used here.
        CorruptArtifactError: the file differs from the one that was written.
        DataError: the file is no tokenizer.
    """
    file = tokenizer_file(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from None
    config = _read_config(file)
    _check_recorded_sha256(file, content, config)
    try:
        encoder = _encoder(file, content, config, tiktoken_pattern)
    except BloomeryError as error:
        raise type(error)(f"{file}: {error}") from None
    return encoder


def holds_tokenizer(directory: Path) -> bool:
    """Whether `load_encoder` finds one tokenizer there to load."""
    return len(_candidates(directory)) == 1


def tokenizer_file(path: Path) -> Path:
    """The file that decides ids: `path` itself, or the one in it.

    Raises:
        ConfigError: there is none, or there are several.
    """
    if not path.is_dir():
        if not path.exists():
            raise ConfigError(
                f"{path}: no such tokenizer; expected {EXPECTED}, or a directory that holds one"
            )
        return path
    candidates = _candidates(path)
    if len(candidates) != 1:
        absent = "no .model file" if _recorded_models(path) else "no tokenizer"
        found = ", ".join(candidate.name for candidate in candidates) or absent
        raise ConfigError(f"{path}: holds {found}; expected {EXPECTED}, or name the file itself")
    return candidates[0]


def _candidates(directory: Path) -> list[Path]:
    model, json_file = directory / MODEL_FILE_NAME, directory / JSON_FILE_NAME
    # Models from elsewhere often come with both; the second is what the world uses them by.
    if model.exists() and (not json_file.exists() or _is_ours(model)):
        return [model]
    models = sorted(directory.glob("*.model"))
    if len(models) == 1 and models[0] != model and _is_ours(models[0]):
        return models
    # The twin of a model that has gone missing is not taken in its stead: to a checkpoint it is another tokenizer.
    if json_file.exists() and not _recorded_models(directory):
        return [json_file]
    return models or sorted(directory.glob("*.tiktoken"))


def _recorded_models(directory: Path) -> list[str]:
    """The .model files that were written into the directory, whether they are still there or not."""
    recorded = _read_config(directory / MODEL_FILE_NAME).get(SHA256_KEY)
    return list(recorded) if isinstance(recorded, dict) else []


def _is_ours(model: Path) -> bool:
    if _recorded_sha256(model, _read_config(model)) is not None:
        return True
    try:
        return not objections_to(parse_model(model.read_bytes()))
    except DataError:  # truncated, perhaps: whoever loads it will say so
        return True


def _encoder(file: Path, content: bytes, config: dict[str, Any], pattern: str | None) -> Encoder:
    if content.startswith(b"{"):
        if (own := config.get(OWN_KEY)) is not None and file.name == JSON_FILE_NAME:
            return JsonEncoder(content, special_ids=_recorded_ids(own), model_type=str(own.get("model_type")))
        encoder: Encoder = import_tokenizer_json(content, config)
    elif is_tiktoken(content):
        encoder = import_tiktoken(content, pattern or _published_pattern(content))
    else:
        encoder = _sentencepiece(content, config)
    if _recorded_sha256(file, config) is None:  # otherwise it was said before it was written
        _warn(file, encoder)
    return encoder


def _warn(file: Path, encoder: Encoder) -> None:
    if encoder.vocabulary.losses:
        logger.warning("%s: not every text comes back: %s", file, "; ".join(encoder.vocabulary.losses))
    if isinstance(encoder, ForeignSentencePieceEncoder):
        otherwise = what_transformers_does_otherwise(encoder.parsed)
        if otherwise is not None:
            logger.warning("%s: %s", file, otherwise)


def _sentencepiece(content: bytes, config: dict[str, Any]) -> Encoder:
    try:
        parsed = parse_model(content)
    except DataError as error:
        raise DataError(
            f"no tokenizer: neither JSON nor a tiktoken file, and {error}; expected {EXPECTED}"
        ) from None
    if objections_to(parsed):
        return ForeignSentencePieceEncoder(content, config)
    return SentencePieceEncoder(content)


def _recorded_ids(own: Any) -> SpecialIds:
    recorded = own.get("special_ids") if isinstance(own, dict) else None
    if not isinstance(recorded, dict) or set(recorded) != set(SpecialIds._fields):
        raise ConfigError(
            f"{CONFIG_FILE_NAME} beside it has no ids of {', '.join(SpecialIds._fields)} under "
            f'{OWN_KEY!r}: "special_ids"; restore that file, or delete the key to import the tokenizer anew'
        )
    return SpecialIds(**recorded)


def _published_pattern(content: bytes) -> str:
    pattern = PATTERN_OF_SHA256.get(hashlib.sha256(content).hexdigest())
    if pattern is None:
        raise ConfigError(
            "a tiktoken file does not say how its encoding cuts text into words, and this is none of OpenAI's; set "
            f"tokenizer.tiktoken_pattern to {', '.join(TIKTOKEN_PATTERNS)} or to a regular expression"
        )
    return pattern


def _read_config(file: Path) -> dict[str, Any]:
    path = file.with_name(CONFIG_FILE_NAME)
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON ({error}); restore it or delete it") from None
    return config if isinstance(config, dict) else {}


def _check_recorded_sha256(file: Path, content: bytes, config: dict[str, Any]) -> None:
    expected, found = _recorded_sha256(file, config), hashlib.sha256(content).hexdigest()
    if expected not in (None, found):
        raise CorruptArtifactError(
            f"{file}: its SHA-256 is {found}, but {expected} was recorded when it was written; "
            "restore the file or train the tokenizer again"
        )


def _recorded_sha256(file: Path, config: dict[str, Any]) -> str | None:
    """The SHA-256 that was recorded for a file when it was written; None if none was."""
    own = config.get(OWN_KEY)
    for recorded in (config.get(SHA256_KEY), own.get("sha256") if isinstance(own, dict) else None):
        value = recorded.get(file.name) if isinstance(recorded, dict) else None
        if isinstance(value, str):
            return value
    return None
