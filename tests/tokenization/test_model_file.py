from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from core.errors import DataError
from tokenization.model_file import (
    FIXED32,
    LENGTH,
    VARINT,
    Field,
    PieceType,
    canonical_model,
    parse_model,
    read_fields,
    write_fields,
)

fields = st.one_of(
    st.builds(Field, st.integers(1, 2**20), st.just(VARINT), st.integers(0, 2**64 - 1)),
    st.builds(Field, st.integers(1, 2**20), st.just(LENGTH), st.binary(max_size=300)),
    st.builds(Field, st.integers(1, 2**20), st.just(FIXED32), st.binary(min_size=4, max_size=4)),
)


@given(message=st.lists(fields, max_size=20))
def test_reading_inverts_writing(message: list[Field]) -> None:
    assert read_fields(write_fields(message)) == message


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_read_but_never_crash(data: bytes) -> None:
    with pytest.raises(DataError, match="not a SentencePiece model"):
        parse_model(data)


def test_the_pieces_are_those_that_sentencepiece_reads(tokenizer_directory, bpe_directory: Path) -> None:
    for kind in ("bpe", "unigram", "char", "word"):
        path = tokenizer_directory(kind) / "tokenizer.model"
        reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
        parsed = parse_model(path.read_bytes())
        assert parsed.model_type == kind
        assert len(parsed.pieces) == reference.vocab_size()
        for token, piece in enumerate(parsed.pieces):
            assert (piece.text, piece.score) == (reference.id_to_piece(token), reference.get_score(token))
            assert (piece.type == PieceType.BYTE) == reference.is_byte(token)
            assert (piece.type == PieceType.CONTROL) == reference.is_control(token)
            assert (piece.type == PieceType.UNKNOWN) == reference.is_unknown(token)


def test_writing_a_model_again_changes_only_what_was_asked(bpe_directory: Path) -> None:
    model = (bpe_directory / "tokenizer.model").read_bytes()
    assert canonical_model(model, round_score=lambda score: score) == model
    halved = parse_model(canonical_model(model, round_score=lambda score: score / 2))
    whole = parse_model(model)
    assert [piece.score for piece in halved.pieces] == [piece.score / 2 for piece in whole.pieces]
    assert [piece.text for piece in halved.pieces] == [piece.text for piece in whole.pieces]
    assert halved.settings == whole.settings
