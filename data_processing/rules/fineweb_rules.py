"""The rules that FineWeb added (Penedo et al. 2024, section 3.6), all about the lines of a web page.

Decisions and the order in which rules are asked are those of datatrove 0.10.1, given words between white space. Lines
of a page are paragraphs; hard-wrapped text, such as a book's, has lines that end anywhere, and is mostly left out.
"""

import math
from collections.abc import Mapping

from core.data_config import QualityConfig
from data_processing.rules.objections import Objection, above, below, share
from data_processing.rules.prose import SENTENCE_ENDS, Prose, repeated

REASONS: Mapping[str, str] = {
    "fineweb_few_punctuated_lines": "fewer lines end a sentence than data.quality.fineweb_min_punctuated_lines",
    "fineweb_short_lines": "more lines of at most data.quality.fineweb_short_line characters than "
    "data.quality.fineweb_max_short_lines",
    "fineweb_duplicate_line_characters": "more of the text in repeated lines than "
    "data.quality.fineweb_max_duplicate_line_characters",
    "fineweb_many_lines": "more line ends for each word than data.quality.fineweb_max_lines_a_word",
}
"""Reason -> what it means and the setting that changes it."""


def fineweb(prose: Prose, config: QualityConfig) -> Objection | None:
    """The first objection to how lines end, to short lines, to repeated lines, to the number of lines."""
    lines = [line for line in prose.lines if line and not line.isspace()]
    num_line_ends = len(prose.lines) - 1
    num_punctuated = sum(line[-1] in SENTENCE_ENDS for line in lines)
    num_short = sum(len(line) <= config.fineweb_short_line for line in lines)
    _, repeated_characters = repeated(lines)
    return (
        below(
            "fineweb_few_punctuated_lines",
            share(num_punctuated, len(lines)),
            config.fineweb_min_punctuated_lines,
            "of the lines end with punctuation",
        )
        or above(
            "fineweb_short_lines",
            share(num_short, len(lines)),
            config.fineweb_max_short_lines,
            f"of the lines have at most {config.fineweb_short_line} characters",
        )
        or above(
            "fineweb_duplicate_line_characters",
            share(repeated_characters, len(prose.text) - num_line_ends),
            config.fineweb_max_duplicate_line_characters,
            "of the characters in lines that stand earlier",
        )
        or _number_objection(prose, num_line_ends, config.fineweb_max_lines_a_word)
    )


def _number_objection(prose: Prose, num_line_ends: int, most: float | None) -> Objection | None:
    if not most:
        return above("fineweb_many_lines", num_line_ends, most, "line ends")
    # No more words are split off than are needed to see that there are enough of them: mostly a fiftieth of the text.
    num_words = len(prose.text.split(None, math.ceil(num_line_ends / most)))
    return above("fineweb_many_lines", share(num_line_ends, num_words), most, "line ends a word")
