"""A dataset directory: its splits, its report, its tokenizer; built in a temporary place, saved in one piece.

Knows the layout, not how rows are made of text or conversations.
"""

import contextlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from core.config import nearest
from core.errors import ConfigError, CorruptArtifactError, DataError
from core.files import TEMPORARY_MARK, explain_disk_errors, new_directory
from core.json_files import read_json_object
from core.progress import progress
from data_processing.rows.arrow_rows import REPAIR, RowKind
from data_processing.rows.packing import Rows
from data_processing.rows.row_writer import SHARD_BYTES, RowWriter, TokenizerFacts, write_unsynced_json
from data_processing.rows.token_rows import TOKENIZER_DIRECTORY, TokenRows
from tokenization.tokenizer import Tokenizer

REPORT_NAME = "dataset_report.json"
SPLITS = ("train", "validation", "test", "replay")

DatasetFormat = Literal["arrow", "jsonl"]


class TokenDataset(Mapping[str, TokenRows]):
    """The splits of a dataset directory, by name; the first is "train". Splits without rows are not there; "replay" is
    what an earlier training has learned (`DatasetBuilder`).

    The directory holds one sub-directory a split, `dataset_dict.json` for `datasets.load_from_disk`, the tokenizer,
    and `dataset_report.json` (`report`).

    Raises:
        DataError: the directory is no dataset.
        CorruptArtifactError: as `TokenRows`.
    """

    def __init__(self, directory: str | Path, *, owner: "TemporaryDirectory | None" = None) -> None:
        self.directory = Path(directory).absolute()
        path = self.directory / REPORT_NAME
        if not path.is_file():
            raise DataError(
                f"{self.directory}: not a dataset, {REPORT_NAME} is missing; name the directory that holds "
                f"{', '.join(SPLITS)}"
            )
        try:
            self.report: dict[str, Any] = read_json_object(path)
            names = list(self.report["splits"])
        except (ConfigError, KeyError) as error:
            raise CorruptArtifactError(f"{path}: no report of a dataset ({error}); {REPAIR}") from None
        self._splits = {name: TokenRows(self.directory / name) for name in names}
        self._owner = owner
        for rows in self._splits.values():
            # Whoever holds one split keeps the files of a dataset that was never saved.
            rows.owner = owner

    def __getitem__(self, split: str) -> TokenRows:
        try:
            return self._splits[split]
        except KeyError:
            raise KeyError(
                f"{split!r}: this dataset has {', '.join(self._splits)}{nearest(split, self._splits)}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def __repr__(self) -> str:
        return f"TokenDataset({str(self.directory)!r}: {', '.join(f'{k} {len(v)} rows' for k, v in self.items())})"

    def close(self) -> None:
        """Delete the temporary directory of a dataset that was built and not opened; rows still held stay readable
        in this process. Also happens when the last reference to the dataset and its splits is gone."""
        if self._owner is not None:
            self._owner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TemporaryDirectory:
    """A directory that is deleted with its owner, at `close`, or at the end of the process that made it."""

    # Not `tempfile.TemporaryDirectory`: that one warns when it is collected, and a forked worker that collects its
    # copy would delete the directory under the parent.

    def __init__(self, parent: Path | None) -> None:
        with explain_disk_errors(parent or Path(tempfile.gettempdir())):
            if parent is not None:
                parent.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix=f".dataset{TEMPORARY_MARK}", dir=parent)).absolute()
        self._finalizer = weakref.finalize(self, _remove_if_ours, self.path, os.getpid())

    def close(self) -> None:
        """Delete it now."""
        self._finalizer()


def _remove_if_ours(path: Path, process_id: int) -> None:
    if os.getpid() == process_id:
        shutil.rmtree(path, ignore_errors=True)


