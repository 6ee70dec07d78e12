"""What the counts of words give, against what SentencePiece makes of the text itself."""

import io
from pathlib import Path

import pytest
import sentencepiece

import tokenization.sentencepiece_trainer as trainer_module
from tests.tokenization.hostile_text import corpus
from tokenization.model_file import parse_model
from tokenization.sentencepiece_trainer import UNSPEAKABLE, train_sentencepiece
from tokenization.special_tokens import SMALLEST_VOCABULARY
from tokenization.vocabulary_settings import VocabularySettings


def settings(
    model_type: str, vocab_size: int, *, split_digits: bool = True, split_by_unicode_script: bool = True
) -> VocabularySettings:
    return VocabularySettings(
        model_type=model_type,
        vocab_size=vocab_size,
        character_coverage=0.9995,
        split_digits=split_digits,
        split_by_unicode_script=split_by_unicode_script,
        max_piece_length=32,
        num_threads=2,
    )


def pieces_from_whole_text(
    texts: list[str], chosen: VocabularySettings, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The pieces that SentencePiece learns from sentences, with every other setting as in ours."""
    original = sentencepiece.SentencePieceTrainer.train
    model = io.BytesIO()

    def train(**options: object) -> None:
        sentences = iter([text.encode() for text in texts])
        original(**{**options, "sentence_iterator": sentences, "input_format": "text", "model_writer": model})

    with monkeypatch.context() as patch:
        patch.setattr(sentencepiece.SentencePieceTrainer, "train", train)
        trainer_module._train([], chosen.vocab_size, chosen, "the corpus")
    return [piece.text for piece in parse_model(model.getvalue()).pieces]


# SentencePiece strips line ends from the end of a sentence, which counted words keep; so none of these has any.
TABS = ["\tif x:\n\t\treturn\tx\n\t\t\tdone"] * 30
TEXTS = [text.rstrip("\r\n") for text in corpus(num_texts=80)] + TABS


@pytest.mark.parametrize("split_by_unicode_script", [True, False])
@pytest.mark.parametrize("split_digits", [True, False])
@pytest.mark.parametrize(("kind", "size"), [("bpe", 900), ("bpe", 500), ("char", 400), ("word", 420)])
def test_counted_words_give_the_pieces_of_the_whole_text(
    kind: str, size: int, split_digits: bool, split_by_unicode_script: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(kind, size, split_digits=split_digits, split_by_unicode_script=split_by_unicode_script)
    # A word model has no line end inside a word: it is trained on lines.
    sentences = [line for text in TEXTS for line in text.split("\n")] if kind == "word" else TEXTS
    expected = pieces_from_whole_text(sentences, chosen, monkeypatch)
    found = train_sentencepiece([text.encode() for text in TEXTS], chosen, "the corpus")
    assert [piece.text for piece in found.vocabulary.pieces] == expected
    if kind == "bpe" and size == 900:
        assert "\t\t" in expected and len(expected) == 900


def test_counted_words_give_the_pieces_of_real_text(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted((real_data / "markdown").glob("*.md"))[::3]
    texts = [path.read_text(encoding="utf-8").strip() for path in files]
    texts = [
        part for text in texts for part in UNSPEAKABLE.sub(b" ", text.encode()).decode().split("\n\n") if part
    ]
    texts = [text.strip() for text in texts if len(text.encode()) < trainer_module.MAX_SENTENCE_BYTES]
    chosen = settings("bpe", 4000)
    expected = pieces_from_whole_text(texts, chosen, monkeypatch)
    found = train_sentencepiece([text.encode() for text in texts], chosen, "the corpus")
    assert [piece.text for piece in found.vocabulary.pieces] == expected


def test_the_end_of_a_text_is_learned_from_too() -> None:
    found = train_sentencepiece([b"done.\n"] * 50, settings("bpe", 290), "the corpus")
    assert ".\n" in {piece.text for piece in found.vocabulary.pieces[SMALLEST_VOCABULARY:]}


def test_names_of_special_tokens_are_neither_learned_nor_learned_as_tabs() -> None:
    found = train_sentencepiece([b"a<s>b <|end|><0x41>"] * 50, settings("bpe", 290), "the corpus")
    learned = {piece.text for piece in found.vocabulary.pieces[SMALLEST_VOCABULARY:]}
    assert learned == {"\u2581", "a", "b"}


def test_the_sample_is_handed_over() -> None:
    sample = [b"the iron is hot"] * 3
    train_sentencepiece(sample, settings("bpe", 285), "the corpus")
    assert sample == []
