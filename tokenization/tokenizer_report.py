"""How well a tokenizer fits a corpus, beside others: the content of tokenizer_report.json. Trains and changes nothing.

Everything is counted on a sample of the documents; the same corpus and tokenizers give the same report.
"""

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.errors import DataError
from core.progress import progress
from tokenization.chunks import CONTINUATION_BYTES
from tokenization.corpus_sample import CorpusSample, group_of, numbered_lines, record_of_line
from tokenization.model_file import PieceType
from tokenization.tokenizer import Tokenizer, utf8

SAMPLE_BYTES = 20_000_000
"""Default size of the sample: bytes per token of a mixed corpus then have a standard error below half a percent."""

MAX_DOCUMENT_BYTES = 100_000
"""Of a longer document only the beginning is looked at, so that no single one decides."""

NUM_EXAMPLES = 20
SHORTEST_JUDGED_BYTES = 200
"""Documents with less text are not named among the worst: a heading of rare words says nothing."""

EXCERPT_CHARACTERS = 120
BATCH_DOCUMENTS = 256

PUBLISHED_FILES = {
    "GPT-2": "https://openaipublic.blob.core.windows.net/encodings/r50k_base.tiktoken",
    "GPT-4 (cl100k)": "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
    "GPT-4o (o200k)": "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken",
}
"""Where tiktoken has its encodings from; it keeps them under the SHA-1 of the address. Nothing is fetched here."""


class _Document(NamedTuple):
    text: str
    num_bytes: int
    source: str
    group: str
    language: str
    kind: str


class _Count(NamedTuple):
    """What a tokenizer makes of the sample: tokens of each document, and uses of each id."""

    tokens: NDArray[np.int64]
    uses: NDArray[np.int64]
    different: list[str]


def report_tokenizer(
    tokenizer: Tokenizer,
    corpus_jsonl: str | Path,
    *,
    references: Sequence[Path] = (),
    max_bytes: int = SAMPLE_BYTES,
    text_field: str = "text",
) -> dict[str, Any]:
    """What `tokenizer` does to a sample of the corpus, as JSON values.

    Bytes per token overall, by source, by language and for code and prose; the same of the reference tokenizers (those
    named, and published ones that are on this machine already); tokens per word; unused and longest tokens; documents
    with the fewest bytes per token; the share of tokens that are bytes of a character without a token of its own; and
    whether every document of the sample comes back.

    Args:
        corpus_jsonl: Lines with a text, and where there is, "source" and "metadata" ("language", "code").
        references: Files or directories as for `Tokenizer.from_file`.
        max_bytes: Size of the sample, in bytes of text, which is also about the memory it takes.

    Raises:
        DataError: the corpus is missing, has a broken line or no text.
        ConfigError: a reference is not there or cannot be used.
    """
    documents = _sampled(Path(corpus_jsonl), max_bytes, text_field)
    counted = _count(tokenizer, documents, check=True)
    named = {str(path): path for path in references}
    return {
        "tokenizer": _facts(tokenizer),
        "sample": {
            "documents": len(documents),
            "bytes": sum(document.num_bytes for document in documents),
            "longest_document_bytes": MAX_DOCUMENT_BYTES,
        },
        "compression": _compression(documents, counted.tokens),
        "tokens_per_word": _rounded(
            int(counted.tokens.sum()) / max(sum(len(document.text.split()) for document in documents), 1)
        ),
        "byte_tokens": _byte_tokens(tokenizer, counted.uses),
        "unused_tokens": _unused(tokenizer, counted.uses),
        "longest_tokens": _longest(tokenizer, counted.uses),
        "worst_documents": _worst(documents, counted.tokens),
        "round_trip": {
            "documents": len(documents),
            "different": len(counted.different),
            "sources": counted.different[:NUM_EXAMPLES],
        },
        "references": [
            _reference(name, Tokenizer.from_file(path), documents)
            for name, path in {**references_on_this_machine(), **named}.items()
        ],
    }


def references_on_this_machine() -> dict[str, Path]:
    """Published vocabularies that are installed already: name and file.

    The package openai-whisper ships GPT-2's, and tiktoken keeps what it has once loaded.
    """
    found: dict[str, Path] = {}
    cache = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    cache_directory = Path(cache) if cache else Path(tempfile.gettempdir()) / "data-gym-cache"
    for name, address in PUBLISHED_FILES.items():
        file = cache_directory / hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()
        if file.is_file():
            found[name] = file
    package = importlib.util.find_spec("whisper")
    for place in (package.submodule_search_locations or []) if package is not None else []:
        file = Path(place) / "assets" / "gpt2.tiktoken"
        if file.is_file():
            found["GPT-2"] = file
    return found


def _sampled(path: Path, max_bytes: int, text_field: str) -> list[_Document]:
    sample: CorpusSample[_Document] = CorpusSample(max_bytes)
    for number, line in numbered_lines(path):
        for _, draw in sample.candidates(b"", 1):
            place = f"{path}:{number}"
            document = _document(record_of_line(line, text_field, place), text_field, group_of(line), place)
            sample.add(b"", draw, document, document.num_bytes)
    documents = sample.take()
    if not documents:
        raise DataError(f"{path}: no text to report on; expected at least one document that is not empty")
    return documents


