import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.dataset_builder import DatasetBuilder
from data_processing.rows.position_split import is_worth_cutting, num_few, pieces_of
from tests.small_texts import make_documents

SHARES = {"train": 0.9, "validation": 0.05, "test": 0.05}


@given(st.text(alphabet="ab \n", max_size=5000))
def test_the_pieces_put_together_are_the_text(text: str) -> None:
    pieces = list(pieces_of(text, SHARES))
    assert [split for split, _ in pieces] == ["train", "validation", "test"]
    assert "".join(piece for _, piece in pieces) == text


@pytest.mark.parametrize("line", ["The smith draws the bloom.\n", "no line ends at all "])
def test_the_pieces_have_the_wanted_shares_and_end_with_lines(line: str) -> None:
    text = line * 2000
    pieces = dict(pieces_of(text, SHARES))
    assert len(pieces["train"]) == pytest.approx(0.9 * len(text), abs=100)
    assert len(pieces["test"]) == pytest.approx(0.05 * len(text), abs=100)
    if line.endswith("\n"):
        assert all(piece.endswith("\n") for piece in pieces.values())


def test_short_texts_and_one_split_are_not_worth_cutting() -> None:
    assert not is_worth_cutting("x" * 19_999, SHARES)
    assert is_worth_cutting("x" * 20_000, SHARES)
    assert not is_worth_cutting("x" * 10**6, {"train": 1.0, "validation": 0.0})


def test_few_is_less_than_one_document_for_the_smallest_share() -> None:
    assert num_few(SHARES) == 20
    assert num_few({"train": 0.99, "validation": 0.01, "test": 0.0}) == 50


def build(directory: Path, tokenizer: Path, texts: list[str]):
    path = directory / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return DatasetBuilder(tokenizer, 64).build_from_jsonl(path)


def test_one_book_is_trained_on_and_held_out(
    tmp_path: Path, small_tokenizer_directory: Path, small_tokenizer
) -> None:
    book = "\n".join(make_documents(200, seed=3))
    with build(
        tmp_path, small_tokenizer_directory, [book, "A short note beside it, of one line."]
    ) as dataset:
        assert list(dataset) == ["train", "validation", "test"]
        assert dataset.report["documents"] == 2
        assert dataset.report["documents_cut"] == 1
        assert sum(split["text_bytes"] for split in dataset.report["splits"].values()) == len(book) + 36
        held_out = small_tokenizer.decode(dataset["validation"].tokens(0).tolist())
        assert held_out[:40] in book[int(0.9 * len(book)) :]


def test_few_short_documents_stay_whole(tmp_path: Path, small_tokenizer_directory: Path) -> None:
    with build(tmp_path, small_tokenizer_directory, make_documents(5, seed=4)) as dataset:
        assert dataset.report["documents_cut"] == 0
        assert sum(split["documents"] for split in dataset.report["splits"].values()) == 5
