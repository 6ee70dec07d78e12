import json
import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from core.errors import CorruptArtifactError, DataError, DiskError
from data_processing.rows.arrow_rows import METADATA_NAME
from data_processing.rows.packing import IGNORED, ContinuousPacker, ConversationPacker
from data_processing.rows.row_writer import RowWriter, TokenizerFacts
from data_processing.rows.token_rows import TokenRows

PAD = 3
T = 8
FACTS = TokenizerFacts(vocab_size=1000, pad_id=PAD, fingerprint="f" * 64)


def documents(number: int, *, seed: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [[1, *generator.integers(16, 1000, generator.integers(0, 20)).tolist(), 2] for _ in range(number)]


def write_text(
    directory: Path,
    texts: list[list[int]],
    *,
    stride: int = 0,
    facts: TokenizerFacts = FACTS,
    shard_bytes: int = 400,
) -> Path:
    dtype = np.dtype(np.uint16 if facts.vocab_size <= 65_536 else np.uint32)
    packer = ContinuousPacker(T, stride=stride, pad_id=PAD, dtype=dtype)
    with RowWriter(
        directory, kind="text", max_length=T, stride=stride, tokenizer=facts, shard_bytes=shard_bytes
    ) as writer:
        for text in texts:
            writer.write(packer.add(np.array(text), np.array([len(text)])))
        writer.write(packer.finish())
        writer.finish(documents=len(texts), text_bytes=100)
    return directory


@pytest.fixture
def split(tmp_path: Path) -> Path:
    return write_text(tmp_path / "train", documents(60))


def test_rows_in_shards_give_back_every_document(split):
    rows = TokenRows(split)
    assert len(rows.metadata.shards) > 3
    stream = [token for index in range(len(rows)) for token in rows.tokens(index).tolist()]
    read: list[list[int]] = []
    for token in stream[: len(stream) - rows.metadata.padding_tokens]:
        if token == 1:
            read.append([])
        read[-1].append(token)
    assert read == documents(60)
    starts = [T * i + int(s) for i in range(len(rows)) for s in rows.document_starts(i)]
    assert starts == [place for place, token in enumerate(stream) if token == 1]


def test_a_row_has_labels_one_ahead_and_positions_that_restart(tmp_path):
    rows = TokenRows(write_text(tmp_path / "train", [[1, 20, 2], [1, 30, 31, 32, 33, 2]]))
    first, second = rows[0], rows[1]
    assert first["input_ids"].tolist() == [1, 20, 2, 1, 30, 31, 32, 33]
    assert first["labels"].tolist() == [20, 2, IGNORED, 30, 31, 32, 33, IGNORED]
    assert first["position_ids"].tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert second["input_ids"].tolist() == [2] + [PAD] * 7
    assert second["labels"].tolist() == [IGNORED] * 8
    assert {column.dtype for column in first.values()} == {np.dtype(np.int64)}
    assert {column.shape for column in first.values()} == {(T,)}


@pytest.mark.parametrize("stride", [0, 1, 5])
def test_labels_and_positions_of_every_row_follow_from_the_documents_alone(tmp_path, stride):
    texts = documents(40, seed=stride)
    rows = TokenRows(write_text(tmp_path / "train", texts, stride=stride))
    learned = []
    for index in range(len(rows)):
        row = rows[index]
        ids, labels, positions = (row[name].tolist() for name in ("input_ids", "labels", "position_ids"))
        for t in range(T):
            assert labels[t] in (IGNORED, ids[t + 1] if t + 1 < T else IGNORED)
            assert labels[t] != 1 and labels[t] != PAD
            assert positions[t] == (0 if t == 0 or ids[t] == 1 else positions[t - 1] + 1)
        learned += [label for label in labels if label != IGNORED]
    assert len(learned) == rows.metadata.targets
    if stride:
        assert learned == [token for text in texts for token in text[1:]]


def test_a_batch_is_its_rows_one_above_the_other_and_counts_from_the_end_for_negative_indices(split):
    rows = TokenRows(split)
    indices = [0, len(rows) - 1, 7, 7, -1]
    batch = rows.batch(indices)
    for name, column in batch.items():
        assert column.shape == (5, T)
        assert column.dtype == np.int64
        assert column.flags.c_contiguous and column.flags.writeable
        assert np.array_equal(column, np.stack([rows[index][name] for index in indices]))
    assert np.array_equal(rows[-1]["input_ids"], rows[len(rows) - 1]["input_ids"])
    assert {column.shape for column in rows.batch([]).values()} == {(0, T)}


def test_iteration_ends_after_the_last_row_and_an_index_outside_says_how_many_there_are(split):
    rows = TokenRows(split)
    assert sum(1 for _ in rows) == len(rows)
    with pytest.raises(IndexError, match=rf"row {len(rows)} of a split of {len(rows)} rows"):
        rows[len(rows)]
    with pytest.raises(IndexError):
        rows[-len(rows) - 1]


def test_the_view_of_a_row_is_the_mapped_file_and_cannot_be_written(split):
    rows = TokenRows(split)
    view = rows.tokens(0)
    assert view.dtype == np.uint16
    assert not view.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 5


def test_a_vocabulary_beyond_two_bytes_is_stored_in_four(tmp_path):
    facts = FACTS._replace(vocab_size=100_000)
    rows = TokenRows(write_text(tmp_path / "train", [[1, 99_999, 2]], facts=facts))
    assert rows.tokens(0).dtype == np.uint32
    assert rows[0]["input_ids"][1] == 99_999
    facts = FACTS._replace(vocab_size=65_536)
    rows = TokenRows(write_text(tmp_path / "other", [[1, 65_535, 2]], facts=facts))
    assert rows.tokens(0).dtype == np.uint16
    assert rows[0]["input_ids"][1] == 65_535


def test_conversation_rows_learn_what_was_marked_and_nothing_else(tmp_path):
    packer = ConversationPacker(T, pad_id=PAD, dtype=np.dtype(np.uint16))
    with RowWriter(
        tmp_path / "train", kind="conversations", max_length=T, stride=0, tokenizer=FACTS
    ) as writer:
        for row in packer.add([1, 50, 60, 7], [False, False, True, True]):
            writer.write(row)
        for row in packer.add([1, 51, 7], [False, False, True]):
            writer.write(row)
        for row in packer.finish():
            writer.write(row)
        metadata = writer.finish(documents=2, text_bytes=10)
    row = TokenRows(tmp_path / "train")[0]
    assert row["input_ids"].tolist() == [1, 50, 60, 7, 1, 51, 7, PAD]
    assert row["labels"].tolist() == [IGNORED, 60, 7, IGNORED, IGNORED, 7, IGNORED, IGNORED]
    assert row["position_ids"].tolist()[:7] == [0, 1, 2, 3, 0, 1, 2]
    assert (metadata.targets, metadata.tokens, metadata.padding_tokens, metadata.documents) == (3, 7, 1, 2)


def test_pickled_rows_open_the_same_files(split):
    rows = TokenRows(split)
    data = pickle.dumps(rows)
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert np.array_equal(copy[3]["labels"], rows[3]["labels"])


def _row_sum(rows: TokenRows, index: int, answers: "multiprocessing.Queue[int]") -> None:
    answers.put(int(rows[index]["input_ids"].sum()))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # Python 3.12 and later
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_process_reads_the_same_rows(split, method):
    rows = TokenRows(split)
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    worker = context.Process(target=_row_sum, args=(rows, 5, answers))
    worker.start()
    assert answers.get(timeout=60) == int(rows[5]["input_ids"].sum())
    worker.join()


def test_a_torch_loader_takes_the_rows_as_a_map_dataset(split):
    data = pytest.importorskip("torch.utils.data")
    rows = TokenRows(split)
    batch = next(iter(data.DataLoader(rows, batch_size=4)))
    assert {name: tuple(column.shape) for name, column in batch.items()} == {
        "input_ids": (4, T),
        "labels": (4, T),
        "position_ids": (4, T),
    }
    assert np.array_equal(batch["labels"].numpy(), rows.batch(range(4))["labels"])


def test_deleting_the_files_of_open_rows_leaves_them_readable(split):
    rows = TokenRows(split)
    before = rows[4]["input_ids"]
    shutil.rmtree(split)
    assert np.array_equal(rows[4]["input_ids"], before)


def test_a_file_that_is_cut_off_under_open_rows_is_an_error_and_not_the_end_of_the_process(split):
    rows = TokenRows(split)
    shard = split / rows.metadata.shards[0].file
    with shard.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(DiskError, match=r"cut off from \d+ to 100 bytes while it was in use; .*"):
        rows.batch([0])
    shard.unlink()
    shard.write_bytes(b"another file")


def test_a_missing_shard_is_named(split):
    (split / "data-00002.arrow").unlink()
    with pytest.raises(
        CorruptArtifactError, match=r"data-00002\.arrow: the shard is missing; .*verify --repair`"
    ):
        TokenRows(split)


def test_a_renamed_shard_is_named(split):
    (split / "data-00002.arrow").rename(split / "data-00099.arrow")
    with pytest.raises(CorruptArtifactError, match=r"data-00099\.arrow: no shard of this split"):
        TokenRows(split)


def test_cache_files_of_the_datasets_library_are_no_shards(split):
    (split / "cache-0123456789abcdef.arrow").write_bytes(b"whatever")
    assert len(TokenRows(split)) > 0


def test_a_truncated_shard_is_named_with_both_sizes(split):
    path = split / "data-00001.arrow"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 100)
    with pytest.raises(
        CorruptArtifactError, match=rf"data-00001\.arrow: has {size - 100} bytes, {size} were written"
    ):
        TokenRows(split)


