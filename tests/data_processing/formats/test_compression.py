"""Compressed streams: whole, several, cut off, damaged, explosive."""

import bz2
import doctest
import gzip
import io
import lzma
import random
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from data_processing.formats import compression
from data_processing.formats.compression import COMPRESSIONS, DamagedError, Unpacked, compression_of


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}
RANDOM = random.Random(1)
TEXT = b"".join(b"%d some text %d\n" % (number, RANDOM.randrange(10**9)) for number in range(20_000))


def unpacked(data: bytes, compression: str, size: int = 1 << 16) -> tuple[bytes, Unpacked]:
    spent: list[int] = []
    stream = Unpacked(io.BytesIO(data), compression, spent.append)
    parts = list(iter(lambda: stream.read(size), b""))
    assert sum(spent) == sum(map(len, parts))
    return b"".join(parts), stream


def test_every_compression_has_a_packer_in_these_tests():
    assert set(PACKERS) == COMPRESSIONS


@pytest.mark.parametrize("compression", PACKERS)
@given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=3), size=st.integers(1, 1000))
def test_streams_in_a_row_with_padding_are_one(compression: str, parts: list[bytes], size: int):
    packed = b"\0\0\0\0".join(map(PACKERS[compression], parts))
    assert compression_of(packed) == compression
    content, stream = unpacked(packed, compression, size)
    assert content == b"".join(parts)
    assert not stream.trailing


@pytest.mark.parametrize("compression", PACKERS)
def test_something_behind_the_last_stream_is_noticed(compression: str):
    content, stream = unpacked(PACKERS[compression](TEXT) + b"garbage", compression)
    assert (content, stream.trailing) == (TEXT, True)


@pytest.mark.parametrize("compression", PACKERS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_a_stream_that_is_cut_off_gives_its_beginning_and_says_so(compression: str, share: float):
    packed = PACKERS[compression](TEXT)
    cut = packed[: max(12, min(int(len(packed) * share), len(packed) - 1))]
    stream = Unpacked(io.BytesIO(cut), compression, lambda _: None)
    content = b""
    with pytest.raises(DamagedError, match="ends in the middle") as caught:
        while part := stream.read(1000):
            content += part
    assert caught.value.cut_off
    assert TEXT.startswith(content)


@pytest.mark.parametrize("compression", PACKERS)
def test_a_flipped_byte_is_noticed_wherever_it_is(compression: str):
    packed = PACKERS[compression](TEXT)
    for place in range(20, len(packed), len(packed) // 12):
        damaged = bytearray(packed)
        damaged[place] ^= 0x55
        try:
            content, stream = unpacked(bytes(damaged), compression)
        except DamagedError:
            continue
        # The length of what follows may be what was hit, so that the rest is no stream any more.
        assert content == TEXT or stream.trailing


@pytest.mark.parametrize("compression", PACKERS)
def test_a_bomb_takes_little_memory_while_it_is_unpacked(compression: str):
    packed = (
        lzma.compress(bytes(64 << 20), preset=0)
        if compression == ".xz"
        else PACKERS[compression](bytes(64 << 20))
    )
    tracemalloc.start()
    stream = Unpacked(io.BytesIO(packed), compression, lambda _: None)
    size = sum(map(len, iter(lambda: stream.read(1 << 20), b"")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 64 << 20
    assert peak < 40 << 20


def test_what_only_begins_like_a_compression_is_none():
    for text in (b"", b"BZh is a name", b"BZhang wrote", b"(\xb5 in Latin-1", b"\x1f\x8b"):
        assert compression_of(text) is None


def test_looking_ahead_takes_nothing_away():
    stream = Unpacked(io.BytesIO(gzip.compress(TEXT)), ".gz", lambda _: None)
    assert stream.peek(100) == TEXT[:100]
    assert stream.peek(70_000) == TEXT[:70_000]
    assert b"".join(iter(lambda: stream.read(999), b"")) == TEXT


def test_an_error_of_the_disk_is_no_error_of_the_data():
    class FailingFile(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        Unpacked(FailingFile(), ".bz2", lambda _: None).read(1)


def test_the_examples_in_the_documentation_are_true():
    assert doctest.testmod(compression).failed == 0