def _document(record: Mapping[str, Any], text_field: str, group: bytes, place: str) -> _Document:
    data = utf8(record[text_field], place)
    if len(data) > MAX_DOCUMENT_BYTES:
        end = MAX_DOCUMENT_BYTES
        while data[end] in CONTINUATION_BYTES:
            end -= 1
        data = data[:end]
    metadata = record.get("metadata")
    facts: Mapping[str, Any] = metadata if isinstance(metadata, dict) else {}
    return _Document(
        text=data.decode("utf-8"),
        num_bytes=len(data),
        source=str(record.get("source", place)),
        group=group.decode("utf-8", errors="replace") or "(none)",
        language=str(facts.get("language") or "unknown"),
        kind="code" if facts.get("code") else "prose",
    )


def _count(tokenizer: Tokenizer, documents: list[_Document], *, check: bool) -> _Count:
    tokens = np.zeros(len(documents), dtype=np.int64)
    uses = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    different: list[str] = []
    starts = range(0, len(documents), BATCH_DOCUMENTS)
    for start in progress(starts, description="reporting on the tokenizer", unit="batch"):
        batch = documents[start : start + BATCH_DOCUMENTS]
        ids, counts = tokenizer.encode_to_array([document.text for document in batch])
        tokens[start : start + len(batch)] = counts
        uses += np.bincount(ids, minlength=tokenizer.vocab_size)
        if check:
            parts = np.split(ids, np.cumsum(counts)[:-1])
            different += [
                document.source
                for document, part in zip(batch, parts, strict=True)
                if tokenizer.decode(part.tolist()) != document.text
            ]
    return _Count(tokens, uses, different)


def _facts(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "model_type": tokenizer.model_type,
        "vocab_size": tokenizer.vocab_size,
        "fingerprint": tokenizer.fingerprint,
        "lossless": tokenizer.lossless,
        "losses": list(tokenizer.losses),
    }


def _reference(name: str, tokenizer: Tokenizer, documents: list[_Document]) -> dict[str, Any]:
    tokens = _count(tokenizer, documents, check=False).tokens
    return {"name": name, **_facts(tokenizer), "compression": _compression(documents, tokens)}


def _compression(documents: list[_Document], tokens: NDArray[np.int64]) -> dict[str, Any]:
    """Documents, bytes, tokens and bytes per token: of all, and by source, language and kind, the largest first."""

    def by(key: Callable[[_Document], str]) -> dict[str, Any]:
        members: dict[str, list[int]] = {}
        for number, document in enumerate(documents):
            members.setdefault(key(document), []).append(number)
        rows = {name: _row(documents, tokens, numbers) for name, numbers in members.items()}
        return dict(sorted(rows.items(), key=lambda row: (-row[1]["bytes"], row[0])))

    return {
        "overall": _row(documents, tokens, range(len(documents))),
        "by_source": by(lambda document: document.group),
        "by_language": by(lambda document: document.language),
        "by_kind": by(lambda document: document.kind),
    }


def _row(documents: list[_Document], tokens: NDArray[np.int64], numbers: Iterable[int]) -> dict[str, Any]:
    chosen = list(numbers)
    num_bytes, num_tokens = sum(documents[number].num_bytes for number in chosen), int(tokens[chosen].sum())
    return {
        "documents": len(chosen),
        "bytes": num_bytes,
        "tokens": num_tokens,
        "bytes_per_token": _rounded(num_bytes / max(num_tokens, 1)),
    }


def _byte_tokens(tokenizer: Tokenizer, uses: NDArray[np.int64]) -> dict[str, Any]:
    is_byte = np.array([piece.type == PieceType.BYTE for piece in tokenizer.pieces])
    used = int(uses[is_byte].sum())
    return {"tokens": used, "share": _rounded(used / max(int(uses.sum()), 1))}


def _unused(tokenizer: Tokenizer, uses: NDArray[np.int64]) -> dict[str, Any]:
    """Of the tokens that were learned, that is without special and byte tokens."""
    learned = np.array([piece.type == PieceType.NORMAL for piece in tokenizer.pieces])
    unused = np.flatnonzero(learned & (uses == 0))
    return {
        "count": len(unused),
        "share": _rounded(len(unused) / max(int(learned.sum()), 1)),
        "examples": [tokenizer.decode([token]) for token in unused[:NUM_EXAMPLES].tolist()],
    }


def _longest(tokenizer: Tokenizer, uses: NDArray[np.int64]) -> list[dict[str, Any]]:
    longest = np.argsort(-tokenizer.byte_lengths, kind="stable")[:NUM_EXAMPLES].tolist()
    return [
        {
            "id": token,
            "text": tokenizer.decode([token]),
            "bytes": int(tokenizer.byte_lengths[token]),
            "uses": int(uses[token]),
        }
        for token in longest
    ]


def _worst(documents: list[_Document], tokens: NDArray[np.int64]) -> list[dict[str, Any]]:
    judged = [n for n, document in enumerate(documents) if document.num_bytes >= SHORTEST_JUDGED_BYTES]
    judged.sort(key=lambda number: documents[number].num_bytes / max(int(tokens[number]), 1))
    return [
        {
            "source": documents[number].source,
            "bytes": documents[number].num_bytes,
            "bytes_per_token": _rounded(documents[number].num_bytes / max(int(tokens[number]), 1)),
            "excerpt": documents[number].text[:EXCERPT_CHARACTERS],
        }
        for number in judged[:NUM_EXAMPLES]
    ]


def _rounded(value: float) -> float:
    return round(value, 4)
