"""Repair of what an earlier program decoded wrongly."""

import doctest
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.rules import mojibake
from data_processing.rules.mojibake import repair_mojibake
from tests.growth import assert_grows_linearly

CLEAN = [
    "Plain ASCII, with a tilde~ and a caret^.",
    "Le cœur a ses raisons. « C’est là », dit-elle – naïvement, à l’été ; voilà… LA POSTE À ÉTÉ» “É”",
    "Die Würde des Menschen ist unantastbar. „Größe“, Übermaß, 5 € – 30 °C",
    "El niño comió mañana. ¿Qué? ¡Sí! El NIÑO», dijo.",
    "NAÇÃO, PRODUÇÃO» e coração; São três irmãos.",
    "Wszyscy ludzie rodzą się wolni i równi. Święto, źródło, łąka.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Minden emberi lény szabadon születik és egyenlő méltósága.",
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Şeker!",
    "Все люди рождаются свободными и равными. «Русь», Россия – РФ… Сёстры, Рёв.",
    "Всі люди народжуються вільними і рівними у своїй гідності та правах. Її ґанок, Європа.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι· «ΣΧΟΛΕΙΟ»…",
    "כל בני האדם נולדו בני חורין ושווים בערכם.",
    "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق.",
    "すべての人間は、生まれながらにして自由であり、尊厳と権利とについて平等である。",
    "人人生而自由，在尊严和权利上一律平等。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng.",
    "2 × 3 ± 1 ≤ √2 · ¬p ∧ q, ½ µm, ├── tree ‚so‘",
    "ligatures ﬁ, full width ＡＢＣ, &eacute; and “quotes” stay",
]


@pytest.mark.parametrize("text", CLEAN)
def test_clean_text_stays_the_same_object(text: str):
    assert repair_mojibake(text) is text or repair_mojibake(text) == text
    assert repair_mojibake(f"{text}\n{text.upper()}\r\n\n") == f"{text}\n{text.upper()}\r\n\n"


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ("Itâ€™s a cafÃ©.", "It’s a café."),
        ("Â£5 at 20Â°C", "£5 at 20°C"),
        ("voilÃ  le travail", "voilà le travail"),
        ("ï»¿Hello", "\ufeffHello"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚, Ð¼Ð¸Ñ€", "Привет, мир"),
        ("РџСЂРёРІРµС‚", "Привет"),
        ("l\x92été \x93ici\x94", "l’été “ici”"),
        ("æ—¥æœ¬èªž", "日本語"),
        ("Ã¢â‚¬â„¢", "’"),  # twice
    ],
)
def test_known_cases_are_repaired(broken: str, expected: str):
    assert repair_mojibake(broken) == expected


def misread(text: str, codec: str) -> str | None:
    """What becomes of UTF-8 that is read as `codec`; None when it cannot be."""
    try:
        return text.encode().decode(codec)
    except UnicodeDecodeError:
        return None


MISREAD = [
    (broken, text)
    for text in CLEAN[1:18]
    for codec in ("windows-1252", "latin-1")
    if (broken := misread(text, codec)) is not None
]


@pytest.mark.parametrize(("broken", "text"), MISREAD)
def test_utf8_that_was_read_as_western_comes_back(broken: str, text: str):
    assert repair_mojibake(broken) == text


def test_only_the_broken_line_changes():
    good, broken = "Größe – „Übermaß“, ½ ×", "GrÃ¶ÃŸe"
    assert repair_mojibake(f"{good}\n{broken}\n\x0b{good}") == f"{good}\nGröße\n\x0b{good}"


def test_what_lost_a_byte_gets_no_replacement_character():
    assert "\ufffd" not in repair_mojibake("the end.â€ Next; caf� Ãƒ? â€˜x")


@given(st.text(st.sampled_from("aZ \n.,ÃÂâ€™œžš©é\xa0»¿ïРСвЂ№Ð¸Ñ€√‚¬├Γ\x80\x92\x85é日Ж"), max_size=60))
def test_a_second_repair_changes_nothing(text: str):
    once = repair_mojibake(text)
    assert repair_mojibake(once) == once


@given(st.text(max_size=200))
def test_text_of_ascii_and_letters_without_neighbours_from_western_signs_is_untouched(text: str):
    plain = "".join(c for c in text if c.isascii() or ord(c) > 0x3000)
    assert repair_mojibake(plain) == plain


def test_a_line_of_megabytes_is_repaired_in_linear_time(monkeypatch: pytest.MonkeyPatch):
    broken, expected = "Itâ€™s a cafÃ©. ", "It’s a café. "
    monkeypatch.setattr(mojibake, "MAX_LINE_CHARACTERS", 2_000)
    assert repair_mojibake(broken * 1000) == expected * 1000
    monkeypatch.undo()
    for unit in ("Ã", "â€", "é’", "à ", "\x92"):
        assert_grows_linearly(repair_mojibake, lambda number, unit=unit: unit * number, 10_000)


def test_real_books_stay_as_they_are(real_data: Path):
    num_read = 0
    for path in sorted(real_data.rglob("*.*")):
        data = path.read_bytes()
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode("windows-1252")
        assert repair_mojibake(text) == text, path
        num_read += 1
    assert num_read > 100


def test_the_examples_in_the_documentation_are_true():
    assert doctest.testmod(mojibake).failed == 0
