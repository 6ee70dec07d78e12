"""Where a sentence came from."""

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import CorruptArtifactError, DataError
from data_processing.reports import line_search
from data_processing.reports.inspect_corpus import Places, find_places
from data_processing.reports.trace_sentence import MOST_DOCUMENTS, SentencePattern, trace
from tests.data_processing.reported_corpus import (
    PIPE_NAME,
    SENTENCE,
    TEXTS,
    expected_split,
    write_corpus_directory,
    write_dataset_report,
    write_lines,
)
from tests.growth import assert_grows_linearly


@pytest.fixture
def places(tmp_path: Path) -> Places:
    write_corpus_directory(tmp_path / "corpus")
    return find_places(tmp_path)


def test_a_sentence_leads_to_its_documents_and_their_near_duplicates(places: Places):
    found = trace(places, SENTENCE)
    assert found.num_documents == 2
    first, second = found.found
    assert (first.record["source"], first.line) == ("books/iron.txt", 1)
    assert first.members == ("books/iron-again.txt",) and second.members == ("books/iron.txt",)
    assert first.start == TEXTS["books/iron.txt"].index(SENTENCE)
    assert first.sentence == SENTENCE
    assert TEXTS["books/iron.txt"].startswith(first.before + first.sentence + first.after[:10])
    assert first.split is None  # there is no dataset


@pytest.mark.parametrize(
    "sentence",
    [
        '"Iron," said the smith - "the best there is" - was hot.'.replace('"the', "'the").replace(
            'is"', "is'"
        ),
        "“Iron,” said the smith — ‘the best there is’ — was hot.",
        "  „Iron,“ said\tthe\nsmith – `the best \r\n there\u00a0is´ ‑ was hot. ",
        "was hot.",
        "hot",
    ],
)
def test_white_space_quotation_marks_and_dashes_do_not_matter(places: Places, sentence: str):
    assert trace(places, sentence).num_documents == 2


@pytest.mark.parametrize(
    "sentence", ["a tab and a backslash \\n and 'quotes'", 'tab\tand a backslash \\n and "quotes" in']
)
def test_what_json_escapes_is_found(places: Places, sentence: str):
    found = trace(places, sentence.replace("'", '"'))
    assert [one.record["source"] for one in found.found] == ["records.jsonl:3"]


def test_letters_are_not_folded(places: Places):
    assert trace(places, "iron, said the Smith").num_documents == 0
    assert trace(places, "the best there was").num_documents == 0


def test_a_composed_letter_finds_itself(places: Places, tmp_path: Path):
    write_lines(
        places.corpus / "collected_texts.jsonl",
        [{"text": "In a café.", "id": "1", "source": "a", "metadata": {}}],
    )
    assert trace(places, "a cafe\u0301").num_documents == 1


def test_a_name_of_a_file_is_no_text(places: Places):
    assert trace(places, "iron-again.txt").num_documents == 0


def test_a_sentence_of_something_left_out_is_told_as_such(places: Places):
    found = trace(places, 'A "sample" & with <lines>')
    assert (found.num_documents, found.found) == (0, [])
    assert [one.record["source"] for one in found.dropped] == [PIPE_NAME]
    assert found.dropped[0].record["reason"] == "house_rule"


def test_the_split_is_the_one_that_the_dataset_gave(places: Places, tmp_path: Path):
    report = write_dataset_report(tmp_path / "dataset")
    for source, text in TEXTS.items():
        found = {one.record["source"]: one.split for one in trace(places, text[:30]).found}
        assert found[source] == expected_split(source, report)
    # Both of a cluster are in one split.
    assert len({one.split for one in trace(places, SENTENCE).found}) == 1


def test_the_split_is_the_one_in_which_the_dataset_builder_puts_the_text(
    places: Places, tmp_path: Path, small_tokenizer_directory: Path
):
    from data_processing.dataset_builder import DatasetBuilder

    texts = [f"Document {index} of many, each of them with its own words {index * 7}." for index in range(80)]
    write_lines(
        places.corpus / "collected_texts.jsonl",
        [
            {"text": text, "id": str(index), "source": f"{index}.txt", "metadata": {}}
            for index, text in enumerate(texts)
        ],
    )
    builder = DatasetBuilder(small_tokenizer_directory, 32)
    with builder.build_from_jsonl(places.corpus / "collected_texts.jsonl", 0.6, 0.2, 0.2) as dataset:
        builder.save_dataset(dataset, tmp_path / "dataset")
        decoded = {
            split: "".join(builder.tokenizer.decode(rows.tokens(row).tolist()) for row in range(len(rows)))
            for split, rows in dataset.items()
        }
    for text in texts:
        assert text in decoded[str(trace(places, text).found[0].split)]


