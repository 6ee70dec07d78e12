import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data_processing.rows.row_writer as row_writer
from core.errors import DiskError
from data_processing.rows.packing import ContinuousPacker, Rows, slice_rows
from data_processing.rows.row_writer import RowWriter, TokenizerFacts

FACTS = TokenizerFacts(vocab_size=1000, pad_id=3, fingerprint="f" * 64)
T = 16


def some_rows(number: int) -> Rows:
    packer = ContinuousPacker(T, stride=0, pad_id=3, dtype=np.dtype(np.uint16))
    tokens = np.random.default_rng(0).integers(4, 1000, number * T)
    return packer.add(tokens, np.full(number * T // 4, 4))


def write(directory: Path, rows: Rows, pieces: list[int], **options: int) -> dict[str, bytes]:
    with RowWriter(directory, kind="text", max_length=T, stride=0, tokenizer=FACTS, **options) as writer:
        begin = 0
        while begin < len(rows.input_ids):
            for piece in pieces:
                end = min(begin + piece, len(rows.input_ids))
                writer.write(slice_rows(rows, begin, end))
                begin = end
        writer.finish(documents=1, text_bytes=1)
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_files_do_not_depend_on_the_pieces_in_which_rows_arrive(tmp_path_factory, pieces):
    rows = some_rows(100)
    base = tmp_path_factory.mktemp("writer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_writer, "BATCH_BYTES", 7 * T * 2)
        at_once = write(base / "a" / "train", rows, [100], shard_bytes=20 * T * 2)
        in_pieces = write(base / "b" / "train", rows, pieces, shard_bytes=20 * T * 2)
    assert at_once == in_pieces
    assert sum(name.endswith(".arrow") for name in at_once) == 8  # shards of 14 rows: two whole batches of 7


def test_shards_have_the_size_that_was_asked_for_at_two_bytes_a_token(tmp_path):
    packer = ContinuousPacker(2048, stride=0, pad_id=3, dtype=np.dtype(np.uint16))
    rows = packer.add(np.full(2048 * 64, 9), np.full(64, 2048))
    with RowWriter(
        tmp_path / "train", kind="text", max_length=2048, stride=0, tokenizer=FACTS, shard_bytes=100_000
    ) as writer:
        writer.write(rows)
        metadata = writer.finish(documents=64, text_bytes=1)
    assert [shard.rows for shard in metadata.shards] == [24, 24, 16]  # 24 rows of 4096 bytes are 98,304
    assert max(shard.bytes for shard in metadata.shards) < 100_000
    assert sum(shard.bytes for shard in metadata.shards) / metadata.tokens < 2.02


def test_the_datasets_library_reads_each_shard_by_itself(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = some_rows(10)
    write(tmp_path / "train", rows, [10])
    opened = datasets.Dataset.from_file(str(tmp_path / "train" / "data-00000.arrow"))
    assert opened["input_ids"][:] == rows.input_ids.tolist()
    assert opened.features["input_ids"].length == T
    assert opened.features["input_ids"].feature.dtype == "uint16"


def test_the_features_that_are_written_are_those_that_the_datasets_library_writes(tmp_path):
    datasets = pytest.importorskip("datasets")
    write(tmp_path / "ours" / "train", some_rows(4), [4])
    features = datasets.Features(
        {
            "input_ids": datasets.List(datasets.Value("uint16"), length=T),
            "document_starts": datasets.List(datasets.Value("int32")),
        }
    )
    empty = {"input_ids": [[0] * T], "document_starts": [[0]]}
    datasets.Dataset.from_dict(empty, features=features).save_to_disk(tmp_path / "theirs")
    ours, theirs = (
        json.loads((path / "dataset_info.json").read_text())
        for path in (tmp_path / "ours/train", tmp_path / "theirs")
    )
    assert ours == theirs


def test_a_token_outside_of_the_vocabulary_is_a_mistake_of_the_caller(tmp_path):
    rows = some_rows(2)
    rows.input_ids[1, 1] = 1000
    with pytest.raises(AssertionError, match="token id 1000 is not in the vocabulary"):
        write(tmp_path / "train", rows, [2])


def test_a_full_disk_is_said_to_be_full(tmp_path, monkeypatch):
    class FullDisk:
        def __init__(self, *_: object) -> None:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(row_writer.pa, "OSFile", FullDisk)
    with pytest.raises(DiskError, match=r"train.*disk is full"):
        write(tmp_path / "train", some_rows(2), [2])


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match=r"file"):
        write(tmp_path / "file" / "train", some_rows(2), [2])
