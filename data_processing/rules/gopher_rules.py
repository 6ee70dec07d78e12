"""The rules of Gopher (Rae et al. 2021, appendix A1.1) on words between white space: quality and repetition.

Thresholds are the paper's (Table A1 for repetition), decisions and the order in which rules are asked are those of
datatrove 0.10.1 given the same words.
"""

import re
from collections.abc import Mapping

import numpy as np

from core.data_config import NGRAM_WORDS, QualityConfig
from data_processing.rules.objections import Objection, above, below, share
from data_processing.rules.prose import Prose, repeated
from data_processing.rules.word_ngrams import duplicate_ngrams_above, top_ngram_above

REASONS: Mapping[str, str] = {
    "gopher_too_few_words": "fewer words than data.quality.gopher_min_words",
    "gopher_too_many_words": "more words than data.quality.gopher_max_words",
    "gopher_short_words": "mean word shorter than data.quality.gopher_min_mean_word_length",
    "gopher_long_words": "mean word longer than data.quality.gopher_max_mean_word_length",
    "gopher_symbol_ratio": "more # or ellipses for each word than data.quality.gopher_max_symbol_ratio",
    "gopher_bullet_lines": "more lines begin with a bullet than data.quality.gopher_max_bullet_lines",
    "gopher_ellipsis_lines": "more lines end with an ellipsis than data.quality.gopher_max_ellipsis_lines",
    "gopher_few_alphabetic_words": "fewer words have a letter than data.quality.gopher_min_alphabetic_words",
    "gopher_few_stop_words": "fewer English stop words than data.quality.gopher_min_stop_words",
    "gopher_duplicate_paragraphs": "more repeated paragraphs than data.quality.gopher_max_duplicate_paragraphs",
    "gopher_duplicate_paragraph_characters": "more of the text in repeated paragraphs than "
    "data.quality.gopher_max_duplicate_paragraph_characters",
    "gopher_duplicate_lines": "more repeated lines than data.quality.gopher_max_duplicate_lines",
    "gopher_duplicate_line_characters": "more of the text in repeated lines than "
    "data.quality.gopher_max_duplicate_line_characters",
    **{
        f"gopher_top_{n}gram": f"more of the text is one {n}-gram than data.quality.gopher_max_top_ngrams has for {n}"
        for n in NGRAM_WORDS
    },
    **{
        f"gopher_duplicate_{n}grams": f"more of the text in repeated {n}-grams than "
        f"data.quality.gopher_max_duplicate_ngrams has for {n}"
        for n in NGRAM_WORDS
    },
}
"""Reason -> what it means and the setting that changes it."""

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""The paper's eight, in lower case as they stand there."""

_STOP_WORD = re.compile(rf"(?<!\S)(?:{'|'.join(STOP_WORDS)})(?!\S)")


def gopher_quality(prose: Prose, config: QualityConfig) -> Objection | None:
    """The first objection to the number, length and kind of words, to symbols, to lines, to missing stop words."""
    num_ellipses = prose.text.count("...") + prose.text.count("…")
    return (
        _word_objection(prose, config)
        or _symbol_objection(prose, num_ellipses, config.gopher_max_symbol_ratio)
        or _bullet_objection(prose, config.gopher_max_bullet_lines)
        or _ellipsis_objection(prose, num_ellipses, config.gopher_max_ellipsis_lines)
        or below(
            "gopher_few_alphabetic_words",
            share(int(np.count_nonzero(prose.has_letter())), prose.num_words),
            config.gopher_min_alphabetic_words,
            "of the words with a letter",
        )
        or _stop_word_objection(prose, config)
    )


def gopher_repetition(prose: Prose, config: QualityConfig) -> Objection | None:
    """The first objection to paragraphs, lines and n-grams that recur within a text, in this order."""
    lines = [line for line in prose.lines if line]
    num_repeated, characters = repeated(lines)
    # Where no line recurs, no paragraph does (but for white space around the text, which paragraphs are stripped of):
    # most texts are not cut into paragraphs.
    if (num_repeated or prose.text != prose.text.strip()) and (
        objection := _paragraph_objection(prose, config)
        or above(
            "gopher_duplicate_lines",
            share(num_repeated, len(lines)),
            config.gopher_max_duplicate_lines,
            "of the lines stand earlier in the text",
        )
        or above(
            "gopher_duplicate_line_characters",
            share(characters, len(prose.text)),
            config.gopher_max_duplicate_line_characters,
            "of the characters in lines that stand earlier",
        )
    ):
        return objection
    return _ngram_objection(prose, config)


