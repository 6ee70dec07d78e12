"""Lines, and files divided between them."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.document import Document, Dropped
from data_processing.formats import text_lines
from data_processing.formats.raw_input import RawInput, Reading
from data_processing.formats.readers import read_file
from data_processing.formats.text_encoding import Encoding
from data_processing.formats.text_lines import split_points
from data_processing.formats.text_lines import text_lines as read_lines
from data_processing.sources.raw_files import RawFile

LINES = st.lists(
    st.sampled_from(
        [
            '{"text": "a"}',
            '{"text": "é日"}',
            '{"body": 1}',
            "{",
            "",
            "  ",
            "\r",
            '{"text": "' + "x" * 90 + '"}',
        ]
    ),
    max_size=30,
)


def key(item: Document | Dropped) -> tuple[object, ...]:
    if isinstance(item, Document):
        return item.source, item.text, item.id, item.num_bytes
    return item.source, item.reason, item.num_bytes


@given(lines=LINES, ends=st.booleans(), part_bytes=st.integers(1, 200), mark=st.booleans())
def test_parts_give_the_same_documents_as_the_whole(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], ends: bool, part_bytes: int, mark: bool
):
    path = tmp_path_factory.mktemp("parts") / "a.jsonl"
    text = ("\ufeff" if mark else "") + "\n".join(lines) + ("\n" if ends else "")
    path.write_bytes(text.encode())
    size = path.stat().st_size
    points = split_points(path, part_bytes)
    assert [begin for begin, _, _ in points] == [0, *(end for _, end, _ in points[:-1])]
    assert points[-1][1] == size
    # A share that refuses nothing, for it is judged part by part.
    reading = Reading(limits=Reading().limits.replace(max_record_share_malformed=1.0))
    whole = list(read_file(RawFile(path, "a.jsonl", size), reading))
    parts = [
        item
        for begin, end, first_line in points
        for item in read_file(RawFile(path, "a.jsonl", end - begin, begin, end, first_line), reading)
    ]
    assert list(map(key, parts)) == list(map(key, whole))
    if size:
        assert sum(item.num_bytes or 0 for item in parts) == size


def test_parts_are_about_as_long_as_was_asked_for(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "some text"}\n' * 100_000)
    points = split_points(path, 500_000)
    assert len(points) == 5
    assert [number for _, _, number in points] == [begin // 22 + 1 for begin, _, _ in points]


def test_a_line_longer_than_a_part_stays_whole(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"text": "a"}\n' + json.dumps({"text": "x" * 3_000_000}).encode() + b'\n{"text": "b"}\n'
    )
    points = split_points(path, 1_000_000)
    assert [begin for begin, _, _ in points] == [0, 3_000_027]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-32"])
def test_text_in_which_a_line_feed_is_several_bytes_is_not_divided(tmp_path: Path, codec: str):
    path = tmp_path / "a.jsonl"
    path.write_bytes(('{"text": "a"}\n' * 50).encode(codec))
    assert split_points(path, 100) == [(0, path.stat().st_size, 1)]


@given(
    lines=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=20), max_size=8),
    codec=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"]),
)
def test_lines_of_any_unicode_come_with_their_bytes(lines: list[str], codec: str):
    data = "\n".join(lines).encode(codec)
    raw = RawInput(io.BytesIO(data), "a", ".txt", len(data))
    found = list(read_lines(raw, Encoding(codec, codec)))
    assert "".join(line for line, _ in found) == "\n".join(lines)
    assert all("\n" not in line[:-1] for line, _ in found)
    assert sum(size for _, size in found) == len(data)


@pytest.mark.parametrize("codec", ["shift_jis", "gb18030", "utf-8", "utf-16"])
def test_a_line_that_is_too_long_comes_in_pieces_cut_anywhere(monkeypatch: pytest.MonkeyPatch, codec: str):
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 7)
    monkeypatch.setattr(text_lines, "BLOCK_BYTES", 5)
    text = "日本語のテキスト" * 5 + "\n終"
    data = text.encode(codec)
    found = list(read_lines(RawInput(io.BytesIO(data), "a", ".txt", len(data)), Encoding(codec, codec)))
    assert "".join(line for line, _ in found) == text
    assert len(found) > 5
    assert sum(size for _, size in found) == len(data)
