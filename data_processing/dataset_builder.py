"""A dataset of token rows out of a jsonl corpus: splits, encodes, packs, streaming. Knows no model and no trainer."""

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.errors import ConfigError, DataError
from core.files import sha256_text
from core.progress import progress
from data_processing.arrow_rows import id_type
from data_processing.json_records import JsonRecord, read_json_lines
from data_processing.packing import ContinuousPacker
from data_processing.position_split import is_worth_cutting, num_few, pieces_of
from data_processing.row_writer import SHARD_BYTES
from data_processing.split_assignment import SplitAssignment
from data_processing.token_dataset import DatasetFormat, DatasetWriter, TokenDataset, save_dataset
from tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

BATCH_CHARACTERS = 2_000_000
BATCH_DOCUMENTS = 4096
"""Documents are encoded in batches of about this size: enough to keep all threads busy, a few tens of MB in memory.
Arbitrary; what comes out does not depend on it."""

MIN_MAX_LENGTH = 2
"""A row must hold a token and its successor, or nothing is learned from it."""


class _Text(NamedTuple):
    text: str
    num_bytes: int


class DatasetBuilder:
    """Turns a corpus into rows of `max_length` tokens for pretraining.

    Each document becomes `<s> text </s>`; the documents of a split are laid end to end and cut into rows, so none
    is shortened and only the last row of a split is padded. Equal corpora give equal bytes, whatever the number of
    workers.

    >>> builder = DatasetBuilder("tokenizer.model", 256)  # doctest: +SKIP
    >>> dataset = builder.build_from_jsonl("collected_texts.jsonl")  # doctest: +SKIP
    >>> builder.save_dataset(dataset, "dataset")  # doctest: +SKIP

    Args:
        tokenizer_model_path: A `tokenizer.model`, or a directory that holds one.
        max_length: Tokens a row, at least 2.
        stride: Tokens that a row repeats from the row before within one document (0 to max_length - 1). They are
            context and not learned again; so with a stride of 1 or more every token of every document but its
            first is learned exactly once, and without one the first token of each row is not learned.
        seed: Seed of the split.
        num_workers: Threads that encode; None = one for each core.
        text_field: Field of the records that holds the text.
        work_dir: Where the dataset is kept until it is saved; None = the system's temporary directory. It takes
            about 2 bytes a token (4 with more than 65,536 tokens in the vocabulary).
        shard_bytes: Size of the token ids in one Arrow file, in bytes, at most.

    Raises:
        ConfigError: a number is out of range, or there is no tokenizer at the path.
        DataError: the tokenizer is damaged.
    """

    def __init__(
        self,
        tokenizer_model_path: str | Path,
        max_length: int,
        *,
        stride: int = 0,
        seed: int = 1337,
        num_workers: int | None = None,
        text_field: str = "text",
        work_dir: str | Path | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        if max_length < MIN_MAX_LENGTH:
            raise ConfigError(
                f"max_length {max_length}: expected at least {MIN_MAX_LENGTH} tokens, a token and its successor"
            )
        if not 0 <= stride < max_length:
            raise ConfigError(
                f"stride {stride}: expected 0 to {max_length - 1}, below max_length {max_length}"
            )
        if num_workers is not None and num_workers < 1:
            raise ConfigError(
                f"num_workers {num_workers}: expected at least 1, or None for one for each core"
            )
        if shard_bytes < 1:
            raise ConfigError(f"shard_bytes {shard_bytes}: expected at least 1")
        self.tokenizer = Tokenizer.from_file(tokenizer_model_path)
        self.max_length = max_length
        self.stride = stride
        self.seed = seed
        self.num_workers = num_workers
        self.text_field = text_field
        self.work_dir = None if work_dir is None else Path(work_dir)
        self.shard_bytes = shard_bytes

    def build_from_jsonl(
        self,
        jsonl_file: str | Path,
        train_split: float = 0.9,
        val_split: float = 0.05,
        test_split: float = 0.05,
    ) -> TokenDataset:
        """The splits "train", "validation" and "test" of a corpus, in a temporary directory until they are saved.

        A document belongs to a split by the hash of its text: equal texts are never in two splits, and none changes
        its split when the corpus grows. A corpus of so few documents that the smallest share is less than one of them
        has its long ones cut by position instead (`position_split`): 90 % of a book to train on, the rest held out.
        Where they are short too, and a wanted split would be empty, it is given one of the documents
        (`SplitAssignment`); with fewer documents than splits, test is missing first, then validation. The report and
        a log line say what was done.

        Args:
            jsonl_file: Records with the text in `text_field`; other fields are not read. Records with an empty
                text are counted and passed over.
            train_split, val_split, test_split: Shares of the documents (0 to 1), adding up to 1; a share of 0
                leaves the split out.

        Raises:
            ConfigError: the shares are out of range.
            DataError: the file is missing, holds no text, or a line (named) is not a record with a text.
            DiskError: the disk is full, read-only or failing.
        """
        path = Path(jsonl_file)
        shares = {"train": train_split, "validation": val_split, "test": test_split}
        assignment: SplitAssignment[_Text] = SplitAssignment(shares=shares, seed=self.seed)
        num_empty = 0

        def texts() -> Iterator[tuple[str, _Text]]:
            nonlocal num_empty
            for record in self._progress(path):
                text = self._text_of(record, path)
                if text.num_bytes:
                    yield sha256_text(text.text), text
                else:
                    num_empty += 1

        with DatasetWriter(
            self.tokenizer,
            kind="text",
            max_length=self.max_length,
            stride=self.stride,
            work_dir=self.work_dir,
            shard_bytes=self.shard_bytes,
        ) as writer:
            stream = texts()
            first = list(itertools.islice(stream, num_few(shares)))
            num_cut = 0
            if len(first) < num_few(shares):
                num_cut = sum(is_worth_cutting(document.text, shares) for _, document in first)
            documents = (
                _cut_by_position([document for _, document in first], shares)
                if num_cut
                else assignment.assign(itertools.chain(first, stream))
            )
            num_documents = self._encode_and_pack(documents, writer)
            if num_documents == 0:
                raise DataError(
                    f"{path}: no text in it ({num_empty} records with an empty {self.text_field!r}); "
                    "collect some documents first, or lower data.min_text_length"
                )
            _log_small_corpus(path, assignment, num_documents, num_cut)
            return writer.finish(
                {
                    "documents": len(first) if num_cut else num_documents,
                    "documents_cut": num_cut,
                    "empty_documents": num_empty,
                    "seed": self.seed,
                    "shares": shares,
                    "empty_splits": [] if num_cut else assignment.empty_splits,
                    "splits_given_a_document": sorted(assignment.moved.values()),
                }
            )

    def save_dataset(
        self, dataset: TokenDataset, directory: str | Path, format: DatasetFormat = "arrow"
    ) -> Path:
        """As `token_dataset.save_dataset`."""
        return save_dataset(dataset, directory, format=format)

    def _encode_and_pack(self, documents: Iterable[tuple[str, _Text]], writer: DatasetWriter) -> int:
        packers: dict[str, ContinuousPacker] = {}
        dtype = id_type(writer.facts.vocab_size)
        num_documents = 0
        for batch in _batches(documents):
            encoded = self.tokenizer.encode_batch(
                [document.text for _, document in batch],
                num_threads=self.num_workers,
                add_bos=True,
                add_eos=True,
            )
            num_documents += len(batch)
            for split in dict.fromkeys(split for split, _ in batch):
                mine = [index for index, (other, _) in enumerate(batch) if other == split]
                ids = [np.asarray(encoded[index], dtype=dtype) for index in mine]
                packer = packers.get(split)
                if packer is None:
                    packer = packers[split] = ContinuousPacker(
                        self.max_length, stride=self.stride, pad_id=self.tokenizer.pad_id, dtype=dtype
                    )
                rows = packer.add(np.concatenate(ids), np.array([len(one) for one in ids]))
                text_bytes = sum(batch[index][1].num_bytes for index in mine)
                writer.count(split, documents=len(mine), text_bytes=text_bytes)
                writer.write(split, rows)
        for split, packer in packers.items():
            writer.write(split, packer.finish())
        return num_documents

    def _progress(self, path: Path) -> Iterator[JsonRecord]:
        size = path.stat().st_size if path.is_file() else None
        with progress(total=size, description=f"encode {path.name}", unit="B") as bar:
            for record in read_json_lines(path):
                yield record
                bar.update(record.num_bytes)

    def _text_of(self, record: JsonRecord, path: Path) -> _Text:
        place = f"{path}:{record.line}"
        if record.problem is not None:
            raise DataError(
                f"{place}: {record.problem}; expected one JSON object with {self.text_field!r} a line"
            )
        if not isinstance(record.value, dict) or self.text_field not in record.value:
            found = (
                f"fields {', '.join(record.value)}" if isinstance(record.value, dict) else "no JSON object"
            )
            raise DataError(
                f"{place}: found {found}, expected a JSON object with a field {self.text_field!r}; "
                "set data.text_field to the field that holds the text"
            )
        text = record.value[self.text_field]
        if not isinstance(text, str):
            raise DataError(
                f"{place}: field {self.text_field!r} holds {type(text).__name__}, expected a string; "
                "set data.text_field to the field that holds the text"
            )
        try:
            return _Text(text, len(text.encode("utf-8")))
        except UnicodeEncodeError as error:
            raise DataError(
                f"{place}: the text is not valid Unicode ({error.reason} at character {error.start}: "
                f"\\u{ord(text[error.start]):04x}); clean the corpus with DataCollector, or remove the record"
            ) from None


def _batches(documents: Iterable[tuple[str, _Text]]) -> Iterator[list[tuple[str, _Text]]]:
    batch: list[tuple[str, _Text]] = []
    num_characters = 0
    for split, document in documents:
        batch.append((split, document))
        num_characters += len(document.text)
        if num_characters >= BATCH_CHARACTERS or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


def _cut_by_position(documents: Sequence[_Text], shares: Mapping[str, float]) -> Iterator[tuple[str, _Text]]:
    for document in documents:
        if is_worth_cutting(document.text, shares):
            for split, piece in pieces_of(document.text, shares):
                yield split, _Text(piece, len(piece.encode("utf-8")))
        else:
            yield "train", document


def _log_small_corpus(
    path: Path, assignment: SplitAssignment[_Text], num_documents: int, num_cut: int
) -> None:
    if num_cut:
        logger.info(
            "%s: few documents; %d long ones are cut into their first part, to train on, and the rest, held out",
            path,
            num_cut,
        )
        return
    for split in assignment.moved.values():
        logger.warning(
            "%s: of %d documents none fell into %s; it was given one, so that it is not empty",
            path,
            num_documents,
            split,
        )
    if assignment.empty_splits:
        logger.warning(
            "%s: %d documents are too few for %s; the dataset goes without",
            path,
            num_documents,
            " and ".join(assignment.empty_splits),
        )
