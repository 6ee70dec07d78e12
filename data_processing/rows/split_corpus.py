"""The documents of a jsonl corpus, each with the split that it belongs to. Knows no token and no row."""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from core.errors import DataError
from core.progress import progress
from data_processing.duplicates.split_overlap import SplitOverlap
from data_processing.rows.json_records import JsonRecord, read_json_lines
from data_processing.rows.learned_texts import LearnedTexts, source_key
from data_processing.rows.position_split import is_worth_cutting, num_few, pieces_of
from data_processing.rows.split_assignment import SplitAssignment
from data_processing.rows.splits import split_of, text_key

logger = logging.getLogger(__name__)

REPLAY = "replay"
"""The split of what an earlier training has learned: nothing new, and nothing to be measured on."""

LEARNED_FROM = ("train", REPLAY)
"""The splits that a training reads."""


class SplitText(NamedTuple):
    """A document of the corpus, or a piece of one.

    Attributes:
        text: Not empty.
        num_bytes: Its size in UTF-8.
        key: What decides its split: the cluster of near duplicates that it is in, or its own text.
        source, id: As in the corpus; empty where it does not say.
        is_code: Whether the corpus calls it code.
    """

    text: str
    num_bytes: int
    key: str
    source: str
    id: str
    is_code: bool


