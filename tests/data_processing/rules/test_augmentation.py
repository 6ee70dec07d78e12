"""Extra copies of documents."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data_config import AugmentationConfig
from data_processing.document import Document
from data_processing.rules.augmentation import KINDS, augmented, join_lines, last_part_first
from tests.growth import assert_grows_linearly
from tests.small_texts import make_documents, make_text

ALL = AugmentationConfig(lowercase_share=1.0, whitespace_share=1.0, context_share=1.0)
TEXT = """# Iron

The bloom is a porous mass of iron and of slag,
which the smith draws out of the hot furnace and
hammers until most of the slag in it is well-
known to be gone.

- one item of a list that goes on for quite long
- two

| a | b |

Short verse,
of two lines.

```
let x = a_rather_long_line_of_code_in_a_fence;
let y = x;
```"""


def document(text: str = TEXT, **metadata: object) -> Document:
    return Document.of(text, source="notes/iron.md", metadata={"format": ".md", **metadata})


def test_each_kind_makes_one_copy_that_says_what_it_is():
    original = document(cluster="c1")
    copies = list(augmented(original, ALL, seed=1))
    assert [copy.source for copy in copies] == [
        f"notes/iron.md~{kind}" for kind in ("lowercase", "whitespace", "context")
    ]
    for copy, kind in zip(copies, KINDS, strict=True):
        assert copy.metadata == {"format": ".md", "cluster": "c1", "augmentation": kind}
        assert copy.input_bytes == 0
    assert len({original.id, *(copy.id for copy in copies)}) == 4
    assert copies == list(augmented(original, ALL, seed=1))
    assert original == document(cluster="c1")


def test_code_and_texts_that_would_not_change_are_not_repeated():
    assert list(augmented(document(code=True), ALL, seed=1)) == []
    assert list(augmented(document("all lower case on one line"), ALL, seed=1)) == []
    assert list(augmented(document(), AugmentationConfig(), seed=1)) == []


def test_the_settings_are_the_kinds():
    assert set(AugmentationConfig.model_fields) == {f"{kind}_share" for kind in KINDS}


def test_about_the_share_is_repeated_and_a_larger_share_repeats_the_same_and_more():
    documents = [Document.of(text, source=f"{index}.txt") for index, text in enumerate(make_documents(2000))]
    chosen = []
    for share in (0.1, 0.3):
        config = AugmentationConfig(lowercase_share=share)
        chosen.append({item.id for item in documents if list(augmented(item, config, seed=7))})
        assert abs(len(chosen[-1]) / 2000 - share) < 0.04  # four standard deviations
    assert chosen[0] < chosen[1]
    other = AugmentationConfig(lowercase_share=0.1)
    assert {item.id for item in documents if list(augmented(item, other, seed=8))} != chosen[0]


def test_lines_are_joined_within_paragraphs_alone():
    assert join_lines(TEXT) == TEXT.replace("slag,\nwhich", "slag, which").replace(
        "and\nhammers", "and hammers"
    ).replace("well-\nknown", "well-known")


def test_the_last_third_comes_first_from_a_paragraph_on():
    paragraphs = [f"Paragraph {letter} has some words." for letter in "abcdef"]
    expected = "\n\n".join([*paragraphs[4:], *paragraphs[:4]])
    assert last_part_first("\n\n".join(paragraphs)) == expected
    assert last_part_first("\n".join(paragraphs)) == "\n".join(paragraphs[4:]) + "\n\n" + "\n".join(
        paragraphs[:4]
    )
    assert last_part_first(" ".join(paragraphs)) == " ".join(paragraphs[4:]) + "\n\n" + " ".join(
        paragraphs[:4]
    )
    assert last_part_first("word " * 50) == "word " * 50


@given(st.text(max_size=300) | st.integers(0, 1000).map(lambda seed: make_text(random.Random(seed), 9)))
def test_no_word_is_lost_and_none_is_made(text: str):
    assert sorted(last_part_first(text).split()) == sorted(text.split())
    assert "".join(join_lines(text).split()) == "".join(text.split())
    for copy in augmented(document(text), ALL, seed=0):
        assert copy.text != text


@pytest.mark.parametrize(
    "unit", ["a", "\n", " ", ". ", "\n ", "a-\n", "word\n", "x" * 50 + "\n", "```\n", "A"]
)
def test_hostile_text_takes_linear_time(unit: str):
    assert_grows_linearly(
        lambda text: list(augmented(document(text), ALL, seed=0)),
        lambda size: unit * (size // len(unit)),
        40_000,
    )
