"""The rules of C4 (Raffel et al. 2020, section 2.2): lines that are removed, and texts of which too little is left.

Decisions are those of datatrove 0.10.1 with its switches as they come, but for sentences, which are counted by a rule
(`count_sentences`) and not by a tokenizer. The paper's list of bad words is not asked.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from core.data_config import QualityConfig
from data_processing.document import Outcome, excerpt
from data_processing.rules.objections import Objection, below
from data_processing.rules.prose import Prose

REASONS: Mapping[str, str] = {
    "c4_lorem_ipsum": "placeholder text (lorem ipsum); leave c4 out of data.quality.rules to keep it",
    "c4_curly_bracket": "a { as code has it; leave c4 out of data.quality.rules to keep it",
    "c4_too_few_sentences": "C4 leaves fewer sentences of it than data.quality.c4_min_sentences",
}
"""Reason -> what it means and the setting that changes it."""

_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_LINE_ENDS = (".", "?", "!", '"', "'")
_PERHAPS_LINE_ENDS = frozenset((*_LINE_ENDS, "]", *filter(str.isspace, map(chr, range(0x3001)))))
"""Last characters of lines that may end with punctuation once citations and white space are gone."""
_PLACEHOLDER = "lorem ipsum"
_SCRIPT = "javascript"
_POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)

_MARKS = (_PLACEHOLDER, _SCRIPT, "cookie", *(policy for policy in _POLICIES if "cookie" not in policy))
"""A text without any of these has no line about the page."""

# Possessive, so that it takes linear time on a line of nothing but closing marks.
_SENTENCE_BOUNDARY = re.compile(r"""[.?!]["')\]”’»]*+\s++(?=\S)""")


def c4(prose: Prose, config: QualityConfig) -> Outcome | Objection:
    """The lines that look like sentences and speak to the reader, or the objection to what is left.

    `counts` has the number of lines removed, blank ones included.
    """
    lines = prose.text.splitlines()
    kept = _sentence_like(lines, prose, config)
    # Looked for in the whole first: few texts have such a line, and lines are many.
    if _may_speak_of_the_page("\n".join(kept)):
        remaining = _without_lines_about_the_page(kept)
        if isinstance(remaining, Objection):
            return remaining
        kept = remaining
    # Without any threshold, too, a text of which nothing is left does not go on.
    fewest = max(1, config.c4_min_sentences or 0)
    num_sentences = count_sentences(kept, enough=fewest)
    if objection := below("c4_too_few_sentences", num_sentences, fewest, "sentences are left"):
        return objection
    num_removed = len(lines) - len(kept)
    return Outcome("\n".join(kept).strip(), counts={"c4_line": num_removed} if num_removed else {})


def count_sentences(lines: Sequence[str], *, enough: int) -> int:
    """Number of sentences in `lines`; not all are counted once there are `enough`.

    A line with something in it is one sentence, and one more for each . ? ! in it (closing quotation marks and
    brackets may come after) that is followed by white space and more. So "Mr. Finn slept." counts as two.
    """
    count = sum(map(bool, lines))
    boundaries = (boundary for line in lines for boundary in _SENTENCE_BOUNDARY.finditer(line))
    return count + sum(1 for _ in islice(boundaries, max(0, enough - count)))


def _sentence_like(lines: Iterable[str], prose: Prose, config: QualityConfig) -> list[str]:
    """Those with enough words, none too long, and punctuation at the end; marks of citations are taken out."""
    if config.c4_terminal_punctuation:
        # Most lines of a book go here, before they cost anything. What seems to end them may be a citation or a space.
        lines = [line for line in lines if line and line[-1] in _PERHAPS_LINE_ENDS]
    fewest, longest = config.c4_min_words_a_line or 0, config.c4_max_word_length or math.inf
    has_long_word = prose.longest_word > longest
    kept: list[str] = []
    for line in lines:
        stripped = line.strip()
        sentence = _CITATION.sub("", stripped) if "[" in line else stripped
        if config.c4_terminal_punctuation and (not sentence.endswith(_LINE_ENDS) or sentence.endswith("...")):
            continue
        # Words are those from before the citations went; no more of them are split off than are needed.
        if len(line.split(None, fewest)) < fewest:
            continue
        if has_long_word and max(map(len, line.split()), default=0) > longest:
            continue
        kept.append(sentence)
    return kept


def _may_speak_of_the_page(text: str) -> bool:
    lowered = text.lower()
    return "{" in text or any(mark in lowered for mark in _MARKS)


def _without_lines_about_the_page(lines: Iterable[str]) -> list[str] | Objection:
    """The lines that name neither scripts nor policies; an objection at the first with a { or placeholder text."""
    kept: list[str] = []
    for line in lines:
        lowered = line.lower()
        if _PLACEHOLDER in lowered:
            return Objection("c4_lorem_ipsum", f"in the line {excerpt(line)!r}")
        if _SCRIPT in lowered:
            continue
        if "{" in line:
            return Objection("c4_curly_bracket", f"in the line {excerpt(line)!r}")
        if not any(policy in lowered for policy in _POLICIES):
            kept.append(line)
    return kept