def test_a_shard_of_the_right_size_that_is_no_arrow_stream_is_named(split):
    path = split / "data-00001.arrow"
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(CorruptArtifactError, match=r"data-00001\.arrow: "):
        TokenRows(split)


@pytest.mark.parametrize("num_lost", [8, 64, 256])
def test_a_shard_whose_last_pages_were_lost_is_refused_at_open(split, num_lost):
    path = split / "data-00001.arrow"
    data = path.read_bytes()
    path.write_bytes(data[:-num_lost] + bytes(num_lost))
    with pytest.raises(CorruptArtifactError, match=r"data-00001\.arrow: does not end as an Arrow stream"):
        TokenRows(split)


def test_no_flipped_bit_makes_opening_fail_in_another_way_or_reading_leave_the_file(split):
    path = split / "data-00001.arrow"
    good = path.read_bytes()
    num_refused = 0
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 1
        path.write_bytes(data)
        try:
            rows = TokenRows(split)
        except CorruptArtifactError as error:
            assert "data-00001.arrow: " in str(error) and "verify --repair" in str(error)
            num_refused += 1
        else:
            for index in range(len(rows)):
                rows.tokens(index).sum()
    # What describes the columns; the rest are values, and only `verify` reads those.
    assert num_refused > len(good) // 4


