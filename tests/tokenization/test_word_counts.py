import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenization.word_counts as word_counts
from tests.tokenization.hostile_text import corpus, texts
from tokenization.word_counts import count_words, cuts_around_bpe_pieces, cuts_at_spaces


@given(batch=st.lists(texts, max_size=5))
def test_words_between_spaces_are_counted_as_by_a_regular_expression(batch: list[str]) -> None:
    expected = Counter(word for text in batch for word in re.findall(" *[^ ]+| +", text))
    found = dict(count_words((text.encode() for text in batch), cuts_at_spaces()))
    assert found == {word.encode(): count for word, count in expected.items()}


def test_words_between_scripts_are_letters_or_other_characters() -> None:
    text = "x = foo(bar1);\n    return é_café\n日本x 12.5"
    cuts = cuts_around_bpe_pieces(split_digits=False, split_by_unicode_script=True)
    found = dict(count_words([text.encode()], cuts))
    assert {word.decode() for word in found} == {
        *("x", " =", " foo", "(", "bar", "1);\n", "    return", " é_", "café\n日本x", " 12.5")
    }
    cuts = cuts_around_bpe_pieces(split_digits=True, split_by_unicode_script=True)
    digits = dict(count_words([b" 12.5 a7"], cuts))
    assert digits == {b" ": 1, b"1": 1, b"2": 1, b".": 1, b"5": 1, b" a": 1, b"7": 1}


def test_words_of_mixed_scripts_end_at_spaces_and_around_digits_alone() -> None:
    cuts = cuts_around_bpe_pieces(split_digits=True, split_by_unicode_script=False)
    assert dict(count_words([b"foo(bar1);\n x"], cuts)) == {b"foo(bar": 1, b"1": 1, b");\n": 1, b" x": 1}


def test_batches_and_merging_change_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text.encode() for text in corpus(num_texts=40)]
    whole = dict(count_words(texts, cuts_at_spaces()))
    monkeypatch.setattr(word_counts, "BATCH_BYTES", 100)
    monkeypatch.setattr(word_counts, "MERGED_ROWS", 50)
    assert dict(count_words(texts, cuts_at_spaces())) == whole
    assert list(count_words([], cuts_at_spaces())) == []
