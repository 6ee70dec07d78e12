"""The text that a run's model was trained on, read back from its rows. Knows no model and no score."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.progress import progress
from data_processing.rows.token_rows import TokenRows
from data_processing.rules.decontaminate import ngram_hashes
from data_processing.rules.hash_set import HashSet
from tokenization.tokenizer import Tokenizer

NGRAM_WORDS = 13
"""Two texts that share so many words in a row have them from one another (Brown et al. 2020, appendix C)."""


class TrainingText:
    """What a model read, as far as a run keeps it: the rows of its text and, of a tuned model, of its conversations.

    Raises:
        CorruptArtifactError: rows are damaged.
    """

    def __init__(self, run: Path, tokenizer: Tokenizer, *, with_conversations: bool) -> None:
        places = [run / "dataset" / "train"]
        if with_conversations and (run / "instructions" / "train").is_dir():
            places.append(run / "instructions" / "train")
        self.name = " and ".join(str(place) for place in places)
        self.run = run
        self.tokenizer = tokenizer
        self.rows = [TokenRows(place) for place in places]
        self.fingerprint = " ".join(rows.fingerprint for rows in self.rows)

    def sample_ids(self, most: int) -> NDArray[np.int64]:
        """At most so many tokens of the text, whole rows spread evenly over it."""
        rows = self.rows[0]
        number = min(len(rows), max(1, most // rows.metadata.max_length))
        chosen = [rows.tokens(index * len(rows) // number) for index in range(number)]
        return np.concatenate(chosen).astype(np.int64)

    def holds(self, wanted: HashSet) -> NDArray[np.bool_]:
        """For each of the n-grams of words whether it stands in the text, in the order of `wanted.hashes`."""
        found = np.zeros(len(wanted.hashes), dtype=np.bool_)
        for text in self.documents():
            found[wanted.places_of(ngram_hashes(text, NGRAM_WORDS))] = True
        return found

    def documents(self) -> Iterator[str]:
        """The texts, one after the other."""
        for rows in self.rows:
            held: list[NDArray[Any]] = []
            bar = progress(range(len(rows)), description=f"reading {rows.directory.parent.name}", unit="row")
            for index in bar:
                # A document goes on in the next row until another one starts.
                going_on, *new = np.split(rows.tokens(index), rows.document_starts(index))
                held.append(going_on)
                for begun in new:
                    yield from self._text(held)
                    held = [begun]
            yield from self._text(held)

    def _text(self, pieces: list[NDArray[Any]]) -> Iterator[str]:
        if text := self.tokenizer.decode(np.concatenate(pieces).tolist()):
            yield text


def run_of(model_directory: Path) -> Path | None:
    """The run that a model directory lies in, or None where it lies in none with a dataset."""
    parents = model_directory.absolute().parents
    return next((parent for parent in parents if (parent / "dataset" / "train").is_dir()), None)


def training_text_of(model_directory: Path, tokenizer: Tokenizer) -> TrainingText | None:
    """What the model in a directory was trained on, or None where that is not known."""
    run = run_of(model_directory)
    if run is None:
        return None
    is_tuned = model_directory.absolute().is_relative_to((run / "finetune").absolute())
    return TrainingText(run, tokenizer, with_conversations=is_tuned)


def copied_ngrams(texts: Sequence[str], training: TrainingText) -> list[NDArray[np.bool_]]:
    """Of each text, for each run of 13 words, whether it stands in the training text; empty for shorter texts."""
    hashes = [ngram_hashes(text, NGRAM_WORDS) for text in texts]
    wanted = HashSet(np.concatenate(hashes))
    known = HashSet(wanted.hashes[training.holds(wanted)])
    return [known.contains(own) for own in hashes]
