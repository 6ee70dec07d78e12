"""Lines found by the bytes in them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from data_processing.reports import line_search
from data_processing.reports.line_search import blocks, lines_with

lines = st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"x")), max_size=20)


@given(
    lines, st.binary(min_size=1, max_size=2).filter(lambda needle: b"\n" not in needle), st.integers(1, 30)
)
def test_every_line_with_the_needle_is_found_once_whatever_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], needle: bytes, block_bytes: int
):
    path = tmp_path_factory.mktemp("lines") / "a"
    path.write_bytes(b"\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_search, "BLOCK_BYTES", block_bytes)
        found = list(lines_with(path, needle))
        whole = b"".join(blocks(path))
        assert all(block.endswith(b"\n") for block in list(blocks(path))[:-1])
    assert found == [line for line in lines if needle in line]
    assert whole == path.read_bytes()


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"nix: cannot be read \(No such file"):
        list(lines_with(tmp_path / "nix", b"a"))
