"""The ladder of encodings."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.text_encoding import Encoding, Undecodable, decode, detect_encoding

FRENCH = (
    "Le cœur a ses raisons que la raison ne connaît point. « C’est là », dit-elle — naïvement, à l’été. " * 20
)
GERMAN = (
    "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung aller Gewalt. "
    * 20
)
POLISH = (
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni. " * 20
)
RUSSIAN = "Все люди рождаются свободными и равными в своём достоинстве и правах. Они наделены разумом. " * 20
JAPANESE = "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。" * 20


@pytest.mark.parametrize(
    ("data", "name", "text"),
    [
        (b"plain", "utf-8", "plain"),
        (JAPANESE.encode(), "utf-8", JAPANESE),
        (codecs.BOM_UTF8 + RUSSIAN.encode(), "utf-8", RUSSIAN),
        (codecs.BOM_UTF16_LE + "é\n".encode("utf-16-le"), "utf-16", "é\n"),
        (codecs.BOM_UTF16_BE + "é\n".encode("utf-16-be"), "utf-16", "é\n"),
        (codecs.BOM_UTF32_LE + "é\n".encode("utf-32-le"), "utf-32", "é\n"),
        (FRENCH.encode("windows-1252"), "windows-1252", FRENCH),
        (GERMAN.encode("latin-1"), "windows-1252", GERMAN),
        ("x\ufffd".encode() * 3, "utf-8", "x\ufffd" * 3),
    ],
)
def test_known_encodings_are_read_exactly(data: bytes, name: str, text: str):
    decoded = decode(data)
    assert not isinstance(decoded, Undecodable)
    assert (decoded[0], decoded[1].name) == (text, name)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"PK\x03\x04\x00\x00 text", "binary"),
        ("no mark".encode("utf-16-le"), "binary"),
        (b"\xff\xd8\x01\x02\x03" + b"x" * 100, "binary"),
        (RUSSIAN.encode("koi8-r"), "undecodable"),
        (RUSSIAN.encode("windows-1251"), "undecodable"),
        (JAPANESE.encode("shift_jis"), "undecodable"),
        (POLISH.encode("iso8859-2"), "undecodable"),
        (FRENCH.replace("œ", "oe").encode("mac-roman"), "undecodable"),
        (GERMAN.encode("cp850"), "undecodable"),
        (codecs.BOM_UTF8 + b"\xff\xff", "undecodable"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8a\x00", "undecodable"),
        (GERMAN.encode() + GERMAN.encode("latin-1"), "undecodable"),
    ],
)
def test_what_would_turn_into_wrong_letters_is_refused(data: bytes, reason: str):
    decoded = decode(data)
    assert isinstance(decoded, Undecodable)
    assert decoded.reason == reason
    assert decoded.detail


def test_one_broken_byte_in_much_utf8_costs_one_character():
    data = RUSSIAN.encode() + b"\xff" + RUSSIAN.encode()
    decoded = decode(data)
    assert not isinstance(decoded, Undecodable)
    assert decoded == (RUSSIAN + "\ufffd" + RUSSIAN, Encoding("utf-8", "utf-8 (damaged)", "replace"))


@given(st.binary(max_size=300))
def test_nothing_is_ever_flooded_with_replacement_characters(data: bytes):
    decoded = decode(data)
    if not isinstance(decoded, Undecodable):
        added = decoded[0].count("\ufffd") - data.count(b"\xef\xbf\xbd")
        assert added <= 0.001 * len(decoded[0]) or decoded[1].codec.startswith(("utf-16", "utf-32"))


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.integers(1, 5))
def test_the_verdict_does_not_depend_on_how_a_file_is_cut(text: str, size: int):
    for data in (text.encode(), text.encode("utf-8")[:-1] + b"\xe9", FRENCH[:60].encode("windows-1252")):
        if data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            continue
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        whole, cut = detect_encoding([data]), detect_encoding(pieces)
        assert type(whole) is type(cut)
        if isinstance(whole, Encoding):
            assert whole == cut
