import gc
import hashlib
import json
import logging
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data_processing.dataset_builder as dataset_builder
from core.data_config import AugmentationConfig
from core.errors import ConfigError, DataError
from data_processing.dataset_builder import DatasetBuilder
from data_processing.rows.packing import IGNORED
from data_processing.rows.splits import split_of, text_key
from data_processing.rows.token_dataset import TokenDataset, save_dataset
from data_processing.rows.token_rows import TokenRows
from tests.data_processing.tiny_tokenizer import generated_texts, tiny_tokenizer, tokenizer_path

SHARES = {"train": 0.9, "validation": 0.05, "test": 0.05}


def write_corpus(path: Path, texts: list[str], *, field: str = "text") -> Path:
    lines = [json.dumps({field: text, "id": str(number)}) + "\n" for number, text in enumerate(texts)]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def build(path: Path, max_length: int = 32, **options):
    return DatasetBuilder(tokenizer_path(), max_length, num_workers=1, **options).build_from_jsonl(path)


def decoded_documents(rows: TokenRows) -> list[str]:
    """The documents of a split, read from its rows without any of the code that packs."""
    documents: list[list[int]] = []
    for index in range(len(rows)):
        ids = rows.tokens(index).tolist()
        if index == len(rows) - 1:
            ids = ids[: len(ids) - rows.metadata.padding_tokens]
        for token in ids:
            if token == 1:
                documents.append([])
            documents[-1].append(token)
    assert all(document[0] == 1 and document[-1] == 2 for document in documents)
    return [tiny_tokenizer().decode(document[1:-1]) for document in documents]


