"""How well a model predicts documents: as a whole, by source and by length. Knows no question and no dataset row."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from core.errors import DataError
from core.json_files import json_object
from core.progress import progress
from data_processing.reports.corpus_files import CORPUS_NAME
from data_processing.reports.data_report import DATASET_REPORT
from data_processing.reports.report import group_of
from data_processing.rows.json_records import read_json_lines
from data_processing.rows.learned_texts import LEARNED_NAME, LearnedTexts
from data_processing.rows.split_corpus import SplitCorpus
from evaluation.language_model import LanguageModel
from evaluation.likelihoods import Row, score_rows
from evaluation.run_places import DataPlaces

SPLITS = ("validation", "test", "train")

LENGTHS = ((1_000, "below 1 kB"), (4_000, "1 to 4 kB"), (16_000, "4 to 16 kB"), (64_000, "16 to 64 kB"))
LONGEST = "64 kB and more"

ROWS_AT_ONCE = 256
"""Rows that are sorted by length and scored together; bounds memory."""


@dataclasses.dataclass(frozen=True)
class Text:
    """A document and where it is from."""

    text: str
    source: str


@dataclasses.dataclass
class Tally:
    """What was predicted so far."""

    num_documents: int = 0
    num_bytes: int = 0
    num_tokens: int = 0
    num_likeliest: int = 0
    nats: float = 0.0

    def figures(self) -> dict[str, Any]:
        """Counts, and the figures that follow from them; nothing but counts where nothing was predicted."""
        counts = {
            "num_documents": self.num_documents,
            "num_bytes": self.num_bytes,
            "num_tokens": self.num_tokens,
        }
        if not self.num_tokens or not self.num_bytes:
            return counts
        loss = self.nats / self.num_tokens
        return {
            **counts,
            "loss_nats": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "bits_per_byte": self.nats / math.log(2) / self.num_bytes,
            "token_accuracy": self.num_likeliest / self.num_tokens,
        }


def texts_in_file(path: Path) -> Iterator[Text]:
    """The documents of a jsonl file (`text`, and perhaps `source`), or any other file as one document.

    Raises:
        DataError: it is missing, not UTF-8 or empty, or a line holds no text; the message names file and line.
    """
    if path.suffix == ".jsonl":
        for line, record, problem, _ in read_json_lines(path):
            if problem is not None:
                raise DataError(f"{path}:{line}: {problem}; mend or remove the line")
            if not isinstance(record, dict) or not isinstance(record.get("text"), str):
                raise DataError(f'{path}:{line}: expected an object with a "text", found {record!r:.80}')
            yield Text(record["text"], str(record.get("source", path.name)))
        return
    try:
        yield Text(path.read_text(encoding="utf-8"), path.name)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not UTF-8 ({error.reason} at byte {error.start}); convert it, or name a jsonl file"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def divided_corpus(places: DataPlaces) -> SplitCorpus:
    """The documents of a corpus, divided as they were for its dataset.

    Raises:
        DataError: nothing says how that was.
    """
    division = json_object(places.dataset / DATASET_REPORT, mistake=DataError)
    learned = places.dataset / LEARNED_NAME
    return SplitCorpus(
        places.corpus / CORPUS_NAME,
        shares=division["shares"],
        seed=division["seed"],
        text_field="text",
        learned=LearnedTexts.from_file(learned) if learned.is_file() else None,
    )


def texts_of_split(places: DataPlaces, split: str) -> Iterator[Text]:
    """The documents of a corpus that are in one of its splits.

    Raises:
        DataError: the corpus is not there, or nothing says how it was divided.
    """
    report, corpus = places.dataset / DATASET_REPORT, places.corpus / CORPUS_NAME
    for file in (report, corpus):
        if not file.is_file():
            raise DataError(
                f"{file}: not there, so the documents of {split} are not known; name a file of text instead"
            )
    for own, document in divided_corpus(places).divide():
        if own == split:
            yield Text(document.text, document.source)


def evaluate_texts(
    model: LanguageModel, texts: Iterable[Text], *, description: str, limit: int | None = None
) -> dict[str, Any]:
    """Loss, perplexity, bits per byte and the share of tokens that were the likeliest.

    Each token of a document is predicted once, from up to a context of tokens before it: a document that does not fit
    is read in pieces of a context, each beginning with the last token of the piece before.

    Args:
        limit: Only the first so many documents; None = all.

    Returns:
        The figures of all documents, and those `by_source` (the first directory) and `by_length`.

    Raises:
        DataError: there is no text.
    """
    whole = Tally()
    by_source: dict[str, Tally] = {}
    by_length: dict[str, Tally] = {}
    rows: list[Row] = []
    owners: list[tuple[Tally, ...]] = []

    def score() -> None:
        for tallies, found in zip(owners, score_rows(model, rows), strict=True):
            for tally in tallies:
                tally.num_tokens += found.num_tokens
                tally.num_likeliest += found.num_likeliest
                tally.nats -= found.log_probability
        rows.clear()
        owners.clear()

    with progress(description=description, unit="B") as bar:
        for document in islice(texts, limit):
            num_bytes = len(document.text.encode("utf-8", "surrogatepass"))
            tallies = (
                whole,
                by_source.setdefault(group_of(document.source), Tally()),
                by_length.setdefault(_length(num_bytes), Tally()),
            )
            for tally in tallies:
                tally.num_documents += 1
                tally.num_bytes += num_bytes
            for row in _windows(document.text, model):
                rows.append(row)
                owners.append(tallies)
                if len(rows) == ROWS_AT_ONCE:
                    score()
            bar.update(num_bytes)
        score()
    if not whole.num_tokens:
        raise DataError(
            f"{description}: no text in {whole.num_documents} documents; name a file that holds some"
        )
    order = [label for _, label in LENGTHS] + [LONGEST]
    return {
        **whole.figures(),
        "by_source": {name: tally.figures() for name, tally in sorted(by_source.items())},
        "by_length": {name: by_length[name].figures() for name in order if name in by_length},
    }


def _windows(text: str, model: LanguageModel) -> Iterator[Row]:
    ids = model.encode([text])[0]
    whole = [*(model.start_ids or (model.boundary_id,)), *ids]
    for start in range(0, len(whole) - 1, model.context):
        part = whole[start : start + model.context + 1]
        # What a text begins with is given and not predicted.
        yield Row(part, len(part) - 1)


def _length(num_bytes: int) -> str:
    return next((label for limit, label in LENGTHS if num_bytes < limit), LONGEST)