class SplitCorpus:
    """A corpus that is gone through once to be divided, and then as often as one likes.

    A document belongs to a split by the hash of its key: equal and nearly equal texts are never in two splits, and
    none changes its split when the corpus grows. A corpus of so few documents that the smallest share is less than one
    of them has its long ones cut by position instead (`position_split`): 90 % of a book to train on, the rest held out.
    Where they are short too, and a wanted split would be empty, it is given one of the documents (`SplitAssignment`);
    with fewer documents than splits, test is missing first, then validation.

    What was learned already is in the split "replay", wherever else it would be, and a new version of it (another text
    of the same source) in "train".

    Args:
        path: Records with the text in `text_field`, and perhaps `source`, `id` and `metadata`. Records with an empty
            text are counted and passed over.
        shares: Share of each split, adding up to 1.
        seed: Seed of the split.
        learned: What an earlier training has learned; None = nothing.

    Raises:
        ConfigError: the shares are out of range.
    """

    def __init__(
        self,
        path: Path,
        *,
        shares: Mapping[str, float],
        seed: int,
        text_field: str,
        learned: LearnedTexts | None = None,
    ) -> None:
        self._path = path
        self._shares = dict(shares)
        self._seed = seed
        self._text_field = text_field
        self._learned = learned
        self._assignment: SplitAssignment[SplitText] = SplitAssignment(shares=shares, seed=seed)
        self.num_empty = 0
        """Records without text, once the corpus was divided."""
        self.num_documents = 0
        """Documents, likewise."""
        self.num_cut = 0
        """How many of them were cut by position."""

    def divide(self) -> Iterator[tuple[str, SplitText]]:
        """(split, document) of every document; those by which it is decided what tiny splits get come late.

        Raises:
            DataError: the file is missing, holds no text, or a line (named) is not a record with a text.
        """
        stream = self._texts("encode")
        first = list(itertools.islice(stream, num_few(self._shares)))
        if len(first) < num_few(self._shares):
            self.num_cut = sum(is_worth_cutting(document.text, self._shares) for document in first)
        documents = itertools.chain(first, stream)
        if self.num_cut:
            yield from self._without_learned(self._cut_by_position(first), cut=True)
        else:
            yield from self._without_learned(
                self._assignment.assign((document.key, document) for document in documents)
            )
        if self.num_documents == 0:
            raise DataError(
                f"{self._path}: no text in it ({self.num_empty} records with an empty {self._text_field!r}); "
                "collect some documents first, or lower data.min_text_length"
            )
        self._log_small_corpus()

    def again(self, description: str) -> Iterator[tuple[str, SplitText]]:
        """(split, document) of every document as it was divided, in the order of the corpus."""
        counts = (self.num_empty, self.num_documents)
        documents = self._texts(description)
        if self.num_cut:
            yield from self._without_learned(self._cut_by_position(list(documents)), cut=True)
        else:
            yield from self._without_learned((self._split_of(document), document) for document in documents)
        self.num_empty, self.num_documents = counts

    def report(self) -> dict[str, Any]:
        """How the corpus was divided, as JSON."""
        return {
            "documents": self.num_documents,
            "documents_cut": self.num_cut,
            "empty_documents": self.num_empty,
            "seed": self._seed,
            "shares": self._shares,
            "empty_splits": [] if self.num_cut else self._assignment.empty_splits,
            "splits_given_a_document": sorted(self._assignment.moved.values()),
        }

    def _split_of(self, document: SplitText) -> str:
        moved = self._assignment.moved.get(document.key)
        return moved or split_of(document.key, shares=self._shares, seed=self._seed)

    def _without_learned(
        self, documents: Iterator[tuple[str, SplitText]], *, cut: bool = False
    ) -> Iterator[tuple[str, SplitText]]:
        if self._learned is None:
            yield from documents
            return
        for split, document in documents:
            if document.text in self._learned:
                yield REPLAY, document
            elif not cut and self._learned.knows_source(document.source):
                yield "train", document  # another version of what was learned, most of which may be the same
            else:
                yield split, document

    def _texts(self, description: str) -> Iterator[SplitText]:
        size = self._path.stat().st_size if self._path.is_file() else None
        self.num_empty = self.num_documents = 0
        with progress(total=size, description=f"{description} {self._path.name}", unit="B") as bar:
            for record in read_json_lines(self._path):
                document = self._document_of(record)
                if document.num_bytes:
                    self.num_documents += 1
                    yield document
                else:
                    self.num_empty += 1
                bar.update(record.num_bytes)

    def _document_of(self, record: JsonRecord) -> SplitText:
        text, num_bytes = self._text_of(record)
        values: dict[str, Any] = record.value
        metadata = values.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        return SplitText(
            text,
            num_bytes,
            str(metadata.get("cluster") or text_key(text)),
            str(values.get("source", "")),
            str(values.get("id", "")),
            bool(metadata.get("code")),
        )

    def _text_of(self, record: JsonRecord) -> tuple[str, int]:
        place = f"{self._path}:{record.line}"
        if record.problem is not None:
            raise DataError(
                f"{place}: {record.problem}; expected one JSON object with {self._text_field!r} a line"
            )
        if not isinstance(record.value, dict) or self._text_field not in record.value:
            found = (
                f"fields {', '.join(record.value)}" if isinstance(record.value, dict) else "no JSON object"
            )
            raise DataError(
                f"{place}: found {found}, expected a JSON object with a field {self._text_field!r}; "
                "set data.text_field to the field that holds the text"
            )
        text = record.value[self._text_field]
        if not isinstance(text, str):
            raise DataError(
                f"{place}: field {self._text_field!r} holds {type(text).__name__}, expected a string; "
                "set data.text_field to the field that holds the text"
            )
        try:
            return text, len(text.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise DataError(
                f"{place}: the text is not valid Unicode ({error.reason} at character {error.start}: "
                f"\\u{ord(text[error.start]):04x}); clean the corpus with DataCollector, or remove the record"
            ) from None

    def _cut_by_position(self, documents: Sequence[SplitText]) -> Iterator[tuple[str, SplitText]]:
        for document in documents:
            if is_worth_cutting(document.text, self._shares):
                for split, piece in pieces_of(document.text, self._shares):
                    yield split, document._replace(text=piece, num_bytes=len(piece.encode("utf-8")))
            else:
                yield "train", document

    def _log_small_corpus(self) -> None:
        if self.num_cut:
            logger.info(
                "%s: few documents; %d long ones are cut into their first part, to train on, and the rest, held out",
                self._path,
                self.num_cut,
            )
            return
        for split in self._assignment.moved.values():
            logger.warning(
                "%s: of %d documents none fell into %s; it was given one, so that it is not empty",
                self._path,
                self.num_documents,
                split,
            )
        if self._assignment.empty_splits:
            logger.warning(
                "%s: %d documents are too few for %s; the dataset goes without",
                self._path,
                self.num_documents,
                " and ".join(self._assignment.empty_splits),
            )


def measured_overlap(corpus: SplitCorpus) -> dict[str, Any]:
    """How much of the held-out text stands in the training text too (`split_overlap`). Reads the corpus twice."""
    overlap = SplitOverlap()
    for split, document in corpus.again("look at held-out text of"):
        if split not in LEARNED_FROM:
            overlap.add_held_out(split, document.source, document.text)
    overlap.freeze()
    for split, document in corpus.again("measure the overlap in"):
        if split in LEARNED_FROM:
            overlap.add_train(document.text)
    return overlap.result()


def learned_from(corpus: SplitCorpus) -> LearnedTexts:
    """The documents of a corpus that a training on its dataset learns, or has learned before. Reads the corpus once."""

    def keys() -> Iterator[str]:
        for split, document in corpus.divide():
            if split in LEARNED_FROM:
                yield text_key(document.text)
                # Of a document that was cut by position a part was learned: as a whole it is not to be held out either.
                yield document.key
                if document.source:
                    yield source_key(document.source)

    return LearnedTexts.of(keys())