class DatasetWriter:
    """Writes the splits of a new dataset to a temporary directory. A context manager: leaving it without `finish`
    deletes what was written.

    Args:
        work_dir: Where the temporary directory is made; None = the system's, which may be memory.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        kind: RowKind,
        max_length: int,
        stride: int = 0,
        work_dir: Path | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self.facts = TokenizerFacts(tokenizer.vocab_size, tokenizer.pad_id, tokenizer.fingerprint)
        self._tokenizer = tokenizer
        self._kind: RowKind = kind
        self._max_length = max_length
        self._stride = stride
        self._work_dir = work_dir
        self._shard_bytes = shard_bytes
        self._writers: dict[str, RowWriter] = {}
        self._documents: dict[str, int] = {}
        self._text_bytes: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._directory = TemporaryDirectory(self._work_dir)
        self._cleanup = contextlib.ExitStack()
        self._cleanup.callback(self._directory.close)
        self._open_writers = self._cleanup.enter_context(contextlib.ExitStack())
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def count(self, split: str, *, documents: int, text_bytes: int) -> None:
        """Say that this number of documents, and bytes of text, go into the rows of a split."""
        self._documents[split] = self._documents.get(split, 0) + documents
        self._text_bytes[split] = self._text_bytes.get(split, 0) + text_bytes

    def write(self, split: str, rows: Rows) -> None:
        """Append rows to a split."""
        assert split in SPLITS
        if split not in self._writers:
            writer = RowWriter(
                self._directory.path / split,
                kind=self._kind,
                max_length=self._max_length,
                stride=self._stride,
                tokenizer=self.facts,
                shard_bytes=self._shard_bytes,
            )
            self._writers[split] = self._open_writers.enter_context(writer)
        self._writers[split].write(rows)

    def finish(self, report: Mapping[str, Any]) -> "TokenDataset":
        """The dataset, with the counts of each split added to `report` as `splits`."""
        splits = {}
        for split in filter(self._writers.__contains__, SPLITS):
            metadata = self._writers[split].finish(
                documents=self._documents[split], text_bytes=self._text_bytes[split]
            )
            splits[split] = metadata.summary()
        common = {
            "kind": self._kind,
            "max_length": self._max_length,
            "stride": self._stride,
            "vocab_size": self.facts.vocab_size,
            "tokenizer_fingerprint": self.facts.fingerprint,
        }
        path = self._directory.path
        write_unsynced_json(path / "dataset_dict.json", {"splits": list(splits)})
        write_unsynced_json(path / REPORT_NAME, {**common, **report, "splits": splits})
        self._tokenizer.save(path / TOKENIZER_DIRECTORY)
        self._open_writers.close()
        self._cleanup.pop_all()  # the directory belongs to the dataset from here on
        return TokenDataset(path, owner=self._directory)


def save_dataset(dataset: TokenDataset, directory: str | Path, *, format: DatasetFormat = "arrow") -> Path:
    """Write a dataset with its tokenizer and report to `directory`, all of it or nothing.

    - "arrow": what `TokenDataset` and `datasets.load_from_disk` open.
    - "jsonl": `<split>.jsonl`, for reading by eye and by other tools, four to five times as large; one row a line:
      `{"input_ids": […], "document_starts": […], "labels": […], "text": "…"}`, where `labels` (unshifted) stands for
      conversations only and `text` is the decoded row with its control tokens.

    Args:
        directory: New, or empty.

    Returns:
        `directory`.

    Raises:
        ConfigError: the directory holds something already, or `format` is unknown.
        DataError: the dataset was closed.
        DiskError: the disk is full, read-only or failing; nothing is left in `directory` then.
    """
    directory = Path(directory)
    if format not in ("arrow", "jsonl"):
        raise ConfigError(f"format {format!r}: expected 'arrow' or 'jsonl'")
    if not dataset.directory.is_dir():
        raise DataError(
            f"{dataset.directory}: the dataset is gone, it was closed; save a dataset before closing it"
        )
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
    if directory.exists():
        raise ConfigError(
            f"{directory}: holds something already; name a new directory, or move it aside first"
        )
    with new_directory(directory) as beside:
        if format == "arrow":
            mode = beside.stat().st_mode
            shutil.copytree(dataset.directory, beside, dirs_exist_ok=True)
            beside.chmod(mode)  # copytree gave it that of the temporary directory, which is private
        else:
            _write_jsonl(dataset, beside)
    return directory


def _write_jsonl(dataset: TokenDataset, directory: Path) -> None:
    shutil.copytree(dataset.directory / TOKENIZER_DIRECTORY, directory / TOKENIZER_DIRECTORY)
    shutil.copy(dataset.directory / REPORT_NAME, directory)
    tokenizer = Tokenizer.from_file(dataset.directory / TOKENIZER_DIRECTORY)
    for split, rows in dataset.items():
        with (directory / f"{split}.jsonl").open("x", encoding="utf-8", newline="\n") as file:
            for index in progress(range(len(rows)), description=f"write {split}.jsonl", unit="rows"):
                ids = rows.tokens(index).tolist()
                line = {"input_ids": ids, "document_starts": rows.document_starts(index).tolist()}
                labels = rows.raw_labels(index)
                if labels is not None:
                    line["labels"] = labels.tolist()
                text = tokenizer.decode(ids, skip_special_tokens=False)
                file.write(json.dumps({**line, "text": text}, ensure_ascii=False, allow_nan=False) + "\n")
