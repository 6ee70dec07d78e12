"""Languages are told from a little text, drop reasons name what was found, and code is left alone."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data_config import LanguageConfig
from core.errors import ConfigError
from data_processing.document import Outcome
from data_processing.rules import language as module
from data_processing.rules.language import LANGUAGES, language_step, tell_languages
from data_processing.rules.language_model import language_model

SENTENCES = {
    "ar": "فتحت النافذة واستمعت إلى صوت المطر وهو يسقط على الحديقة.",
    "cs": "Otevřela okno a poslouchala déšť padající na zahradu.",
    "da": "Hun åbnede vinduet og lyttede til regnen, der faldt over haven.",
    "de": "Sie öffnete das Fenster und hörte dem Regen zu, der auf den Garten fiel.",
    "el": "Άνοιξε το παράθυρο και άκουγε τη βροχή που έπεφτε στον κήπο.",
    "en": "She opened the window and listened to the rain falling on the garden.",
    "es": "Ella abrió la ventana y escuchó la lluvia que caía sobre el jardín.",
    "fi": "Hän avasi ikkunan ja kuunteli puutarhaan satavaa sadetta.",
    "fr": "Elle ouvrit la fenêtre et écouta la pluie qui tombait sur le jardin.",
    "he": "היא פתחה את החלון והקשיבה לגשם היורד על הגינה.",
    "hi": "उसने खिड़की खोली और बगीचे में गिरती बारिश की आवाज़ सुनी।",
    "it": "Lei aprì la finestra e ascoltò la pioggia che cadeva sul giardino.",
    "ja": "彼女は窓を開けて、庭に降る雨の音に耳を傾けていました。",
    "ko": "그녀는 창문을 열고 정원에 내리는 빗소리에 귀를 기울였다.",
    "nl": "Ze opende het raam en luisterde naar de regen die op de tuin viel.",
    "pl": "Otworzyła okno i słuchała deszczu padającego na ogród.",
    "pt": "Ela abriu a janela e ouviu a chuva que caía sobre o jardim.",
    "ru": "Она открыла окно и слушала, как дождь падает на сад.",
    "sv": "Hon öppnade fönstret och lyssnade på regnet som föll över trädgården.",
    "tr": "Pencereyi açtı ve bahçeye yağan yağmuru sessizce dinledi.",
    "uk": "Вона відчинила вікно і слухала, як дощ падає на сад.",
    "vi": "Cô ấy mở cửa sổ và lắng nghe tiếng mưa rơi xuống khu vườn.",
    "zh": "她打开窗户,听着雨水落在花园里的声音,想起了小时候的事情。",
}


def judge(
    text: str, metadata: dict[str, Any] | None = None, **settings: object
) -> tuple[Outcome, dict[str, Any]]:
    """The outcome, and the metadata afterwards."""
    metadata = {} if metadata is None else metadata
    (outcome,) = language_step(LanguageConfig.from_dict(settings))([text], [metadata])
    return outcome, metadata


def tell_language(text: str) -> tuple[str | None, float]:
    return tell_languages([text])[0]


@given(st.text(st.sampled_from("aZ'é \n\t.1\x00\x7f_"), max_size=40))
def test_samples_are_cleared_of_markup_the_same_way_whatever_else_stands_in_them(text: str):
    # A letter outside of ASCII sends a sample the other way.
    assert module._without_markup(f"{text}é") == module._without_markup(f"{text}a")[:-1] + "é"


@pytest.mark.parametrize("language", SENTENCES)
def test_one_sentence_tells_its_language(language: str):
    assert judge(SENTENCES[language]) == (Outcome(SENTENCES[language]), {"language": language})


@pytest.mark.parametrize("language", ["en", "de", "ru", "zh"])
def test_capitals_markup_and_numbers_around_it_do_not_matter(language: str):
    text = "\n\n# 1.2\n\n| --- | 3,1415 | === |\n" + SENTENCES[language].upper() + "\n" + "0 1 2 3 4 5\n" * 20
    assert judge(text)[1] == {"language": language}


def test_the_most_of_a_text_decides_and_not_its_beginning():
    text = SENTENCES["en"] + "\n" + (SENTENCES["de"] + "\n") * 40
    assert judge(text)[1] == {"language": "de"}


@pytest.mark.parametrize("text", ["", "Good morning!", "3.14 " * 1000, "\n" * 1000, "?! " * 500])
def test_texts_with_few_letters_are_of_unknown_language(text: str):
    assert tell_language(text) == (None, 0.0)
    assert judge(text) == (Outcome(text), {})


def test_below_the_confidence_the_language_is_unknown():
    text = "Bonjour the Garten della finestra"
    _, confidence = tell_language(text)
    assert 0.0 < confidence < 1.0
    assert judge(text, min_confidence=0.0)[1] != {}
    assert judge(text, min_confidence=1.0)[1] == {}


def test_other_languages_are_dropped_with_what_was_found():
    outcome, metadata = judge(SENTENCES["de"], keep=["en", "fr"])
    assert (outcome.reason, outcome.text, metadata) == ("language", SENTENCES["de"], {"language": "de"})
    assert outcome.detail.startswith("de (probability ")
    assert outcome.detail.endswith("), not one of en, fr")
    assert judge(SENTENCES["fr"], keep=["en", "fr"])[0] == Outcome(SENTENCES["fr"])


def test_unknown_languages_are_dropped_too_unless_und_is_kept():
    outcome, _ = judge("3.14 " * 20, keep=["en"])
    assert outcome == Outcome("3.14 " * 20, "language", "unknown language, and und is not one of en")
    assert judge("3.14 " * 20, keep=["en", "und"])[0].reason is None
    doubtful, _ = judge("Bonjour the Garten della finestra", keep=["en"], min_confidence=1.0)
    assert "is below 1.0" in doubtful.detail
    assert judge(SENTENCES["de"], keep=["en", "und"])[0].reason == "language"


def test_a_language_known_before_stays_where_the_text_does_not_tell():
    assert judge("3.14", {"language": "en"}, keep=["en"]) == (Outcome("3.14"), {"language": "en"})
    outcome, _ = judge("3.14", {"language": "de"}, keep=["en"])
    assert (outcome.reason, outcome.detail) == ("language", "de (known before), not one of en")


def test_code_passes_through_untouched():
    assert judge(SENTENCES["de"], {"code": True}, keep=["en"]) == (Outcome(SENTENCES["de"]), {"code": True})


def test_what_stands_beside_a_text_changes_nothing():
    long = [SENTENCES["en"] * 40 + SENTENCES["fr"] * 30, SENTENCES["de"] + "\n1 2 3" * 400]
    texts = ["", *SENTENCES.values(), "3.14 " * 90, *long, "Bonjour the Garten della finestra"]
    assert tell_languages(texts) == [tell_language(text) for text in texts]
    assert tell_languages([]) == []


def test_each_outcome_is_that_of_its_own_text():
    texts = [SENTENCES["de"], SENTENCES["ru"], SENTENCES["en"], "3.14 " * 20]
    metadata: list[dict[str, Any]] = [{}, {"code": True}, {}, {}]
    outcomes = language_step(LanguageConfig(keep=("en",)))(texts, metadata)
    assert [outcome.text for outcome in outcomes] == texts
    assert [outcome.reason for outcome in outcomes] == ["language", None, None, "language"]
    assert metadata == [{"language": "de"}, {"code": True}, {"language": "en"}, {}]


def test_nothing_is_told_when_nobody_asks():
    assert judge(SENTENCES["de"], detect=False) == (Outcome(SENTENCES["de"]), {})
    assert judge(SENTENCES["de"], detect=False, keep=["en"])[0].reason == "language"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("klingon", "'klingon' is no language that can be told; expected ISO 639-1 codes such as en, or und"),
        ("eng", r"'eng' is no language .* did you mean 'en'\?"),
    ],
)
def test_a_language_that_cannot_be_told_is_refused(code: str, message: str):
    with pytest.raises(ConfigError, match=f"data.languages.keep: {message}"):
        language_step(LanguageConfig(keep=(code,)))


def test_the_languages_are_those_of_the_model():
    codes = language_model().classes
    short = {module._MEMBERS.get(code, code) for code in codes if len(code) == 2 or code in module._MEMBERS}
    assert short == LANGUAGES


@pytest.mark.parametrize("unit", ["a", SENTENCES["en"], "\n", "1 "])
def test_of_a_long_text_no_more_is_looked_at_than_of_a_short_one(monkeypatch: pytest.MonkeyPatch, unit: str):
    looked_at: list[int] = []
    without_markup = module._without_markup

    def counted(sample: str) -> str:
        looked_at.append(len(sample))
        return without_markup(sample)

    monkeypatch.setattr(module, "_without_markup", counted)
    tell_language(unit * (10**6 // len(unit)))
    few, many = module._SAMPLE_CHARACTERS
    spaces = module._PLACES - 1
    assert looked_at in ([few + spaces], [few + spaces, many + spaces])


def test_real_english_is_english(real_data: Path):
    for path in sorted((real_data / "books").iterdir()):
        assert tell_language(path.read_bytes().decode("utf-8", "replace"))[0] == "en", path
    for path in sorted((real_data / "markdown").rglob("*.md")):
        assert tell_language(path.read_text(encoding="utf-8"))[0] in ("en", None), path
