"""All formats together: files of every kind are read to the word, and damaged ones never harm."""

import io
import json
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.data_config import DataConfig
from data_processing.data_collector import DataCollector
from data_processing.dataset_builder import DatasetBuilder
from data_processing.document import Document, Dropped
from data_processing.formats.raw_input import Reader, Reading
from data_processing.formats.readers import READERS, read_file
from data_processing.sources.raw_files import RawFile
from tests.data_processing import format_files
from tests.data_processing.format_files import write_every_format
from tests.data_processing.reading_bytes import items_of
from tokenization.tokenizer_trainer import TokenizerTrainer

SENTENCE = "The smith (Ann) heats the iron until it glows; charcoal is made of wood."

BUILDERS: dict[str, Callable[[str], bytes]] = {
    "a.html": format_files.html,
    "a.xml": format_files.xml,
    "a.epub": format_files.epub,
    "a.tex": format_files.tex,
    "a.ipynb": format_files.notebook,
    "a.srt": format_files.subrip,
    "a.vtt": format_files.webvtt,
    "a.pdf": format_files.pdf,
    "a.docx": format_files.docx,
    "a.odt": format_files.odt,
    "a.eml": format_files.eml,
    "a.mbox": format_files.mbox,
    "a.warc": format_files.warc,
}
ZIPPED = ("a.epub", "a.docx", "a.odt")


def reader_of(name: str) -> Reader:
    return READERS[PurePosixPath(name).suffix]


def test_every_format_is_read_to_the_word(tmp_path: Path):
    expected = write_every_format(tmp_path)
    missing = []
    for name, text in expected.items():
        path = tmp_path / name
        items = list(read_file(RawFile(path, name, path.stat().st_size), Reading()))
        assert [item for item in items if isinstance(item, Dropped)] == []
        found = [" ".join(item.text.split()) for item in items if isinstance(item, Document)]
        if not any(text in document for document in found):
            missing.append((name, found))
    assert missing == []


def test_the_tree_has_a_file_of_every_reader_and_is_the_same_every_time(tmp_path: Path):
    expected = write_every_format(tmp_path / "a")
    assert len(set(expected.values())) == len(expected)
    assert write_every_format(tmp_path / "b") == expected
    extensions = {PurePosixPath(name).suffix for name in expected}
    readers = {READERS[extension] for extension in extensions if extension in READERS}
    assert readers == set(READERS.values())


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """`data` with some bytes changed, taken out, doubled or put in, or cut off."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(1, 100)))
        piece = draw(
            st.one_of(
                st.binary(max_size=8),
                st.just(data[start:end] * 2),
                st.sampled_from(
                    [b"-1", b"9" * 20, b"<", b"&", b"%", b"\xff" * 8, b"\0" * 4, b"=?utf-8?b?x?="]
                ),
            )
        )
        data = data[:start] + piece + data[end:]
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


@cache
def good(name: str) -> bytes:
    return BUILDERS[name](SENTENCE)


@cache
def members_of(name: str) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(good(name))) as archive:
        # The template's look and its picture are of no interest, and large.
        names = [member for member in archive.namelist() if "theme" not in member and "jpeg" not in member]
        return {member: archive.read(member) for member in names}


@pytest.mark.parametrize("name", BUILDERS)
@settings(max_examples=40)
@given(st.data())
def test_damaged_files_give_documents_or_reasons_and_never_an_exception(name: str, data: st.DataObject):
    items_of(reader_of(name), data.draw(damaged(good(name))), name)


@pytest.mark.parametrize("name", ZIPPED)
@settings(max_examples=30)
@given(st.data())
def test_damaged_members_of_documents_never_raise_either(name: str, data: st.DataObject):
    members = dict(members_of(name))
    texts = [member for member in members if member.endswith(("xml", "html", "opf", "rels"))]
    changed = data.draw(st.sampled_from(texts))
    members[changed] = data.draw(damaged(members[changed]))
    items_of(reader_of(name), format_files.zipped(members), name)


@pytest.mark.parametrize("name", BUILDERS)
@given(st.binary(max_size=300))
def test_any_bytes_at_all_are_read_or_left_out(name: str, data: bytes):
    items_of(reader_of(name), data, name)


def test_a_directory_of_every_format_becomes_one_corpus_that_a_tokenizer_and_a_dataset_are_made_of(
    tmp_path: Path,
) -> None:
    expected = write_every_format(tmp_path / "raw")
    config = DataConfig.from_dict({"num_workers": 1})
    collector = DataCollector(tmp_path / "corpus", config=config)
    corpus = collector.collect_from_directory(tmp_path / "raw")
    records = [json.loads(line) for line in corpus.read_text(encoding="utf-8").splitlines()]
    texts = [" ".join(record["text"].split()) for record in records]
    for name, sentences in expected.items():
        found = [record for record, text in zip(records, texts, strict=True) if sentences in text]
        assert len(found) == 1, name
        assert found[0]["source"].startswith(name)
    assert set(collector.ledger.dropped) <= {"too_short"}
    on_disk = sum(path.stat().st_size for path in (tmp_path / "raw").rglob("*") if path.is_file())
    assert collector.ledger.bytes_on_disk == on_disk
    model, _ = TokenizerTrainer(400, shrink_to_fit=True).train_from_jsonl(
        corpus, "tokenizer", tmp_path / "tokenizer"
    )
    dataset = DatasetBuilder(model, 32, num_workers=1).build_from_jsonl(corpus)
    assert sum(dataset.report["splits"][split]["documents"] for split in dataset) == len(records)