def test_a_corpus_that_was_cut_by_position_says_so(places: Places, tmp_path: Path):
    write_dataset_report(tmp_path / "dataset", documents_cut=2)
    assert str(trace(places, SENTENCE).found[0].split).startswith("cut by position")


def test_a_document_that_may_have_been_given_to_another_split_says_so(places: Places, tmp_path: Path):
    report = write_dataset_report(
        tmp_path / "dataset", splits_given_a_document=["test"], shares={"train": 1.0, "test": 0.0}
    )
    assert report["shares"]["train"] == 1.0
    assert trace(places, SENTENCE).found[0].split == "train, unless it is the document that was given to test"


def test_of_many_documents_the_first_are_told_and_all_are_counted(places: Places):
    lines = [
        {"text": f"{n} One sentence for all.", "id": str(n), "source": str(n), "metadata": {}}
        for n in range(40)
    ]
    write_lines(places.corpus / "collected_texts.jsonl", lines)
    found = trace(places, "One sentence for all.")
    assert found.num_documents == 40
    assert [one.record["source"] for one in found.found] == [str(n) for n in range(MOST_DOCUMENTS)]
    assert [one.line for one in found.found] == list(range(1, MOST_DOCUMENTS + 1))


@pytest.mark.parametrize("sentence", ["", " \n", '"', "— ' “", "\\"])
def test_nothing_to_look_for_is_refused(places: Places, sentence: str):
    with pytest.raises(DataError, match="nothing to look for"):
        trace(places, sentence)


def test_half_a_surrogate_pair_is_looked_for_and_not_found(places: Places):
    assert trace(places, "the smith \ud83d").num_documents == 0


def test_a_corpus_that_is_gone_or_damaged_is_named(places: Places):
    corpus = places.corpus / "collected_texts.jsonl"
    corpus.write_text('{"text": "One sentence for all."\n')
    with pytest.raises(CorruptArtifactError, match=r"collected_texts\.jsonl:1: no record with 'text'"):
        trace(places, "One sentence for all.")
    corpus.unlink()
    with pytest.raises(DataError, match=r"collected_texts\.jsonl: not there"):
        trace(places, "One sentence for all.")


pieces = st.sampled_from(
    ["ab", "a", "b", "é", "“", '"', "'", "’", "-", "—", "\\", "\\n", " ", "\n", "\t", "\u00a0", "\u3000", "x"]
)
texts = st.lists(pieces, max_size=30).map("".join)


@given(st.lists(texts, min_size=1, max_size=6), st.data(), st.integers(5, 200))
def test_a_search_of_bytes_finds_what_a_search_of_texts_finds(
    tmp_path_factory: pytest.TempPathFactory, corpus: list[str], data: st.DataObject, block_bytes: int
):
    text = data.draw(st.sampled_from(corpus))
    start = data.draw(st.integers(0, len(text)))
    sentence = data.draw(st.just(text[start : start + data.draw(st.integers(0, 12))]) | texts)

    def folded(value: str) -> str:
        value = re.sub(r"\s+", " ", value)
        return value.translate(str.maketrans("“’—", "\"'-"))

    wanted = folded(sentence).strip(" ")
    if not re.search(r"[abéxn]", wanted):
        return
    directory = tmp_path_factory.mktemp("corpus")
    write_lines(
        directory / "collected_texts.jsonl",
        [{"text": one, "id": str(n), "source": str(n), "metadata": {}} for n, one in enumerate(corpus)],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_search, "BLOCK_BYTES", block_bytes)
        found = trace(Places(directory), sentence)
    expected = [str(n) for n, one in enumerate(corpus) if wanted in folded(one)]
    assert [one.record["source"] for one in found.found] == expected


def test_the_anchor_is_the_longest_word_and_stands_in_the_json_as_it_is():
    sentence = "He said “unbelievable\\things” and ‘left’ — for Zürich-Oerlikon"
    anchor = SentencePattern(sentence).anchor
    assert anchor == b"unbelievable"
    assert anchor in json.dumps(sentence, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "sentence",
    ["iron" + " the was the" * 20, "the was the " * 20 + "iron"],
    ids=["it begins the sentence", "it ends the sentence"],
)
def test_a_common_anchor_takes_time_in_proportion_to_the_text_and_not_to_its_lines(
    tmp_path: Path, sentence: str
):
    assert SentencePattern(sentence).anchor == b"iron"

    def one_long_line(num_words: int) -> Places:
        text = " ".join(random.Random(0).choices(["the", "was", "iron"], k=num_words))
        write_lines(
            tmp_path / "collected_texts.jsonl", [{"text": text, "id": "1", "source": "a", "metadata": {}}]
        )
        return Places(tmp_path)

    def work(places: Places) -> None:
        assert trace(places, sentence).num_documents == 0

    assert_grows_linearly(work, one_long_line, 2500)
