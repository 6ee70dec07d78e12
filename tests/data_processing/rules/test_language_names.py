"""Languages are named by codes, and whoever names them otherwise is told the code."""

import pytest

from core.data_config import LanguageConfig
from core.errors import ConfigError
from data_processing.rules.language import LANGUAGES, language_step
from data_processing.rules.language_names import ENGLISH_NAMES


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("English", "'english': languages are named by ISO 639-1 codes, English is 'en'"),
        ("german", "'german': languages are named by ISO 639-1 codes, German is 'de'"),
        ("Volapük", "'volapük': languages are named by ISO 639-1 codes, Volapük is 'vo'"),
        ("englsh", r"'englsh' is no language that can be told; .*; did you mean 'english'\?"),
        ("eng", r"'eng' is no language that can be told; .*; did you mean 'en'\?"),
        (
            "deutsch",
            "'deutsch' is no language that can be told; expected ISO 639-1 codes such as en, or und for",
        ),
    ],
)
def test_a_name_is_answered_with_the_code(given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^data.languages.keep: {message}"):
        language_step(LanguageConfig.from_dict({"keep": ["de", given]}))


def test_every_code_is_taken_in_any_case_and_is_no_name_of_another() -> None:
    language_step(LanguageConfig.from_dict({"keep": [code.upper() for code in LANGUAGES] + ["UND"]}))
    names = [name.lower() for name in ENGLISH_NAMES.values()]
    assert len(set(names)) == len(names) == len(LANGUAGES)
    assert not LANGUAGES & set(names)
