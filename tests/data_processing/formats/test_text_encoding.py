"""The ladder of encodings."""

import codecs
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.formats.text_encoding import Encoding, Undecodable, decode, detect_encoding

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


CHINESE = "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。"
TRADITIONAL = "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神相對待。"
KOREAN = (
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 이성과 양심을 부여받았다."
)
UKRAINIAN = "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом."
CZECH = "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem."
HUNGARIAN = "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek ésszel bírnak."
TURKISH = "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler."
GREEK = "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα."
HEBREW = "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון."
ARABIC = "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا."
THAI = "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม"

OLD_ENCODINGS = [
    (JAPANESE, "shift_jis", "shift_jis"),
    (JAPANESE, "euc_jp", "euc-jp"),
    (JAPANESE, "iso2022_jp", "iso-2022-jp"),
    (CHINESE, "gb2312", "gb18030"),
    (CHINESE, "gbk", "gb18030"),
    (TRADITIONAL, "big5", "big5"),
    (KOREAN, "euc_kr", "euc-kr"),
    (RUSSIAN, "koi8-r", "koi8-r"),
    (RUSSIAN, "windows-1251", "windows-1251"),
    (RUSSIAN, "iso8859-5", "iso-8859-5"),
    (RUSSIAN, "cp866", "cp866"),
    (UKRAINIAN, "windows-1251", "windows-1251"),
    (UKRAINIAN, "koi8-u", "koi8-u"),
    (POLISH, "iso8859-2", "iso-8859-2"),
    (POLISH, "windows-1250", "windows-1250"),
    (CZECH, "iso8859-2", "iso-8859-2"),
    (HUNGARIAN, "windows-1250", "windows-1250"),
    (TURKISH, "windows-1254", "windows-1254"),
    (GREEK, "iso8859-7", "iso-8859-7"),
    (HEBREW, "windows-1255", "windows-1255"),
    (ARABIC, "windows-1256", "windows-1256"),
    (THAI, "tis-620", "windows-874"),
]


