import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenization.corpus_sample as corpus_sample
from core.errors import DataError
from tests.tokenization.test_tokenizer_trainer import write_jsonl
from tokenization.corpus_sample import CHUNK_BYTES, chunk_of, group_of, sample_jsonl, sample_texts

texts = st.one_of(st.text(alphabet="a \n\r日é", max_size=400), st.text(max_size=100))


def record(text: str, source: str) -> dict[str, object]:
    return {"text": text, "id": "0" * 32, "source": source, "metadata": {"format": ".txt"}}


def sizes(chunks: list[bytes]) -> Counter[bytes]:
    """Bytes by the first character, which says in these tests where a chunk is from."""
    found: Counter[bytes] = Counter()
    for chunk in chunks:
        found[chunk.strip()[:1]] += len(chunk)
    return found


@given(text=texts, num_chunks=st.integers(1, 30))
def test_chunks_joined_are_the_text_and_each_is_whole_characters(text: str, num_chunks: int) -> None:
    data = text.encode()
    chunks = [chunk_of(data, index, num_chunks) for index in range(num_chunks)]
    assert b"".join(chunks) == data
    assert all(len(chunk) <= 2 * len(data) / num_chunks + 4 for chunk in chunks)
    assert "".join(chunk.decode() for chunk in chunks) == text


@given(
    words=st.lists(st.sampled_from(["a", "bc", " d", "e\nf", "日本"]), max_size=200),
    num_chunks=st.integers(1, 9),
)
def test_no_word_between_spaces_is_cut_where_there_is_a_space_nearby(
    words: list[str], num_chunks: int
) -> None:
    data = " ".join(words).encode() + b" " + b"x " * 400
    chunks = [chunk_of(data, index, num_chunks) for index in range(num_chunks)]
    found = [word for chunk in chunks for word in re.findall(rb" *[^ ]+| +", chunk)]
    assert found == re.findall(rb" *[^ ]+| +", data)


def test_all_of_a_corpus_that_fits_is_in_the_sample_in_its_order(tmp_path: Path) -> None:
    written = [f"text {number} " + "word " * number for number in range(300)]
    path = write_jsonl(
        tmp_path / "c.jsonl", [record(text, f"{n % 3}/x.txt") for n, text in enumerate(written)]
    )
    everything = "".join(written).encode()
    assert len(everything) > 20 * CHUNK_BYTES
    assert b"".join(sample_jsonl(path, max_bytes=10**9)) == everything
    assert b"".join(sample_texts(written, max_bytes=10**9, origin="here")) == everything


def test_the_sample_is_bounded_deterministic_in_order_and_spread_over_the_corpus() -> None:
    chunks = [f"{number:06d}" for number in range(20_000)]
    sample = sample_texts(iter(chunks), max_bytes=6000, origin="here")
    assert sum(map(len, sample)) == 6000
    assert sample == sorted(sample)
    assert sample == sample_texts(iter(chunks), max_bytes=6000, origin="here")
    for tenth in range(10):  # 100 expected, standard deviation below 10
        found = sum(int(chunk) // 2000 == tenth for chunk in sample)
        assert 60 <= found <= 140
    assert len(sample_texts(["x" * 100], max_bytes=10, origin="here")) == 1


def test_parts_of_a_long_text_are_as_likely_as_short_texts() -> None:
    long = " ".join(["long"] * 400_000)
    short = [" ".join(["s"] * 2000)] * 500
    found = sizes(sample_texts([long, *short], max_bytes=400_000, origin="here"))
    assert 0.5 < found[b"l"] / found[b"s"] < 4  # 2 expected: equally likely chunks, of twice the size


def test_each_source_gets_the_same_or_all_it_has(tmp_path: Path) -> None:
    big, middle, small = ("b" * 999, "big/0.txt"), ("m" * 999, "middle/0.txt"), ("s" * 999, "small/0.txt")
    # The small source comes last, when the sample has long been full.
    records = [record(*one) for one in [big] * 3000 + [middle] * 500 + [small] * 20]
    path = write_jsonl(tmp_path / "c.jsonl", records)
    balanced = sizes(sample_jsonl(path, max_bytes=300_000))
    assert balanced[b"s"] == 20 * 999
    assert abs(balanced[b"b"] - balanced[b"m"]) <= 999
    assert 299_000 < sum(balanced.values()) <= 300_000
    natural = sizes(sample_jsonl(path, max_bytes=300_000, balanced=False))
    assert natural[b"s"] < 6000 and 4 < natural[b"b"] / natural[b"m"] < 9


def test_more_sources_than_are_told_apart_share_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_sample, "MAX_GROUPS", 2)
    records = [record("b" * 99, "first/0.txt")] * 300 + [record("s" * 99, f"{n}/0.txt") for n in range(300)]
    found = sizes(sample_jsonl(write_jsonl(tmp_path / "c.jsonl", records), max_bytes=9_900))
    assert abs(found[b"b"] - found[b"s"]) <= 200


@pytest.mark.parametrize(
    ("line", "group"),
    [
        (record("x", "books/a/b.txt"), b"books"),
        (record("x", "notes.txt"), b".txt"),
        (record("x", "records.jsonl:12"), b".jsonl"),
        (record("x", "records.json[3]"), b".json"),
        (record("x", "big.v2.txt#part=2"), b".txt"),
        (record("x", "Makefile"), b""),
        (record('"source": "evil/x"', "good/x"), b"good"),
        (record("x", 'quo"te/x'), b'quo\\"te'),
        ({"text": "x", "metadata": {"source": "inner/x"}}, b"inner"),
        ({"text": "x", "source": "outer/x", "metadata": {"source": "inner/x"}}, b"outer"),
        ({"text": "x", "source": 7}, b""),
        ({"text": "x"}, b""),
        ({"source": "before/x", "text": '\\"metadata\\"'}, b"before"),
    ],
)
def test_the_source_of_a_line_is_its_directory_or_its_extension(
    line: dict[str, object], group: bytes
) -> None:
    assert group_of(json.dumps(line).encode()) == group
    assert group_of(json.dumps(line, separators=(",", ":")).encode() + b"\n") == group


def test_lines_that_cannot_be_in_the_sample_are_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", [record("x" * 999, "a/0.txt")] * 5000)
    parsed = 0
    original = corpus_sample._text_of_line

    def counted(line: bytes, text_field: str, place: str) -> bytes:
        nonlocal parsed
        parsed += 1
        return original(line, text_field, place)

    monkeypatch.setattr(corpus_sample, "_text_of_line", counted)
    sample_jsonl(path, max_bytes=99_900)
    assert parsed < 800  # 100 (1 + ln 50) = 491 expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"text": "cut off', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('["text"]', 'found list, expected {"text": "..."}'),
        ('{"body": "x"}', "no text under 'text': found keys ['body']"),
        ('{"text": null}', "no text under 'text': found a value of type NoneType there"),
        ('{"text": "\\ud800"}', "a lone surrogate U+D800 at character 0"),
    ],
)
def test_a_broken_line_is_named_by_file_and_number(tmp_path: Path, line: str, reason: str) -> None:
    jsonl = tmp_path / "texts.jsonl"
    jsonl.write_text(f'{{"text": "fine"}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(f"{jsonl}:3: ") + ".*" + re.escape(reason)):
        sample_jsonl(jsonl, max_bytes=10**6)


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    jsonl = tmp_path / "texts.jsonl"
    jsonl.write_bytes(b'{"text": "fine"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(DataError, match=re.escape(f"{jsonl}:2: not valid JSON") + ".*utf-8"):
        sample_jsonl(jsonl, max_bytes=10**6)
