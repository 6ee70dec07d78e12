"""Encodings that files declare, rightly or not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.formats.declared_encoding import codec_of, decode_declared, encoding_of
from data_processing.formats.markup_charset import declared_charset
from data_processing.formats.text_encoding import Encoding, Undecodable

GERMAN = "Die Würde des Menschen ist unantastbar. Sie zu achten ist Verpflichtung."
JAPANESE = "すべての人間は、生まれながらにして自由である。"


def decoded(data: bytes, declared: str | None) -> tuple[str, str]:
    found = decode_declared(data, declared)
    assert not isinstance(found, Undecodable), found
    return found[0], found[1].name


@pytest.mark.parametrize(
    ("text", "codec", "declared", "name"),
    [
        (GERMAN, "latin-1", "iso-8859-1", "windows-1252"),
        ("„Würde“ – €", "windows-1252", "ISO-8859-1", "windows-1252"),
        (GERMAN, "iso-8859-15", "iso-8859-15", "iso-8859-15"),
        (JAPANESE, "shift_jis", "Shift_JIS", "cp932"),
        (JAPANESE, "euc_jp", "x-euc-jp", "euc_jp"),
        (JAPANESE, "iso2022_jp", "iso-2022-jp", "iso2022_jp"),
        ("联通", "gbk", "gb2312", "gb18030"),  # by chance valid UTF-8 as well
        ("Все люди рождаются свободными", "koi8-r", " 'KOI8-R' ", "koi8-r"),
        ("Все люди рождаются свободными", "windows-1251", "cp1251", "windows-1251"),
        (GERMAN, "utf-8", "utf8", "utf-8"),
        (GERMAN, "utf-8", None, "utf-8"),
        # What the declaration says cannot be, or hardly ever is.
        (GERMAN, "utf-8", "iso-8859-1", "utf-8"),
        (GERMAN, "utf-8", "utf-16", "utf-8"),
        (GERMAN, "utf-16", "iso-8859-1", "utf-16"),
        (GERMAN, "utf-8-sig", "shift_jis", "utf-8"),
        (GERMAN, "utf-8", "no-such-encoding", "utf-8"),
    ],
)
def test_what_is_declared_is_believed_as_far_as_it_can_be(text: str, codec: str, declared: str, name: str):
    assert decoded(text.encode(codec), declared) == (text, name)


def test_scattered_damage_is_marked_and_more_is_not_what_was_declared():
    data = (JAPANESE * 100).encode("shift_jis")
    text, name = decoded(data[:1000] + b"\x81 " + data[1000:], "shift_jis")
    assert (text.count("\ufffd"), name) == (1, "cp932 (damaged)")
    assert decoded((GERMAN * 20).encode(), "shift_jis") == (GERMAN * 20, "utf-8")


@pytest.mark.parametrize(
    "label", ["rot13", "hex", "idna", "punycode", "unicode_escape", "undefined", "", "\0", "é"]
)
def test_what_is_no_encoding_of_text_is_not_known(label: str):
    assert codec_of(label) is None


@given(
    st.binary(max_size=200), st.sampled_from([None, "latin-1", "shift_jis", "utf-16", "gbk", "utf-7", "hz"])
)
def test_any_bytes_decode_or_are_undecodable(data: bytes, declared: str | None):
    found = decode_declared(data, declared)
    if not isinstance(found, Undecodable):
        assert data.decode(found[1].codec, found[1].errors) == found[0]


@given(st.text(st.sampled_from(GERMAN + "\n")), st.integers(1, 5))
def test_an_encoding_is_found_in_pieces_as_in_the_whole(text: str, size: int):
    data = text.encode("iso-8859-15")
    found = encoding_of(lambda: (data[i : i + size] for i in range(0, len(data), size)), "iso-8859-15")
    assert isinstance(found, Encoding)
    assert data.decode(found.codec) == text


@pytest.mark.parametrize(
    ("head", "declared"),
    [
        (b"<meta charset=utf-8>", "utf-8"),
        (b'<META http-equiv="Content-Type" content="text/html; charset=ISO-8859-1">', "ISO-8859-1"),
        (b"<meta name=x><meta\ncharset = 'koi8-r'>", "koi8-r"),
        (b'<?xml version="1.0" encoding="Shift_JIS"?><a>', "Shift_JIS"),
        (b"<?xml version='1.0' standalone='yes' encoding='x'?><meta charset=y>", "x"),
        (b"<p>charset=utf-8", None),
        (b"", None),
        (b"<meta " * 10_000, None),
    ],
)
def test_declarations_are_found_where_they_stand(head: bytes, declared: str | None):
    assert declared_charset(head) == declared
