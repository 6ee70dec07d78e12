"""What an earlier training has learned is told apart, and never held out."""

import json
from pathlib import Path

import numpy as np
import pytest

from core.errors import DataError
from data_processing.dataset_builder import DatasetBuilder
from data_processing.rows.learned_texts import LearnedTexts
from data_processing.rows.split_corpus import SplitCorpus, learned_from
from data_processing.rows.splits import text_key
from tests.small_texts import make_documents

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def corpus(path: Path, texts: list[str], learned: LearnedTexts | None = None) -> SplitCorpus:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return SplitCorpus(path, shares=SHARES, seed=3, text_field="text", learned=learned)


def divided(documents: SplitCorpus) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for split, document in documents.divide():
        found.setdefault(split, set()).add(document.text)
    return found


def test_a_set_of_texts_is_read_as_it_was_written(tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(1000)]
    written = LearnedTexts.of(text_key(text) for text in texts)
    written.save(tmp_path / "learned.npy")
    read = LearnedTexts.from_file(tmp_path / "learned.npy")
    assert len(read) == 1000
    assert all(text in read for text in texts)
    assert not any(f"other {n}" in read for n in range(1000))
    assert "text 1" not in LearnedTexts.of([])
    both = read | LearnedTexts.of([text_key("other 1")])
    assert len(both) == 1001 and "other 1" in both


@pytest.mark.parametrize(
    "content", [b"", b"no numbers", b"\x93NUMPY\x01\x00"], ids=["empty", "text", "cut off"]
)
def test_another_file_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "learned.npy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"learned\.npy: cannot be read as the digests"):
        LearnedTexts.from_file(path)


def test_objects_in_a_file_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "learned.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        LearnedTexts.from_file(path)
    np.save(path, np.zeros((2, 2)))
    with pytest.raises(DataError, match="holds no digests"):
        LearnedTexts.from_file(path)


def test_of_a_grown_corpus_each_document_is_in_one_split_and_none_that_was_learned_is_held_out(
    tmp_path: Path,
) -> None:
    old, new = make_documents(120, seed=1), make_documents(80, seed=2)
    first = corpus(tmp_path / "old.jsonl", old)
    before = divided(first)
    learned = learned_from(first)
    after = divided(corpus(tmp_path / "both.jsonl", [*new[:40], *old, *new[40:]], learned))
    assert sum(map(len, after.values())) == len({*old, *new})
    assert after["replay"] == before["train"]
    assert after["train"] <= set(new)
    assert after["validation"] - set(new) == before["validation"]
    assert after["test"] - set(new) == before["test"]
    # and once more: what is replayed and what was new then are both known
    again = learned_from(corpus(tmp_path / "both.jsonl", [*old, *new], learned))
    third = divided(corpus(tmp_path / "third.jsonl", [*old, *new, "one more text"], again))
    assert third["replay"] == after["replay"] | after["train"]


def test_a_book_that_was_cut_is_not_held_out_when_others_come(tmp_path: Path) -> None:
    book = " ".join(make_documents(200, seed=5))
    alone = corpus(tmp_path / "book.jsonl", [book])
    pieces = divided(alone)
    assert alone.num_cut == 1 and pieces.keys() == {"train", "validation", "test"}
    learned = learned_from(corpus(tmp_path / "book.jsonl", [book]))
    for seed in range(20):  # wherever the hash of the whole book would put it
        others = make_documents(60, seed=100 + seed)
        path = tmp_path / "many.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [book, *others]))
        grown = SplitCorpus(path, shares=SHARES, seed=seed, text_field="text", learned=learned)
        assert divided(grown)["replay"] == {book}


def test_a_dataset_keeps_learned_rows_apart_and_its_report_counts_them(
    tmp_path: Path, small_tokenizer_directory: Path
) -> None:
    old, new = make_documents(120, seed=1), make_documents(40, seed=2)
    first = corpus(tmp_path / "old.jsonl", old)
    learned_from(first).save(tmp_path / "learned.npy")
    corpus(tmp_path / "both.jsonl", [*old, *new])

    def build(file: str, learned: Path | None):
        builder = DatasetBuilder(small_tokenizer_directory, 32, seed=3, learned=learned)
        return builder.build_from_jsonl(tmp_path / file, 0.8, 0.1, 0.1)

    with (
        build("old.jsonl", None) as before,
        build("both.jsonl", None) as plain,
        build("both.jsonl", tmp_path / "learned.npy") as after,
    ):
        counts = {split: values["documents"] for split, values in after.report["splits"].items()}
        assert counts["replay"] == before.report["splits"]["train"]["documents"]
        whole = plain.report["splits"]
        assert counts["train"] + counts["replay"] == whole["train"]["documents"]
        assert (counts["validation"], counts["test"]) == tuple(
            whole[split]["documents"] for split in ("validation", "test")
        )
        assert [after["replay"].tokens(row).tolist() for row in range(len(after["replay"]))] == [
            before["train"].tokens(row).tolist() for row in range(len(before["train"]))
        ]
        # What was learned counts as training text when the overlap is measured.
        assert after.report["overlap"] == plain.report["overlap"]
