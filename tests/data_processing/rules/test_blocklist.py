"""What a user never wants to see."""

import hashlib
import pickle
import random
import re
import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.data_config import BlocklistConfig
from core.errors import DataError
from data_processing.document import Document, Outcome, Step
from data_processing.rules.blocklist import BlockedDocuments, blocklist_step
from tests.growth import assert_grows_linearly
from tests.small_texts import WORDS, make_text


def step_for(tmp_path: Path, *lines: str) -> Step:
    path = tmp_path / "words.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return blocklist_step(BlocklistConfig(patterns=path))


@pytest.mark.parametrize(
    ("line", "blocked", "kept"),
    [
        ("slag", ["SLAG!", "the slag, of it", "_Slag_"], ["slags", "slagheap", "sl ag"]),
        ("hot iron", ["Hot\n iron.", "a hot-iron b"], ["hot irons", "iron hot", "hot red iron"]),
        ("don't", ["DON’T go", "don't"], ["don", "dot"]),
        ("café", ["CAFÉ", "cafe\u0301"], ["cafés"]),
        ("c++", ["in C++ and", "(c++)"], ["c", "c + +", "abc++"]),
        ("R&D dept.", ["the r&d  dept. of"], ["R and D dept.", "R&D dept"]),
        ("b!tch", ["B!TCH"], ["bitch", "b!tches"]),
        (":-)", ["well :-) no"], [": - )"]),
        ("熔炉", ["高温熔炉里"], ["熔", "炉熔"]),
        ("/b[ao]d+/", ["a baddd b", "xbodx"], ["BAD", "bed"]),
        ("/(?i)\\bbad\\s+apple/", ["a BAD  apple"], ["badapple"]),
        ("/", ["a / b"], ["a b"]),
    ],
)
def test_a_line_blocks_what_it_says_and_nothing_else(
    tmp_path: Path, line: str, blocked: list[str], kept: list[str]
):
    step = step_for(tmp_path, line)
    for text in blocked:
        assert step(text, {}) == Outcome(text, "blocklisted", "line 1 of words.txt"), text
    for text in kept:
        assert step(text, {}) == Outcome(text), text


def test_the_detail_names_the_first_line_that_matches_and_not_its_words(tmp_path: Path):
    step = step_for(tmp_path, "# words", "", "  zinc  ", "/s.ag/", "slag", "hot iron", "#iron")
    for text, line in (("slag", 4), ("hot iron and slag", 4), ("hot iron", 6), ("hot iron, zinc", 3)):
        assert step(text, {}).detail == f"line {line} of words.txt"
    assert step("iron", {}).reason is None


def test_without_patterns_nothing_is_blocked(tmp_path: Path):
    assert blocklist_step(BlocklistConfig())("slag", {}) == Outcome("slag")
    assert step_for(tmp_path, "# nothing yet")("slag", {}) == Outcome("slag")


phrases = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(lines=st.lists(phrases, min_size=1, max_size=6), seed=st.integers(0, 100))
def test_phrases_are_found_as_a_regular_expression_finds_them(tmp_path: Path, lines: list[str], seed: int):
    text = make_text(random.Random(seed), 3).replace(".", "")
    step = step_for(tmp_path, *lines)
    expected = next(
        (f"line {number} of words.txt" for number, line in enumerate(lines, start=1)
         if re.search(rf"\b{line}\b", text, re.IGNORECASE)),
        "",
    )  # fmt: skip
    assert step(text, {}).detail == expected


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("(", "missing )"),
        ("(?=a)", "invalid perl operator"),
        ("(a)\\1", "invalid escape sequence"),
        ("*", "no argument"),
    ],
)
def test_a_bad_regular_expression_is_refused_with_its_line(tmp_path: Path, expression: str, reason: str):
    with pytest.raises(
        DataError, match=rf"words\.txt:3: not a regular expression of RE2 \({re.escape(reason)}"
    ):
        step_for(tmp_path, "# first", "word", f"/{expression}/")


@pytest.mark.parametrize("setting", ["documents", "patterns"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, setting: str):
    def load(path: Path) -> object:
        if setting == "documents":
            return BlockedDocuments.from_file(path)
        return blocklist_step(BlocklistConfig(patterns=path))

    with pytest.raises(
        DataError, match=rf"data\.blocklist\.{setting}: .*none\.txt cannot be read \(No such file"
    ):
        load(tmp_path / "none.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(
        DataError, match=rf"data\.blocklist\.{setting}: .*latin\.txt is not UTF-8 .* at byte 3"
    ):
        load(tmp_path / "latin.txt")


def test_ten_thousand_words_and_a_pattern_that_would_explode_take_linear_time(tmp_path: Path):
    generator = random.Random(0)
    lines = ["".join(generator.choices(string.ascii_lowercase, k=9)) for _ in range(10_000)]
    step = step_for(tmp_path, *lines, "/(a+)+$/", "/(x+x+)+y/", "/(.*)*!!/")
    for unit in ("x", "a", "word ", make_text(generator, 10)):

        def make_text_of(size: int, unit: str = unit) -> str:
            return unit * (size // len(unit)) + "!"

        assert step(make_text_of(50_000), {}).reason is None
        assert step(make_text_of(50_000) + f" {lines[-1]}", {}).detail == "line 10000 of words.txt"
        assert_grows_linearly(lambda text: step(text, {}), make_text_of, 10_000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
def test_any_text_can_be_asked_about(tmp_path: Path, text: str):
    step = step_for(tmp_path, "slag", "c++", ":-)", "/s.?lag/")
    assert step(text, {}).text == text
    assert step(text + "\ud800 slag", {}).reason == "blocklisted"


# ---- documents ----


def blocked_by(tmp_path: Path, *lines: str) -> BlockedDocuments:
    path = tmp_path / "documents.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return BlockedDocuments.from_file(path)


@pytest.mark.parametrize(
    ("line", "source"),
    [
        ("a/b.txt", "a/b.txt"),
        ("records.jsonl:12", "records.jsonl:12"),
        ("records.jsonl", "records.jsonl:12"),
        ("records.json", "records.json[3]"),
        ("big.txt", "big.txt#part=2"),
        ("books.zip", "books.zip!a/b.jsonl:7"),
        ("books.zip!a/b.jsonl", "books.zip!a/b.jsonl:7"),
    ],
)
def test_a_source_names_a_document_and_a_file_all_of_its_documents(tmp_path: Path, line: str, source: str):
    blocked = blocked_by(tmp_path, "# never again", "", line)
    assert blocked.is_blocked(Document.of("text", source=source)) == "line 3 of documents.txt"
    for other in (
        "a/b.txt2",
        "records.jsonl.txt",
        "big.txt.gz",
        "books.zip.txt",
        "b.txt",
        "records.jsonl:1.txt",
    ):
        assert blocked.is_blocked(Document.of("text", source=other)) is None


def test_an_id_and_a_digest_name_a_document_wherever_it_stands(tmp_path: Path):
    document = Document.of("Früh am Morgen.", source="a.txt")
    digest = hashlib.sha256(document.text.encode()).hexdigest()
    for line in (document.id, digest, digest.upper()):
        blocked = blocked_by(tmp_path, line)
        assert blocked.is_blocked(document) == "line 1 of documents.txt"
        assert pickle.loads(pickle.dumps(blocked)).is_blocked(document)
        assert blocked.is_blocked(Document.of("Spät am Abend.", source="a.txt")) is None
    assert (
        blocked_by(tmp_path, digest).is_blocked(Document.of(document.text, source="elsewhere.txt"))
        is not None
    )
