"""A corpus directory as collecting leaves it, with names and texts that would do harm on a page, made by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.data_config import DataConfig
from core.files import write_json
from data_processing.document import Document, Dropped
from data_processing.reports.report import Kept, Ledger
from data_processing.rows.splits import split_of, text_key

SCRIPT_NAME = "<script>alert(1)<!--.txt"
BIDI_NAME = "books/photo_\u202egnp.txt"
PIPE_NAME = 'a|b` ](javascript:x) "quoted" & <img src=x onerror=y>.md'
HIDDEN_NAME = "books/.\u202enedih"
HOSTILE = (SCRIPT_NAME, HIDDEN_NAME, PIPE_NAME)

SENTENCE = "“Iron,” said the smith — ‘the best\n\n    there is’ — was hot."
TEXTS = {
    "books/iron.txt": f"The first furnace.\n{SENTENCE} Nobody answered.\n" * 2,
    "books/iron-again.txt": f"The first furnace!\n{SENTENCE} Nobody answered.\n" * 2,
    "records.jsonl:3": 'A record with a tab\tand a backslash \\n and "quotes" in it, long enough to stay.',
    SCRIPT_NAME: "A text in a file whose name is a script, and which is long enough.",
    BIDI_NAME: "A text in a file whose name is written backwards in part, long enough.",
}
CLUSTER = "00ff" * 8


def write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """As the engine writes them."""
    path.write_text(
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8"
    )


def dropped_things() -> list[Dropped]:
    """What was left out, for reasons that are known and one that is not."""
    return [
        Dropped("records.jsonl:1", "too_short", "2 characters, fewer than 50", "hi", 14, ".jsonl"),
        Dropped("records.jsonl:2", "too_short", "3 characters, fewer than 50", "<b>hi</b>", 20, ".jsonl"),
        Dropped(PIPE_NAME, "house_rule", "shouts", "A “sample” &\nwith <lines> and \u202e marks", 90, ".md"),
        Dropped(HIDDEN_NAME, "hidden", "the name begins with a dot", num_bytes=7),
        Dropped("lost/only.txt", "empty", "0 bytes", format=".txt"),
    ]


def write_corpus_directory(directory: Path) -> Ledger:
    """Write the five files of a corpus directory and return the account."""
    directory.mkdir(parents=True, exist_ok=True)
    ledger = Ledger()
    lines = []
    for source, text in TEXTS.items():
        metadata = {
            "format": ".jsonl" if "jsonl" in source else ".txt",
            "encoding": "utf-8",
            "language": "en",
        }
        if source.startswith("books/iron"):
            metadata["cluster"] = CLUSTER
        document = Document.of(f"{text} \r\n", source=source, metadata=metadata)
        ledger.enter(Kept.of(document, text, {"cleaning": 3}, {"email": 2}))
        lines.append({"text": text, "id": document.id, "source": source, "metadata": metadata})
    for dropped in dropped_things():
        ledger.drop(dropped)
    ledger.skip_directory(".git", "hidden")
    write_lines(directory / "collected_texts.jsonl", lines)
    write_lines(
        directory / "dropped.jsonl",
        [
            {
                "source": one.source,
                "reason": one.reason,
                "detail": one.detail,
                "sample": one.sample,
                "num_bytes": one.num_bytes,
                "format": one.format,
            }
            for one in dropped_things()
        ],
    )
    write_lines(directory / "files.jsonl", _file_lines())
    members = [
        {"source": "books/iron.txt", "similarity": 1.0, "num_characters": len(TEXTS["books/iron.txt"])},
        {
            "source": "books/iron-again.txt",
            "similarity": 0.91,
            "num_characters": len(TEXTS["books/iron-again.txt"]),
        },
    ]
    write_lines(
        directory / "duplicates.jsonl", [{"cluster": CLUSTER, "kept": "books/iron.txt", "members": members}]
    )
    write_json(
        directory / "collection_report.json",
        {
            "settings": {
                **DataConfig().replace(quality={"rules": ["c4"]}, privacy={"emails": "replace"}).to_dict(),
                "file_list": PIPE_NAME,
            },
            "near_duplicates": {"num_buckets": 12, "num_capped_buckets": 0},
            **ledger.to_dict(),
        },
    )
    return ledger


def _file_lines() -> list[dict[str, Any]]:
    whole = [
        _file_line(source, kept=len(text.encode()), around=3)
        for source, text in TEXTS.items()
        if "jsonl" not in source
    ]
    records = _file_line("records.jsonl", kept=len(TEXTS["records.jsonl:3"]), around=16)
    short = {"documents_in": 3, "dropped": {"too_short": 2}, "bytes_dropped": {"too_short": 34}}
    size = records["num_bytes"] + 34
    unread = [dropped for dropped in dropped_things() if dropped.reason in ("hidden", "empty")]
    return [
        *(_left_out_file(dropped, read=False) for dropped in unread),
        *whole,
        {**records, **short, "num_bytes": size, "bytes_in": size},
        *(_left_out_file(dropped, read=True) for dropped in dropped_things() if dropped.source == PIPE_NAME),
    ]


def _file_line(source: str, *, kept: int, around: int) -> dict[str, Any]:
    return {
        "source": source,
        "num_bytes": kept + around,
        "read": True,
        "documents_in": 1,
        "bytes_in": kept + around,
        "kept": 1,
        "bytes_kept": kept,
        "bytes_removed": 0,
        "bytes_around": around,
        "dropped": {},
        "bytes_dropped": {},
    }


def _left_out_file(dropped: Dropped, *, read: bool) -> dict[str, Any]:
    return {
        **_file_line(dropped.source, kept=0, around=0),
        "num_bytes": dropped.num_bytes,
        "read": read,
        "bytes_in": dropped.num_bytes,
        "kept": 0,
        "dropped": {dropped.reason: 1},
        "bytes_dropped": {dropped.reason: dropped.num_bytes},
    }


def write_dataset_report(directory: Path, **changes: Any) -> dict[str, Any]:
    """Write what a dataset says of its splits, with some values changed."""
    directory.mkdir(parents=True, exist_ok=True)
    split = {
        "documents": 3,
        "text_bytes": 300,
        "tokens": 100,
        "repeated_tokens": 0,
        "rows": 1,
        "padding_tokens": 4,
        "targets": 99,
        "bytes_per_token": 3.0,
    }
    report = {
        "kind": "text",
        "vocab_size": 512,
        "tokenizer_fingerprint": "ab" * 32,
        "documents": 5,
        "documents_cut": 0,
        "seed": 1337,
        "shares": {"train": 0.5, "validation": 0.25, "test": 0.25},
        "splits_given_a_document": [],
        "splits": {"train": split, "validation": split},
        "overlap": {
            "ngram_words": 8,
            "validation": {
                "num_documents": 3,
                "ngrams_in_train_share": 0.0123,
                "documents_mostly_in_train_share": None,
                "worst": [{"source": SCRIPT_NAME, "share": 0.75}],
            },
        },
        **changes,
    }
    write_json(directory / "dataset_report.json", report)
    return report


def compression(overall: float, books: float, others: float) -> dict[str, object]:
    """What a tokenizer's report says of bytes a token."""

    def row(rate: float) -> dict[str, float]:
        return {"documents": 3, "bytes": 300, "tokens": 100, "bytes_per_token": rate}

    return {
        "overall": row(overall),
        "by_source": {"books": row(books), ".": row(others)},
        "by_language": {"en": row(overall)},
        "by_kind": {"prose": row(overall)},
    }


def write_tokenizer_report(directory: Path) -> None:
    """Write what a tokenizer's report says."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(
        directory / "tokenizer_report.json",
        {
            "tokenizer": {
                "model_type": "bpe",
                "vocab_size": 512,
                "fingerprint": "f" * 64,
                "lossless": True,
                "losses": [],
            },
            "sample": {"documents": 9, "bytes": 900, "longest_document_bytes": 100_000},
            "compression": compression(3.25, 3.5, 3.0),
            "tokens_per_word": 1.5,
            "byte_tokens": {"tokens": 3, "share": 0.01},
            "unused_tokens": {"count": 17, "share": 0.1, "examples": ["xyz"]},
            "longest_tokens": [],
            "worst_documents": [{"source": PIPE_NAME, "bytes_per_token": 1.5}],
            "round_trip": {"documents": 9, "different": 0, "sources": []},
            "references": [{"name": "another", "compression": compression(3.125, 3.25, 2.75)}],
        },
    )


def expected_split(source: str, report: Mapping[str, Any]) -> str:
    """The split of a document of `TEXTS`, by the rule of the dataset."""
    key = CLUSTER if source.startswith("books/iron") else text_key(TEXTS[source])
    return split_of(key, shares=report["shares"], seed=report["seed"])