def test_a_shard_with_other_columns_is_named_with_what_was_expected(split):
    metadata = json.loads((split / METADATA_NAME).read_text())
    shard = metadata["shards"][0]
    table = pa.table({"tokens": pa.array([[1]] * shard["rows"])})
    with pa.OSFile(str(split / shard["file"]), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    shard["bytes"] = (split / shard["file"]).stat().st_size
    (split / METADATA_NAME).write_text(json.dumps(metadata))
    with pytest.raises(
        CorruptArtifactError, match=r"expected \d+ rows of .*input_ids.*found \d+ rows of tokens"
    ):
        TokenRows(split)


def test_a_flipped_bit_is_found_by_verify(split):
    TokenRows(split).verify()
    path = split / "data-00001.arrow"
    data = bytearray(path.read_bytes())
    data[-100] ^= 4
    path.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match=r"data-00001\.arrow: its SHA-256 is"):
        TokenRows(split).verify()


def test_a_token_outside_of_the_vocabulary_is_refused_at_open(split):
    metadata = json.loads((split / METADATA_NAME).read_text())
    metadata["shards"][1]["max_id"] = 1000
    (split / METADATA_NAME).write_text(json.dumps(metadata))
    with pytest.raises(
        CorruptArtifactError, match=r"data-00001\.arrow: holds token id 1000, the vocabulary has 1000 tokens"
    ):
        TokenRows(split)


def test_the_largest_token_of_each_shard_is_recorded(split):
    rows = TokenRows(split)
    for shard in rows.metadata.shards:
        with pa.OSFile(str(split / shard.file)) as source:
            table = pa.ipc.open_stream(source).read_all()
        assert shard.max_id == max(max(row) for row in table.column("input_ids").to_pylist())
        assert shard.rows == table.num_rows
    assert rows.metadata.max_id == max(shard.max_id for shard in rows.metadata.shards)


def test_a_split_without_rows_is_refused_at_open(tmp_path):
    with RowWriter(tmp_path / "train", kind="text", max_length=T, stride=0, tokenizer=FACTS) as writer:
        writer.finish(documents=0, text_bytes=0)
    with pytest.raises(DataError, match=r"train: the split has no rows"):
        TokenRows(tmp_path / "train")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rows": 5}, r"5 rows of 8 tokens do not agree"),
        ({"format_version": 99}, r"format_version 99, this version reads 1"),
        ({"max_length": "eight"}, r"max_length: expected a whole number"),
        ({"surprise": 1}, r"unknown setting 'surprise'"),
    ],
)
def test_a_description_that_makes_no_sense_is_named(split, change, reason):
    path = split / METADATA_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CorruptArtifactError, match=rf"{METADATA_NAME}: .*{reason}"):
        TokenRows(split)


def test_a_cut_off_description_is_named(split):
    path = split / METADATA_NAME
    path.write_text(path.read_text()[:50])
    with pytest.raises(CorruptArtifactError, match=rf"{METADATA_NAME}.*not valid JSON"):
        TokenRows(split)


def test_a_directory_that_is_no_split_is_refused_with_the_splits_below_it(split):
    with pytest.raises(DataError, match=r"not a split of a dataset.*name one of its splits: train"):
        TokenRows(split.parent)
    with pytest.raises(DataError, match=r"nowhere: not a split of a dataset"):
        TokenRows(split.parent / "nowhere")


def test_the_fingerprint_changes_with_one_token(tmp_path):
    texts = documents(10)
    same = [TokenRows(write_text(tmp_path / name / "train", texts)).fingerprint for name in "ab"]
    texts[3][0] = 17
    other = TokenRows(write_text(tmp_path / "c" / "train", texts)).fingerprint
    assert same[0] == same[1] != other


def test_a_split_that_stands_alone_has_no_tokenizer_directory(split):
    assert TokenRows(split).tokenizer_directory is None
    (split.parent / "tokenizer").mkdir()
    assert TokenRows(split).tokenizer_directory == split.parent / "tokenizer"