def file_hashes(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus.jsonl", generated_texts(400))


def test_decoding_the_rows_gives_back_every_document_in_the_split_of_its_hash(corpus):
    dataset = build(corpus)
    assert list(dataset) == ["train", "validation", "test"]
    expected: dict[str, list[str]] = {split: [] for split in SHARES}
    for text in generated_texts(400):
        expected[split_of(text_key(text), shares=SHARES, seed=1337)].append(text)
    for split, rows in dataset.items():
        assert sorted(decoded_documents(rows)) == sorted(expected[split])


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.text(max_size=30), min_size=1, max_size=12).filter(any),
    st.integers(2, 40),
    st.data(),
)
def test_no_token_and_no_byte_of_text_is_lost_or_counted_twice(tmp_path_factory, texts, max_length, data):
    stride = data.draw(st.integers(0, max_length - 1))
    path = write_corpus(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", texts)
    dataset = build(path, max_length, stride=stride)
    kept = [text for text in texts if text]
    assert dataset.report["documents"] == len(kept)
    assert dataset.report["empty_documents"] == len(texts) - len(kept)
    encoded = [tiny_tokenizer().encode(text, add_bos=True, add_eos=True) for text in kept]
    splits = dataset.report["splits"].values()
    assert sum(split["documents"] for split in splits) == len(kept)
    assert sum(split["tokens"] for split in splits) == sum(map(len, encoded))
    assert sum(split["text_bytes"] for split in splits) == sum(len(text.encode()) for text in kept)
    for name, rows in dataset.items():
        split = dataset.report["splits"][name]
        assert len(rows) * max_length == split["tokens"] + split["repeated_tokens"] + split["padding_tokens"]
        assert split["padding_tokens"] == sum(int((rows.tokens(i) == 3).sum()) for i in range(len(rows)))
        learned = sum(int((rows[i]["labels"] != IGNORED).sum()) for i in range(len(rows)))
        assert learned == split["targets"]
        if stride:
            assert learned == split["tokens"] - split["documents"]
    if not stride:
        assert sorted(text for rows in dataset.values() for text in decoded_documents(rows)) == sorted(kept)


def test_the_bytes_do_not_depend_on_the_number_of_workers_or_the_size_of_batches(
    corpus, tmp_path, monkeypatch
):
    results = []
    for workers, characters in ((1, 2_000_000), (3, 2_000_000), (1, 500)):
        monkeypatch.setattr(dataset_builder, "BATCH_CHARACTERS", characters)
        dataset = DatasetBuilder(tokenizer_path(), 32, num_workers=workers).build_from_jsonl(corpus)
        results.append(file_hashes(dataset.directory))
    assert results[0] == results[1] == results[2]
    assert any(name.endswith(".arrow") for name in results[0])


def test_a_document_stays_in_its_split_when_the_corpus_grows(tmp_path):
    texts = generated_texts(300)
    small = build(write_corpus(tmp_path / "small.jsonl", texts[:200]))
    large = build(write_corpus(tmp_path / "large.jsonl", texts))
    for split, rows in small.items():
        assert set(decoded_documents(rows)) <= set(decoded_documents(large[split]))


def test_equal_texts_are_never_in_two_splits(tmp_path):
    texts = generated_texts(40) * 3
    dataset = build(write_corpus(tmp_path / "corpus.jsonl", texts))
    found = [set(decoded_documents(rows)) for rows in dataset.values()]
    assert sum(map(len, found)) == len(set().union(*found)) == 40


def test_copies_of_training_prose_alone_are_added_and_counted(tmp_path):
    texts = [f"Nr. {number}: {text.capitalize()}" for number, text in enumerate(generated_texts(200))]
    path = tmp_path / "corpus.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts):
            metadata = {"code": True} if number % 3 == 0 else {}
            file.write(json.dumps({"text": text, "id": str(number), "metadata": metadata}) + "\n")
    plain = build(path)
    more = build(path, augmentation=AugmentationConfig(lowercase_share=1.0))
    for split in ("validation", "test"):
        assert decoded_documents(more[split]) == decoded_documents(plain[split])
    code = set(texts[::3])
    originals = decoded_documents(plain["train"])
    copies = [text.lower() for text in originals if text not in code]
    assert sorted(decoded_documents(more["train"])) == sorted([*originals, *copies])
    assert len(copies) > 50
    assert (plain.report["augmented"], more.report["augmented"]) == ({}, {"lowercase": len(copies)})
    train = more.report["splits"]["train"]
    assert train["text_bytes"] == sum(len(text.encode()) for text in [*originals, *copies])


def test_text_that_spells_control_tokens_stays_text(tmp_path):
    text = "<s> </s> <pad> <|end|> <unk>"
    dataset = build(write_corpus(tmp_path / "corpus.jsonl", [text]))
    assert decoded_documents(dataset["train"]) == [text]


def test_the_saved_directory_opens_in_the_datasets_library_with_the_same_columns(corpus, tmp_path):
    datasets = pytest.importorskip("datasets")
    builder = DatasetBuilder(tokenizer_path(), 32, stride=4, num_workers=1, shard_bytes=4000)
    dataset = builder.build_from_jsonl(corpus)
    saved = builder.save_dataset(dataset, tmp_path / "saved")
    loaded = datasets.load_from_disk(str(saved))
    assert isinstance(loaded, datasets.DatasetDict)
    assert list(loaded) == ["train", "validation", "test"]
    for split, rows in TokenDataset(saved).items():
        theirs = loaded[split]
        assert theirs.num_rows == len(rows)
        assert theirs.features["input_ids"] == datasets.List(datasets.Value("uint16"), length=32)
        assert theirs["input_ids"][:] == [rows.tokens(i).tolist() for i in range(len(rows))]
        assert theirs["document_starts"][:] == [rows.document_starts(i).tolist() for i in range(len(rows))]
        assert sum(theirs["num_repeated"][:]) == rows.metadata.repeated_tokens > 0
    assert len(TokenRows(saved / "train").metadata.shards) > 1


def test_the_saved_directory_is_the_built_one_with_its_own_tokenizer(corpus, tmp_path):
    builder = DatasetBuilder(tokenizer_path(), 32, num_workers=1)
    dataset = builder.build_from_jsonl(corpus)
    before = file_hashes(dataset.directory)
    saved = builder.save_dataset(dataset, tmp_path / "deep" / "saved")
    dataset.close()
    assert file_hashes(saved) == before
    opened = TokenDataset(saved)
    assert opened["train"].tokenizer_directory == saved / "tokenizer"
    assert opened["train"].metadata.tokenizer_fingerprint == tiny_tokenizer().fingerprint
    assert DatasetBuilder(saved / "tokenizer", 32).tokenizer.fingerprint == tiny_tokenizer().fingerprint


def test_jsonl_holds_the_same_rows_with_their_text(corpus, tmp_path):
    builder = DatasetBuilder(tokenizer_path(), 32, num_workers=1)
    dataset = builder.build_from_jsonl(corpus)
    saved = builder.save_dataset(dataset, tmp_path / "saved", format="jsonl")
    for split, rows in dataset.items():
        lines = [
            json.loads(line) for line in (saved / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        assert [line["input_ids"] for line in lines] == [rows.tokens(i).tolist() for i in range(len(rows))]
        assert [line["document_starts"] for line in lines] == [
            rows.document_starts(i).tolist() for i in range(len(rows))
        ]
        text = "".join(line["text"] for line in lines).replace("<pad>", "")
        assert text.startswith("<s>")
        assert text.count("</s>") == rows.metadata.documents
    assert (saved / "tokenizer" / "tokenizer.model").is_file()


def test_saving_never_overwrites_and_an_unknown_format_is_named(corpus, tmp_path):
    builder = DatasetBuilder(tokenizer_path(), 32, num_workers=1)
    dataset = builder.build_from_jsonl(corpus)
    (tmp_path / "empty").mkdir()
    builder.save_dataset(dataset, tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"empty: holds something already"):
        builder.save_dataset(dataset, tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"format 'parquet': expected 'arrow' or 'jsonl'"):
        builder.save_dataset(dataset, tmp_path / "other", format="parquet")
    assert not (tmp_path / "other").exists()


def test_the_temporary_directory_goes_with_the_last_reference(corpus, tmp_path):
    dataset = build(corpus, work_dir=tmp_path / "work")
    assert dataset.directory.parent == tmp_path / "work"
    train = dataset["train"]
    directory = dataset.directory
    del dataset
    gc.collect()
    assert directory.is_dir()  # the split still needs it
    assert len(TokenRows(train.directory)) == len(train)
    del train
    gc.collect()
    assert not directory.exists()


def test_closing_deletes_the_directory_and_rows_at_hand_stay_readable(corpus):
    with build(corpus) as dataset:
        train = dataset["train"]
        before = train[0]["input_ids"]
    assert not dataset.directory.exists()
    with pytest.raises(DataError, match="the dataset is gone, it was closed"):
        save_dataset(dataset, corpus.parent / "saved")
    assert np.array_equal(train[0]["input_ids"], before)


def _collect_in_child(dataset: TokenDataset) -> None:
    dataset.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # Python 3.12 and later
def test_a_forked_worker_never_deletes_the_directory_of_its_parent(corpus):
    dataset = build(corpus)
    worker = multiprocessing.get_context("fork").Process(target=_collect_in_child, args=(dataset,))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert dataset.directory.is_dir()


def test_a_failed_build_leaves_nothing(tmp_path):
    path = write_corpus(tmp_path / "corpus.jsonl", generated_texts(20))
    with path.open("a") as file:
        file.write("{broken\n")
    with pytest.raises(DataError):
        build(path, work_dir=tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def test_the_corpus_of_three_documents_has_one_in_each_split_and_says_so(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    dataset = build(write_corpus(tmp_path / "corpus.jsonl", ["one text", "two texts", "three texts"]))
    assert {split: rows.metadata.documents for split, rows in dataset.items()} == {
        "train": 1,
        "validation": 1,
        "test": 1,
    }
    given_one = dataset.report["splits_given_a_document"]
    assert given_one
    for split in given_one:
        assert f"none fell into {split}" in caplog.text


def test_one_short_document_trains_and_the_report_says_what_is_missing(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    dataset = build(write_corpus(tmp_path / "corpus.jsonl", ["cat"]), 64)
    assert list(dataset) == ["train"]
    assert len(dataset["train"]) == 1
    assert int((dataset["train"][0]["labels"] != IGNORED).sum()) == dataset["train"].metadata.tokens - 1
    assert dataset.report["empty_splits"] == ["validation", "test"]
    assert "1 documents are too few for validation and test" in caplog.text


def test_a_split_of_share_zero_is_left_out(corpus):
    dataset = DatasetBuilder(tokenizer_path(), 32).build_from_jsonl(corpus, 0.9, 0.1, 0.0)
    assert list(dataset) == ["train", "validation"]
    assert dataset.report["empty_splits"] == []
    with pytest.raises(KeyError, match=r"'val': this dataset has train, validation"):
        dataset["val"]


def test_the_report_says_how_the_dataset_was_made(corpus):
    dataset = build(corpus, stride=3, seed=7)
    report = dataset.report
    assert (report["kind"], report["max_length"], report["stride"], report["seed"]) == ("text", 32, 3, 7)
    assert (report["documents"], report["empty_documents"]) == (400, 0)
    assert report["shares"] == SHARES
    assert report["tokenizer_fingerprint"] == tiny_tokenizer().fingerprint
    train = report["splits"]["train"]
    assert train["bytes_per_token"] == pytest.approx(train["text_bytes"] / train["tokens"], abs=1e-4)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{broken", r"not JSON \(Expecting property name"),
        (b'{"text": "\xff"}', r"not UTF-8"),
        (b"[1, 2]", r"found no JSON object, expected a JSON object with a field 'text'"),
        (b'{"txt": "a", "id": 1}', r"found fields txt, id, expected .* a field 'text'; set data\.text_field"),
        (b'{"text": 5}', r"field 'text' holds int, expected a string"),
        (
            b'{"text": "a\\ud800"}',
            r"the text is not valid Unicode \(surrogates not allowed at character 1: \\ud800\)",
        ),
    ],
)
def test_a_line_that_is_no_record_with_a_text_is_named(tmp_path, line, reason):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'{"text": "fine"}\n\n' + line + b"\n")
    with pytest.raises(DataError, match=rf"corpus\.jsonl:3: {reason}"):
        build(path)


def test_a_corpus_without_text_is_named(tmp_path):
    with pytest.raises(DataError, match=r"missing\.jsonl: no such file"):
        build(tmp_path / "missing.jsonl")
    for texts in ([], ["", ""]):
        with pytest.raises(
            DataError, match=rf"corpus\.jsonl: no text in it \({len(texts)} records with an empty"
        ):
            build(write_corpus(tmp_path / "corpus.jsonl", texts))


def test_the_text_may_be_in_another_field(tmp_path):
    dataset = build(write_corpus(tmp_path / "corpus.jsonl", ["a cat"], field="body"), text_field="body")
    assert decoded_documents(dataset["train"]) == ["a cat"]


@pytest.mark.parametrize("shares", [(0.9, 0.05, 0.1), (1.1, -0.1, 0.0), (0.5, 0.2, 0.2)])
def test_shares_that_make_no_whole_are_refused(corpus, shares):
    with pytest.raises(ConfigError, match="add up to 1"):
        DatasetBuilder(tokenizer_path(), 32).build_from_jsonl(corpus, *shares)


@pytest.mark.parametrize(
    ("max_length", "options", "reason"),
    [
        (1, {}, "max_length 1: expected at least 2 tokens"),
        (0, {}, "max_length 0: expected at least 2 tokens"),
        (8, {"stride": 8}, "stride 8: expected 0 to 7"),
        (8, {"stride": -1}, "stride -1: expected 0 to 7"),
        (8, {"num_workers": 0}, "num_workers 0: expected at least 1"),
        (8, {"shard_bytes": 0}, "shard_bytes 0: expected at least 1"),
    ],
)
def test_a_setting_out_of_range_is_named_with_its_range(max_length, options, reason):
    with pytest.raises(ConfigError, match=reason):
        DatasetBuilder(tokenizer_path(), max_length, **options)


def test_a_missing_tokenizer_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.model"):
        DatasetBuilder(tmp_path / "nothing.model", 32)


def test_a_directory_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"not a dataset, dataset_report\.json is missing"):
        TokenDataset(tmp_path)