@pytest.mark.parametrize("num_characters", [60, 400, 40_000])
@pytest.mark.parametrize(("text", "codec", "name"), OLD_ENCODINGS, ids=lambda value: str(value)[:12])
def test_encodings_from_before_unicode_are_found_and_named(
    text: str, codec: str, name: str, num_characters: int
):
    text = (text * (num_characters // len(text) + 1))[:num_characters]
    decoded = decode(text.encode(codec))
    assert not isinstance(decoded, Undecodable), decoded.detail
    assert (decoded[0], decoded[1].name) == (text, name)


@pytest.mark.parametrize("codec", ["mac-roman", "cp850"])
def test_western_encodings_of_old_machines_are_told_from_windows_1252_or_refused(codec: str):
    text = FRENCH.replace("œ", "oe").replace("—", "-").replace("’", "'")
    decoded = decode(text.encode(codec))
    assert not isinstance(decoded, Undecodable)
    assert decoded[0] == text
    for num_characters in range(100, 200, 10):  # one or two letters could be anything
        data = text[:num_characters].encode(codec)
        assert isinstance(decoded := decode(data), Undecodable) or decoded[0] == text[:num_characters]


@pytest.mark.parametrize("num_characters", [8, 60, 40_000])
@pytest.mark.parametrize("text", [GERMAN, RUSSIAN, CHINESE, JAPANESE, KOREAN, ARABIC, "1,2\r\n3,4\r\n"])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_utf16_and_utf32_are_read_without_a_mark(text: str, codec: str, num_characters: int):
    # A line end, as text has it: without any character of one byte there would be no NUL to recognise it by.
    text = "\n" + (text * (num_characters // len(text) + 1))[:num_characters]
    decoded = decode(text.encode(codec))
    assert not isinstance(decoded, Undecodable), decoded.detail
    assert (decoded[0], decoded[1].name) == (text, codec[:6])


def test_an_encoding_is_found_when_its_letters_come_late():
    text = "A licence in English that takes half of the file.\n" * 50_000 + RUSSIAN
    decoded = decode(text.encode("koi8-r"))
    assert not isinstance(decoded, Undecodable)
    assert (decoded[0], decoded[1].name) == (text, "koi8-r")


def test_an_encoding_is_not_believed_when_a_byte_megabytes_later_does_not_decode():
    data = (JAPANESE * 2000).encode("shift_jis")
    assert len(data) > 3_000_000
    decoded = decode(data + b"\x81")
    assert isinstance(decoded, Undecodable)
    assert decoded.reason == "undecodable"


def test_ascii_with_an_escape_sequence_of_a_terminal_stays_ascii():
    text = "ESC $ B switches: \x1b$B is followed by kanji~~~"
    assert decode(text.encode()) == (text, Encoding("utf-8", "utf-8"))


RANDOM = random.Random(1)


def random_bytes(number: int, share_high: float) -> bytes:
    """Bytes without controls, most of them letters, so that only statistics can tell that they are no text."""
    return bytes(
        RANDOM.randrange(0x80, 0x100) if RANDOM.random() < share_high else RANDOM.choice(b"etaoin shrdlu\n")
        for _ in range(number)
    )


@pytest.mark.parametrize("share_high", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("number", [60, 1000, 100_000])
def test_random_bytes_are_no_text_in_any_encoding(number: int, share_high: float):
    for _ in range(10):
        decoded = decode(random_bytes(number, share_high))
        assert isinstance(decoded, Undecodable), decoded[1].name


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"PK\x03\x04\x00\x00 text", "binary"),
        (b"a\x00", "binary"),
        (bytes(100), "binary"),
        (bytes(range(256)) * 64, "binary"),
        (b"".join(n.to_bytes(2, "little") for n in range(0, 60_000, 7)), "binary"),
        (("no mark" * 100_000).encode("utf-16-le") + b"\x00\xd8", "binary"),
        (b"text " * 500_000 + b"\x00", "binary"),
        (b"ASCII text with one NUL \x00 in it, which two by two would be Chinese", "binary"),
        (FRENCH.encode() + b"\x00x\x00", "binary"),
        (FRENCH[:200].encode("windows-1252") + b"\x00", "binary"),
        (b"\xff\xd8\x01\x02\x03" + b"x" * 100, "binary"),
        (codecs.BOM_UTF8 + b"\xff\xff", "undecodable"),
        (codecs.BOM_UTF16_LE + b"\x00\xd8a\x00", "undecodable"),
        (GERMAN.encode() + GERMAN.encode("latin-1"), "undecodable"),
        (RUSSIAN.encode() + RUSSIAN.encode("windows-1251"), "undecodable"),
        (JAPANESE.encode() + JAPANESE.encode("shift_jis"), "undecodable"),
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


@pytest.mark.parametrize("size", [400, 4000, 1_000_000])
def test_real_western_text_is_read_as_windows_1252(real_data: Path, size: int):
    num_read = 0
    for path in sorted(real_data.rglob("*.*")):
        text = path.read_text("utf-8", "replace")[:size]
        try:
            data = text.encode("windows-1252")
        except UnicodeEncodeError:
            continue
        if not data.isascii():
            decoded = decode(data)
            assert not isinstance(decoded, Undecodable), path
            assert decoded[0] == text, path
            num_read += 1
    assert num_read > 10


@given(st.text(st.characters(codec="utf-8"), min_size=1), st.integers(1, 5))
def test_the_verdict_does_not_depend_on_how_a_file_is_cut(text: str, size: int):
    old = (
        FRENCH[:60].encode("windows-1252"),
        RUSSIAN[:60].encode("koi8-r"),
        JAPANESE[:40].encode("shift_jis"),
    )
    for data in (text.encode(), text.encode()[:-1] + b"\xe9", text.encode("utf-16-le"), *old):
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        whole, cut = detect_encoding([data]), detect_encoding(pieces)
        assert type(whole) is type(cut)
        if isinstance(whole, Encoding):
            assert whole == cut
