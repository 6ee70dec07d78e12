"""The text of an answer: exactly what the tokens say, up to the first stop string, whatever the tokens' borders are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.answer_text import Answer, Piece
from inference.continuous_batch import Event, FinishReason
from tokenization.tokenizer import Tokenizer


def events(tokens: list[int], finish_reason: FinishReason = "length") -> list[Event]:
    """As a batch makes them."""
    made = [Event(0, token, -1.0, (), None) for token in tokens]
    if finish_reason == "length":
        made[-1] = Event(0, tokens[-1], -1.0, (), "length")
        return made
    return [*made, Event(0, None, None, (), "stop")]


def pieces_of(answer: Answer, made: list[Event]) -> list[Piece]:
    pieces = []
    for event in made:
        pieces.append(answer.push(event))
        if answer.finish_reason is not None:
            break
    return pieces


def cut(text: str, stops: list[str]) -> str:
    """The specification, by brute force: read on until the text ends with a stop string."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


@given(data=st.data())
def test_the_text_ends_before_the_first_stop_string_and_nothing_of_it_is_shown_before(
    small_tokenizer: Tokenizer, data: st.DataObject
) -> None:
    tokens = data.draw(st.lists(st.integers(16, small_tokenizer.vocab_size - 1), min_size=1, max_size=30))
    whole = small_tokenizer.decode(tokens)
    starts = data.draw(st.lists(st.integers(0, max(0, len(whole) - 1)), max_size=3))
    stops = [whole[start : start + data.draw(st.integers(1, 6))] for start in starts]
    stops = [stop for stop in stops if stop] + data.draw(
        st.lists(st.text("ab é", min_size=1, max_size=3), max_size=1)
    )
    answer = Answer(small_tokenizer, stops)
    pieces = pieces_of(answer, events(tokens, data.draw(st.sampled_from(["length", "stop"]))))
    text = "".join(piece.text for piece in pieces)
    # The decoder holds back bytes that may still become a character; a stop string that holds U+FFFD may be met later.
    if not any("�" in stop for stop in stops):
        assert text == cut(whole, stops)
    assert (answer.finish_reason == "stop") or text == whole
    shown = [said for piece in pieces for said in piece.tokens]
    assert [said.token for said in shown] == tokens[: len(shown)]
    if not stops:
        assert len(shown) == len(tokens)


def test_what_may_become_a_stop_string_is_held_back_until_it_does_not(small_tokenizer: Tokenizer) -> None:
    tokens = [token for letter in "a<xb<en" for token in small_tokenizer.encode(letter)]
    answer = Answer(small_tokenizer, ["<end>"])
    pieces = pieces_of(answer, events(tokens))
    assert [piece.text for piece in pieces] == ["a", "", "<x", "b", "", "", "<en"]
    assert [len(piece.tokens) for piece in pieces] == [1, 0, 2, 1, 0, 0, 3]


def test_a_stop_string_at_the_very_beginning_leaves_nothing(small_tokenizer: Tokenizer) -> None:
    answer = Answer(small_tokenizer, ["iron"])
    pieces = pieces_of(answer, events(small_tokenizer.encode("iron ore")))
    assert [(piece.text, piece.tokens) for piece in pieces if piece.text or piece.tokens] == []
    assert answer.finish_reason == "stop"


def test_a_character_is_shown_when_its_last_byte_is_there(small_tokenizer: Tokenizer) -> None:
    tokens = small_tokenizer.encode("€")
    assert len(tokens) == 3, "the test wants a character of three byte tokens"
    pieces = pieces_of(Answer(small_tokenizer), events([*tokens, *small_tokenizer.encode("x")]))
    assert [piece.text for piece in pieces] == ["", "", "€", "x"]


@pytest.mark.parametrize("finish_reason", ["length", "stop"])
def test_a_character_that_never_became_whole_ends_as_a_mark(
    small_tokenizer: Tokenizer, finish_reason: FinishReason
) -> None:
    tokens = small_tokenizer.encode("€")[:2]
    answer = Answer(small_tokenizer)
    text = "".join(piece.text for piece in pieces_of(answer, events(tokens, finish_reason)))
    assert text == "�" == small_tokenizer.decode(tokens)
    assert (answer.finish_reason, answer.num_tokens) == (finish_reason, 2)


def test_offsets_say_where_the_text_of_a_token_begins(small_tokenizer: Tokenizer) -> None:
    tokens = small_tokenizer.encode("the iron and the é")
    pieces = pieces_of(Answer(small_tokenizer), events(tokens))
    shown = [said for piece in pieces for said in piece.tokens]
    assert [said.offset for said in shown if small_tokenizer.token_bytes(said.token)[:1] != b"\xa9"] == [
        len(small_tokenizer.decode(tokens[:index]).rstrip("�"))
        for index, token in enumerate(tokens)
        if small_tokenizer.token_bytes(token)[:1] != b"\xa9"
    ]