def _paragraph_objection(prose: Prose, config: QualityConfig) -> Objection | None:
    num_repeated, characters = repeated(prose.paragraphs)
    return above(
        "gopher_duplicate_paragraphs",
        share(num_repeated, len(prose.paragraphs)),
        config.gopher_max_duplicate_paragraphs,
        "of the paragraphs stand earlier in the text",
    ) or above(
        "gopher_duplicate_paragraph_characters",
        share(characters, len(prose.text)),
        config.gopher_max_duplicate_paragraph_characters,
        "of the characters in paragraphs that stand earlier",
    )


def _word_objection(prose: Prose, config: QualityConfig) -> Objection | None:
    # Words of punctuation alone are left out here, and in none of the shares.
    counts = prose.is_more_than_punctuation()
    num_words = int(np.count_nonzero(counts))
    mean_length = share(int(prose.word_lengths.dot(counts)), num_words)
    return (
        below("gopher_too_few_words", num_words, config.gopher_min_words, "words")
        or above("gopher_too_many_words", num_words, config.gopher_max_words, "words")
        or below("gopher_short_words", mean_length, config.gopher_min_mean_word_length, "characters a word")
        or above("gopher_long_words", mean_length, config.gopher_max_mean_word_length, "characters a word")
    )


def _symbol_objection(prose: Prose, num_ellipses: int, most: float | None) -> Objection | None:
    num_hashes, num_words = _count(prose.text, "#"), prose.num_words
    return above("gopher_symbol_ratio", share(num_hashes, num_words), most, "hash signs a word") or above(
        "gopher_symbol_ratio", share(num_ellipses, num_words), most, "ellipses a word"
    )


def _count(text: str, sign: str) -> int:
    """How often one character stands in a text; to see that it does not takes a fifteenth of counting."""
    return text.count(sign) if sign in text else 0


def _bullet_objection(prose: Prose, most: float | None) -> Objection | None:
    # A line that begins with a mark has one in it. Mostly that settles it, and the lines are not looked at.
    num_marks = _count(prose.text, "-") + _count(prose.text, "•")
    if most is None or num_marks <= most * (len(prose.lines) - 1):
        return None
    lines = prose.text.splitlines()
    num_bullets = sum(line.lstrip().startswith(("-", "•")) for line in lines)
    return above(
        "gopher_bullet_lines", share(num_bullets, len(lines)), most, "of the lines begin with a bullet"
    )


def _ellipsis_objection(prose: Prose, num_ellipses: int, most: float | None) -> Objection | None:
    if most is None or num_ellipses <= most * (len(prose.lines) - 1):  # as with bullets
        return None
    lines = prose.text.splitlines()
    num_ending = sum(line.rstrip().endswith(("...", "…")) for line in lines)
    return above(
        "gopher_ellipsis_lines", share(num_ending, len(lines)), most, "of the lines end with an ellipsis"
    )


def _stop_word_objection(prose: Prose, config: QualityConfig) -> Objection | None:
    """An objection to too few different stop words, unless the text is known to be in another language."""
    fewest = config.gopher_min_stop_words
    if fewest is None or prose.language not in (None, "en"):
        return None
    found: set[str] = set()
    for match in _STOP_WORD.finditer(prose.text):
        found.add(match[0])
        if len(found) >= fewest:  # mostly within the first sentence: the text is not gone through
            return None
    return below("gopher_few_stop_words", len(found), fewest, "different stop words")


def _ngram_objection(prose: Prose, config: QualityConfig) -> Objection | None:
    num_characters = len(prose.text)
    if found := top_ngram_above(prose, config.gopher_max_top_ngrams):
        n, most, characters = found
        what = f"of the characters in one {n}-gram"
        return above(f"gopher_top_{n}gram", share(characters, num_characters), most, what)
    if found := duplicate_ngrams_above(prose, config.gopher_max_duplicate_ngrams):
        n, most, characters = found
        what = f"of the characters in {n}-grams that stand earlier"
        return above(f"gopher_duplicate_{n}grams", share(characters, num_characters), most, what)
    return None
