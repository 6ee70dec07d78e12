"""A dataset of token rows out of a jsonl corpus: splits, encodes, packs, streaming. Knows no model and no trainer."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from core.data_config import AugmentationConfig
from core.errors import ConfigError
from data_processing.document import Document
from data_processing.rows.arrow_rows import id_type
from data_processing.rows.learned_texts import LearnedTexts
from data_processing.rows.packing import ContinuousPacker
from data_processing.rows.row_writer import SHARD_BYTES
from data_processing.rows.split_corpus import SplitCorpus, SplitText, measured_overlap
from data_processing.rows.token_dataset import DatasetFormat, DatasetWriter, TokenDataset, save_dataset
from data_processing.rules.augmentation import augmented
from tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

BATCH_CHARACTERS = 2_000_000
BATCH_DOCUMENTS = 4096
"""Documents are encoded in batches of about this size: enough to keep all threads busy, a few tens of MB in memory.
Arbitrary; what comes out does not depend on it."""

MIN_MAX_LENGTH = 2
"""A row must hold a token and its successor, or nothing is learned from it."""


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
        augmentation: Further copies of training documents; None = none.
        measure_overlap: Whether the overlap between the splits is measured, which reads the corpus twice more.
        learned: File of documents that an earlier training has learned (`LearnedTexts`): their rows are a split of
            their own, "replay", and what is left for "train" is new. None = nothing was learned before.

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
        augmentation: AugmentationConfig | None = None,
        measure_overlap: bool = True,
        learned: Path | None = None,
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
        self.augmentation = augmentation
        self.measure_overlap = measure_overlap
        self.learned = None if learned is None else LearnedTexts.from_file(learned)

    def build_from_jsonl(
        self,
        jsonl_file: str | Path,
        train_split: float = 0.9,
        val_split: float = 0.05,
        test_split: float = 0.05,
    ) -> TokenDataset:
        """The splits "train", "validation" and "test" of a corpus, in a temporary directory until they are saved.

        `SplitCorpus` says which document belongs to which split, the report and a log line what was done. The report
        also says how much of the held-out text stands in the training text too (`split_overlap`).

        Args:
            jsonl_file: Records with the text in `text_field`; a `metadata.cluster` that several share keeps them in
                one split. Records with an empty text are counted and passed over.
            train_split, val_split, test_split: Shares of the documents (0 to 1), adding up to 1; a share of 0
                leaves the split out.

        Raises:
            ConfigError: the shares are out of range.
            DataError: the file is missing, holds no text, or a line (named) is not a record with a text.
            DiskError: the disk is full, read-only or failing.
        """
        shares = {"train": train_split, "validation": val_split, "test": test_split}
        corpus = SplitCorpus(
            Path(jsonl_file),
            shares=shares,
            seed=self.seed,
            text_field=self.text_field,
            learned=self.learned,
        )
        with DatasetWriter(
            self.tokenizer,
            kind="text",
            max_length=self.max_length,
            stride=self.stride,
            work_dir=self.work_dir,
            shard_bytes=self.shard_bytes,
        ) as writer:
            copies: Counter[str] = Counter()
            self._encode_and_pack(self._with_augmentation(corpus.divide(), copies), writer)
            report = {
                **corpus.report(),
                "augmented": dict(sorted(copies.items())),
                **({"overlap": measured_overlap(corpus)} if self.measure_overlap else {}),
            }
            return writer.finish(report)

    def save_dataset(
        self, dataset: TokenDataset, directory: str | Path, format: DatasetFormat = "arrow"
    ) -> Path:
        """As `token_dataset.save_dataset`."""
        return save_dataset(dataset, directory, format=format)

    def _encode_and_pack(self, documents: Iterable[tuple[str, SplitText]], writer: DatasetWriter) -> None:
        packers: dict[str, ContinuousPacker] = {}
        dtype = id_type(writer.facts.vocab_size)
        for batch in _batches(documents):
            for split in dict.fromkeys(split for split, _ in batch):
                mine = [document for other, document in batch if other == split]
                ids, lengths = self.tokenizer.encode_to_array(
                    [document.text for document in mine],
                    num_threads=self.num_workers,
                    add_bos=True,
                    add_eos=True,
                )
                packer = packers.get(split)
                if packer is None:
                    packer = packers[split] = ContinuousPacker(
                        self.max_length, stride=self.stride, pad_id=self.tokenizer.pad_id, dtype=dtype
                    )
                rows = packer.add(ids.astype(dtype), lengths)
                text_bytes = sum(document.num_bytes for document in mine)
                writer.count(split, documents=len(mine), text_bytes=text_bytes)
                writer.write(split, rows)
        for split, packer in packers.items():
            writer.write(split, packer.finish())

    def _with_augmentation(
        self, documents: Iterable[tuple[str, SplitText]], copies: Counter[str]
    ) -> Iterator[tuple[str, SplitText]]:
        """Every document, and behind a new one to train on the copies that the settings ask for, counted by kind."""
        for split, document in documents:
            yield split, document
            if split == "train" and self.augmentation is not None and not document.is_code:
                original = Document(document.text, document.id or document.key, document.source)
                for copy in augmented(original, self.augmentation, seed=self.seed):
                    copies[str(copy.metadata["augmentation"])] += 1
                    num_bytes = len(copy.text.encode("utf-8"))
                    yield split, document._replace(text=copy.text, num_bytes=num_bytes, id=copy.id)


def _batches(documents: Iterable[tuple[str, SplitText]]) -> Iterator[list[tuple[str, SplitText]]]:
    batch: list[tuple[str, SplitText]] = []
    num_characters = 0
    for split, document in documents:
        batch.append((split, document))
        num_characters += len(document.text)
        if num_characters >= BATCH_CHARACTERS or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch
