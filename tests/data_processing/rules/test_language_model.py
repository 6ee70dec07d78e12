"""The model asked about many texts at once says what py3langid says about each, to the last bit."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from core.errors import DiskError
from data_processing.rules.language_model import classify, language_model
from tests.data_processing.rules.test_language import SENTENCES


@pytest.fixture(scope="module")
def identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def test_sentences_of_many_languages(identifier: LanguageIdentifier):
    sentences = [*SENTENCES.values(), *(sentence.upper() for sentence in SENTENCES.values())]
    mixed = [f"{first} {second}" for first in SENTENCES.values() for second in SENTENCES.values()]
    texts = [*sentences, *(sentence[:25] for sentence in sentences), *mixed]
    assert classify(texts) == [identifier.classify(text) for text in texts]


@settings(max_examples=50)
@given(st.lists(st.text(max_size=80), max_size=20))
def test_any_texts(identifier: LanguageIdentifier, texts: list[str]):
    assert classify(texts) == [identifier.classify(text) for text in texts]


@pytest.mark.parametrize(
    "text", ["", " ", "\x00", "\ud800", "e\u0301te\u0301", "ÇA Y EST", "\U0001f600" * 50]
)
def test_texts_in_which_little_or_nothing_is_found(identifier: LanguageIdentifier, text: str):
    assert classify([text]) == [identifier.classify(text)]


def test_pieces_of_real_texts(identifier: LanguageIdentifier, real_data: Path):
    for path in sorted((real_data / "markdown").rglob("*.md"))[:30]:
        text = path.read_text(encoding="utf-8")
        pieces = [text[begin : begin + 240] for begin in range(0, len(text), 240)]
        assert classify(pieces) == [identifier.classify(piece) for piece in pieces], path


def test_a_full_disk_for_temporary_files_says_how_to_do_without_the_model(monkeypatch: pytest.MonkeyPatch):
    def refuse(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(
        DiskError, match=r"no room for the model .*data\.languages\.detect=false.*No space left.*TMPDIR"
    ):
        language_model.__wrapped__()
